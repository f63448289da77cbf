"""Choose readable thresholds: between two neighboring quantiles of a sample, the number with fewest digits.

values  ->  at most MAX_THRESHOLDS ascending thresholds, which `value >= threshold` compares with
"""

from __future__ import annotations

import math
import sys
from datetime import date, timedelta
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

MAX_THRESHOLDS = 63  # of a number: quantiles 1.6 % apart; on the demo, 127 gave the same rules
_EPOCH = date(1970, 1, 1)


def number_thresholds(values: NDArray[np.float64]) -> tuple[float, ...]:
    """Return the thresholds of numbers without NaN; none if all are equal."""
    return tuple(sorted({simplest_between(a, b) for a, b in _neighboring_quantiles(values)}))


def day_thresholds(days: NDArray[np.float64]) -> tuple[float, ...]:
    """Return the thresholds of dates (days since 1970-01-01): first days of years, else of months, else days.

    Moments within a day only where there is nothing else to tell by: nobody thinks of half past twelve on a day.
    """
    thresholds = {_simplest_day(a, b) for a, b in _neighboring_quantiles(days)}
    return tuple(sorted({day for day in thresholds if day == math.floor(day)} or thresholds))


def _neighboring_quantiles(values: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Return pairs of neighboring quantiles that differ; if there are few distinct values, all neighboring values."""
    distinct = np.unique(values)
    if len(distinct) > MAX_THRESHOLDS + 1:
        probabilities = np.linspace(0.0, 1.0, MAX_THRESHOLDS + 2)
        distinct = np.unique(np.quantile(values, probabilities, method="inverted_cdf"))
    return [(a, b) for a, b in pairwise(distinct.tolist())]


def simplest_between(a: float, b: float) -> float:
    """Return the number in (a, b] with fewest decimal digits; of several, the one nearest to the middle."""
    middle = a + (b - a) / 2
    exponent = math.floor(math.log10(b - a)) + 1
    for power in range(exponent, exponent - 4, -1):
        for multiple in (10, 5, 2, 1):  # steps of 10, 5, 2, 1 times 10^(power - 1)
            step = multiple * 10.0 ** (power - 1)
            if step < sys.float_info.min:  # denormal numbers have few digits, or are 0
                return b
            nearest = round(middle / step)
            for count in (nearest, nearest + 1, nearest - 1):
                candidate = float(f"{count * step:.15g}")
                if a < candidate <= b:
                    return candidate
    return b


def _simplest_day(a: float, b: float) -> float:
    """Return the day in (a, b]: the latest first of January there, else the latest first of a month, else the last."""
    last = _EPOCH + timedelta(days=math.floor(b))
    for first in (last.replace(month=1, day=1), last.replace(day=1)):
        days = float((first - _EPOCH).days)
        if a < days <= b:
            return days
    return float(math.floor(b)) if a < math.floor(b) <= b else b
