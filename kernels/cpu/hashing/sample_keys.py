"""Rows with small sampling keys (engine/utils/row_sampling.py), found without an array of all keys.

    first, last row, stream of a seed, cut  ->  rows whose key is not above the cut, and their keys

Source: splitmix64 (Steele, Lea & Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

_GOLDEN, _FIRST, _SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


@numba.njit(nogil=True, cache=True)
def keys_below(
    first: int, last: int, stream: np.uint64, cut: np.uint64, rows: NDArray[np.int64], keys: NDArray[np.uint64]
) -> int:
    """Write the rows and keys of first…last that are not above the cut, in order, and return how many they are.

    rows and keys have room for last - first.
    """
    count = np.int64(0)
    for row in range(first, last):
        key = np.uint64(row) * _GOLDEN + stream
        key = (key ^ (key >> np.uint64(30))) * _FIRST
        key = (key ^ (key >> np.uint64(27))) * _SECOND
        key = key ^ (key >> np.uint64(31))
        rows[count], keys[count] = row, key
        count += np.int64(1) if key <= cut else np.int64(0)
    return int(count)
