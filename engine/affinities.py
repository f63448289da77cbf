"""Which rows attract each other on a map, and how much.

    X (n_rows, n_features) float32, perplexity  ->  Affinities: a symmetric P that sums to 1

Rows are taken in leaves (engine/neighbours.py) and keep that order: a row's neighbours are near in memory.
P = (p(j|i) + p(i|j)) / 2n lies in two lists of edges: a row's own neighbours, and the rows that count it as theirs
without being its neighbours; together 8 bytes an edge, and no copy of them is ever made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.execution.local import map_blocks
from engine.kernels.cpu import affinities
from engine.kernels.cpu.simd import LANES
from engine.neighbours import Leaves
from engine.progress import Advance

Float32s = NDArray[np.float32]
Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]

NEIGHBOURS = 3  # times the perplexity: beyond, probabilities are below a thousandth of the nearest ones


@dataclass(frozen=True)
class Edges:
    """Edges of rows by their start: row i's are offsets[i] … offsets[i + 1], then LANES that no row has."""

    offsets: Int64s
    ends: Int32s
    weights: Float32s


@dataclass(frozen=True)
class Affinities:
    """The symmetric P of rows in the order of `rows`."""

    rows: Int32s  # (n_rows,): the caller's row numbers, in the order of this P
    near: Edges
    far: Edges

    def entropy(self) -> float:
        """Return sum p log p over all edges, in float64."""
        return float(sum(_entropy(edges.weights) for edges in (self.near, self.far)))


def affinities_of(X: Float32s, perplexity: float, advance: Advance) -> Affinities:
    """Return P of the rows of X, whose values are finite."""
    leaves = Leaves.of(X)
    n_rows = len(X)
    k = min(n_rows - 1, max(1, int(NEIGHBOURS * perplexity)))
    ends, weights = np.zeros(n_rows * k + LANES, np.int32), np.zeros(n_rows * k + LANES, np.float32)
    neighbours, probabilities = ends[: n_rows * k].reshape(n_rows, k), weights[: n_rows * k].reshape(n_rows, k)

    def neighbourhood(leaf: int) -> int:
        part = leaves.places(leaf)
        neighbours[part], squared = leaves.nearest_to_leaf(leaf, k)
        affinities.calibrate(squared, perplexity, probabilities[part])
        affinities.sort_edges(neighbours[part], probabilities[part])
        return len(squared)

    for done in map_blocks(neighbourhood, range(len(leaves.radii))):
        advance(done)
    counts = np.zeros(n_rows, np.int64)
    affinities.join_mutual(neighbours, probabilities, counts)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    far = Edges(offsets, np.zeros(offsets[-1] + LANES, np.int32), np.zeros(offsets[-1] + LANES, np.float32))
    scale = 1.0 / (2.0 * n_rows)
    affinities.reverse_edges(neighbours, probabilities, scale, offsets[:-1].copy(), far.ends, far.weights)
    return Affinities(leaves.members[:n_rows], Edges(np.arange(n_rows + 1, dtype=np.int64) * k, ends, weights), far)


def _entropy(weights: Float32s) -> float:
    total = 0.0
    for start in range(0, len(weights), 1 << 16):
        part = weights[start : start + (1 << 16)].astype(np.float64)
        total += float(np.sum(part * np.log(np.maximum(part, 1e-300))))
    return total
