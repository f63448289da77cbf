"""Encode rows on whole arrays: impute, clip and scale numbers; one-hot encode everything else.

    values (n_rows,) float64 with NaN  ->  a column of dense, float32, and which values are missing
    candidates (n_rows, n) and labels  ->  starts (n_rows + 1,), hot (n_hot,)

The bits are those of kernels/cpu/features/encode.py: every operation on numbers is rounded once, in the same order, and
the hot columns of a row are listed once each, in the order of the source columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

Array = Any  # of the array module `xp`


class HotColumnLists(NamedTuple):
    """Ragged lists of a multi-label column: row i has the hot columns[offsets[i]:offsets[i + 1]] but -1."""

    offsets: Array  # (n_rows + 1,) int64
    columns: Array  # (n_items,) int32
    missing: Array  # (n_rows,) bool; such a row has no items
    missing_column: int  # hot where a row's list is missing; -1 for none


def standardize(
    xp: Any, values: Array, fill: float, low: float, high: float, center: float, scale: float
) -> tuple[Array, Array]:
    """Return (clip(v) - center) * scale of every value as float32, with `fill` for NaN, and which values are NaN."""
    missing = xp.isnan(values)
    scaled = xp.where(missing, fill, values)
    scaled = xp.where(scaled < low, low, scaled)
    scaled = xp.where(scaled > high, high, scaled)
    scaled -= center
    scaled *= scale
    return scaled.astype(np.float32), missing


def list_hot_columns(xp: Any, candidates: Array, labels: list[HotColumnLists]) -> tuple[Array, Array]:
    """Return starts and hot: per row its candidates (n_rows, n) int32 but -1, then its columns of each label list."""
    n_rows = len(candidates)
    is_hot = candidates >= 0
    n_candidates = is_hot.sum(axis=1)
    selected = [_select_columns(xp, lists) for lists in labels]
    counts = n_candidates.copy()
    for _, _, per_row, missing_is_hot in selected:
        counts += per_row
        counts += missing_is_hot
    starts = xp.zeros(n_rows + 1, np.int64)
    starts[1:] = xp.cumsum(counts)
    hot = xp.empty(int(starts[-1]), np.int32)
    rank = xp.cumsum(is_hot, axis=1)
    rows, slots = xp.nonzero(is_hot)
    hot[starts[rows] + rank[rows, slots] - 1] = candidates[rows, slots]
    base = starts[:-1] + n_candidates
    for (rows, columns, per_row, missing_is_hot), lists in zip(selected, labels, strict=True):
        before = xp.cumsum(per_row) - per_row
        hot[base[rows] + xp.arange(len(rows)) - before[rows]] = columns
        base += per_row
        hot[base[missing_is_hot]] = lists.missing_column
        base += missing_is_hot
    return starts.astype(np.int32), hot


def _select_columns(xp: Any, lists: HotColumnLists) -> tuple[Array, Array, Array, Array]:
    """Return the rows and columns of the items to list, their number per row, and the rows whose missing list is hot.

    An item is listed if its column is not -1 and it is the first item of that column in its row.
    """
    n_rows, n_items = len(lists.offsets) - 1, len(lists.columns)
    rows = xp.searchsorted(lists.offsets, xp.arange(n_items), side="right") - 1
    missing_is_hot = lists.missing if lists.missing_column >= 0 else xp.zeros(n_rows, np.bool_)
    is_listed = xp.zeros(n_items, np.bool_)
    if n_items:
        key = rows * (int(lists.columns.max()) + 2) + lists.columns
        order = xp.argsort(key, kind="stable")
        ascending = key[order]
        first = xp.ones(n_items, np.bool_)
        first[1:] = ascending[1:] != ascending[:-1]
        is_listed[order[first]] = True
        is_listed &= lists.columns >= 0
    rows, columns = rows[is_listed], lists.columns[is_listed]
    ends = xp.searchsorted(rows, xp.arange(n_rows), side="right")
    per_row = ends.copy()
    per_row[1:] -= ends[:-1]
    return rows, columns, per_row, missing_is_hot


def fill_matrix(xp: Any, encoded: tuple[Array, Array, Array], columns: tuple[Array, Array, Array], out: Array) -> None:
    """Write encoded rows into X (n_rows, n_features), which is zero.

    `columns` are those of the dense and of the hot ones in X, and the values of the hot ones.
    """
    (dense, starts, hot), (dense_columns, hot_columns, hot_values) = encoded, columns
    if len(dense_columns):
        out[:, dense_columns] = dense
    rows = xp.searchsorted(starts, xp.arange(len(hot), dtype=starts.dtype), side="right") - 1
    out[rows, hot_columns[hot]] = hot_values[hot]


def concatenate_rows(xp: Any, parts: Sequence[tuple[Array, Array, Array]]) -> tuple[Array, Array, Array]:
    """Concatenate encoded rows: return dense, starts and hot of several parts, one after another."""
    if len(parts) == 1:
        return parts[0]
    starts, before = [], 0
    for number, (_, part_starts, hot) in enumerate(parts):
        starts.append(part_starts[0 if number == 0 else 1 :] + np.int32(before))
        before += len(hot)
    dense = xp.concatenate([part[0] for part in parts])
    return dense, xp.concatenate(starts), xp.concatenate([part[2] for part in parts])


def slice_rows(part: tuple[Array, Array, Array], first: int, last: int) -> tuple[Array, Array, Array]:
    """Return dense, starts and hot of the encoded rows first … last - 1."""
    dense, starts, hot = part
    begin, end = int(starts[first]), int(starts[last])
    return dense[first:last], starts[first : last + 1] - np.int32(begin), hot[begin:end]
