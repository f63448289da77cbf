"""The end of a scale: how values are spaced, and how many rows a tail leads one to expect."""

from __future__ import annotations

import numpy as np
import pytest

from engine.features.scale_ends import fill_range, is_unexpected, rows_expected, typical_step


def tally(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.unique(values, return_counts=True)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0, 4.0])
def test_the_rows_beyond_a_cap_are_those_of_the_pareto_tail_below_it(exponent: float) -> None:
    incomes = np.random.default_rng(0).pareto(exponent, 200_000) + 1.0
    cap = float(np.quantile(incomes, 0.99))
    before, beyond = rows_expected(cap, *tally(incomes[incomes < cap]))
    assert beyond == pytest.approx(2000, rel=0.1)
    assert before < 10
    assert not is_unexpected(2000, *tally(incomes[incomes < cap]), cap)
    assert is_unexpected(8000, *tally(incomes[incomes < cap]), cap)


def test_a_tail_has_rows_before_a_number_far_away() -> None:
    incomes = np.random.default_rng(0).pareto(1.0, 100_000) + 1.0
    low = incomes[incomes < 100.0]
    before, beyond = rows_expected(1000.0, *tally(low))
    n_top = (low > np.quantile(low, 0.9)).sum()
    assert before + beyond < n_top
    assert before > 10
    assert is_unexpected(3, *tally(low), 1000.0)  # a thousand should be between 100 and 1000, but nobody is


def test_nothing_is_expected_after_a_scale_that_ends() -> None:
    values, counts = np.arange(30.0), np.full(30, 100)
    before, beyond = rows_expected(99.0, values, counts)
    assert beyond < 0.01  # the tail is steep
    assert before > 10
    assert is_unexpected(1, values, counts, 99.0)


def test_prices_that_are_ever_farther_apart_go_on() -> None:
    assert not is_unexpected(100, np.array([5.0, 9, 19, 29, 49]), np.full(5, 100), 99.0)


def test_numbers_without_a_positive_tail_lead_to_expect_nothing() -> None:
    assert rows_expected(99.0, np.array([-2.0, -1.0, 0.0]), np.array([5, 5, 5])) == (0.0, 0.0)


def test_values_fill_a_range_by_their_own_step() -> None:
    assert typical_step(np.array([0.0, 5, 10, 20])) == 5.0
    assert fill_range(np.arange(20.0, 65.0, 5.0))
    assert not fill_range(np.array([0.0, 1, 2, 3, 50]))


def test_a_steep_tail_far_below_a_number_overflows_nowhere() -> None:
    before, beyond = rows_expected(1e18, np.array([1e6, 1e6 + 1.0, 1e6 + 2.0]), np.array([50, 50, 50]))
    assert before > 10
    assert 0.0 <= beyond < 1e-100
