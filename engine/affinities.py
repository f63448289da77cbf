"""Which rows attract each other on a map, and how much.

    X (n_rows, n_features) float32, perplexity  ->  Affinities: a symmetric P that sums to 1

Rows are taken in leaves (engine/neighbours.py) and keep that order: a row's neighbours are near in memory.
P = (p(j|i) + p(i|j)) / 2n lies in two lists of edges: a row's own neighbours, and the rows that count it as theirs
without being its neighbours. An edge takes 4 or 5 bytes: its weight is rounded to 12 binary digits, off by one in 8,000.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.execution.local import map_blocks, row_blocks
from engine.kernels.cpu import affinities
from engine.kernels.cpu.affinities import Edges
from engine.neighbours import Leaves
from engine.progress import Advance

Float32s = NDArray[np.float32]
Int32s = NDArray[np.int32]
Codes = NDArray[np.uint16]  # of weights: kernels/cpu/affinities.py

JOIN_ROWS = 4096  # rows whose edges one thread joins at a time
NEIGHBOURS = 3  # times the perplexity: beyond, probabilities are below a thousandth of the nearest ones


@dataclass(frozen=True)
class Affinities:
    """The symmetric P of rows in the order of `rows`."""

    rows: Int32s  # (n_rows,): the caller's row numbers, in the order of this P
    near: Edges
    far: Edges

    @property
    def scale(self) -> float:
        """What weights are multiplied by to be P."""
        return 0.5 / len(self.rows)

    def entropy(self) -> float:
        """Return sum p log p over all edges, in float64."""
        return sum(_entropy(edges.weights[: edges.offsets[-1]], self.scale) for edges in (self.near, self.far))


def affinities_of(X: Float32s, perplexity: float, advance: Advance) -> Affinities:
    """Return P of the rows of X, whose values are finite."""
    rows, near = _neighbourhoods(X, perplexity, advance)
    one_way = np.empty(near.offsets[-1], np.bool_)

    def join(part: slice) -> None:
        affinities.join_mutual(near, part.start, part.stop, one_way)

    for _ in map_blocks(join, row_blocks(len(rows), JOIN_ROWS)):
        pass
    offsets = np.zeros(len(rows) + 1, np.int64)
    affinities.count_ends(near, one_way, offsets[1:])
    np.cumsum(offsets, out=offsets)
    far = affinities.empty_edges(offsets, len(rows))
    affinities.reverse_edges(near, one_way, offsets[:-1].copy(), far)
    return Affinities(rows, near, far)


def _neighbourhoods(X: Float32s, perplexity: float, advance: Advance) -> tuple[Int32s, Edges]:
    """Return row numbers in the order of leaves, and in this order the edges to every row's neighbours."""
    n_rows = len(X)
    k = min(n_rows - 1, max(1, int(NEIGHBOURS * perplexity)))
    leaves = Leaves.of(X)
    edges = affinities.empty_edges(np.arange(n_rows + 1, dtype=np.int64) * k, n_rows)

    def neighbourhood(leaf: int) -> int:
        neighbours, squared = leaves.nearest_to_leaf(leaf, k)
        probabilities = np.empty(squared.shape, np.float32)
        affinities.calibrate(squared, perplexity, probabilities)
        affinities.put_edges(neighbours, affinities.coded(probabilities), leaves.places(leaf).start, edges)
        return len(squared)

    for done in map_blocks(neighbourhood, range(len(leaves.radii))):
        advance(done)
    return leaves.members[:n_rows].copy(), edges


def _entropy(weights: Codes, scale: float) -> float:
    total = 0.0
    for start in range(0, len(weights), 1 << 16):
        part = scale * affinities.decoded(weights[start : start + (1 << 16)]).astype(np.float64)
        total += float(np.sum(part * np.log(part)))
    return total
