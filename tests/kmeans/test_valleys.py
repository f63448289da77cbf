"""Groups that valleys separate, in numbers, answers and noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.execution.threads import threads
from engine.kmeans.valleys import find_valleys, guess_attributes, spread_levels


def standardized(X: Any) -> Any:
    return ((X - X.mean(axis=0)) / X.std(axis=0)).astype(np.float32)


def planted(n_rows: int = 2500, k: int = 4, seed: int = 0) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    group = random.integers(k, size=n_rows)
    return 6.0 * np.eye(k)[group] + random.normal(size=(n_rows, k)), group


def test_planted_groups_are_found_row_by_row() -> None:
    X, group = planted()
    found = find_valleys(standardized(X))
    assert found.k == 4
    pairs = set(zip(group.tolist(), found.labels.tolist(), strict=True))
    common = [p for p in pairs if np.mean((group == p[0]) & (found.labels == p[1])) > 0.01]
    assert len(common) == 4
    assert found.shallowest < 0.5 < found.next_merge


HEXAGON = [[np.cos(a), np.sin(a)] for a in np.arange(6) * np.pi / 3]


@pytest.mark.parametrize(
    ("centers", "sizes"),
    [
        ([[-1, 0], [0, 0], [1, 0]], [400, 1500, 400]),
        ([[0, 0], [-1, -1], [1, 1], [-1, 1], [1, -1]], [500] * 5),
        ([[0, 0], *HEXAGON], [1000] + [300] * 6),
        ([[i, j] for i in range(3) for j in range(3)], [250] * 9),
        ([[0, 0, 0], *np.eye(3).tolist(), *(-np.eye(3)).tolist()], [800] + [300] * 6),
    ],
    ids=["line", "quincunx", "hexagon", "grid", "octahedron"],
)
def test_a_group_between_two_others_does_not_fill_their_valley(centers: Any, sizes: list[int]) -> None:
    random = np.random.default_rng(1)
    places = 8.0 * np.repeat(np.asarray(centers, float), sizes, axis=0)
    assert find_valleys(standardized(places + random.normal(size=places.shape))).k == len(centers)


@pytest.mark.parametrize("kind", ["normal", "uniform", "lognormal", "correlated", "answers", "flags", "zeros"])
def test_noise_is_one_group(kind: str) -> None:
    random = np.random.default_rng(1)
    noise = random.normal(size=(2500, 5))
    X = {
        "normal": noise,
        "uniform": random.random((2500, 5)),
        "lognormal": np.exp(noise),
        "correlated": noise @ random.normal(size=(5, 5)),
        "answers": random.choice(5, size=(2500, 6), p=[0.1, 0.2, 0.4, 0.2, 0.1]),
        "flags": np.where(random.random((2500, 5)) < [0.2, 0.4, 0.5, 0.6, 0.8], 1.0, 0.0),
        "zeros": np.where(random.random((2500, 5)) < 0.5, 0.0, np.exp(noise)),
    }[kind]
    assert find_valleys(standardized(X)).k == 1


@pytest.mark.parametrize(("n_rows", "n_columns"), [(150, 1), (150, 2), (1500, 1)])
@pytest.mark.parametrize("kind", ["normal", "uniform", "lognormal", "heavy tails"])
def test_noise_in_few_columns_is_one_group(kind: str, n_rows: int, n_columns: int) -> None:
    random = np.random.default_rng([n_rows, n_columns])
    for _ in range(3 if n_rows < 1000 else 1):
        X = {
            "normal": random.normal(size=(n_rows, n_columns)),
            "uniform": random.random((n_rows, n_columns)),
            "lognormal": np.exp(random.normal(size=(n_rows, n_columns))),
            "heavy tails": random.standard_t(3, (n_rows, n_columns)),
        }[kind]
        assert find_valleys(standardized(X)).k == 1


@pytest.mark.parametrize("copies", [1, 3])
def test_rows_on_a_line_are_all_counted(copies: int) -> None:
    # Their distance to the line between two centers is rounding error, by which no row may be left out.
    random = np.random.default_rng([3, 1, 3000])
    assert find_valleys(standardized(np.repeat(random.normal(size=(3000, 1)), copies, axis=1))).k == 1
    two = np.concatenate([random.normal(size=(1500, 1)), random.normal(6.0, size=(1500, 1))])
    assert find_valleys(standardized(np.repeat(two, copies, axis=1))).k == 2


def test_where_the_rows_are_changes_no_group() -> None:
    X, _ = planted()
    near, far = find_valleys(X), find_valleys(X + 1e6)
    assert near.k == far.k == 4
    assert len(set(zip(near.labels.tolist(), far.labels.tolist(), strict=True))) == 4


def test_a_yes_or_no_by_chance_splits_no_group() -> None:
    X, _ = planted()
    coin = np.random.default_rng(2).random(len(X)) < 0.5
    assert find_valleys(standardized(np.column_stack([X, coin]))).k == 4


@pytest.mark.parametrize("attributes", [None, []])
def test_columns_of_two_values_split_no_group_whether_or_not_they_are_named(attributes: Any) -> None:
    random = np.random.default_rng(2)
    X = 3.0 * random.normal(size=(6, 8))[random.integers(6, size=2000)] + random.normal(size=(2000, 8))
    coins = random.random((2000, 5)) < 0.5
    assert find_valleys(standardized(np.column_stack([X, coins])), attributes).k == 6


def test_a_code_for_missing_values_is_no_group() -> None:
    X, _ = planted()
    X[np.random.default_rng(2).random(len(X)) < 0.06, 0] = -999.0
    capped = np.maximum(X, -20.0)
    assert find_valleys(standardized(capped)).k == 4


def test_answers_that_belong_together_are_a_group() -> None:
    random = np.random.default_rng(3)
    kind = random.integers(2, size=2500)
    flags = random.random((2500, 10)) < np.where(kind, 0.95, 0.05)[:, None]
    assert find_valleys(standardized(flags.astype(float))).k == 2


def test_more_groups_than_allowed_are_merged() -> None:
    assert find_valleys(standardized(planted()[0]), max_groups=3).k == 3


def test_a_few_rows_are_one_group() -> None:
    assert find_valleys(np.arange(20, dtype=np.float32)[:, None]).k == 1


def test_the_number_of_threads_changes_no_bit() -> None:
    X = standardized(planted(3000)[0])
    with threads(1):
        one = find_valleys(X)
    with threads(3):
        three = find_valleys(X)
    assert (one.k, one.shallowest, one.next_merge) == (three.k, three.shallowest, three.next_merge)
    assert np.array_equal(one.labels, three.labels)


def test_attributes_are_guessed_from_columns_of_two_values() -> None:
    category = np.array([0, 1, 2, 1, 0, 2, 2, 0])
    flag = np.array([0, 1, 1, 0, 1, 0, 0, 1])
    X = np.column_stack([np.arange(8), flag, np.eye(3)[category], flag[::-1]]).astype(np.float32)
    assert [columns.tolist() for columns in guess_attributes(X)] == [[1], [2, 3, 4], [5]]


def test_levels_are_spread_half_way_to_their_neighbours() -> None:
    X = np.tile(np.array([[0.0], [1.0], [3.0]], np.float32), (1000, 1))
    spread = spread_levels(X)[:, 0].reshape(-1, 3)
    low, high = spread.min(axis=0), spread.max(axis=0)
    np.testing.assert_allclose(low, [-0.5, 0.5, 2.0], atol=0.01)
    np.testing.assert_allclose(high, [0.5, 2.0, 4.0], atol=0.01)


def test_levels_that_are_not_evenly_apart_are_spread_evenly() -> None:
    levels = np.log1p(np.arange(6.0))
    spread = spread_levels(np.repeat(levels, 1000)[:, None])[:, 0].reshape(6, 1000)
    for level, below, above, places in zip(levels[1:-1], levels, levels[2:], spread[1:-1], strict=False):
        middle = ((below + level) / 2 + (level + above) / 2) / 2
        assert abs(places.mean() - middle) < 0.05 * (above - below)


def test_frequent_values_of_a_count_are_spread_and_what_stands_apart_stays_apart() -> None:
    counts = np.concatenate([np.repeat([0.0, 20.0, 21.0, 22.0, 23.0], 100), np.arange(24.0, 60.0)])
    spread = spread_levels(counts[:, None])[:, 0]
    assert len(np.unique(spread)) == len(counts)
    assert spread[:100].max() <= 1.0
    assert spread[100:].min() >= 19.0
    np.testing.assert_array_equal(spread[500:], counts[500:])


def count_table(random: Any, means: Any, n_rows: int) -> tuple[Any, Any]:
    group = random.integers(len(means), size=n_rows)
    return np.log1p(random.poisson(random.gamma(4.0, means[group] / 4.0))), group


def test_skewed_counts_are_cut_only_between_groups() -> None:
    random = np.random.default_rng(0)
    means = np.array([[1.5, 60.0, 10.0, 30.0], [60.0, 10.0, 1.5, 1.5], [10.0, 1.5, 60.0, 5.0]])
    assert find_valleys(standardized(count_table(random, means, 2500)[0])).k == 3
    assert find_valleys(standardized(count_table(random, means[:1], 2500)[0])).k == 1
    assert find_valleys(standardized(count_table(random, np.array([[1.5, 0.7, 20.0]]), 2500)[0])).k == 1


def test_two_values_and_many_values_are_not_spread() -> None:
    X = np.column_stack([np.tile([0.0, 1.0], 50), np.arange(100.0)]).astype(np.float32)
    assert np.array_equal(spread_levels(X), X)
