"""Judge the end of a column of numbers: how its values are spaced, and how many rows are to be expected beyond them.

    distinct values, counts  ->  step, whether they fill their range, whether rows beyond them are to be expected

An income that was capped at 99999 has rows all the way up to the cap, so many rows are to be expected from there on. A
discount of 0 to 29 has none near 99, however common 29 is. Hill's estimator of a heavy tail tells the two apart.

Sources: Hill, "A Simple General Approach to Inference About the Tail of a Distribution", 1975; Aban, Meerschaert &
Panorska, "Parameter Estimation for the Truncated Pareto Distribution", 2006.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TAIL_SHARE, MIN_TAIL_ROWS, MIN_TAIL_VALUES = 0.1, 5, 2  # of the rows, rows and distinct values that are the tail
MAX_EXPONENT = 500.0  # times the width of a tail: steeper ones leave nothing to expect, and overflow
FILLED_SHARE = 0.5  # of the steps of a range, from which on values fill it
MIN_ABSENT_ROWS = 10.0  # expected where nobody is, from which on a tail has ended: 1 in 22,000 by chance
MIN_OWN_GAPS = 5.0  # times the widest gap of the tail, from which on a gap after it is none of its own
SIGNIFICANT = 3.0  # times as many rows as expected, and as many standard deviations more, are plainly others


def typical_step(values: NDArray[np.float64]) -> float:
    """Return the median difference of distinct values, ascending, of shape (n_values,), at least two."""
    return float(np.median(np.diff(values)))


def fill_range(values: NDArray[np.float64]) -> bool:
    """Tell whether distinct values, ascending, of shape (n_values,), have half of the steps of their range."""
    return len(values) >= FILLED_SHARE * (float(values[-1] - values[0]) / typical_step(values) + 1.0)


def is_unexpected(
    n_rows: int, values: NDArray[np.float64], counts: NDArray[np.int64], value: float, *, times: float = SIGNIFICANT
) -> bool:
    """Tell whether rows from a value on are no part of the tail of the others.

    They are none if more rows are there than the tail leads one to expect, or if it should have many rows before them,
    where nobody is.

    Parameters
    ----------
    n_rows : int
        The rows with `value`, or a larger one.
    values, counts : arrays of shape (n_values,)
        The distinct other values, ascending, and how many rows have each.
    value : float
        Larger than all of them.
    times : float, default=3
        How many times as many rows as expected, and standard deviations more, are needed.
    """
    before, beyond = rows_expected(value, values, counts)
    return bool(before >= MIN_ABSENT_ROWS or n_rows > times * (beyond + np.sqrt(beyond)))


def rows_expected(value: float, values: NDArray[np.float64], counts: NDArray[np.int64]) -> tuple[float, float]:
    """Return how many rows are to be expected between the other values and `value`, and from there on.

    The largest other values count as a Pareto tail that is cut off at `value`; the rows from there on are infinite
    where it does not thin out. None are expected before `value` where the tail's own values are far from each other,
    as the prices 19, 29, 49 and 99 are. Parameters are those of is_unexpected.
    """
    above = np.cumsum(counts[::-1])[::-1] - counts  # rows with a larger one of the other values
    n_needed = max(TAIL_SHARE * float(counts.sum()), MIN_TAIL_ROWS)
    may_begin = np.flatnonzero((values > 0.0) & (above > 0))
    if len(may_begin) == 0:
        return 0.0, 0.0
    has_tail = may_begin[(above[may_begin] >= n_needed) & (may_begin < len(values) - MIN_TAIL_VALUES)]
    first = int(has_tail[-1]) if len(has_tail) else int(may_begin[0])
    n_tail = float(above[first])
    excess = np.log(values[first + 1 :] / values[first])
    mean_excess = float(np.average(excess, weights=counts[first + 1 :]))
    width, last = float(np.log(value / values[first])), float(excess[-1])
    exponent = _truncated_exponent(mean_excess, width)
    is_sparse = value - values[-1] < MIN_OWN_GAPS * float(np.diff(values[first:]).max())
    if exponent <= 0.0:
        return 0.0 if is_sparse else n_tail * (1.0 - last / width), float("inf")
    end = float(np.exp(-exponent * width))
    before = 0.0 if is_sparse else n_tail * float(np.exp(-exponent * last) - end) / (1.0 - end)
    return before, n_tail * end / (1.0 - end)


def _truncated_exponent(mean_excess: float, width: float) -> float:
    """Return the exponent of a Pareto tail whose logarithms have this mean above its begin, and end after `width`."""
    if mean_excess >= 0.5 * width:  # at least as many rows near the end as near the begin
        return 0.0
    low, high = 0.0, min(1.0 / mean_excess, MAX_EXPONENT / width)
    for _ in range(60):
        middle = 0.5 * (low + high)
        cut_off = width / float(np.expm1(middle * width)) if middle > 0.0 else float("inf")
        low, high = (middle, high) if 1.0 / middle - cut_off > mean_excess else (low, middle)
    return 0.5 * (low + high)
