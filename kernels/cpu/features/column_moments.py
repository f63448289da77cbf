"""Compute the moments of one column of numbers without its missing values.

    values (n_rows,) float64 with NaN -> number of values, mean, sum of squared deviations, least, largest

Two passes over values that stay in L2: the mean first, then deviations from it, so that nothing cancels. The sums are
kept in LANES lanes, which the compiler holds in one vector register: the order of addition is fixed, and its chain
eight times shorter than that of a single sum.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

LANES = 8  # partial sums


@numba.njit(nogil=True, cache=True)
def compute_moments(values: NDArray[np.float64]) -> Any:
    """Return (n, mean, m2, least, largest); without values (0, 0, 0, inf, -inf)."""
    n_whole = len(values) - len(values) % LANES
    sums, counts = np.zeros(LANES), np.zeros(LANES, np.int64)
    least, largest = np.full(LANES, np.inf), np.full(LANES, -np.inf)
    for first in range(0, n_whole, LANES):
        for lane in range(LANES):
            value = values[first + lane]
            is_number = value == value
            sums[lane] += value if is_number else 0.0
            counts[lane] += 1 if is_number else 0
            least[lane] = value if value < least[lane] else least[lane]
            largest[lane] = value if value > largest[lane] else largest[lane]
    for i in range(n_whole, len(values)):
        value = values[i]
        if value == value:
            sums[0] += value
            counts[0] += 1
            least[0] = min(value, least[0])
            largest[0] = max(value, largest[0])
    n = counts.sum()
    if n == 0:
        return 0, 0.0, 0.0, np.inf, -np.inf
    mean = sums.sum() / n
    sums[:] = 0.0
    squares = np.zeros(LANES)
    for first in range(0, n_whole, LANES):
        for lane in range(LANES):
            value = values[first + lane] - mean
            value = value if value == value else 0.0
            sums[lane] += value
            squares[lane] += value * value
    for i in range(n_whole, len(values)):
        value = values[i] - mean
        if value == value:
            sums[0] += value
            squares[0] += value * value
    rest = sums.sum() / n  # rounding error of the mean
    return n, mean + rest, squares.sum() - n * rest * rest, least.min(), largest.max()
