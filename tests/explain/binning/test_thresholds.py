"""Thresholds are numbers and dates that a person would choose: few digits, first days of years and months."""

from __future__ import annotations

import datetime

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.explain.binning.thresholds import MAX_THRESHOLDS, day_thresholds, number_thresholds, simplest_between


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_a_threshold_separates_both_values(a: float, width: float) -> None:
    b = a + width
    threshold = simplest_between(a, b)
    assert a < threshold <= b


def test_thresholds_have_few_digits() -> None:
    assert simplest_between(26.0, 27.0) == 27.0
    assert simplest_between(0.1512, 0.157) == 0.155
    assert simplest_between(99.2, 131.0) == 100.0
    ages = np.random.default_rng(0).integers(18, 60, 3000).astype(float)
    assert number_thresholds(ages) == tuple(float(a) for a in np.unique(ages)[1:])
    shares = np.random.default_rng(0).beta(2, 9, 5000)
    thresholds = number_thresholds(shares)
    assert 50 < len(thresholds) <= MAX_THRESHOLDS + 1
    assert max(len(f"{c:.12g}") for c in thresholds) <= 6
    assert number_thresholds(np.ones(5)) == ()


def test_thresholds_of_dates_are_first_days_of_years_and_months() -> None:
    first = (datetime.date(2015, 6, 15) - datetime.date(1970, 1, 1)).days
    thresholds = day_thresholds(np.arange(first, first + 3650, 7, dtype=float))
    dates = [datetime.date(1970, 1, 1) + datetime.timedelta(days=c) for c in thresholds]
    assert all(d.day == 1 for d in dates)
    assert datetime.date(2020, 1, 1) in dates


def test_thresholds_of_moments_are_days_unless_all_are_within_one() -> None:
    moments = 19_000 + np.linspace(0.1, 5.7, 500)
    assert all(day == np.floor(day) for day in day_thresholds(moments))
    assert len(day_thresholds(moments)) == 5
    within = 19_000 + np.linspace(0.1, 0.9, 500)
    assert len(day_thresholds(within)) > 5
