"""Sums of clusters: integers that plain loops confirm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from engine.kernels.cpu import assign, lloyd
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.fixed_point import fixed_point_grid
from tests import reference


def summed(X: Any, weights: Any, centres: Any) -> tuple[Any, Any, Any, Any]:
    grid = fixed_point_grid(
        X.min(axis=0).astype(np.float64),
        X.max(axis=0).astype(np.float64),
        X.dtype,
        len(X),
        (float(weights.sum()), float(weights.max())) if len(weights) else None,
    )
    labels = np.full(len(X), -1, np.int32)
    sums, masses = np.zeros(centres.shape, np.int64), np.zeros(len(centres), np.int64)
    scr = assign.screen(centres, X.dtype)
    changed, _ = lloyd.lloyd_pass(X, weights, scr, grid.shift, grid.scale, grid.mass_scale, labels, sums, masses)
    assert changed == len(X)
    return grid, labels, sums, masses


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_rows", [1, 127, 128, 129, 300])
def test_sums_and_masses_are_the_integers_of_the_loops(dtype: Any, weighted: bool, n_rows: int) -> None:
    random = np.random.default_rng(n_rows)
    X = (random.normal(size=(n_rows, 5)) * [1, 1e-3, 1e3, 1, 0] + [0, 0, 0, 1e4, 7]).astype(dtype)
    weights = random.exponential(size=n_rows) if weighted else np.empty(0)
    grid, labels, sums, masses = summed(X, weights, X[: min(3, n_rows)].copy())
    ones = weights if weighted else np.ones(n_rows)
    expected = reference.cluster_sums(X.tolist(), ones, labels, len(masses), grid.shift, grid.scale)
    assert sums.tolist() == expected
    scale = grid.mass_scale
    assert masses.tolist() == [
        sum(reference.fixed_point(w, 0.0, 1.0, scale) for w, j in zip(ones, labels, strict=True) if j == cluster)
        for cluster in range(len(masses))
    ]


def test_a_second_pass_over_the_same_centres_changes_no_label() -> None:
    X = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    none = np.empty(0)
    labels = np.full(300, -1, np.int32)
    no_sums, no_masses = np.empty((0, 0), np.int64), np.empty(0, np.int64)
    scr = assign.screen(X[:5].copy(), X.dtype)
    assert lloyd.lloyd_pass(X, none, scr, none, none, 1.0, labels, no_sums, no_masses)[0] == 300
    assert lloyd.lloyd_pass(X, none, scr, none, none, 1.0, labels, no_sums, no_masses)[0] == 0
    labels[[0, 150, 299]] += 1
    assert lloyd.lloyd_pass(X, none, scr, none, none, 1.0, labels, no_sums, no_masses)[0] == 3


@settings(max_examples=100, deadline=None)
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


def test_rows_without_weight_do_not_widen_the_range() -> None:
    X = np.array([[1.0, 5.0], [100.0, -100.0], [3.0, 4.0]], np.float32)
    low, high = np.full(2, np.inf, np.float32), np.full(2, -np.inf, np.float32)
    lloyd.widen(X, np.array([1.0, 0.0, 2.0]), low, high)
    assert (low.tolist(), high.tolist()) == ([1.0, 4.0], [3.0, 5.0])
    lloyd.widen(X, np.empty(0), low, high)
    assert (low.tolist(), high.tolist()) == ([1.0, -100.0], [100.0, 5.0])


def test_squares_are_summed_in_fixed_point() -> None:
    X = np.array([[1.0], [2.0], [4.0]], np.float32)
    sums, squares = np.zeros(1, np.int64), np.zeros(1, np.int64)
    lloyd.add_squares(X, np.array([1.0, 3.0, 1.0]), np.array([2.0]), np.array([8.0]), np.array([16.0]), sums, squares)
    assert (sums[0], squares[0]) == ((-1 + 2) * 8, (1 + 4) * 16)
