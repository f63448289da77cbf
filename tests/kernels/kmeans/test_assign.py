"""Labels by screening: equal to the definition on every row, at every level of precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from engine.kernels.cpu import distance
from engine.kernels.cpu.kmeans import (
    assign,
)
from engine.kernels.cpu.kmeans import (
    filter as certify,
)
from engine.kernels.cpu.kmeans import (
    quantize as codes,
)
from engine.kernels.cpu.kmeans import (
    quantized_centers as screen,
)
from engine.kernels.cpu.kmeans import (
    tiled_scores as rank,
)
from tests import reference
from tests.kernels.kmeans.filtering import LEVELS, passed, screen_only, screened

DTYPES = [np.float32, np.float64]
at_every_level = pytest.mark.parametrize("level", LEVELS)


@at_every_level
def test_rows_go_to_the_nearest_centre(level: int) -> None:
    X = np.array([[0.1, 0.0], [0.9, 1.2], [5.0, 5.0]], np.float32)
    found = passed(X, np.array([[1.0, 1.0], [0.0, 0.0]], np.float32), level)
    assert (found.labels.tolist(), found.defined) == ([1, 0, 0], 0)


@at_every_level
def test_a_row_between_two_centres_takes_the_lower_label(level: int) -> None:
    X = np.array([[1.0, 7.0]], np.float32)
    found = passed(X, np.array([[2.0, 7.0], [0.0, 7.0]], np.float32), level)
    assert (found.labels.tolist(), found.defined) == ([0], 1)
    found = passed(X, np.array([[9.0, 9.0], [0.0, 7.0], [2.0, 7.0]], np.float32), level)
    assert (found.labels.tolist(), found.defined) == ([1], 1)


@at_every_level
def test_equal_centres_give_the_lowest_of_their_labels(level: int) -> None:
    X = np.array([[3.0], [4.0], [9.0]], np.float32)
    assert passed(X, np.array([[9.0], [3.0], [3.0]], np.float32), level).labels.tolist() == [1, 1, 0]


@at_every_level
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_rows", [1, rank.ROWS - 1, rank.ROWS, rank.ROWS + 1])
@pytest.mark.parametrize(
    ("n_clusters", "n_features"), [(1, 1), (2, 3), (screen.TILE, 4), (screen.TILE + 1, 5), (9, 17), (300, 3)]
)
@pytest.mark.parametrize("stored", [True, False])
def test_labels_are_the_definitions_at_every_edge(
    level: int, dtype: Any, n_rows: int, n_clusters: int, n_features: int, stored: bool
) -> None:
    random = np.random.default_rng(n_rows + n_clusters)
    X = random.normal(size=(n_rows, n_features)).astype(dtype)
    centres = random.normal(size=(n_clusters, n_features)).astype(dtype)
    assert passed(X, centres, level, stored=stored).labels.tolist() == reference.labels(X.tolist(), centres.tolist())


@at_every_level
@pytest.mark.parametrize("n_clusters", [screen.CHUNK - 1, screen.CHUNK, screen.CHUNK + 1, 2 * screen.CHUNK + 5])
def test_more_centres_than_a_tag_can_number_are_told_apart(level: int, n_clusters: int) -> None:
    centres = np.random.default_rng(0).permutation(n_clusters).astype(np.float32)[:, None] * 10
    X = centres + np.float32(0.5)
    assert passed(X, centres, level).labels.tolist() == list(range(n_clusters))


@at_every_level
def test_more_centres_within_the_bound_than_are_noted_are_all_measured(level: int) -> None:
    random = np.random.default_rng(0)
    crowd = (random.normal(size=(rank.NOTED + 30, 5)) * 1e-4).astype(np.float32)
    X = np.concatenate([crowd[:40], random.normal(size=(60, 5)).astype(np.float32)])
    centres = np.concatenate([crowd, np.full((1, 5), 9, np.float32)])
    assert passed(X, centres, level).labels.tolist() == reference.labels(X.tolist(), centres.tolist())


@at_every_level
def test_more_rows_than_a_run_are_labelled(level: int) -> None:
    random = np.random.default_rng(0)
    X = random.normal(size=(assign.RUN + 5, 2)).astype(np.float32)
    centres = X[:4].copy()
    expected = np.square(X[:, None].astype(np.float64) - centres).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(passed(X, centres, level).labels, expected)


@pytest.mark.parametrize(("level", "share"), [(codes.BYTES, 0.25), (codes.SHORTS, 0.02), (codes.FLOATS, 0.02)])
def test_few_rows_stay_open(level: int, share: float) -> None:
    if level not in LEVELS:
        pytest.skip("this CPU has no products of bytes")
    random = np.random.default_rng(0)
    centres = random.normal(size=(100, 32)).astype(np.float32)
    X = (centres[random.integers(0, 100, 20_000)] + random.normal(size=(20_000, 32))).astype(np.float32)
    found = passed(X, centres, level)
    assert found.opened < share * len(X)
    assert found.opened > 0 or level != codes.BYTES
    assert found.defined < 0.001 * len(X)


@at_every_level
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("offset", [0.0, 1e4, 1e7])
def test_rows_on_bisectors_are_labelled_by_the_definition(level: int, dtype: Any, offset: float) -> None:
    random = np.random.default_rng(1)
    centres = (random.normal(size=(6, 8)) + offset).astype(dtype)
    middles = ((centres[:, None].astype(np.float64) + centres[None]) / 2).reshape(-1, 8)
    nudged = [np.nextafter(middles.astype(dtype), dtype(side * np.inf)) for side in (-1, 1)]
    X = np.concatenate([middles.astype(dtype), *nudged])
    assert passed(X, centres, level).labels.tolist() == reference.labels(X.tolist(), centres.tolist())


@at_every_level
def test_every_row_where_screen_and_definition_differ_is_caught(level: int) -> None:
    """Rows are placed ever closer to bisectors: the screen alone must err on some, and none of those be certain."""
    random = np.random.default_rng(4)
    centres = random.normal(size=(40, 16)).astype(np.float32)
    pairs = random.integers(0, 40, (2, 20_000))
    middles = (centres[pairs[0]].astype(np.float64) + centres[pairs[1]]) / 2
    towards = (centres[pairs[0]] - centres[pairs[1]]) * np.exp(random.uniform(-16, -2, (20_000, 1)))
    X = (middles + towards).astype(np.float32)
    ready = screened(X, centres, level)
    scratch, labels = np.empty(40), np.empty(len(X), np.int32)
    definition = np.array([distance.defined_label(row, ready.scr.exact, scratch) for row in X])
    assign.label_rows(X, ready.coded, ready.frame, ready.scr, ready.desk, labels)
    np.testing.assert_array_equal(labels, definition)
    expected = np.square(X[:2000, None].astype(np.float64) - centres).sum(axis=2).argmin(axis=1)
    assert (definition[:2000] == expected).mean() > 0.999  # the definition adds in another order
    differing = 0
    for start in range(0, len(X), certify.RUN):
        count = min(certify.RUN, len(X) - start)
        ready.desk.rows[:count] = np.arange(start, start + count)
        screen_only(X, ready.coded, ready.frame, ready.scr, count, ready.desk)
        wrong = ready.desk.names[0, :count] != definition[start : start + count]
        assert not (ready.desk.gaps[:count][wrong] > 0).any()
        differing += int(wrong.sum())
    assert differing > 10


@at_every_level
@pytest.mark.parametrize("dtype", DTYPES)
def test_gaps_are_lower_bounds_of_the_true_ones(level: int, dtype: Any) -> None:
    random = np.random.default_rng(5)
    X = (random.standard_t(3, size=(3000, 9)) * 5 + 40).astype(dtype)
    centres = X[:50].copy()
    found = passed(X, centres, level)
    distances = np.sqrt(np.square(X[:, None].astype(np.longdouble) - centres).sum(axis=2))
    nearest = np.sort(distances, axis=1)
    factor = float(codes.frame_of(X, level).factor)
    gaps = (nearest[:, 1] - nearest[:, 0]) * factor
    assert (found.slack <= gaps).all()
    useful = gaps > 0.3 * np.median(gaps)
    assert np.median(found.slack[useful] / gaps[useful].astype(np.float64)) > (0.4 if level == codes.BYTES else 0.9)


def test_a_centre_far_away_does_not_blur_the_others() -> None:
    random = np.random.default_rng(2)
    X = random.normal(size=(5_000, 8)).astype(np.float32)
    centres = np.concatenate([X[:20], np.full((1, 8), 1e6, np.float32)])
    found = passed(X, centres, codes.FLOATS)
    assert found.labels[:300].tolist() == reference.labels(X[:300].tolist(), centres.tolist())
    assert found.opened < 0.2 * len(X)


@at_every_level
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_beyond_the_range_of_float32_products_are_labelled_by_the_definition(level: int, dtype: Any) -> None:
    largest = np.finfo(dtype).max / 4
    centres = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, largest]], dtype)
    X = np.array([[largest, 0.0], [0.6, 0.0], [0.0, largest], [-largest, largest]], dtype)
    with np.errstate(over="ignore"):
        assert passed(X, centres, level).labels.tolist() == reference.labels(X.tolist(), centres.tolist())


def scaled_integers(data: st.DataObject, n_centres: int) -> tuple[Any, Any]:
    dtype = data.draw(st.sampled_from(DTYPES))
    powers = [-540, -500, -130, -60, 0, 60, 500] if dtype is np.float64 else [-140, -60, -1, 0, 60]
    scale = dtype(2.0 ** data.draw(st.sampled_from(powers)))
    offset = data.draw(st.sampled_from([0, 3, 4096]))
    shape = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 6)))
    values = st.integers(-4, 4)
    X = (data.draw(arrays(np.int64, shape, elements=values)) + offset).astype(dtype) * scale
    n_clusters = data.draw(st.integers(1, n_centres))
    return X, (data.draw(arrays(np.int64, (n_clusters, shape[1]), elements=values)) + offset).astype(dtype) * scale


@settings(max_examples=200)
@given(data=st.data(), level=st.sampled_from(list(LEVELS)), stored=st.booleans())
def test_labels_are_the_definitions_for_ties_duplicates_and_any_scale(
    data: st.DataObject, level: int, stored: bool
) -> None:
    X, centres = scaled_integers(data, 7)
    found = passed(X, centres, level, stored=stored)
    assert found.labels.tolist() == reference.labels(X.tolist(), centres.tolist())


@settings(max_examples=150)
@given(data=st.data(), level=st.sampled_from(list(LEVELS)))
def test_the_nearest_two_are_the_definitions_for_ties_duplicates_and_any_scale(data: st.DataObject, level: int) -> None:
    X, centres = scaled_integers(data, 7)
    ready = screened(X, centres, level, stored=False)
    labels, runners_up = np.empty(len(X), np.int32), np.empty(len(X), np.int32)
    nearest, second = np.empty(len(X)), np.empty(len(X))
    assign.label_two(X, ready.coded, ready.frame, ready.scr, ready.desk, labels, nearest, runners_up, second)
    rows, points = X.tolist(), centres.tolist()
    assert labels.tolist() == reference.labels(rows, points)
    assert runners_up.tolist() == [reference.runner_up(row, points) for row in rows]
    for i, row in enumerate(rows):
        assert nearest[i] == reference.squared_distance(row, points[labels[i]])
        expected = reference.squared_distance(row, points[runners_up[i]]) if len(points) > 1 else np.inf
        assert second[i] == expected
