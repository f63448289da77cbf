"""Which rows attract each other on a map, and how much.

    X (n_rows, n_features), perplexity  ->  Affinities: a symmetric P that sums to 1

Rows are taken in leaves (engine/tsne/neighbors.py) and keep that order: a row's neighbours are near in memory.
P = (p(j|i) + p(i|j)) / 2n lies in two lists of edges: a row's own neighbours, and the rows that count it as theirs
without being its neighbours. An edge takes 4 or 5 bytes: its weight has 12 binary digits, off by 1 in 8,000 at most.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.backends.protocol import Rows
from engine.execution.memory import pages
from engine.execution.threads import map_blocks, row_blocks
from engine.kernels.cpu.simd.vectors import LANES
from engine.kernels.cpu.tsne import affinities
from engine.kernels.cpu.tsne.affinities import NARROW, Edges
from engine.progress import Advance
from engine.tsne.centering import Frame
from engine.tsne.neighbors import search_of

Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]
IDENTITY = Frame()
Codes = NDArray[np.uint16]  # of weights: kernels/cpu/tsne/affinities.py

JOIN_ROWS = 4096  # rows whose edges one thread joins at a time
NEIGHBOURS = 3  # times the perplexity: beyond, probabilities are below a thousandth of the nearest ones


@dataclass(frozen=True)
class Affinities:
    """The symmetric P of rows in the order of `rows`."""

    rows: Int32s  # (n_rows,): the caller's row numbers, in the order of this P
    near: Edges
    far: Edges
    recall: float = 1.0  # share of the nearest neighbours among those that were found

    @property
    def scale(self) -> float:
        """What weights are multiplied by to be P."""
        return 0.5 / len(self.rows)

    def entropy(self) -> float:
        """Return sum p log p over all edges, in float64."""
        return sum(_entropy(edges.weights[: edges.offsets[-1]], self.scale) for edges in (self.near, self.far))


def affinities_of(
    X: Rows, perplexity: float, advance: Advance, neighbours: str = "auto", frame: Frame = IDENTITY
) -> Affinities:
    """Return P of the rows of X, which are finite; `neighbours` says how they are found: see search_of."""
    rows, near, recall = _neighbourhoods(X, perplexity, advance, neighbours, frame)
    one_way = np.empty(near.offsets[-1], np.bool_)

    def join(part: slice) -> None:
        affinities.join_mutual(near, part.start, part.stop, one_way)

    for _ in map_blocks(join, row_blocks(len(rows), JOIN_ROWS)):
        pass
    offsets = np.zeros(len(rows) + 1, np.int64)
    affinities.count_ends(near, one_way, offsets[1:])
    np.cumsum(offsets, out=offsets)
    far = empty_edges(offsets, len(rows))
    affinities.reverse_edges(near, one_way, offsets[:-1].copy(), far)
    return Affinities(rows, near, far, recall)


def _neighbourhoods(
    X: Rows, perplexity: float, advance: Advance, how: str, frame: Frame
) -> tuple[Int32s, Edges, float]:
    """Return row numbers in the order of leaves, in it the edges to every row's neighbours, and the share found."""
    n_rows = len(X)
    k = min(n_rows - 1, max(1, int(NEIGHBOURS * perplexity)))
    leaves, n_leaves, recall = search_of(X, frame, k, how)
    edges = empty_edges(np.arange(n_rows + 1, dtype=np.int64) * k, n_rows)

    def neighbourhood(leaf: int) -> int:
        neighbours, squared = leaves.nearest_to_leaf(leaf, k, n_leaves)
        probabilities = np.empty(squared.shape, np.float32)
        affinities.calibrate(squared, perplexity, probabilities)
        affinities.put_edges(neighbours, affinities.coded(probabilities), leaves.places(leaf).start, edges)
        return len(squared)

    for done in map_blocks(neighbourhood, range(len(leaves.radii))):
        advance(done)
    return leaves.members[:n_rows].copy(), edges, recall


def empty_edges(offsets: Int64s, n_rows: int) -> Edges:
    """Return room for edges between `n_rows` rows."""
    room = int(offsets[-1]) + LANES  # vectors may read beyond the last edge
    high = pages(room if n_rows > NARROW else 0, np.uint8)
    return Edges(offsets, pages(room, np.uint16), high, pages(room, np.uint16))


def _entropy(weights: Codes, scale: float) -> float:
    total = 0.0
    for start in range(0, len(weights), 1 << 16):
        part = scale * affinities.decoded(weights[start : start + (1 << 16)]).astype(np.float64)
        total += float(np.sum(part * np.log(part)))
    return total
