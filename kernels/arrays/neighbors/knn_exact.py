"""Find the exact k nearest neighbors of every row: matrix products, then only the groups that can hold them.

    X (n_rows, n_features) float32  ->  neighbors (n_rows, k) int64, squared distances (n_rows, k) float64, ascending

Float32 matrix products score every row against all rows, in groups of consecutive rows. The k rows of least score lie
in the k groups of least minimum, so that no row of scores is sorted as a whole. Of k + EXTRA_CANDIDATES rows, the k
nearest by float64 distance are kept, ties to the lower number: the definition ranks what rounding could swap.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.kernels.arrays.distance import row_chunks

Array = Any  # of the array module `xp`

EXTRA_CANDIDATES = 32  # rows of least score, beyond k, that are ranked by distance as well


def find_exact_neighbors(xp: Any, X: Array, k: int, chunk_values: int) -> tuple[Array, Array]:
    """Return the k nearest other rows of every row, and their squared distances; k is less than n_rows."""
    n_rows = len(X)
    n_candidates = min(k + EXTRA_CANDIDATES, n_rows - 1)
    group_size = max(1, int((n_rows / n_candidates) ** 0.5))
    n_groups = -(-n_rows // group_size)
    columns, offsets = _pad_rows(xp, X, n_groups * group_size)
    neighbors, squared = xp.empty((n_rows, k), np.int64), xp.empty((n_rows, k))
    for chunk in row_chunks(n_rows, n_groups * group_size, chunk_values):
        queries = xp.arange(chunk.start, chunk.stop)
        scores = xp.matmul(X[chunk], columns)
        xp.subtract(offsets, scores, out=scores)
        scores[xp.arange(len(queries)), queries] = np.inf
        candidates = _select_least(xp, scores, n_candidates, group_size)
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


def _pad_rows(xp: Any, X: Array, n_padded: int) -> tuple[Array, Array]:
    """Return rows as columns, and half their squared norms; the padding of the last group is infinitely far."""
    columns = xp.zeros((X.shape[1], n_padded), np.float32)
    columns[:, : len(X)] = X.T
    offsets = xp.full(n_padded, np.inf, np.float32)
    offsets[: len(X)] = 0.5 * xp.square(X).sum(axis=1)
    return columns, offsets


def _select_least(xp: Any, scores: Array, n_least: int, group_size: int) -> Array:
    """Return the indices of the `n_least` least scores of every row, in no order."""
    n_queries = len(scores)
    minima = scores.reshape(n_queries, -1, group_size).min(axis=2)
    groups = xp.argsort(minima, axis=1)[:, :n_least]
    indices = (groups[:, :, None] * group_size + xp.arange(group_size)).reshape(n_queries, -1)
    order = xp.argsort(xp.take_along_axis(scores, indices, axis=1), axis=1)[:, :n_least]
    return xp.take_along_axis(indices, order, axis=1)
