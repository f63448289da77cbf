"""Counting cuts by a grid: what comparing with every cut counts, for any numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.kernels.cpu.explain.bucketize import MISSING, count_cuts, grid_of

NUMBERS = st.one_of(
    st.floats(allow_nan=False),
    st.integers(-40, 40).map(float),
    st.sampled_from([0.0, -0.0, 5e-324, -5e-324, 1e308, -1e308, np.inf, -np.inf]),
)


def by_comparing(values: np.ndarray, cuts: np.ndarray) -> list[int]:
    return [MISSING if np.isnan(v) else sum(bool(v >= cut) for cut in cuts) for v in values]


def by_grid(values: np.ndarray, cuts: np.ndarray) -> list[int]:
    out = np.empty(len(values), np.uint8)
    count_cuts(values, grid_of(cuts), out)
    return out.tolist()


@given(cuts=st.lists(NUMBERS.filter(np.isfinite), max_size=64, unique=True), values=st.lists(NUMBERS, max_size=40))
@settings(max_examples=300)
def test_any_value_has_reached_the_cuts_it_is_not_below(cuts: list[float], values: list[float]) -> None:
    edges = np.unique(np.array(cuts, np.float64))
    with np.errstate(over="ignore"):
        near = np.concatenate([edges, np.nextafter(edges, -np.inf), np.nextafter(edges, np.inf)])
    every = np.concatenate([np.array(values, np.float64), near, [np.nan, np.inf, -np.inf]])
    assert by_grid(every, edges) == by_comparing(every, edges)


@pytest.mark.parametrize("spread", [0.5, 3.0])
def test_numbers_of_heavy_tails_are_placed_by_their_bits(spread: float) -> None:
    values = np.random.default_rng(0).lognormal(0.0, spread, 5000)
    cuts = np.unique(np.quantile(values, np.linspace(0.0, 1.0, 64), method="inverted_cdf"))
    grid = grid_of(cuts)
    assert grid.even_in_bits == (spread > 1.0)
    assert grid.n_compared <= 3
    assert by_grid(values, cuts) == by_comparing(values, cuts)
