"""Encode a block: numbers imputed, clipped and scaled; categories, labels and missing values as lists of ones.

    numbers (n_numbers, n_rows) float64 with NaN, codes of texts and labels
      -> dense (n_rows, n_numbers) float32, and per row the hot columns: starts (n_rows + 1,), hot (n_hot,)

A one-hot or multi-hot column of X is 0 or one fixed value, so a row needs no more than the numbers of the columns
that are not 0: 14 of 104 for the generated members. X itself is `fill`ed only where somebody asks for it.
Numbers are float64 until the one cast at the store.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

ROWS_PER_TILE = 128  # rows visited column by column while their part of `dense` is in L1

Array = NDArray[Any]


@numba.njit(nogil=True, cache=True)
def write_numbers(
    values: Array, fill: Array, low: Array, high: Array, centre: Array, scale: Array, dense: Array, gaps: Array
) -> None:
    """Write dense[i, c] = (clip(values[c, i], fill[c] where missing) - centre[c]) * scale[c], and gaps[i, c]."""
    n_columns, n_rows = values.shape
    for first in range(0, n_rows, ROWS_PER_TILE):
        last = min(first + ROWS_PER_TILE, n_rows)
        for c in range(n_columns):
            for i in range(first, last):
                v = values[c, i]
                gap = v != v
                v = fill[c] if gap else v
                v = low[c] if v < low[c] else v
                v = high[c] if v > high[c] else v
                dense[i, c] = (v - centre[c]) * scale[c]
                gaps[i, c] = gap


@numba.njit(nogil=True, cache=True)
def list_hot(
    gaps: Array, gap_column: Array, codes: Array, table: Array, table_start: Array,
    offsets: Array, label_codes: Array, label_base: Array, label_gaps: Array, starts: Array, hot: Array,
) -> int:  # fmt: skip
    """List every row's hot columns, each once, in the order of the source's columns; return how many there are.

    Parameters
    ----------
    gaps : bool (n_rows, n_numbers); a missing number of column c makes gap_column[c] hot, if that is >= 0
    codes : int32 (n_texts, n_rows)
        Code k of text column t, -1 if missing, makes table[table_start[t] + 1 + k] hot, if that is >= 0.
    offsets, label_codes : int32 (n_lists, n_rows + 1) and (n_labels,)
        Label codes of row i in list column l lie at label_base[l] + offsets[l, i:i + 2]; their tables follow those of
        the texts. label_gaps (n_lists, n_rows) are rows without a list, which count as code -1.
    starts : int32 (n_rows + 1,), written
    hot : int32, written; long enough for all of them
    """
    n_rows, n_texts, n_lists, n = gaps.shape[0], codes.shape[0], offsets.shape[0], 0
    for i in range(n_rows):
        starts[i] = n
        for c in range(gaps.shape[1]):
            if gaps[i, c] and gap_column[c] >= 0:
                hot[n] = gap_column[c]
                n += 1
        for t in range(n_texts):
            column = table[table_start[t] + 1 + codes[t, i]]
            if column >= 0:
                hot[n] = column
                n += 1
        for l in range(n_lists):
            begin, base = n, table_start[n_texts + l] + 1
            if label_gaps[l, i]:
                if table[base - 1] >= 0:
                    hot[n] = table[base - 1]
                    n += 1
                continue
            for p in range(label_base[l] + offsets[l, i], label_base[l] + offsets[l, i + 1]):
                column = table[base + label_codes[p]] if label_codes[p] >= 0 else -1
                if column < 0:
                    continue
                seen = begin
                while seen < n and hot[seen] != column:
                    seen += 1
                if seen == n:
                    hot[n] = column
                    n += 1
    starts[n_rows] = n
    return n


@numba.njit(nogil=True, cache=True)
def fill(
    dense: Array, starts: Array, hot: Array, dense_columns: Array, hot_columns: Array, hot_values: Array, X: Array
) -> None:
    """Write X (n_rows, n_features), which must hold zeros."""
    for i in range(dense.shape[0]):
        for c in range(dense.shape[1]):
            X[i, dense_columns[c]] = dense[i, c]
        for p in range(starts[i], starts[i + 1]):
            X[i, hot_columns[hot[p]]] = hot_values[hot[p]]


@numba.njit(nogil=True, cache=True)
def add_gram(dense: Array, gram: Array) -> None:
    """Add products of dense columns to gram (n_dense + 1, width), and their sums to its last row.

    `width` is n_dense or more: a multiple of the SIMD width spares the loops a rest. Four rows a visit: a quarter of
    the loads and stores of gram.
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
def add_hot(dense: Array, starts: Array, hot: Array, cross: Array, pairs: Array) -> None:
    """Add the rows' dense columns to cross[h, :] for every hot h, and count pairs of hot columns.

    pairs (n_hot_columns ** 2,) uint32: element h * n_hot_columns + j counts the rows where both are hot and h comes no
    later than j in the row's list. So every pair is counted once, on either side of the diagonal. Unsigned, because
    numba looks at the sign of every other index: half the time.
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
