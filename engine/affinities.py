"""Which rows attract each other on a map, and how much.

    X (n_rows, n_features) float32, perplexity  ->  Affinities: a symmetric P that sums to 1

Rows are taken in leaves (engine/neighbours.py) and keep that order: a row's neighbours are near in memory.
P = (p(j|i) + p(i|j)) / 2n lies in two lists of edges: a row's own neighbours, and the rows that count it as theirs
without being its neighbours. An edge takes 6 bytes: its weight is rounded to 12 binary digits, off by one in 8,000.
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
Codes = NDArray[np.uint16]  # of weights: kernels/cpu/affinities.py

NEIGHBOURS = 3  # times the perplexity: beyond, probabilities are below a thousandth of the nearest ones


@dataclass(frozen=True)
class Edges:
    """Edges of rows by their start: row i's are offsets[i] … offsets[i + 1], then LANES that no row has."""

    offsets: Int64s
    ends: Int32s
    weights: Codes  # of p(j|i) + p(i|j)


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
    n_rows = len(X)
    k = min(n_rows - 1, max(1, int(NEIGHBOURS * perplexity)))
    rows, ends, weights = _neighbourhoods(X, k, perplexity, advance)
    neighbours, codes = ends[: n_rows * k].reshape(n_rows, k), weights[: n_rows * k].reshape(n_rows, k)
    counts = np.zeros(n_rows, np.int64)
    affinities.join_mutual(neighbours, codes, counts)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    far = Edges(offsets, np.zeros(offsets[-1] + LANES, np.int32), np.zeros(offsets[-1] + LANES, np.uint16))
    affinities.reverse_edges(neighbours, codes, offsets[:-1].copy(), far.ends, far.weights)
    return Affinities(rows, Edges(np.arange(n_rows + 1, dtype=np.int64) * k, ends, weights), far)


def _neighbourhoods(X: Float32s, k: int, perplexity: float, advance: Advance) -> tuple[Int32s, Int32s, Codes]:
    """Return row numbers in the order of leaves, and in this order the k neighbours of every row, and codes of p(j|i).

    The last two are flat, and end in LANES entries that no row has.
    """
    leaves = Leaves.of(X)
    n_rows = len(X)
    ends, weights = np.zeros(n_rows * k + LANES, np.int32), np.zeros(n_rows * k + LANES, np.uint16)
    neighbours, codes = ends[: n_rows * k].reshape(n_rows, k), weights[: n_rows * k].reshape(n_rows, k)

    def neighbourhood(leaf: int) -> int:
        part = leaves.places(leaf)
        neighbours[part], squared = leaves.nearest_to_leaf(leaf, k)
        probabilities = np.empty(squared.shape, np.float32)
        affinities.calibrate(squared, perplexity, probabilities)
        affinities.sort_edges(neighbours[part], probabilities)
        codes[part] = affinities.coded(probabilities)
        return len(squared)

    for done in map_blocks(neighbourhood, range(len(leaves.radii))):
        advance(done)
    return leaves.members[:n_rows], ends, weights


def _entropy(weights: Codes, scale: float) -> float:
    total = 0.0
    for start in range(0, len(weights), 1 << 16):
        part = scale * affinities.decoded(weights[start : start + (1 << 16)]).astype(np.float64)
        total += float(np.sum(part * np.log(part)))
    return total
