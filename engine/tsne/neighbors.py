"""Nearest-neighbor search for t-SNE: rows in the leaves of a k-d tree, exact or limited to the nearest leaves.

    X (n_rows, n_features)  ->  PackedLeaves: an order of the rows, packed for kernels/cpu/neighbors/knn_exact.py

Rows are split in halves along their feature of largest variance until at most LEAF_SIZE are left. The center and
the radius of a leaf bound the distance to all its rows: that rules out most leaves if rows are clustered, and none if
they are noise. Embeddings keep rows in the order of the leaves, so that neighbors are near each other in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from engine.backends.cpu import CpuBackend
from engine.execution.memory import mmap_zeros
from engine.execution.threads import map_blocks
from engine.kernels.cpu.neighbors import knn_exact, packed_leaves
from engine.kernels.cpu.neighbors.packed_leaves import LEAF_SIZE, PANEL_SIZE
from engine.kmeans.restarts import cluster_rows
from engine.tsne.centering import Centering
from engine.utils.array_types import Float32s, Float64s, Int32s, Rows

IDENTITY = Centering()
VARIANCE_SAMPLE_ROWS = 4096  # rows of a node on which its feature of largest variance is chosen
EXACT_ROWS = 200_000  # up to so many rows, neighbors="auto" searches all leaves
# Beyond, as many leaves are searched as find this share of a sample's neighbors; for all rows it differs by about 1 %.
MIN_RECALL = 0.96
SAMPLE_LEAVES = 32  # leaves whose rows are the sample of MIN_RECALL
MIN_LEAF_SHARE = 0.02  # smallest share of the leaves that is searched
CLUSTER_ROWS = 768  # rows of a cluster, on average: recall and seconds hardly change from 400 to 1,000
CLUSTER_ITERATIONS = 8


@dataclass(frozen=True)
class PackedLeaves:
    """Rows in leaves of LEAF_SIZE rows each, of which the last one may not be full.

    A position is the index of a row in the order of the leaves.
    """

    n_rows: int
    members: Int32s  # (n_leaves * LEAF_SIZE,): the row number at every position, -1 where the last leaf is not full
    panels: Float32s  # (n_leaves * LEAF_SIZE * n_features,): negated rows, PANEL_SIZE side by side
    half_norms: Float32s  # (n_leaves * LEAF_SIZE,): ||x||^2 / 2
    centers: Float64s  # (n_leaves, n_features)
    radii: Float64s  # (n_leaves,)

    @classmethod
    def from_rows(cls, X: Rows, centering: Centering = IDENTITY, order: Int32s | None = None) -> PackedLeaves:
        """Center rows and pack them into leaves in the given order, by default leaf_order."""
        n_rows, n_features = X.shape
        n_leaves = -(-n_rows // LEAF_SIZE)
        members = np.full(n_leaves * LEAF_SIZE, -1, np.int32)
        members[:n_rows] = leaf_order(X, centering) if order is None else order
        panels = mmap_zeros(n_leaves * LEAF_SIZE * n_features, np.float32).reshape(
            n_leaves, LEAF_SIZE // PANEL_SIZE, n_features, PANEL_SIZE
        )
        half_norms = np.empty((n_leaves, LEAF_SIZE), np.float32)
        centers, radii = np.empty((n_leaves, n_features)), np.empty(n_leaves)
        for leaf in range(n_leaves):
            rows = members[leaf * LEAF_SIZE : min((leaf + 1) * LEAF_SIZE, n_rows)]
            centered = centering.apply(X[rows])
            packed_leaves.pack_leaf(centered, panels[leaf], half_norms[leaf])
            exact = centered.astype(np.float64)
            centers[leaf] = exact.mean(axis=0)
            radii[leaf] = np.sqrt(np.square(exact - centers[leaf]).sum(axis=1).max())
        return cls(n_rows, members, panels.ravel(), half_norms.ravel(), centers, radii)

    def positions(self, leaf: int) -> slice:
        """Return the positions of a leaf's rows."""
        return slice(leaf * LEAF_SIZE, min((leaf + 1) * LEAF_SIZE, self.n_rows))

    def unpack(self, leaf: int) -> Float32s:
        """Return the centered rows of a leaf, (LEAF_SIZE or fewer, n_features)."""
        n_features = self.centers.shape[1]
        packed = self.panels[leaf * LEAF_SIZE * n_features : (leaf + 1) * LEAF_SIZE * n_features]
        rows = (
            -packed.reshape(LEAF_SIZE // PANEL_SIZE, n_features, PANEL_SIZE)
            .transpose(0, 2, 1)
            .reshape(LEAF_SIZE, n_features)
        )
        return rows[: self.positions(leaf).stop - leaf * LEAF_SIZE]

    def search_leaf(self, leaf: int, k: int, n_leaves: int | None = None) -> tuple[Int32s, Float64s]:
        """Return the positions of the k nearest other rows of every row of a leaf, and their squared distances.

        Distances are those of kernels/cpu/distance.py, and ties go to the lowest row number. The search is exact, or
        with `n_leaves` limited to the leaves whose centers are nearest to this one's.
        """
        distances = np.sqrt(np.square(self.centers - self.centers[leaf]).sum(axis=1))
        bounds = np.maximum((distances - self.radii - self.radii[leaf]) * (1.0 - 1e-9), 0.0)
        bounds[leaf] = 0.0
        order = np.lexsort((distances, bounds)).astype(np.int32)
        if n_leaves is not None:
            chosen = np.zeros(len(order), np.bool_)
            chosen[np.argsort(distances, kind="stable")[:n_leaves]] = True
            order = order[chosen[order]]
        rows = self.unpack(leaf)
        positions, squared = np.empty((len(rows), k), np.int32), np.empty((len(rows), k))
        knn_exact.find_exact_neighbors(
            rows,
            leaf * LEAF_SIZE,
            self.panels,
            self.half_norms,
            self.members,
            order,
            bounds[order],
            k,
            positions,
            squared,
        )
        return positions, squared


def plan_neighbor_search(
    X: Rows, centering: Centering, k: int, method: str = "auto"
) -> tuple[PackedLeaves, int | None, float]:
    """Return packed leaves, how many of them to search for k neighbors of a row (None: all), and the recall.

    "exact" searches all leaves. "clusters" orders rows by their K-Means clusters, which gives narrow leaves, and
    searches as many as find MIN_RECALL of the neighbors of a sample. "auto" is "exact" up to EXACT_ROWS rows.
    """
    if method == "exact" or (method == "auto" and len(X) <= EXACT_ROWS):
        return PackedLeaves.from_rows(X, centering), None, 1.0
    leaves = PackedLeaves.from_rows(X, centering, cluster_order(X))
    n_leaves = len(leaves.radii)
    sample = np.unique(np.linspace(0, n_leaves - 1, min(SAMPLE_LEAVES, n_leaves)).astype(np.int64)).tolist()
    farthest = list(map_blocks(lambda leaf: leaves.search_leaf(leaf, k)[1][:, -1:], sample))
    n_searched = max(-(-(k + 1) // LEAF_SIZE) + 1, int(MIN_LEAF_SHARE * n_leaves))
    while n_searched < n_leaves:
        results = map_blocks(partial(leaves.search_leaf, k=k, n_leaves=n_searched), sample)
        is_neighbor = [squared <= limit for (_, squared), limit in zip(results, farthest, strict=True)]
        recall = float(np.concatenate(is_neighbor).mean())
        if recall >= MIN_RECALL:
            return leaves, n_searched, recall
        n_searched = int(1.5 * n_searched) + 1
    return leaves, None, 1.0


def cluster_order(X: Rows) -> Int32s:
    """Return row numbers ordered by K-Means cluster, near clusters one after another, in leaf_order within each."""
    n_clusters = -(-len(X) // CLUSTER_ROWS)
    clustering = cluster_rows(X, n_clusters, CpuBackend(), seed=0, max_iter=CLUSTER_ITERATIONS)
    rank = np.empty(n_clusters, np.int32)
    rank[leaf_order(clustering.centers, Centering.from_rows(clustering.centers))] = np.arange(
        n_clusters, dtype=np.int32
    )
    ranks = rank[clustering.labels]
    order = np.argsort(ranks, kind="stable").astype(np.int32)
    starts = np.searchsorted(ranks[order], np.arange(n_clusters + 1))
    centering = Centering.from_rows(X)

    def sort_within(cluster: int) -> None:
        members = order[starts[cluster] : starts[cluster + 1]]
        members[:] = members[leaf_order(X[members], centering)]

    for _ in map_blocks(sort_within, range(n_clusters)):
        pass
    return order


def leaf_order(X: Rows, centering: Centering = IDENTITY) -> Int32s:
    """Return row numbers in the order of the leaves of a k-d tree: every LEAF_SIZE of them are near each other."""
    order = np.arange(len(X), dtype=np.int32)
    pending = [(0, len(X))]
    while pending:
        start, stop = pending.pop()
        if stop - start <= LEAF_SIZE:
            continue
        sample = centering.apply(X[order[start : stop : 1 + (stop - start) // VARIANCE_SAMPLE_ROWS]])
        widest = int(np.argmax(sample.var(axis=0, dtype=np.float64)))
        order[start:stop] = order[start:stop][np.argsort(X[order[start:stop], widest], kind="stable")]
        middle = start + LEAF_SIZE * (-(-(stop - start) // LEAF_SIZE) // 2)
        pending += [(start, middle), (middle, stop)]
    return order
