"""Compute the moments of rows in float64: of X itself, and of encoded rows, which leave out its zeros.

    X (n_rows, n_features)  ->  mean, scatter;   dense, starts, hot  ->  gram, cross, counts of pairs

Rows are shifted by a point near their mean before anything is squared. Counts of pairs are matrix products of zeros and
ones, which float32 adds exactly up to 2^24 rows per block.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.kernels.arrays.columns import reduce_columns
from engine.kernels.arrays.distance import row_chunks

Array = Any  # of the array module `xp`


def compute_moments(xp: Any, X: Array, pilot_rows: int, chunk_values: int) -> tuple[Array, Array]:
    """Return the mean (n_features,) and the scatter matrix (n_features, n_features) of a block."""
    n_rows, n_features = X.shape
    sums, scatter = xp.zeros(n_features), xp.zeros((n_features, n_features))
    with np.errstate(over="ignore", invalid="ignore"):  # the caller rejects values that are not finite
        shift = X[:: max(1, n_rows // pilot_rows)].mean(axis=0, dtype=np.float64)
        for chunk in row_chunks(n_rows, n_features, chunk_values):
            shifted = xp.subtract(X[chunk], shift, dtype=np.float64)
            sums += reduce_columns(xp, shifted, "sum")
            scatter += xp.matmul(shifted.T, shifted)
        rest = sums / n_rows
        scatter -= xp.outer(rest, sums)
    return shift + rest, scatter


def compute_encoded_moments(
    xp: Any, dense: Array, starts: Array, hot: Array, n_hot_columns: int, chunk_values: int
) -> tuple[Array, Array, Array]:
    """Return gram (n_dense + 1, n_dense), cross (n_hot_columns, n_dense) and pairs (n_hot_columns, n_hot_columns).

    The last row of gram holds the sums of the dense columns; pairs is the upper triangle.
    """
    n_rows, n_dense = dense.shape
    gram, cross = xp.zeros((n_dense + 1, n_dense)), xp.zeros((n_hot_columns, n_dense))
    pairs = xp.zeros((n_hot_columns, n_hot_columns))
    chunks = row_chunks(n_rows, n_dense + n_hot_columns, chunk_values)
    edges = starts[xp.asarray([chunk.start for chunk in chunks] + [n_rows])].tolist()  # one copy from the device
    for chunk, first, last in zip(chunks, edges, edges[1:], strict=False):
        indicators = xp.zeros((chunk.stop - chunk.start, n_hot_columns), np.float32)
        if last > first:
            rows = xp.searchsorted(starts[chunk], xp.arange(first, last, dtype=starts.dtype), side="right") - 1
            indicators[rows, hot[first:last]] = 1.0
        wide = xp.ones((chunk.stop - chunk.start, n_dense + 1))  # a column of ones, whose products are sums
        wide[:, :n_dense] = dense[chunk]
        gram += xp.matmul(wide.T, wide[:, :n_dense])
        cross += xp.matmul(indicators.T.astype(np.float64), wide[:, :n_dense])
        pairs += xp.matmul(indicators.T, indicators)  # whole numbers: float64 adds them exactly
    return gram, cross, xp.triu(xp.rint(pairs).astype(np.int64))
