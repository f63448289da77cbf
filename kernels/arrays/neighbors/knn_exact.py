"""The k nearest other rows of every row: products of matrices, then only the groups that can hold them.

    X (n_rows, n_features) float32  ->  numbers (n_rows, k) int64, squared distances (n_rows, k) float64, ascending

Rows are scored against all by float32 products, in groups of consecutive rows. The k rows of least score lie in the k
groups of least minimum, so no row of scores is ever sorted whole. Of SPARE more than k, the k nearest by the float64
distance are kept, ties to the lower number: what rounding could swap is ranked by the definition.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.kernels.arrays.distance import runs

Array = Any  # of the array module `xp`

SPARE = 32  # neighbours by score beyond k that are ranked by distance


def nearest(xp: Any, X: Array, k: int, values: int) -> tuple[Array, Array]:
    """Return numbers and squared distances of the k nearest other rows; k is less than n_rows."""
    n_rows = len(X)
    wanted = min(k + SPARE, n_rows - 1)
    group = max(1, int((n_rows / wanted) ** 0.5))
    n_groups = -(-n_rows // group)
    columns, offsets = _padded(xp, X, n_groups * group)
    numbers, squared = xp.empty((n_rows, k), np.int64), xp.empty((n_rows, k))
    for part in runs(n_rows, n_groups * group, values):
        queries = xp.arange(part.start, part.stop)
        scores = xp.matmul(X[part], columns)
        xp.subtract(offsets, scores, out=scores)
        scores[xp.arange(len(queries)), queries] = np.inf
        near = _least(xp, scores, wanted, group)
        near = xp.sort(near, axis=1)  # by number, so that ties go to the lower one
        exact = xp.zeros(near.shape)
        for t in range(X.shape[1]):
            difference = X[part, t, None].astype(np.float64) - X[:, t][near]
            difference *= difference
            exact += difference
        order = xp.argsort(exact, axis=1, kind="stable")[:, :k]
        numbers[part] = xp.take_along_axis(near, order, axis=1)
        squared[part] = xp.take_along_axis(exact, order, axis=1)
    return numbers, squared


def _padded(xp: Any, X: Array, room: int) -> tuple[Array, Array]:
    """Return rows as columns, and half their squared norms; what pads the last group is infinitely far."""
    columns = xp.zeros((X.shape[1], room), np.float32)
    columns[:, : len(X)] = X.T
    offsets = xp.full(room, np.inf, np.float32)
    offsets[: len(X)] = 0.5 * xp.square(X).sum(axis=1)
    return columns, offsets


def _least(xp: Any, scores: Array, wanted: int, group: int) -> Array:
    """Return where the `wanted` least scores of every row are, in no order."""
    n_queries = len(scores)
    minima = scores.reshape(n_queries, -1, group).min(axis=2)
    groups = xp.argsort(minima, axis=1)[:, :wanted]
    places = (groups[:, :, None] * group + xp.arange(group)).reshape(n_queries, -1)
    inside = xp.argsort(xp.take_along_axis(scores, places, axis=1), axis=1)[:, :wanted]
    return xp.take_along_axis(places, inside, axis=1)
