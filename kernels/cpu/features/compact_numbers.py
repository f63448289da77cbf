"""A column of numbers in as few bytes as hold each of them exactly.

    values (n_rows,) float64 with NaN  ->  (width, scale)  ->  int8, int16, int32, float32 or as they are, and back

Most columns of profiles are counts, flags, days, numbers of a few decimals, or were float32 before: kept between
passes, they take a quarter of the memory. A number of decimals is the integer k where k / scale, rounded once, is that
number; with a larger scale it stays one. NaN is the least integer, and -0.0 is none: every value comes back to the bit.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

BYTE, SHORT, LONG, SINGLE, DOUBLE = 0, 1, 2, 3, 4  # widths: int8, int16, int32, float32, float64
MOST_DECIMALS = 4

Array = NDArray[Any]


@numba.njit(nogil=True, cache=True)
def width(values: NDArray[np.float64]) -> tuple[int, float]:
    """Return the least width that holds every value, and the scale of integers."""
    least = largest = 0.0
    single, decimals, scale = True, 0, 1.0
    for i in range(len(values)):
        value = values[i]
        if value != value:
            continue
        single = single and np.float64(np.float32(value)) == value
        if value == 0.0 and np.signbit(value):
            decimals = MOST_DECIMALS + 1
        while decimals <= MOST_DECIMALS and np.rint(value * scale) / scale != value:
            decimals += 1
            scale *= 10.0
        if decimals > MOST_DECIMALS and not single:
            return DOUBLE, 1.0
        least, largest = min(least, value), max(largest, value)
    extent = max(-least, largest) * scale
    if decimals <= MOST_DECIMALS and extent < 127.5:
        return BYTE, scale
    if decimals <= MOST_DECIMALS and extent < 32767.5:
        return SHORT, scale
    if single:
        return SINGLE, 1.0
    return (LONG, scale) if extent < 2147483647.5 else (DOUBLE, 1.0)


@numba.njit(nogil=True, cache=True)
def to_integers(values: NDArray[np.float64], scale: float, gap: int, out: Array) -> None:
    """Write the integers of values, `gap` for NaN."""
    for i in range(len(values)):
        value = np.rint(values[i] * scale)
        out[i] = gap if value != value else value


@numba.njit(nogil=True, cache=True)
def from_integers(integers: Array, scale: float, gap: int, out: NDArray[np.float64]) -> None:
    """Write what to_integers was given."""
    for i in range(len(integers)):
        out[i] = np.nan if integers[i] == gap else integers[i] / scale
