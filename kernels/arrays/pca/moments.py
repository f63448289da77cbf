"""Compute the moments of rows in float64: of X itself, and of encoded rows, which leave out its zeros.

    X (n_rows, n_features)  ->  mean, scatter;   dense, starts, hot  ->  gram, cross, counts of pairs

Rows are shifted by a point near their mean before anything is squared. Counts of pairs are matrix products of zeros and
ones, which float32 adds exactly up to 2^24 rows per block.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.kernels.arrays.distance import row_chunks

Array = Any  # of the array module `xp`


def compute_moments(xp: Any, X: Array, pilot_rows: int, chunk_values: int) -> tuple[Array, Array]:
    """Return the mean (n_features,) and the scatter matrix (n_features, n_features) of a block."""
    n_rows, n_features = X.shape
    sums, scatter = xp.zeros(n_features), xp.zeros((n_features, n_features))
    with np.errstate(over="ignore", invalid="ignore"):  # the caller rejects values that are not finite
        shift = X[:: max(1, n_rows // pilot_rows)].mean(axis=0, dtype=np.float64)
        for chunk in row_chunks(n_rows, n_features, chunk_values):
            shifted = X[chunk] - shift
            sums += shifted.sum(axis=0)
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
    pairs = xp.zeros((n_hot_columns, n_hot_columns), np.int64)
    for chunk in row_chunks(n_rows, n_dense + n_hot_columns, chunk_values):
        indicators = _expand_hot_columns(xp, starts[chunk.start : chunk.stop + 1], hot, n_hot_columns)
        wide = dense[chunk].astype(np.float64)
        gram[:n_dense] += xp.matmul(wide.T, wide)
        gram[n_dense] += wide.sum(axis=0)
        cross += xp.matmul(indicators.T.astype(np.float64), wide)
        pairs += xp.rint(xp.matmul(indicators.T, indicators)).astype(np.int64)
    return gram, cross, xp.triu(pairs)


def _expand_hot_columns(xp: Any, starts: Array, hot: Array, n_hot_columns: int) -> Array:
    """Return the hot columns of rows as zeros and ones, of shape (n_rows, n_hot_columns), float32."""
    n_rows, first, last = len(starts) - 1, int(starts[0]), int(starts[-1])
    out = xp.zeros((n_rows, n_hot_columns), np.float32)
    rows = xp.searchsorted(starts, xp.arange(first, last, dtype=starts.dtype), side="right") - 1
    out[rows, hot[first:last]] = 1.0
    return out
