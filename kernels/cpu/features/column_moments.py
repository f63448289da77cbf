"""Compute the moments of one column of numbers without its missing values.

    values (n_rows,) float64 with NaN -> number of values, mean, sum of squared deviations, least, largest

Two passes over values that stay in L2: the mean first, then deviations from it, so that nothing cancels. Value i of a
run of RUN_ROWS is added in lane i mod LANES, which the compiler holds in one vector register; the sums of all lanes of
all runs are then added in pairs, those of the second half to those of the first, until one is left. A processor that
adds many numbers at a time adds in the same order: kernels/arrays/features/column_moments.py has the same bits.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

LANES = 8  # partial sums of a run
RUN_ROWS = 1024  # whole lanes


@numba.njit(nogil=True, cache=True)
def compute_moments(values: NDArray[np.float64]) -> Any:
    """Return (n, mean, m2, least, largest); without values (0, 0, 0, inf, -inf)."""
    n_runs = (len(values) + RUN_ROWS - 1) // RUN_ROWS
    sums, counts, squares = np.zeros(LANES), np.zeros(LANES, np.int64), np.zeros(LANES)
    least, largest = np.full(LANES, np.inf), np.full(LANES, -np.inf)
    run_sums, run_squares = np.empty((n_runs, LANES)), np.empty((n_runs, LANES))
    for run in range(n_runs):
        sums[:] = 0.0
        part = values[run * RUN_ROWS : (run + 1) * RUN_ROWS]
        n_whole = len(part) - len(part) % LANES
        for first in range(0, n_whole, LANES):
            for lane in range(LANES):
                value = part[first + lane]
                is_number = value == value
                sums[lane] += value if is_number else 0.0
                counts[lane] += 1 if is_number else 0
                least[lane] = value if value < least[lane] else least[lane]
                largest[lane] = value if value > largest[lane] else largest[lane]
        for lane in range(len(part) - n_whole):
            value = part[n_whole + lane]
            if value == value:
                sums[lane] += value
                counts[lane] += 1
                least[lane] = min(value, least[lane])
                largest[lane] = max(value, largest[lane])
        run_sums[run] = sums
    n = counts.sum()
    if n == 0:
        return 0, 0.0, 0.0, np.inf, -np.inf
    mean = _add_halves(run_sums) / n
    for run in range(n_runs):
        sums[:] = 0.0
        squares[:] = 0.0
        part = values[run * RUN_ROWS : (run + 1) * RUN_ROWS]
        n_whole = len(part) - len(part) % LANES
        for first in range(0, n_whole, LANES):
            for lane in range(LANES):
                value = part[first + lane] - mean
                value = value if value == value else 0.0
                sums[lane] += value
                squares[lane] += value * value
        for lane in range(len(part) - n_whole):
            value = part[n_whole + lane] - mean
            if value == value:
                sums[lane] += value
                squares[lane] += value * value
        run_sums[run] = sums
        run_squares[run] = squares
    rest = _add_halves(run_sums) / n  # rounding error of the mean
    return n, mean + rest, _add_halves(run_squares) - n * rest * rest, least.min() + 0.0, largest.max() + 0.0  # no -0.0


@numba.njit(nogil=True, cache=True)
def _add_halves(run_sums: NDArray[np.float64]) -> Any:
    """Return the sum of all, which are overwritten: the second half is added to the first until one is left."""
    sums = run_sums.ravel()
    n = len(sums)
    while n > 1:
        half = (n + 1) // 2
        for i in range(n - half):
            sums[i] += sums[half + i]
        n = half
    return sums[0]
