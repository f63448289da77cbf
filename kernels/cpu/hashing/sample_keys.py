"""Select the rows with small sampling keys (engine/utils/row_sampling.py) without an array of all keys.

    first, last row, stream of a seed, threshold  ->  rows whose key is at most the threshold, and their keys

Source: splitmix64 (Steele, Lea & Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

_GOLDEN, _FIRST, _SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


@numba.njit(nogil=True, cache=True)
def select_small_keys(
    first: int, last: int, stream: np.uint64, threshold: np.uint64, rows: NDArray[np.int64], keys: NDArray[np.uint64]
) -> int:
    """Write the rows among first … last - 1 whose key is at most `threshold`, and the keys; return their number.

    rows and keys are of shape (last - first,).
    """
    count = np.int64(0)
    for row in range(first, last):
        key = np.uint64(row) * _GOLDEN + stream
        key = (key ^ (key >> np.uint64(30))) * _FIRST
        key = (key ^ (key >> np.uint64(27))) * _SECOND
        key = key ^ (key >> np.uint64(31))
        rows[count], keys[count] = row, key
        count += np.int64(1) if key <= threshold else np.int64(0)
    return int(count)
