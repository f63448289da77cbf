"""Find the exact k nearest neighbors of every row, in tiles: matrix products, then the few rows that may be near.

    X (n_rows, n_features) float32  ->  neighbors (n_rows, k) int64, squared distances (n_rows, k) float64, ascending

Float32 matrix products score a tile of rows against a tile of candidates, so that memory does not grow with the number
of rows. The candidates of least score are kept from tile to tile, and the largest score among them is a threshold: in
later tiles only the few scores below it are looked at. Of k + EXTRA_CANDIDATES rows, the k nearest by float64 distance
are returned, ties to the lower number: the definition ranks what rounding could swap.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from engine.kernels.arrays.distance import row_chunks

Array = Any  # of the array module `xp`

EXTRA_CANDIDATES = 32  # rows of least score, beyond k, that are ranked by distance as well
TILE_COLUMNS = 1024  # candidates of a tile; at least COLUMNS_PER_CANDIDATE for each that is kept
COLUMNS_PER_CANDIDATE = 4  # so that most scores of a tile can be dropped


class Least(NamedTuple):
    """The candidates of least score of every row of a tile, in ascending order of their scores."""

    numbers: Array  # (n_queries, n_kept) int64: rows of X
    scores: Array  # (n_queries, n_kept) float32


def find_exact_neighbors(xp: Any, X: Array, k: int, chunk_values: int) -> tuple[Array, Array]:
    """Return the k nearest other rows of every row, and their squared distances; k is less than n_rows."""
    n_rows = len(X)
    n_kept = min(k + EXTRA_CANDIDATES, n_rows - 1)
    width = min(n_rows, max(TILE_COLUMNS, COLUMNS_PER_CANDIDATE * n_kept))
    columns = _scoring_columns(xp, X, -(-n_rows // width) * width)
    neighbors, squared = xp.empty((n_rows, k), np.int64), xp.empty((n_rows, k))
    for chunk in row_chunks(n_rows, max(width, X.shape[1]), chunk_values):
        candidates = _find_candidates(xp, X, chunk, columns, width, n_kept)
        candidates = xp.sort(candidates, axis=1)  # by number, so that ties go to the lower one
        distances = xp.zeros(candidates.shape)
        for t in range(X.shape[1]):
            difference = X[chunk, t, None].astype(np.float64) - X[:, t][candidates]
            difference *= difference
            distances += difference
        order = xp.argsort(distances, axis=1, kind="stable")[:, :k]
        neighbors[chunk] = xp.take_along_axis(candidates, order, axis=1)
        squared[chunk] = xp.take_along_axis(distances, order, axis=1)
    return neighbors, squared


def _scoring_columns(xp: Any, X: Array, n_padded: int) -> Array:
    """Return -X as columns, and below it half the squared norms: a product with (x, 1) is a score.

    A score ranks rows as their squared distances from x do. The padding is infinitely far.
    """
    columns = xp.zeros((X.shape[1] + 1, n_padded), np.float32)
    columns[:-1, : len(X)] = -X.T
    columns[-1] = np.inf
    columns[-1, : len(X)] = 0.5 * xp.square(X).sum(axis=1)
    return columns


def _find_candidates(xp: Any, X: Array, chunk: slice, columns: Array, width: int, n_kept: int) -> Array:
    """Return the `n_kept` other rows of least score of every row of a chunk, in no order."""
    n_queries = chunk.stop - chunk.start
    queries = xp.ones((n_queries, X.shape[1] + 1), np.float32)
    queries[:, :-1] = X[chunk]
    least: Least | None = None
    found: list[tuple[Array, Array]] = []  # places in a row of all tiles, and scores, of what is below the threshold
    n_found = 0
    for first in range(0, columns.shape[1], width):
        scores = xp.matmul(queries, columns[:, first : first + width])
        own = slice(max(chunk.start, first), min(chunk.stop, first + width))
        if own.start < own.stop:  # no row is its own neighbor
            scores[xp.arange(own.start, own.stop) - chunk.start, xp.arange(own.start, own.stop) - first] = np.inf
        if least is None:
            order = xp.argsort(scores, axis=1, kind="stable")[:, :n_kept]
            least = Least(order, xp.take_along_axis(scores, order, axis=1))
            continue
        places = xp.flatnonzero(scores < least.scores[:, -1:])
        found.append((places + first * n_queries, scores.reshape(-1)[places]))
        n_found += len(places)
        if n_found >= n_queries * n_kept:
            least, found, n_found = _merge(xp, least, found, n_queries, width), [], 0
    assert least is not None
    return (_merge(xp, least, found, n_queries, width) if n_found else least).numbers


def _merge(xp: Any, least: Least, found: list[tuple[Array, Array]], n_queries: int, width: int) -> Least:
    """Return the candidates of least score among those kept and those found since."""
    places = xp.concatenate([part for part, _ in found])
    tile, place = places // (n_queries * width), places % (n_queries * width)
    n_kept = least.numbers.shape[1]
    rows = xp.concatenate([xp.arange(n_queries * n_kept) // n_kept, place // width])
    numbers = xp.concatenate([least.numbers.reshape(-1), place % width + tile * width])
    scores = xp.concatenate([least.scores.reshape(-1), *(part for _, part in found)])
    order = xp.argsort(scores, kind="stable")
    order = order[xp.argsort(rows[order], kind="stable")]
    first = xp.searchsorted(rows[order], xp.arange(n_queries))
    chosen = order[first[:, None] + xp.arange(n_kept)]
    return Least(numbers[chosen], scores[chosen])
