"""Write one block of the feature matrix: numbers imputed, transformed and scaled; codes as one-hot and multi-hot.

    numbers (n_numbers, n_rows) float64 with NaN, codes (n_categorical, n_rows) int32, labels as offsets + codes
      -> X (n_rows, n_features) float32, row-major

Columns of the source lie one after the other, rows of X do: so a tile of rows is filled from all columns while
it is in L1. Everything is float64 until the one cast at the store.
"""

from __future__ import annotations

from math import isnan, log1p

from numba import njit

ROWS_PER_TILE = 128  # 128 rows x 100 float32 features = 51 KiB: the tile stays in L1/L2 while columns are visited


@njit(nogil=True, cache=True)
def write_numbers(X, columns, values, fill, low, high, logarithm, centre, scale, indicator, indicator_scale):  # type: ignore[no-untyped-def]
    """Write numeric columns of one block; X is written in place.

    For column c, X[:, columns[c]] = (t(v) - centre) * scale, t = impute, log1p if `logarithm`, clip to [low, high].
    Where indicator[c] >= 0, X[:, indicator[c]] is indicator_scale[c] for a missing value, else 0.
    """
    n_rows = X.shape[0]
    for first in range(0, n_rows, ROWS_PER_TILE):
        last = min(first + ROWS_PER_TILE, n_rows)
        for c in range(columns.shape[0]):
            j = columns[c]
            for i in range(first, last):
                v = values[c, i]
                missing = isnan(v)
                if missing:
                    v = fill[c]
                if logarithm[c]:
                    v = log1p(max(v, 0.0))
                v = min(max(v, low[c]), high[c])
                X[i, j] = (v - centre[c]) * scale[c]
                if indicator[c] >= 0:
                    X[i, indicator[c]] = indicator_scale[c] if missing else 0.0


@njit(nogil=True, cache=True)
def write_one_hot(X, codes, first_column, missing_column, other_column, scale):  # type: ignore[no-untyped-def]
    """Write categorical columns of one block; X must hold zeros there.

    codes[c, i] >= 0 sets column first_column[c] + code, unless it is past the categories (code n_categories means
    "other", written to other_column[c]); -1 (missing) sets missing_column[c]. A column below 0 is not written.
    """
    n_rows = X.shape[0]
    for first in range(0, n_rows, ROWS_PER_TILE):
        last = min(first + ROWS_PER_TILE, n_rows)
        for c in range(codes.shape[0]):
            n_categories = other_column[c, 0]
            for i in range(first, last):
                code = codes[c, i]
                if code < 0:
                    j = missing_column[c]
                elif code >= n_categories:
                    j = other_column[c, 1]
                else:
                    j = first_column[c] + code
                if j >= 0:
                    X[i, j] = scale[c]


@njit(nogil=True, cache=True)
def write_multi_hot(X, offsets, codes, missing, first_column, n_labels, other_column, missing_column, scale):  # type: ignore[no-untyped-def]
    """Write one multi-label column of a block; X must hold zeros there. A label named twice counts once."""
    for i in range(X.shape[0]):
        if missing[i]:
            if missing_column >= 0:
                X[i, missing_column] = scale
            continue
        for p in range(offsets[i], offsets[i + 1]):
            code = codes[p]
            if code < 0:
                continue
            j = first_column + code if code < n_labels else other_column
            if j >= 0:
                X[i, j] = scale
