"""Moments of a column against exact sums."""

from __future__ import annotations

import math

import numpy as np
import pytest

from engine.kernels.cpu.features.column_moments import LANES, compute_moments


@pytest.mark.parametrize("n", [1, LANES - 1, LANES, LANES + 1, 5 * LANES + 3])
@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("gaps", [0.0, 0.3])
def test_moments_are_those_of_exact_sums(n: int, offset: float, gaps: float) -> None:
    random = np.random.default_rng(n)
    values = random.normal(size=n) + offset
    values[random.random(n) < gaps] = np.nan
    numbers = values[~np.isnan(values)]
    if len(numbers) == 0:
        numbers = values = np.array([3.0])
    count, mean, m2, least, largest = compute_moments(values)
    exact = math.fsum(numbers) / len(numbers)
    assert (count, least, largest) == (len(numbers), numbers.min(), numbers.max())
    assert mean == pytest.approx(exact, rel=1e-15)
    assert m2 == pytest.approx(math.fsum((numbers - exact) ** 2), rel=1e-11, abs=1e-12)


def test_a_column_without_values_has_none() -> None:
    for values in (np.empty(0), np.full(LANES + 2, np.nan)):
        assert compute_moments(values) == (0, 0.0, 0.0, np.inf, -np.inf)


def test_equal_values_have_no_spread() -> None:
    assert compute_moments(np.full(1003, 0.1))[2] == pytest.approx(0.0, abs=1e-28)
