"""The nearest of many references: leaves of neighbouring rows, so that far ones need not be looked into.

    X (n_rows, n_features)  ->  Leaves: an order of the rows, packed for kernels/cpu/neighbors/knn_exact.py

Rows are halved again and again across their widest feature until LEAF of them are left. A leaf's centre and radius
bound the distance to all its rows, which leaves out most leaves where rows are clustered, and none where they are
noise. The order is also the one in which a map's rows are kept: neighbours are near in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from engine.backends.cpu import CpuBackend
from engine.backends.protocol import Rows
from engine.execution.memory import pages
from engine.execution.threads import map_blocks
from engine.kernels.cpu.neighbors import knn_exact as neighbours
from engine.kernels.cpu.neighbors import packed_leaves as packing
from engine.kernels.cpu.neighbors.packed_leaves import LEAF, PANEL
from engine.kmeans.restarts import cluster_rows
from engine.tsne.centering import Frame

Float32s = NDArray[np.float32]
Float64s = NDArray[np.float64]
Int32s = NDArray[np.int32]

IDENTITY = Frame()
SAMPLE = 4096  # rows that say which feature is the widest
EXACT_ROWS = 200_000  # up to so many rows, neighbours are exact unless something else is asked for
RECALL = 0.96  # share of the neighbours of a sample that are to be found beyond; of all rows, a per cent more or less
SAMPLE_LEAVES = 32  # that say how many leaves have to be looked into for that …
LEAST_SHARE = 0.02  # … this share of them at least
CLUSTER_ROWS = 768  # rows a cluster, on average: recall and seconds hardly change from 400 to 1,000
CLUSTER_ITERATIONS = 8


@dataclass(frozen=True)
class Leaves:
    """References in leaves of LEAF rows, the last one not full."""

    n_rows: int
    members: Int32s  # (n_leaves * LEAF,): the row number at every place, -1 where the last leaf is not full
    panels: Float32s  # (n_leaves * LEAF * n_features,)
    halves: Float32s  # (n_leaves * LEAF,)
    centres: Float64s  # (n_leaves, n_features)
    radii: Float64s  # (n_leaves,)

    @classmethod
    def of(cls, X: Rows, frame: Frame = IDENTITY, order: Int32s | None = None) -> Leaves:
        """Pack rows in a frame into leaves, in an order of theirs: leaf_order if none is given."""
        n_rows, n_features = X.shape
        n_leaves = -(-n_rows // LEAF)
        members = np.full(n_leaves * LEAF, -1, np.int32)
        members[:n_rows] = leaf_order(X, frame) if order is None else order
        panels = pages(n_leaves * LEAF * n_features, np.float32).reshape(n_leaves, LEAF // PANEL, n_features, PANEL)
        halves = np.empty((n_leaves, LEAF), np.float32)
        centres, radii = np.empty((n_leaves, n_features)), np.empty(n_leaves)
        for leaf in range(n_leaves):
            rows = members[leaf * LEAF : min((leaf + 1) * LEAF, n_rows)]
            framed = frame.rows(X[rows])
            packing.pack(framed, panels[leaf], halves[leaf])
            part = framed.astype(np.float64)
            centres[leaf] = part.mean(axis=0)
            radii[leaf] = np.sqrt(np.square(part - centres[leaf]).sum(axis=1).max())
        return cls(n_rows, members, panels.ravel(), halves.ravel(), centres, radii)

    def places(self, leaf: int) -> slice:
        """Return the places of a leaf's rows."""
        return slice(leaf * LEAF, min((leaf + 1) * LEAF, self.n_rows))

    def rows(self, leaf: int) -> Float32s:
        """Return a leaf's rows, unpacked."""
        n_features = self.centres.shape[1]
        packed = self.panels[leaf * LEAF * n_features : (leaf + 1) * LEAF * n_features]
        rows = -packed.reshape(LEAF // PANEL, n_features, PANEL).transpose(0, 2, 1).reshape(LEAF, n_features)
        return rows[: self.places(leaf).stop - leaf * LEAF]

    def nearest_to_leaf(self, leaf: int, k: int, n_leaves: int | None = None) -> tuple[Int32s, Float64s]:
        """Return the places of the k nearest other rows of every row of a leaf, with squared distances.

        Exact: distances are those of kernels/cpu/distance.py, and ties go to the lowest row number. With a number of
        leaves, only those whose centres are the nearest are looked into.
        """
        apart = np.sqrt(np.square(self.centres - self.centres[leaf]).sum(axis=1))
        bounds = np.maximum((apart - self.radii - self.radii[leaf]) * (1.0 - 1e-9), 0.0)
        bounds[leaf] = 0.0
        order = np.lexsort((apart, bounds)).astype(np.int32)
        if n_leaves is not None:
            chosen = np.zeros(len(order), np.bool_)
            chosen[np.argsort(apart, kind="stable")[:n_leaves]] = True
            order = order[chosen[order]]
        rows = self.rows(leaf)
        places, squared = np.empty((len(rows), k), np.int32), np.empty((len(rows), k))
        neighbours.search(
            rows, leaf * LEAF, self.panels, self.halves, self.members, order, bounds[order], k, places, squared
        )
        return places, squared


def search_of(X: Rows, frame: Frame, k: int, how: str = "auto") -> tuple[Leaves, int | None, float]:
    """Return leaves of rows, how many of them are to be looked into for k neighbours (None: all), and the recall.

    "clusters" keeps rows in the order of their K-Means clusters, whose leaves are narrow, and looks into so many leaves
    that a sample finds RECALL of its neighbours. "auto" is exact up to EXACT_ROWS rows.
    """
    if how == "exact" or (how == "auto" and len(X) <= EXACT_ROWS):
        return Leaves.of(X, frame), None, 1.0
    leaves = Leaves.of(X, frame, cluster_order(X))
    n_leaves = len(leaves.radii)
    some = np.unique(np.linspace(0, n_leaves - 1, min(SAMPLE_LEAVES, n_leaves)).astype(np.int64)).tolist()
    farthest = list(map_blocks(lambda leaf: leaves.nearest_to_leaf(leaf, k)[1][:, -1:], some))
    wanted = max(-(-(k + 1) // LEAF) + 1, int(LEAST_SHARE * n_leaves))
    while wanted < n_leaves:
        found = map_blocks(partial(leaves.nearest_to_leaf, k=k, n_leaves=wanted), some)
        right = [squared <= limit for (_, squared), limit in zip(found, farthest, strict=True)]
        recall = float(np.concatenate(right).mean())
        if recall >= RECALL:
            return leaves, wanted, recall
        wanted = int(1.5 * wanted) + 1
    return leaves, None, 1.0


def cluster_order(X: Rows) -> Int32s:
    """Return an order of rows in which those of a K-Means cluster follow each other, and near clusters, too."""
    n_clusters = -(-len(X) // CLUSTER_ROWS)
    found = cluster_rows(X, n_clusters, CpuBackend(), seed=0, max_iter=CLUSTER_ITERATIONS)
    rank = np.empty(n_clusters, np.int32)
    rank[leaf_order(found.centres, Frame.of(found.centres))] = np.arange(n_clusters, dtype=np.int32)
    ranks = rank[found.labels]
    order = np.argsort(ranks, kind="stable").astype(np.int32)
    starts = np.searchsorted(ranks[order], np.arange(n_clusters + 1))
    frame = Frame.of(X)

    def sort_within(cluster: int) -> None:
        own = order[starts[cluster] : starts[cluster + 1]]
        own[:] = own[leaf_order(X[own], frame)]

    for _ in map_blocks(sort_within, range(n_clusters)):
        pass
    return order


def leaf_order(X: Rows, frame: Frame = IDENTITY) -> Int32s:
    """Return an order of rows in which every LEAF of them are near each other."""
    order = np.arange(len(X), dtype=np.int32)
    pending = [(0, len(X))]
    while pending:
        start, stop = pending.pop()
        if stop - start <= LEAF:
            continue
        some = frame.rows(X[order[start : stop : 1 + (stop - start) // SAMPLE]])
        widest = int(np.argmax(some.var(axis=0, dtype=np.float64)))
        order[start:stop] = order[start:stop][np.argsort(X[order[start:stop], widest], kind="stable")]
        middle = start + LEAF * (-(-(stop - start) // LEAF) // 2)
        pending += [(start, middle), (middle, stop)]
    return order
