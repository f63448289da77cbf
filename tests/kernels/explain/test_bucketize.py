"""Bucketizing by a lookup table against a comparison with every threshold, for any numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.kernels.cpu.explain.bucketize import MISSING, bucketize, build_lookup

NUMBERS = st.one_of(
    st.floats(allow_nan=False),
    st.integers(-40, 40).map(float),
    st.sampled_from([0.0, -0.0, 5e-324, -5e-324, 1e308, -1e308, np.inf, -np.inf]),
)


def compare_with_all(values: np.ndarray, thresholds: np.ndarray) -> list[int]:
    return [MISSING if np.isnan(v) else sum(bool(v >= threshold) for threshold in thresholds) for v in values]


def bucketize_by_lookup(values: np.ndarray, thresholds: np.ndarray) -> list[int]:
    out = np.empty(len(values), np.uint8)
    bucketize(values, build_lookup(thresholds), out)
    return out.tolist()


@given(
    thresholds=st.lists(NUMBERS.filter(np.isfinite), max_size=64, unique=True), values=st.lists(NUMBERS, max_size=40)
)
@settings(max_examples=300)
def test_any_value_has_reached_the_thresholds_it_is_not_below(thresholds: list[float], values: list[float]) -> None:
    sorted_thresholds = np.unique(np.array(thresholds, np.float64))
    with np.errstate(over="ignore"):
        near = np.concatenate(
            [sorted_thresholds, np.nextafter(sorted_thresholds, -np.inf), np.nextafter(sorted_thresholds, np.inf)]
        )
    all_values = np.concatenate([np.array(values, np.float64), near, [np.nan, np.inf, -np.inf]])
    assert bucketize_by_lookup(all_values, sorted_thresholds) == compare_with_all(all_values, sorted_thresholds)


@pytest.mark.parametrize("spread", [0.5, 3.0])
def test_numbers_of_heavy_tails_use_cells_that_are_even_in_their_bits(spread: float) -> None:
    values = np.random.default_rng(0).lognormal(0.0, spread, 5000)
    thresholds = np.unique(np.quantile(values, np.linspace(0.0, 1.0, 64), method="inverted_cdf"))
    lookup = build_lookup(thresholds)
    assert lookup.even_in_bits == (spread > 1.0)
    assert lookup.n_compared <= 3
    assert bucketize_by_lookup(values, thresholds) == compare_with_all(values, thresholds)
