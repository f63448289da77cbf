"""Labels by screening: equal to the definition on every row, whatever the rounding."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from engine.kernels.cpu import assign, lloyd
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests import reference

DTYPES = [np.float32, np.float64]


def labelled(X: Any, centres: Any) -> tuple[list[int], int]:
    """Return the labels, and how many rows the definition had to label."""
    labels = np.full(len(X), -1, np.int32)
    none = np.empty(0)
    _, opened = lloyd.lloyd_pass(
        X,
        none,
        assign.screen(centres, X.dtype),
        none,
        none,
        1.0,
        labels,
        np.empty((0, 0), np.int64),
        np.empty(0, np.int64),
    )
    return labels.tolist(), opened


def test_rows_go_to_the_nearest_centre() -> None:
    X = np.array([[0.1, 0.0], [0.9, 1.2], [5.0, 5.0]], np.float32)
    centres = np.array([[1.0, 1.0], [0.0, 0.0]], np.float32)
    assert labelled(X, centres) == ([1, 0, 0], 0)


def test_a_row_between_two_centres_takes_the_lower_label() -> None:
    X = np.array([[1.0, 7.0]], np.float32)
    assert labelled(X, np.array([[2.0, 7.0], [0.0, 7.0]], np.float32)) == ([0], 1)
    assert labelled(X, np.array([[9.0, 9.0], [0.0, 7.0], [2.0, 7.0]], np.float32)) == ([1], 1)


def test_equal_centres_give_the_lowest_of_their_labels() -> None:
    X = np.array([[3.0], [4.0], [9.0]], np.float32)
    assert labelled(X, np.array([[9.0], [3.0], [3.0]], np.float32))[0] == [1, 1, 0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_rows", [1, assign.ROWS - 1, assign.ROWS, assign.ROWS + 1])
@pytest.mark.parametrize(("n_clusters", "n_features"), [(1, 1), (2, 3), (4, 4), (5, 5), (9, 17)])
def test_labels_are_the_definitions_at_every_edge(dtype: Any, n_rows: int, n_clusters: int, n_features: int) -> None:
    random = np.random.default_rng(n_rows + n_clusters)
    X = random.normal(size=(n_rows, n_features)).astype(dtype)
    centres = random.normal(size=(n_clusters, n_features)).astype(dtype)
    assert labelled(X, centres)[0] == reference.labels(X.tolist(), centres.tolist())


def test_few_rows_need_the_definition() -> None:
    random = np.random.default_rng(0)
    X = random.normal(size=(20_000, 32)).astype(np.float32)
    _, opened = labelled(X, X[:100])
    assert opened < 0.002 * len(X)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("offset", [0.0, 1e4, 1e7])
def test_rows_on_bisectors_are_labelled_by_the_definition(dtype: Any, offset: float) -> None:
    random = np.random.default_rng(1)
    centres = (random.normal(size=(6, 8)) + offset).astype(dtype)
    middles = ((centres[:, None].astype(np.float64) + centres[None]) / 2).reshape(-1, 8)
    nudged = [np.nextafter(middles.astype(dtype), dtype(side * np.inf)) for side in (-1, 1)]
    X = np.concatenate([middles.astype(dtype), *nudged])
    labels, opened = labelled(X, centres)
    assert labels == reference.labels(X.tolist(), centres.tolist())
    assert opened > 0 or offset > 0


def test_a_centre_far_away_does_not_blur_the_others() -> None:
    random = np.random.default_rng(2)
    X = random.normal(size=(5_000, 8)).astype(np.float32)
    centres = np.concatenate([X[:20], np.full((1, 8), 1e6, np.float32)])
    labels, opened = labelled(X, centres)
    assert labels[:300] == reference.labels(X[:300].tolist(), centres.tolist())
    assert opened < 0.2 * len(X)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_beyond_the_range_of_float32_products_are_labelled_by_the_definition(dtype: Any) -> None:
    largest = np.finfo(dtype).max / 4
    centres = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, largest]], dtype)
    X = np.array([[largest, 0.0], [0.6, 0.0], [0.0, largest], [-largest, largest]], dtype)
    assert labelled(X, centres)[0] == reference.labels(X.tolist(), centres.tolist())


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_labels_are_the_definitions_for_ties_duplicates_and_any_scale(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(DTYPES))
    scale = dtype(
        2.0
        ** data.draw(
            st.sampled_from([-540, -500, -130, -60, 0, 60, 500] if dtype is np.float64 else [-140, -60, -1, 0, 60])
        )
    )
    offset = data.draw(st.sampled_from([0, 3, 4096]))
    shape = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 6)))
    values = st.integers(-4, 4)
    X = (data.draw(arrays(np.int64, shape, elements=values)) + offset).astype(dtype) * scale
    n_clusters = data.draw(st.integers(1, 7))
    centres = (data.draw(arrays(np.int64, (n_clusters, shape[1]), elements=values)) + offset).astype(dtype) * scale
    assert labelled(X, centres)[0] == reference.labels(X.tolist(), centres.tolist())


@pytest.mark.parametrize("spread", [1.0, 1e-3])
def test_no_score_is_off_by_more_than_the_proven_bound(spread: float) -> None:
    """Compare float32 scores with exact fractions: the certificate rests on this inequality."""
    random = np.random.default_rng(3)
    n_features = 11
    X = random.standard_t(2, size=(assign.ROWS, n_features)).astype(np.float32)
    centres = (X[:8] * np.float32(spread) + np.float32(0.3)).astype(np.float32)
    scr = assign.screen(centres, X.dtype)
    tile, norms = np.zeros((scr.negated.shape[1], assign.ROWS), np.float32), np.empty(assign.ROWS, np.float32)
    assign.load_tile(X, 0, len(X), scr.shift, scr.factor, tile, norms)
    scores = np.empty((4, assign.ROWS), np.float32)
    worst = Fraction(0)
    for j in range(0, 8, 4):
        assign.score_four(tile, scr.negated, scr.offset, j, scores)
        for q in range(4):
            c = [(Fraction(float(v)) - Fraction(float(s))) * Fraction(float(scr.factor)) for v, s in
                 zip(centres[j + q], scr.shift, strict=True)]  # fmt: skip
            square = sum(v * v for v in c)
            for lane in range(assign.ROWS):
                x = [(Fraction(float(v)) - Fraction(float(s))) * Fraction(float(scr.factor)) for v, s in
                     zip(X[lane], scr.shift, strict=True)]  # fmt: skip
                norm = sum(v * v for v in x)
                exact = square / 2 - sum(a * b for a, b in zip(x, c, strict=True))
                error = Fraction(float(scr.row_slack))
                low, high = exact - 2 * error * square - error * norm / 2, exact + error * norm / 2
                assert low <= Fraction(float(scores[q, lane])) <= high
                worst = max(worst, abs(Fraction(float(scores[q, lane])) - exact) / (error * (square + norm)))
    if spread == 1.0:
        assert worst > Fraction(1, 100)  # the bound is not idle: errors come within a factor of a hundred
