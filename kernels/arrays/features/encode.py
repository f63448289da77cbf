"""Encode rows on an array module: numbers clipped and scaled, everything else as lists of ones.

    values (n_rows,) float64 with NaN  ->  a column of dense, float32, and which values are missing
    candidates (n_rows, n) and labels  ->  starts (n_rows + 1,), hot (n_hot,)

The bits of kernels/cpu/features/encode.py: every operation on numbers is rounded once, in the same order, and a row's
hot columns come in the order of the source's columns, each once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

Array = Any  # of the array module `xp`


class Items(NamedTuple):
    """A multi-label column: row i has the hot columns[offsets[i]:offsets[i + 1]]; -1 is none."""

    offsets: Array  # (n_rows + 1,) int64
    columns: Array  # (n_items,) int32
    missing: Array  # (n_rows,) bool; such a row has no items
    missing_column: int  # hot where a row is missing; -1 for none


def standardised(
    xp: Any, values: Array, fill: float, low: float, high: float, centre: float, scale: float
) -> tuple[Array, Array]:
    """Return (clip(values, fill where missing) - centre) * scale as float32, and where they are missing."""
    gaps = xp.isnan(values)
    found = xp.where(gaps, fill, values)
    found = xp.where(found < low, low, found)
    found = xp.where(found > high, high, found)
    found -= centre
    found *= scale
    return found.astype(np.float32), gaps


def list_hot(xp: Any, candidates: Array, labels: list[Items]) -> tuple[Array, Array]:
    """Return starts and hot: per row its candidates (n_rows, n) int32 that are not -1, then each column of labels."""
    n_rows = len(candidates)
    there = candidates >= 0
    own = there.sum(axis=1)
    kept = [_kept(xp, items) for items in labels]
    counts = own.copy()
    for _, _, per_row, there_is_none in kept:
        counts += per_row
        counts += there_is_none
    starts = xp.zeros(n_rows + 1, np.int64)
    starts[1:] = xp.cumsum(counts)
    hot = xp.empty(int(starts[-1]), np.int32)
    rank = xp.cumsum(there, axis=1)
    rows, slots = xp.nonzero(there)
    hot[starts[rows] + rank[rows, slots] - 1] = candidates[rows, slots]
    base = starts[:-1] + own
    for (rows, columns, per_row, there_is_none), items in zip(kept, labels, strict=True):
        before = xp.cumsum(per_row) - per_row
        hot[base[rows] + xp.arange(len(rows)) - before[rows]] = columns
        base += per_row
        hot[base[there_is_none]] = items.missing_column
        base += there_is_none
    return starts.astype(np.int32), hot


def _kept(xp: Any, items: Items) -> tuple[Array, Array, Array, Array]:
    """Return the rows and columns of items that count, how many a row has, and rows whose missing list counts.

    An item counts if it is none of -1 and the first of its column in its row.
    """
    n_rows, n_items = len(items.offsets) - 1, len(items.columns)
    rows = xp.searchsorted(items.offsets, xp.arange(n_items), side="right") - 1
    there_is_none = items.missing if items.missing_column >= 0 else xp.zeros(n_rows, np.bool_)
    counts = xp.zeros(n_items, np.bool_)
    if n_items:
        key = rows * (int(items.columns.max()) + 2) + items.columns
        order = xp.argsort(key, kind="stable")
        ascending = key[order]
        first = xp.ones(n_items, np.bool_)
        first[1:] = ascending[1:] != ascending[:-1]
        counts[order[first]] = True
        counts &= items.columns >= 0
    rows, columns = rows[counts], items.columns[counts]
    ends = xp.searchsorted(rows, xp.arange(n_rows), side="right")
    per_row = ends.copy()
    per_row[1:] -= ends[:-1]
    return rows, columns, per_row, there_is_none


def joined(xp: Any, pieces: Sequence[tuple[Array, Array, Array]]) -> tuple[Array, Array, Array]:
    """Return dense, starts and hot of several runs of rows, one after another."""
    if len(pieces) == 1:
        return pieces[0]
    starts, before = [], 0
    for number, (_, own, hot) in enumerate(pieces):
        starts.append(own[0 if number == 0 else 1 :] + np.int32(before))
        before += len(hot)
    dense = xp.concatenate([piece[0] for piece in pieces])
    return dense, xp.concatenate(starts), xp.concatenate([piece[2] for piece in pieces])


def run_of(piece: tuple[Array, Array, Array], first: int, last: int) -> tuple[Array, Array, Array]:
    """Return dense, starts and hot of rows first … last - 1."""
    dense, starts, hot = piece
    begin, end = int(starts[first]), int(starts[last])
    return dense[first:last], starts[first : last + 1] - np.int32(begin), hot[begin:end]
