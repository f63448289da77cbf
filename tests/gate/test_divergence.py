"""Divergences of two distributions, against their definitions and against chance."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2_contingency, norm

from engine.gate.divergence import compare_share, compare_shares


def test_the_measures_are_those_of_their_definitions() -> None:
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.4, 0.4, 0.2])
    found = compare_shares(p, q, 10**9, 10**9)
    assert found.psi == pytest.approx(((q - p) * np.log(q / p)).sum(), rel=1e-6)
    assert found.js == pytest.approx(jensenshannon(p, q, base=2), rel=1e-9)
    few = compare_shares(p, q, 500, 1000)
    g, chance, freedom, _ = chi2_contingency(np.stack([500 * p, 1000 * q]), correction=False, lambda_="log-likelihood")
    assert (few.g, few.chance, few.freedom) == pytest.approx((g, chance, freedom), rel=1e-6)


def test_a_shift_of_normal_values_has_the_square_of_the_shift_as_psi() -> None:
    edges = norm.ppf(np.arange(1, 40) / 40)
    for shift in (0.1, 0.2, 0.5):
        p, q = (np.diff(norm.cdf(edges - d), prepend=0.0, append=1.0) for d in (0.0, shift))
        assert compare_shares(p, q, 10**9, 10**9).psi == pytest.approx(shift**2, rel=0.03)


def test_equal_empty_and_single_shares_do_not_differ() -> None:
    same = np.array([0.25, 0.75])
    for found in (
        compare_shares(same, same, 100, 200),
        compare_shares(np.array([1.0, 0.0]), np.array([1.0, 0.0]), 10, 10),
        compare_shares(same, same, 0, 10),
        compare_share(0.0, 0.0, 10, 10),
    ):
        assert found.js == 0.0
        assert found.chance == 1.0
        assert not found.exceeds(0.0, 0.0)


def test_limits_are_widened_by_what_samples_of_one_population_do() -> None:
    rng = np.random.default_rng(0)
    shares, n = np.full(20, 0.05), 400
    samples = rng.multinomial(n, shares, size=(400, 2)) / n
    found = [compare_shares(p, q, n, n) for p, q in samples]
    assert np.mean([one.psi for one in found]) == pytest.approx(found[0].noise, rel=0.15)
    assert np.mean([one.chance < 0.05 for one in found]) == pytest.approx(0.05, abs=0.03)
    shifted = compare_shares(shares, np.roll(np.linspace(0.01, 0.09, 20), 3), n, n)
    assert shifted.exceeds(0.02, None)
    assert shifted.exceeds(None, 0.1)
    assert not shifted.exceeds(None, None)
