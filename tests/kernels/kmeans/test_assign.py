"""Labels by filter and refine: equal to the definition on every row, at every level of precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from engine.kernels.cpu import distance
from engine.kernels.cpu.kmeans import assign, quantize
from engine.kernels.cpu.kmeans import certify as row_filter
from engine.kernels.cpu.kmeans.block_scores import MAX_CANDIDATES
from engine.kernels.cpu.kmeans.quantized_centers import BLOCK_CENTERS, TILE_CENTERS
from engine.kernels.cpu.kmeans.tiled_scores import TILE_ROWS
from engine.kernels.cpu.simd.vectors import LANES
from tests import reference
from tests.kernels.kmeans.filtering import LEVELS, filter_only, prepare_rows, rank_rows, run_pass

DTYPES = [np.float32, np.float64]
at_every_level = pytest.mark.parametrize("level", LEVELS)


@at_every_level
def test_rows_go_to_the_nearest_center(level: int) -> None:
    X = np.array([[0.1, 0.0], [0.9, 1.2], [5.0, 5.0]], np.float32)
    result = run_pass(X, np.array([[1.0, 1.0], [0.0, 0.0]], np.float32), level)
    assert (result.labels.tolist(), result.defined) == ([1, 0, 0], 0)


@at_every_level
def test_a_row_between_two_centers_takes_the_lower_label(level: int) -> None:
    X = np.array([[1.0, 7.0]], np.float32)
    result = run_pass(X, np.array([[2.0, 7.0], [0.0, 7.0]], np.float32), level)
    assert (result.labels.tolist(), result.defined) == ([0], 1)
    result = run_pass(X, np.array([[9.0, 9.0], [0.0, 7.0], [2.0, 7.0]], np.float32), level)
    assert (result.labels.tolist(), result.defined) == ([1], 1)


@at_every_level
def test_equal_centers_give_the_lowest_of_their_labels(level: int) -> None:
    X = np.array([[3.0], [4.0], [9.0]], np.float32)
    assert run_pass(X, np.array([[9.0], [3.0], [3.0]], np.float32), level).labels.tolist() == [1, 1, 0]


@at_every_level
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_rows", [1, TILE_ROWS - 1, TILE_ROWS, TILE_ROWS + 1])
@pytest.mark.parametrize(
    ("n_clusters", "n_features"),
    [(1, 1), (2, 3), (TILE_CENTERS, 4), (TILE_CENTERS + 1, 5), (9, 17), (300, 3)],
)
@pytest.mark.parametrize("stored", [True, False])
def test_labels_are_the_definitions_at_every_edge(
    level: int, dtype: Any, n_rows: int, n_clusters: int, n_features: int, stored: bool
) -> None:
    random = np.random.default_rng(n_rows + n_clusters)
    X = random.normal(size=(n_rows, n_features)).astype(dtype)
    centers = random.normal(size=(n_clusters, n_features)).astype(dtype)
    assert run_pass(X, centers, level, stored=stored).labels.tolist() == reference.labels(X.tolist(), centers.tolist())


@at_every_level
@pytest.mark.parametrize(
    "n_clusters",
    [
        BLOCK_CENTERS - 1,
        BLOCK_CENTERS,
        BLOCK_CENTERS + 1,
        10 * BLOCK_CENTERS,
        10 * BLOCK_CENTERS + 5,
    ],
)
def test_centers_of_many_blocks_are_distinguished(level: int, n_clusters: int) -> None:
    centers = np.random.default_rng(0).permutation(n_clusters).astype(np.float32)[:, None] * 10
    X = centers + np.float32(0.5)
    assert run_pass(X, centers, level).labels.tolist() == list(range(n_clusters))


@at_every_level
@pytest.mark.parametrize("beyond", [-1, 0, 1, LANES, 100])
def test_rows_with_more_candidates_than_are_listed_are_labelled(level: int, beyond: int) -> None:
    random = np.random.default_rng(0)
    crowd = (random.normal(size=(MAX_CANDIDATES - LANES + beyond, 5)) * 1e-4).astype(np.float32)
    X = np.concatenate([crowd[:40], random.normal(size=(60, 5)).astype(np.float32)])
    centers = np.concatenate([crowd, np.full((1, 5), 9, np.float32)])
    assert run_pass(X, centers, level).labels.tolist() == reference.labels(X.tolist(), centers.tolist())


@at_every_level
def test_more_rows_than_a_run_are_labelled(level: int) -> None:
    random = np.random.default_rng(0)
    X = random.normal(size=(row_filter.RUN_ROWS + 5, 2)).astype(np.float32)
    centers = X[:4].copy()
    expected = np.square(X[:, None].astype(np.float64) - centers).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(run_pass(X, centers, level).labels, expected)


@pytest.mark.parametrize(("level", "share"), [(quantize.INT8, 0.25), (quantize.INT16, 0.02), (quantize.FLOAT32, 0.02)])
def test_the_filter_leaves_few_rows_open(level: int, share: float) -> None:
    if level not in LEVELS:
        pytest.skip("this CPU has no dot products of int8")
    random = np.random.default_rng(0)
    centers = random.normal(size=(100, 32)).astype(np.float32)
    X = (centers[random.integers(0, 100, 20_000)] + random.normal(size=(20_000, 32))).astype(np.float32)
    result = run_pass(X, centers, level)
    assert result.opened < share * len(X)
    assert result.opened > 0 or level != quantize.INT8
    assert result.defined < 0.001 * len(X)


@at_every_level
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("offset", [0.0, 1e4, 1e7])
def test_rows_on_bisectors_are_labelled_by_the_definition(level: int, dtype: Any, offset: float) -> None:
    random = np.random.default_rng(1)
    centers = (random.normal(size=(6, 8)) + offset).astype(dtype)
    midpoints = ((centers[:, None].astype(np.float64) + centers[None]) / 2).reshape(-1, 8)
    neighbors = [np.nextafter(midpoints.astype(dtype), dtype(side * np.inf)) for side in (-1, 1)]
    X = np.concatenate([midpoints.astype(dtype), *neighbors])
    assert run_pass(X, centers, level).labels.tolist() == reference.labels(X.tolist(), centers.tolist())


@at_every_level
def test_every_row_where_filter_and_definition_differ_is_open(level: int) -> None:
    """Rows lie ever closer to bisectors: the filter alone mislabels some of them, and certifies none of those."""
    random = np.random.default_rng(4)
    centers = random.normal(size=(40, 16)).astype(np.float32)
    pairs = random.integers(0, 40, (2, 20_000))
    midpoints = (centers[pairs[0]].astype(np.float64) + centers[pairs[1]]) / 2
    shifts = (centers[pairs[0]] - centers[pairs[1]]) * np.exp(random.uniform(-16, -2, (20_000, 1)))
    X = (midpoints + shifts).astype(np.float32)
    prepared = prepare_rows(X, centers, level)
    scratch, labels = np.empty(40), np.empty(len(X), np.int32)
    expected_labels = np.array([distance.label_by_definition(row, prepared.centers.columns, scratch) for row in X])
    assign.label_rows(X, prepared.rows, prepared.quantizer, prepared.centers, prepared.buffer, labels)
    np.testing.assert_array_equal(labels, expected_labels)
    expected = np.square(X[:2000, None].astype(np.float64) - centers).sum(axis=2).argmin(axis=1)
    assert (expected_labels[:2000] == expected).mean() > 0.999  # the definition adds in another order
    n_different = 0
    for start in range(0, len(X), row_filter.RUN_ROWS):
        count = min(row_filter.RUN_ROWS, len(X) - start)
        prepared.buffer.rows[:count] = np.arange(start, start + count)
        filter_only(X, prepared.rows, prepared.quantizer, prepared.centers, count, prepared.buffer)
        differs = prepared.buffer.labels[:count] != expected_labels[start : start + count]
        assert not (prepared.buffer.gaps[:count][differs] > 0).any()
        n_different += int(differs.sum())
    assert n_different > 10


@at_every_level
@pytest.mark.parametrize("dtype", DTYPES)
def test_gaps_are_lower_bounds_of_the_true_ones(level: int, dtype: Any) -> None:
    random = np.random.default_rng(5)
    X = (random.standard_t(3, size=(3000, 9)) * 5 + 40).astype(dtype)
    centers = X[:50].copy()
    result = run_pass(X, centers, level)
    distances = np.sqrt(np.square(X[:, None].astype(np.longdouble) - centers).sum(axis=2))
    nearest = np.sort(distances, axis=1)
    factor = float(quantize.fit_quantizer(X, level).factor)
    gaps = (nearest[:, 1] - nearest[:, 0]) * factor
    assert (result.gap_bound <= gaps).all()
    large = gaps > 0.3 * np.median(gaps)
    assert np.median(result.gap_bound[large] / gaps[large].astype(np.float64)) > (
        0.4 if level == quantize.INT8 else 0.9
    )


def test_a_center_far_away_does_not_widen_the_bound_of_others() -> None:
    random = np.random.default_rng(2)
    X = random.normal(size=(5_000, 8)).astype(np.float32)
    centers = np.concatenate([X[:20], np.full((1, 8), 1e6, np.float32)])
    result = run_pass(X, centers, quantize.FLOAT32)
    assert result.labels[:300].tolist() == reference.labels(X[:300].tolist(), centers.tolist())
    assert result.opened < 0.2 * len(X)


def heavy_tails(random: np.random.Generator, n_features: int, dtype: Any) -> tuple[Any, Any]:
    """Return rows whose norms span 10^-42 to 10^9 or beyond, duplicates and bisectors among them, and their centers."""
    scales = np.array([1e-42, 1e-30, 1e-9, 1e-3, 1.0, 1.0, 1.0, 30.0, 1e4, 1e9])
    X = random.standard_t(2, size=(300, n_features)) * random.choice(scales, (300, 1))
    X[random.random(X.shape) < 0.2] = 0.0
    X[::7] = X[3]
    centers = np.concatenate([X[:40:2], [X[1], np.full(n_features, 1e9), np.eye(n_features)[0] * 1e6]]).astype(dtype)
    pairs = centers[random.integers(0, len(centers), (2, 60))].astype(np.float64)
    return np.concatenate([X, pairs.mean(axis=0)]).astype(dtype), centers


@at_every_level
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_features", [1, 3, 18, 40])
@pytest.mark.parametrize("seed", range(3))
def test_labels_and_gaps_hold_on_heavy_tails(level: int, dtype: Any, n_features: int, seed: int) -> None:
    X, centers = heavy_tails(np.random.default_rng(seed), n_features, dtype)
    result = run_pass(X, centers, level)
    assert result.labels.tolist() == reference.labels(X.tolist(), centers.tolist())
    distances = np.sqrt(np.square(X[:, None].astype(np.longdouble) - centers).sum(axis=2))
    nearest = np.sort(distances, axis=1) * float(quantize.fit_quantizer(X, level).factor)
    gaps = nearest[:, 1] - nearest[:, 0]
    proven = result.gap_bound > 0
    assert (result.gap_bound[proven] <= gaps[proven]).all()


@at_every_level
@pytest.mark.parametrize("n_features", [3, 18, 64])
def test_scores_are_lower_bounds_within_the_error_bound(level: int, n_features: int) -> None:
    """Of the best center, for rows and centers with heavy tails: what every proof of a label rests on."""
    random = np.random.default_rng(n_features)
    X = (random.standard_t(2, size=(2000, n_features)) * np.exp(random.normal(size=(2000, 1)))).astype(np.float32)
    centers = np.concatenate([X[:60], np.eye(n_features, dtype=np.float32)[:2] * 500, np.zeros((1, n_features))])
    prepared = prepare_rows(X, centers.astype(np.float32), level)
    ranks = rank_rows(X, prepared)
    y, c = ((Z.astype(np.float64) - prepared.quantizer.shift) * prepared.quantizer.factor for Z in (X, centers))
    exact = np.square(c).sum(axis=1) / 2 - y @ c.T
    best, score, bound = ranks.labels, ranks.best.astype(np.float64), ranks.bounds.astype(np.float64)
    excess = exact[np.arange(len(X)), best] - score
    half = bound if level == quantize.FLOAT32 else np.zeros(len(X))  # there the error of the row counts at the end
    assert (excess <= bound).all()
    assert (excess >= -half).all()
    assert (ranks.best == ranks.least.min(axis=1)).all()
    own_block = np.take_along_axis(ranks.least, (best // BLOCK_CENTERS)[:, None], axis=1)[:, 0]
    assert (own_block == ranks.best).all()
    others = np.where(np.arange(ranks.least.shape[1]) == (best // BLOCK_CENTERS)[:, None], np.inf, ranks.least)
    assert (ranks.second >= ranks.best).all()
    assert (ranks.second <= others.min(axis=1)).all()
    assert np.median(bound / np.abs(exact).max(axis=1)) < [0.1, 0.002, 0.001][level]


@at_every_level
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_beyond_the_range_of_float32_products_are_labelled_by_the_definition(level: int, dtype: Any) -> None:
    largest = np.finfo(dtype).max / 4
    centers = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, largest]], dtype)
    X = np.array([[largest, 0.0], [0.6, 0.0], [0.0, largest], [-largest, largest]], dtype)
    with np.errstate(over="ignore"):
        assert run_pass(X, centers, level).labels.tolist() == reference.labels(X.tolist(), centers.tolist())


def scaled_integers(data: st.DataObject, max_centers: int) -> tuple[Any, Any]:
    dtype = data.draw(st.sampled_from(DTYPES))
    powers = [-540, -500, -130, -60, 0, 60, 500] if dtype is np.float64 else [-140, -60, -1, 0, 60]
    scale = dtype(2.0 ** data.draw(st.sampled_from(powers)))
    offset = data.draw(st.sampled_from([0, 3, 4096]))
    shape = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 6)))
    values = st.integers(-4, 4)
    X = (data.draw(arrays(np.int64, shape, elements=values)) + offset).astype(dtype) * scale
    n_clusters = data.draw(st.integers(1, max_centers))
    return X, (data.draw(arrays(np.int64, (n_clusters, shape[1]), elements=values)) + offset).astype(dtype) * scale


@settings(max_examples=200)
@given(data=st.data(), level=st.sampled_from(list(LEVELS)), stored=st.booleans())
def test_labels_are_the_definitions_for_ties_duplicates_and_any_scale(
    data: st.DataObject, level: int, stored: bool
) -> None:
    X, centers = scaled_integers(data, 7)
    result = run_pass(X, centers, level, stored=stored)
    assert result.labels.tolist() == reference.labels(X.tolist(), centers.tolist())


@settings(max_examples=150)
@given(data=st.data(), level=st.sampled_from(list(LEVELS)))
def test_the_nearest_two_are_the_definitions_for_ties_duplicates_and_any_scale(data: st.DataObject, level: int) -> None:
    X, centers = scaled_integers(data, 7)
    prepared = prepare_rows(X, centers, level, stored=False)
    labels, second_labels = np.empty(len(X), np.int32), np.empty(len(X), np.int32)
    nearest, second = np.empty(len(X)), np.empty(len(X))
    assign.label_nearest_two(
        X, prepared.rows, prepared.quantizer, prepared.centers, prepared.buffer, labels, nearest, second_labels, second
    )
    rows, points = X.tolist(), centers.tolist()
    assert labels.tolist() == reference.labels(rows, points)
    assert second_labels.tolist() == [reference.runner_up(row, points) for row in rows]
    for i, row in enumerate(rows):
        assert nearest[i] == reference.squared_distance(row, points[labels[i]])
        expected = reference.squared_distance(row, points[second_labels[i]]) if len(points) > 1 else np.inf
        assert second[i] == expected
