"""Squared distances and nearest centers as the project defines them, on whole arrays.

    X (n_rows, n_features) float32 or float64, columns (n_features, n_clusters) float64
      -> squared distances float64

A squared distance is the float64 sum of (x - c)^2 over the features in their order, every operation rounded once.
Subtraction, multiplication and addition are separate array operations, each a kernel launch on a GPU, so no compiler
can fuse a multiplication with an addition. The bits are those of kernels/cpu/distance.py: decisions/0013-gpu-arrays.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any  # of the array module `xp`


def squared_distances(xp: Any, X: Array, columns: Array) -> Array:
    """Return the squared distance of every row to every center, of shape (n_rows, n_clusters)."""
    total = xp.zeros((len(X), columns.shape[1]))
    with np.errstate(over="ignore"):
        for t in range(len(columns)):
            difference = X[:, t, None].astype(np.float64) - columns[t]
            difference *= difference
            total += difference
    return total


def assigned_distances(xp: Any, X: Array, centers: Array, labels: Array) -> Array:
    """Return the squared distance of every row to centers[label]; centers (n_clusters, n_features) float64."""
    total = xp.zeros(len(X))
    with np.errstate(over="ignore"):
        for t in range(X.shape[1]):
            difference = X[:, t].astype(np.float64) - centers[:, t][labels]
            difference *= difference
            total += difference
    return total


def block_sums(xp: Any, values: Array, weights: Array, block_size: int) -> Array:
    """Return the sum of every `block_size` values, added in order; weights of length 0 stand for ones."""
    if len(weights):
        values = values * weights
    padded = xp.zeros(-(-len(values) // block_size) * block_size)
    padded[: len(values)] = values  # zeros change no sum
    sums = xp.zeros(len(padded) // block_size)
    for column in xp.ascontiguousarray(padded.reshape(-1, block_size).T):
        sums += column
    return sums


def row_chunks(n_rows: int, width: int, chunk_values: int) -> list[slice]:
    """Return slices of rows with `width` values a row and at most `chunk_values` values each, but one row at least."""
    step = max(1, chunk_values // max(width, 1))
    return [slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]
