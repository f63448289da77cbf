"""Sums of clusters: the integers of plain loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.kernels.cpu.kmeans import lloyd
from engine.kmeans.bounds import CenterMovement
from engine.kmeans.fixed_point import fixed_point_grid
from tests import reference
from tests.kernels.kmeans.filtering import LEVELS, prepare_rows, run_pass


def sum_first_pass(X: Any, weights: Any, centers: Any, level: int) -> tuple[Any, Any]:
    grid = fixed_point_grid(
        X.min(axis=0).astype(np.float64),
        X.max(axis=0).astype(np.float64),
        X.dtype,
        len(X),
        (float(weights.sum()), float(weights.max())) if len(weights) else None,
    )
    result = run_pass(X, centers, level, weights=weights, grid=(grid.shift, grid.scale, grid.mass_scale))
    assert result.changed == len(X)
    return grid, result


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_rows", [1, 127, 128, 129, 300])
def test_sums_and_masses_are_the_integers_of_the_loops(level: int, dtype: Any, weighted: bool, n_rows: int) -> None:
    random = np.random.default_rng(n_rows)
    X = (random.normal(size=(n_rows, 5)) * [1, 1e-3, 1e3, 1, 0] + [0, 0, 0, 1e4, 7]).astype(dtype)
    weights = random.exponential(size=n_rows) if weighted else np.empty(0)
    grid, result = sum_first_pass(X, weights, X[: min(3, n_rows)].copy(), level)
    labels, sums, masses = result.labels, result.sums, result.masses
    ones = weights if weighted else np.ones(n_rows)
    expected = reference.cluster_sums(X.tolist(), ones, labels, len(masses), grid.shift, grid.scale)
    assert sums.tolist() == expected
    scale = grid.mass_scale
    assert masses.tolist() == [
        sum(reference.fixed_point(w, 0.0, 1.0, scale) for w, j in zip(ones, labels, strict=True) if j == cluster)
        for cluster in range(len(masses))
    ]


class MovementWithFastCenters(CenterMovement):
    """A CenterMovement with a given number of fast centers."""

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
    """Centers wander; labels and sums carried from pass to pass are those of a first pass over the same centers."""
    random = np.random.default_rng(seed)
    X = np.round(random.normal(size=(400, n_features)) * 8).astype(np.float32)  # ties and duplicates abound
    weights = random.integers(0, 4, len(X)).astype(np.float64) if weighted else np.empty(0)
    centers = random.normal(size=(7, n_features)).astype(np.float32) * 8
    grid = (np.zeros(n_features), np.full(n_features, 2.0**20), 1.0)
    labels, gap_bound = np.full(len(X), -1, np.int32), np.full(len(X), -np.inf, np.float32)
    sums, masses = np.zeros(centers.shape, np.int64), np.zeros(7, np.int64)
    movement = MovementWithFastCenters(7, n_fast)
    for iteration in range(6):
        prepared = prepare_rows(X, centers, level)
        thresholds = movement.skip_thresholds()
        counts = lloyd.lloyd_pass(
            X, weights, prepared.rows, prepared.quantizer, prepared.centers, *thresholds, *grid,
            labels, gap_bound, sums, masses, prepared.buffer,
        )  # fmt: skip
        first_pass = run_pass(X, centers, level, weights=weights, grid=grid)
        np.testing.assert_array_equal(labels, first_pass.labels)
        np.testing.assert_array_equal(sums, first_pass.sums)
        np.testing.assert_array_equal(masses, first_pass.masses)
        if iteration and step == 0.0:
            assert counts[0] == 0
            assert n_fast or counts[1] < len(X)
        new_centers = (centers + random.normal(size=centers.shape) * step * random.integers(0, 2, (7, 1))).astype(
            np.float32
        )
        steps = np.sqrt(np.square(new_centers.astype(np.float64) - centers).sum(axis=1)) * float(
            prepared.quantizer.factor
        )
        movement.add_steps(steps, labels, gap_bound, words=n_features)
        assert len(movement.fast_centers) == n_fast
        centers = new_centers


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
