"""Draw rows by a counter-based generator keyed on (seed, global row number).

A row's key depends on nothing but the seed and its number: not on files, blocks, threads or workers. The rows
with the smallest keys are a uniform sample without replacement, and can be collected in one streaming pass.

Source: the mixing function is splitmix64 (Steele, Lea & Flood, "Fast splittable pseudorandom number
generators", OOPSLA 2014).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
    """Return min(size, n_rows) distinct row numbers of 0…n_rows in ascending order, drawn by smallest key."""
    rows = np.arange(n_rows, dtype=np.int64)
    if size >= n_rows:
        return rows
    # Keys are uniform, so a cut slightly above the expected one leaves few rows to sort, whatever n_rows is.
    chosen: list[NDArray[np.int64]] = []
    share = min(1.0, (size + 6.0 * size**0.5 + 16.0) / n_rows)
    cut = np.uint64(min(share * 2.0**64, 2.0**64 - 2048.0))
    kept: list[NDArray[np.uint64]] = []
    for start in range(0, n_rows, 1 << 20):
        part = rows[start : start + (1 << 20)]
        keys = row_keys(seed, part)
        below = keys <= cut
        chosen.append(part[below])
        kept.append(keys[below])
    candidates, keys = np.concatenate(chosen), np.concatenate(kept)
    if len(candidates) < size:  # one draw in 10^9: fall back on all keys
        candidates, keys = rows, row_keys(seed, rows)
    order = np.argsort(keys, kind="stable")[:size]
    return np.sort(candidates[order])
