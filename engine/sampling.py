"""Draw rows by a counter-based generator keyed on (seed, global row number).

A row's key depends on nothing but the seed and its number: not on files, blocks, threads or workers. The rows
with the smallest keys are a uniform sample without replacement, and can be collected in one streaming pass.

Source: the mixing function is splitmix64 (Steele, Lea & Flood, "Fast splittable pseudorandom number
generators", OOPSLA 2014).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

KEY_ROWS = 1 << 20  # rows whose keys are held at a time: 8 MiB of keys

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def row_keys(seed: int, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the 64-bit key of each row number, of shape (n_rows,): uniform, and the same for ever."""
    with np.errstate(over="ignore"):
        stream = _mix(np.array([seed % 2**64], np.uint64) * _GOLDEN + _GOLDEN)
        return _mix(rows.astype(np.uint64) * _GOLDEN + stream)


def sample_rows(n_rows: int, size: int, seed: int) -> NDArray[np.int64]:
    """Return min(size, n_rows) distinct row numbers of 0…n_rows in ascending order, drawn by smallest key.

    Memory is proportional to `size`, not to `n_rows`.
    """
    if size >= n_rows:
        return np.arange(n_rows, dtype=np.int64)
    # Keys are uniform, so a cut slightly above the expected one leaves few rows to sort, whatever n_rows is.
    share = (size + 6.0 * size**0.5 + 16.0) / n_rows
    rows, keys = _rows_below(n_rows, share, seed)
    while len(rows) < size:  # one draw in 10^9
        share *= 2.0
        rows, keys = _rows_below(n_rows, share, seed)
    order = np.argsort(keys, kind="stable")[:size]
    return np.sort(rows[order])


def stratified_rows(labels: NDArray[np.int32], n_clusters: int, size: int, quota: int, seed: int) -> NDArray[np.int64]:
    """Return about `size` row numbers in ascending order, drawn by smallest key within each cluster.

    Clusters get rows in proportion to theirs, but at least `quota`, or all they have.
    """
    keys = row_keys(seed, np.arange(len(labels), dtype=np.int64))
    chosen = []
    for cluster in range(n_clusters):
        members = np.flatnonzero(labels == cluster)
        wanted = max(quota, round(size * len(members) / len(labels)))
        chosen.append(members[np.argsort(keys[members], kind="stable")[:wanted]])
    return np.sort(np.concatenate(chosen))


def _rows_below(n_rows: int, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Return the rows whose key lies in the lowest `share` of all keys, and their keys."""
    cut = np.uint64(min(share * 2.0**64, 2.0**64 - 2048.0)) if share < 1.0 else np.uint64(2**64 - 1)
    rows, keys = [], []
    for start in range(0, n_rows, KEY_ROWS):
        part = np.arange(start, min(start + KEY_ROWS, n_rows), dtype=np.int64)
        part_keys = row_keys(seed, part)
        below = part_keys <= cut
        rows.append(part[below])
        keys.append(part_keys[below])
    return np.concatenate(rows), np.concatenate(keys)
