"""Affinities of t-SNE: the sparse joint probabilities P of rows and their nearest neighbors.

    X (n_rows, n_features), perplexity  ->  Affinities: a symmetric P that sums to 1

P keeps the order of rows in the leaves of engine/tsne/neighbors.py: a row's neighbors are near it in memory.
P = (p(j|i) + p(i|j)) / 2n is stored in two lists of edges: from a row to its neighbors, and to rows that count it as a
neighbor without being its neighbors. An edge takes 4 or 5 bytes: its weight has 12 binary digits, with a relative
error of at most 1 in 8,000.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.execution.memory import mmap_zeros
from engine.execution.threads import map_blocks, row_blocks
from engine.kernels.cpu.simd.vectors import SUM_LANES
from engine.kernels.cpu.tsne import affinities
from engine.kernels.cpu.tsne.affinities import UINT16_ROWS, Edges
from engine.progress import Advance
from engine.tsne.centering import Centering
from engine.tsne.descent_log import log_probabilities, log_search, widths
from engine.tsne.neighbors import plan_neighbor_search
from engine.utils.array_types import Float64s, Int32s, Int64s, Rows

IDENTITY = Centering()
WeightCodes = NDArray[np.uint16]  # encoded weights: kernels/cpu/tsne/affinities.py

JOIN_ROWS = 4096  # rows whose edges one thread joins at a time
NEIGHBORS_PER_PERPLEXITY = 3  # farther neighbors have less than a thousandth of the nearest ones' probability


@dataclass(frozen=True)
class Affinities:
    """The symmetric P of rows, in the order of the search leaves."""

    order: Int32s  # (n_rows,): the caller's row number at every position of P
    neighbor_edges: Edges  # from every row to its neighbors
    reverse_edges: Edges  # from every row to the rows that count it as a neighbor without being its neighbors
    recall: float = 1.0  # share of the true nearest neighbors that were found

    @property
    def scale(self) -> float:
        """Factor from the weights of edges to P."""
        return 0.5 / len(self.order)

    def negative_entropy(self) -> float:
        """Return sum p log p over all edges, in float64."""
        edge_lists = self.neighbor_edges, self.reverse_edges
        return sum(_negative_entropy(edges.weights[: edges.offsets[-1]], self.scale) for edges in edge_lists)


def neighbor_count(n_rows: int, perplexity: float) -> int:
    """Return the number of neighbors of a row."""
    return min(n_rows - 1, max(1, int(NEIGHBORS_PER_PERPLEXITY * perplexity)))


def compute_affinities(
    X: Rows, perplexity: float, advance: Advance, neighbors: str = "auto", centering: Centering = IDENTITY
) -> Affinities:
    """Return P of the rows of X, which are finite; `neighbors` is the method of plan_neighbor_search."""
    return _symmetrize(*_find_neighbors(X, perplexity, advance, neighbors, centering))


def affinities_of_neighbors(positions: Int32s, squared: Float64s, perplexity: float) -> Affinities:
    """Return P of rows, in their order, whose neighbors (n_rows, k) are known, with squared distances that ascend."""
    n_rows, k = positions.shape
    edges = allocate_edges(np.arange(n_rows + 1, dtype=np.int64) * k, n_rows)
    probabilities = np.empty(squared.shape, np.float32)
    affinities.calibrate_perplexity(squared, perplexity, probabilities)
    log_probabilities(n_rows, [widths(squared, probabilities)], 1.0)
    affinities.write_edges(positions, affinities.encode_weights(probabilities), 0, edges)
    return _symmetrize(np.arange(n_rows, dtype=np.int32), edges, 1.0)


def _symmetrize(order: Int32s, neighbor_edges: Edges, recall: float) -> Affinities:
    """Return P of the edges from rows to their neighbors, which become those of both directions."""
    one_way = np.empty(neighbor_edges.offsets[-1], np.bool_)

    def join(part: slice) -> None:
        affinities.symmetrize_mutual_edges(neighbor_edges, part.start, part.stop, one_way)

    for _ in map_blocks(join, row_blocks(len(order), JOIN_ROWS)):
        pass
    offsets = np.zeros(len(order) + 1, np.int64)
    affinities.count_incoming_edges(neighbor_edges, one_way, offsets[1:])
    np.cumsum(offsets, out=offsets)
    reverse_edges = allocate_edges(offsets, len(order))
    affinities.reverse_edges(neighbor_edges, one_way, offsets[:-1].copy(), reverse_edges)
    return Affinities(order, neighbor_edges, reverse_edges, recall)


def _find_neighbors(
    X: Rows, perplexity: float, advance: Advance, method: str, centering: Centering
) -> tuple[Int32s, Edges, float]:
    """Return row numbers in the order of the leaves, the rows' edges to their neighbors, and the recall."""
    n_rows = len(X)
    k = neighbor_count(n_rows, perplexity)
    log_search(n_rows, k)
    sigmas: list[Float64s] = []
    leaves, n_leaves, recall = plan_neighbor_search(X, centering, k, method)
    edges = allocate_edges(np.arange(n_rows + 1, dtype=np.int64) * k, n_rows)

    def add_leaf(leaf: int) -> int:
        positions, squared = leaves.search_leaf(leaf, k, n_leaves)
        probabilities = np.empty(squared.shape, np.float32)
        affinities.calibrate_perplexity(squared, perplexity, probabilities)
        sigmas.append(widths(squared, probabilities))
        affinities.write_edges(positions, affinities.encode_weights(probabilities), leaves.positions(leaf).start, edges)
        return len(squared)

    for done in map_blocks(add_leaf, range(len(leaves.radii))):
        advance(done)
    log_probabilities(n_rows, sigmas, centering.scale)
    return leaves.members[:n_rows].copy(), edges, recall


def allocate_edges(offsets: Int64s, n_rows: int) -> Edges:
    """Allocate edges between `n_rows` rows, offsets[-1] of them."""
    size = int(offsets[-1]) + SUM_LANES  # vectors may read beyond the last edge
    high = mmap_zeros(size if n_rows > UINT16_ROWS else 0, np.uint8)
    return Edges(offsets, mmap_zeros(size, np.uint16), high, mmap_zeros(size, np.uint16))


def _negative_entropy(weights: WeightCodes, scale: float) -> float:
    total = 0.0
    for start in range(0, len(weights), 1 << 16):
        part = scale * affinities.decode_weights(weights[start : start + (1 << 16)]).astype(np.float64)
        total += float(np.sum(part * np.log(part)))
    return total
