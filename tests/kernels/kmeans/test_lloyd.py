"""Sums of clusters: integers that plain loops confirm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.kernels.cpu.kmeans import lloyd
from engine.kmeans.bounds import Way
from engine.kmeans.fixed_point import fixed_point_grid
from tests import reference
from tests.kernels.kmeans.filtering import LEVELS, passed, screened


def summed(X: Any, weights: Any, centres: Any, level: int) -> tuple[Any, Any]:
    grid = fixed_point_grid(
        X.min(axis=0).astype(np.float64),
        X.max(axis=0).astype(np.float64),
        X.dtype,
        len(X),
        (float(weights.sum()), float(weights.max())) if len(weights) else None,
    )
    found = passed(X, centres, level, weights=weights, grid=(grid.shift, grid.scale, grid.mass_scale))
    assert found.changed == len(X)
    return grid, found


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_rows", [1, 127, 128, 129, 300])
def test_sums_and_masses_are_the_integers_of_the_loops(level: int, dtype: Any, weighted: bool, n_rows: int) -> None:
    random = np.random.default_rng(n_rows)
    X = (random.normal(size=(n_rows, 5)) * [1, 1e-3, 1e3, 1, 0] + [0, 0, 0, 1e4, 7]).astype(dtype)
    weights = random.exponential(size=n_rows) if weighted else np.empty(0)
    grid, found = summed(X, weights, X[: min(3, n_rows)].copy(), level)
    labels, sums, masses = found.labels, found.sums, found.masses
    ones = weights if weighted else np.ones(n_rows)
    expected = reference.cluster_sums(X.tolist(), ones, labels, len(masses), grid.shift, grid.scale)
    assert sums.tolist() == expected
    scale = grid.mass_scale
    assert masses.tolist() == [
        sum(reference.fixed_point(w, 0.0, 1.0, scale) for w, j in zip(ones, labels, strict=True) if j == cluster)
        for cluster in range(len(masses))
    ]


class WayWith(Way):
    """Takes as many fast centres as it is told to."""

    def __init__(self, n_clusters: int, n_fast: int) -> None:
        super().__init__(n_clusters)
        self.n_fast = n_fast

    def _best_count(self, *_: Any) -> int:
        return self.n_fast


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    level=st.sampled_from(list(LEVELS)),
    step=st.sampled_from([0.0, 1e-4, 0.02, 0.5]),
    n_features=st.integers(1, 9),
    weighted=st.booleans(),
    n_fast=st.sampled_from([0, 1, 3, 6]),
)
def test_passes_that_skip_rows_find_what_a_first_pass_finds(
    seed: int, level: int, step: float, n_features: int, weighted: bool, n_fast: int
) -> None:
    """Centres wander; labels and sums kept from pass to pass are those of a pass that has seen nothing."""
    random = np.random.default_rng(seed)
    X = np.round(random.normal(size=(400, n_features)) * 8).astype(np.float32)  # ties and duplicates abound
    weights = random.integers(0, 4, len(X)).astype(np.float64) if weighted else np.empty(0)
    centres = random.normal(size=(7, n_features)).astype(np.float32) * 8
    grid = (np.zeros(n_features), np.full(n_features, 2.0**20), 1.0)
    labels, slack = np.full(len(X), -1, np.int32), np.full(len(X), -np.inf, np.float32)
    sums, masses = np.zeros(centres.shape, np.int64), np.zeros(7, np.int64)
    way = WayWith(7, n_fast)
    for number in range(6):
        ready = screened(X, centres, level)
        drift = way.drift()
        counts = lloyd.lloyd_pass(
            X, weights, ready.coded, ready.frame, ready.scr, *drift, *grid,
            labels, slack, sums, masses, ready.desk,
        )  # fmt: skip
        fresh = passed(X, centres, level, weights=weights, grid=grid)
        np.testing.assert_array_equal(labels, fresh.labels)
        np.testing.assert_array_equal(sums, fresh.sums)
        np.testing.assert_array_equal(masses, fresh.masses)
        if number and step == 0.0:
            assert counts[0] == 0
            assert n_fast or counts[1] < len(X)
        moved = (centres + random.normal(size=centres.shape) * step * random.integers(0, 2, (7, 1))).astype(np.float32)
        steps = np.sqrt(np.square(moved.astype(np.float64) - centres).sum(axis=1)) * float(ready.frame.factor)
        way.follow(steps, labels, slack)
        assert len(way.fast) == n_fast
        centres = moved


@settings(max_examples=100)
@given(
    low=st.floats(-(2.0**99), 2.0**99, width=32),
    span=st.floats(0, 2.0**99, width=32),
    n_rows=st.sampled_from([1, 2, 1000, 10**9, 2**40]),
    largest=st.sampled_from([None, 1e-6, 1.0, 1e6]),
)
def test_no_sum_can_overflow(low: float, span: float, n_rows: int, largest: float | None) -> None:
    """Every row at the farther end of its range, with the largest weight, stays within 63 bits."""
    ends = np.array([low]), np.array([float(np.float32(low + span))])
    weights = None if largest is None else (n_rows * largest, largest)
    grid = fixed_point_grid(*ends, np.dtype(np.float32), n_rows, weights)
    weight = 1.0 if largest is None else largest
    for end in ends:
        term = reference.fixed_point(end[0], grid.shift[0], weight, grid.scale[0])
        square = round((end[0] - grid.shift[0]) ** 2 * weight * grid.square_scale[0])
        assert abs(term) <= 2**51
        assert abs(term) * n_rows < 2**63
        assert square * n_rows < 2**63
    assert round(weight * grid.mass_scale) * n_rows < 2**63


def test_squares_are_summed_in_fixed_point() -> None:
    X = np.array([[1.0], [2.0], [4.0]], np.float32)
    sums, squares = np.zeros(1, np.int64), np.zeros(1, np.int64)
    lloyd.add_squares(X, np.array([1.0, 3.0, 1.0]), np.array([2.0]), np.array([8.0]), np.array([16.0]), sums, squares)
    assert (sums[0], squares[0]) == ((-1 + 2) * 8, (1 + 4) * 16)
