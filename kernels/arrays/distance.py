"""The definition of a distance and of a label, on whole arrays of any array module: NumPy, CuPy.

    X (n_rows, n_features) float32 or float64, columns (n_features, n_clusters) float64
      -> squared distances float64, labels int64

The sum of (x - c)^2 over the features in their order, float64, every operation rounded once: subtraction,
multiplication and addition are array operations of their own, each a kernel launch on a GPU, so no compiler can fuse a
multiplication with an addition. Bits are those of kernels/cpu/distance.py: decisions/0013-gpu-arrays.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any  # of the array module `xp`


def squared_distances(xp: Any, X: Array, columns: Array) -> Array:
    """Return the squared distance of every row to every centre (n_rows, n_clusters)."""
    total = xp.zeros((len(X), columns.shape[1]))
    with np.errstate(over="ignore"):
        for t in range(len(columns)):
            difference = X[:, t, None].astype(np.float64) - columns[t]
            difference *= difference
            total += difference
    return total


def defined_labels(xp: Any, X: Array, columns: Array, values: int) -> Array:
    """Return the nearest centre of every row, ties to the lowest; at most about `values` distances at a time."""
    labels = xp.empty(len(X), np.int64)
    for part in runs(len(X), columns.shape[1], values):
        labels[part] = squared_distances(xp, X[part], columns).argmin(axis=1)
    return labels


def own_distances(xp: Any, X: Array, centres: Array, labels: Array) -> Array:
    """Return the squared distance of every row to centres[label]; centres (n_clusters, n_features) float64."""
    total = xp.zeros(len(X))
    with np.errstate(over="ignore"):
        for t in range(X.shape[1]):
            difference = X[:, t].astype(np.float64) - centres[:, t][labels]
            difference *= difference
            total += difference
    return total


def sums_of_runs(xp: Any, values: Array, weights: Array, run: int) -> Array:
    """Return the sum of every `run` values, each added in order; weights multiply unless there are none."""
    if len(weights):
        values = values * weights
    padded = xp.zeros(-(-len(values) // run) * run)
    padded[: len(values)] = values  # zeros change no sum
    sums = xp.zeros(len(padded) // run)
    for column in xp.ascontiguousarray(padded.reshape(-1, run).T):
        sums += column
    return sums


def runs(n_rows: int, width: int, values: int) -> list[slice]:
    """Return runs of rows of which each has at most about `values` values, `width` a row."""
    step = max(1, values // max(width, 1))
    return [slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]
