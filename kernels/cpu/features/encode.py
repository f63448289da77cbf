"""Encode a block of rows: impute, clip and scale numbers; one-hot encode categories, labels and missing values.

    numbers (n_numbers, n_rows) float64 with NaN, codes of texts and labels
      -> dense (n_rows, n_numbers) float32, and per row the hot columns: starts (n_rows + 1,), hot (n_hot,)

A one-hot or multi-hot column of X is 0 or one fixed value, so a row stores only the indices of its hot columns, those
that are not 0: 14 of 104 for the generated members. `fill_matrix` writes X itself where it is needed. Numbers are
float64 until the one cast when they are stored.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

ROWS_PER_TILE = 128  # rows whose columns are written in turn while their part of `dense` is in L1

Array = NDArray[Any]


@numba.njit(nogil=True, cache=True)
def encode_numbers(
    values: Array,
    fill_values: Array,
    low: Array,
    high: Array,
    center: Array,
    scale: Array,
    dense: Array,
    missing: Array,
) -> None:
    """Write (clip(v) - center) * scale of every value into dense (n_rows, n_columns), and which are missing.

    A missing value counts as fill_values[c]; values are of shape (n_columns, n_rows).
    """
    n_columns, n_rows = values.shape
    for first in range(0, n_rows, ROWS_PER_TILE):
        last = min(first + ROWS_PER_TILE, n_rows)
        for c in range(n_columns):
            for i in range(first, last):
                v = values[c, i]
                is_missing = v != v
                v = fill_values[c] if is_missing else v
                v = low[c] if v < low[c] else v
                v = high[c] if v > high[c] else v
                dense[i, c] = (v - center[c]) * scale[c]
                missing[i, c] = is_missing


@numba.njit(nogil=True, cache=True)
def list_hot_columns(
    missing: Array, missing_column: Array, codes: Array, table: Array, table_start: Array,
    offsets: Array, label_codes: Array, label_base: Array, missing_list: Array, starts: Array, hot: Array,
) -> int:  # fmt: skip
    """List every row's hot columns, each once, in the order of the source columns; return how many there are.

    Parameters
    ----------
    missing : bool (n_rows, n_numbers)
        A missing number of column c makes missing_column[c] hot, if that is >= 0.
    codes : int32 (n_texts, n_rows)
        Code k of text column t, -1 if missing, makes table[table_start[t] + 1 + k] hot, if that is >= 0.
    offsets, label_codes : int32 (n_lists, n_rows + 1) and (n_labels,)
        Label codes of row i in list column l lie at label_base[l] + offsets[l, i:i + 2]; their tables follow those of
        the texts. missing_list (n_lists, n_rows) marks rows without a list, which count as code -1.
    starts : int32 (n_rows + 1,), written
    hot : int32, written; long enough for all hot columns
    """
    n_rows, n_texts, n_lists, n = missing.shape[0], codes.shape[0], offsets.shape[0], 0
    for i in range(n_rows):
        starts[i] = n
        for c in range(missing.shape[1]):
            if missing[i, c] and missing_column[c] >= 0:
                hot[n] = missing_column[c]
                n += 1
        for t in range(n_texts):
            column = table[table_start[t] + 1 + codes[t, i]]
            if column >= 0:
                hot[n] = column
                n += 1
        for l in range(n_lists):
            begin, base = n, table_start[n_texts + l] + 1
            if missing_list[l, i]:
                if table[base - 1] >= 0:
                    hot[n] = table[base - 1]
                    n += 1
                continue
            for p in range(label_base[l] + offsets[l, i], label_base[l] + offsets[l, i + 1]):
                column = table[base + label_codes[p]] if label_codes[p] >= 0 else -1
                if column < 0:
                    continue
                position = begin
                while position < n and hot[position] != column:
                    position += 1
                if position == n:
                    hot[n] = column
                    n += 1
    starts[n_rows] = n
    return n


@numba.njit(nogil=True, cache=True)
def fill_matrix(
    dense: Array, starts: Array, hot: Array, dense_columns: Array, hot_columns: Array, hot_values: Array, X: Array
) -> None:
    """Write encoded rows into the dense matrix X (n_rows, n_features), which must hold zeros."""
    for i in range(dense.shape[0]):
        for c in range(dense.shape[1]):
            X[i, dense_columns[c]] = dense[i, c]
        for p in range(starts[i], starts[i + 1]):
            X[i, hot_columns[hot[p]]] = hot_values[hot[p]]


@numba.njit(nogil=True, cache=True)
def accumulate_gram(dense: Array, gram: Array) -> None:
    """Add the Gram matrix of the dense columns to gram (n_dense + 1, width), and their sums to its last row.

    `width` is n_dense or more; with a multiple of the SIMD width, loops have no remainder. Four rows at a time take a
    quarter of the loads and stores of gram.
    """
    n_rows, n_dense = dense.shape
    width = gram.shape[1]
    rows = np.zeros((4, width))
    for first in range(0, n_rows, 4):
        for k in range(4):
            for c in range(n_dense):
                rows[k, c] = dense[first + k, c] if first + k < n_rows else 0.0
        for c in range(n_dense):
            v0, v1, v2, v3 = rows[0, c], rows[1, c], rows[2, c], rows[3, c]
            for d in range(width):
                total = gram[c, d] + v0 * rows[0, d]
                total += v1 * rows[1, d]
                total += v2 * rows[2, d]
                gram[c, d] = total + v3 * rows[3, d]
        for d in range(width):
            gram[n_dense, d] += (rows[0, d] + rows[1, d]) + (rows[2, d] + rows[3, d])


@numba.njit(nogil=True, cache=True)
def accumulate_hot_products(dense: Array, starts: Array, hot: Array, cross: Array, pairs: Array) -> None:
    """Add products of dense and hot columns: the dense part of a row to cross[h, :] for every hot h, and pairs of hot.

    pairs (n_hot_columns ** 2,) uint32: element h * n_hot_columns + j counts the rows where both are hot and h comes no
    later than j in the row's list. So every pair is counted once, on either side of the diagonal. Indices are unsigned,
    because numba checks the sign of signed ones, which takes twice the time.
    """
    n_rows, n_dense = dense.shape
    n_hot, width = cross.shape
    row = np.zeros(width)
    for i in range(n_rows):
        for c in range(n_dense):
            row[c] = dense[i, c]
        begin, end = np.uint64(starts[i]), np.uint64(starts[i + 1])
        for p in range(begin, end):
            h = hot[p]
            for d in range(width):
                cross[h, d] += row[d]
            at = np.uint64(h) * np.uint64(n_hot)
            for q in range(p, end):
                pairs[at + np.uint64(hot[q])] += np.uint32(1)
