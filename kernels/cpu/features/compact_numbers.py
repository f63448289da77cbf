"""Store a column of numbers losslessly in the narrowest type that holds each of them exactly.

    values (n_rows,) float64 with NaN  ->  (type, scale)  ->  int8, int16, int32, float32 or float64, and back

Most columns of profiles are counts, flags, days, numbers of a few decimals, or were float32 before: kept between
passes, they take a quarter of the memory. A decimal number is stored as the integer k for which k / scale, rounded
once, is that number; any larger scale serves as well. NaN is the least integer, and -0.0 has no integer. Every value
comes back to the bit.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

INT8, INT16, INT32, FLOAT32, FLOAT64 = 0, 1, 2, 3, 4  # codes of types
MAX_DECIMALS = 4  # largest scale: 10,000

Array = NDArray[Any]


@numba.njit(nogil=True, cache=True)
def find_narrowest_type(values: NDArray[np.float64]) -> tuple[int, float]:
    """Return the narrowest type that holds every value, and the scale of its integers (1 for floats)."""
    least = largest = 0.0
    single, decimals, scale = True, 0, 1.0
    for i in range(len(values)):
        value = values[i]
        if value != value:
            continue
        single = single and np.float64(np.float32(value)) == value
        if value == 0.0 and np.signbit(value):
            decimals = MAX_DECIMALS + 1
        while decimals <= MAX_DECIMALS and np.rint(value * scale) / scale != value:
            decimals += 1
            scale *= 10.0
        if decimals > MAX_DECIMALS and not single:
            return FLOAT64, 1.0
        least, largest = min(least, value), max(largest, value)
    extent = max(-least, largest) * scale
    if decimals <= MAX_DECIMALS and extent < 127.5:
        return INT8, scale
    if decimals <= MAX_DECIMALS and extent < 32767.5:
        return INT16, scale
    if single:
        return FLOAT32, 1.0
    return (INT32, scale) if extent < 2147483647.5 else (FLOAT64, 1.0)


@numba.njit(nogil=True, cache=True)
def to_integers(values: NDArray[np.float64], scale: float, missing: int, out: Array) -> None:
    """Write values as integers, `missing` for NaN."""
    for i in range(len(values)):
        value = np.rint(values[i] * scale)
        out[i] = missing if value != value else value


@numba.njit(nogil=True, cache=True)
def from_integers(integers: Array, scale: float, missing: int, out: NDArray[np.float64]) -> None:
    """Write the values that to_integers was given."""
    for i in range(len(integers)):
        out[i] = np.nan if integers[i] == missing else integers[i] / scale
