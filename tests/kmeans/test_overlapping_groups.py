"""Groups that overlap, or have few rows: found by their silhouette, and not in clouds of any shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_wine
from sklearn.metrics import adjusted_rand_score

from engine import backends
from engine.kmeans.metrics import silhouette
from engine.kmeans.overlapping_groups import find_overlapping_groups
from engine.kmeans.restarts import cluster_rows
from engine.kmeans.select_k import choose_k
from engine.kmeans.unknown_values import fill_unknown


def one_group(X: Any) -> Any:
    return np.zeros(len(X), np.int32)


def test_groups_too_near_for_a_valley_are_found() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(3, size=900)
    X = 3.2 * np.eye(3)[truth] @ np.eye(3, 4) + random.normal(size=(900, 4))
    found = find_overlapping_groups(X, one_group(X), range(1, 9))
    assert found is not None
    assert found.k == 3
    assert adjusted_rand_score(truth, found.labels) > 0.8
    assert found.silhouette > found.of_clouds + 0.05


def two_near_and_one_beside(random: Any, apart: float, beside: float) -> tuple[Any, Any]:
    """Return 300 rows of three groups in six columns, of which two are nearer to each other than to the third."""
    truth = random.integers(3, size=300)
    centers = np.array([[0.0, 0.0, 0.0], [apart, 0.0, 0.0], [apart / 2, 0.0, beside]])
    return centers[truth] @ np.linalg.qr(random.normal(size=(6, 6)))[0][:3] + random.normal(size=(300, 6)), truth


def test_groups_are_found_whose_silhouette_is_the_largest_but_for_chance() -> None:
    X, truth = two_near_and_one_beside(np.random.default_rng(0), 4.5, 5.625)
    of_two, of_three = (silhouette(X, cluster_rows(X, k, backends.resolve("cpu")[0], seed=0).labels) for k in (2, 3))
    assert of_two - 0.01 < of_three < of_two
    found = find_overlapping_groups(X, (truth == 2).astype(np.int32), range(1, 5))
    assert found is not None
    assert found.k == 3
    assert adjusted_rand_score(truth, found.labels) > 0.9


def test_parts_of_groups_that_are_far_clearer_are_none() -> None:
    X, truth = two_near_and_one_beside(np.random.default_rng(0), 4.5, 20.0)
    assert find_overlapping_groups(X, one_group(X), range(1, 5)) is not None
    assert find_overlapping_groups(X, (truth == 2).astype(np.int32), range(1, 5)) is None


def test_overlapping_groups_are_chosen_and_the_reason_says_why() -> None:
    random = np.random.default_rng(0)
    X = 2.8 * np.eye(3)[random.integers(3, size=400)] @ np.eye(3, 4) + random.normal(size=(400, 4))
    chosen = choose_k(X, range(1, 6))
    assert (chosen.k, chosen.runner_up) == (3, 1)
    assert chosen.reason.startswith("3 groups that overlap: their silhouette, 0.")
    assert chosen.reason.endswith("of one cloud with the same columns, though valleys separate none of them")
    assert chosen.means is not None
    assert chosen.means.shape == (3, 4)


def test_wines_of_three_kinds_in_178_rows_are_three_groups() -> None:
    data = load_wine()
    X = ((data.data - data.data.mean(axis=0)) / data.data.std(axis=0)).astype(np.float32)
    found = find_overlapping_groups(X, (data.target == 2).astype(np.int32), range(1, 9))
    assert found is not None
    assert found.k == 3
    assert adjusted_rand_score(data.target, found.labels) > 0.85


def correlated(random: Any, n_rows: int) -> Any:
    return random.normal(size=(n_rows, 6)) @ random.normal(size=(6, 6))


CLOUDS: dict[str, Any] = {
    "normal": lambda random, n_rows: random.normal(size=(n_rows, 5)),
    "correlated": correlated,
    "lognormal": lambda random, n_rows: np.exp(random.normal(size=(n_rows, 4))),
    "lognormal and correlated": lambda random, n_rows: np.exp(correlated(random, n_rows) / 3),
    "uniform": lambda random, n_rows: random.random((n_rows, 3)),
    "heavy tails": lambda random, n_rows: random.standard_t(3, (n_rows, 4)),
    "a common factor": lambda random, n_rows: random.gamma(2.0, size=(n_rows, 6)) + random.gamma(2.0, size=(n_rows, 1)),
    "many zeros": lambda random, n_rows: random.gamma(1.0, size=(n_rows, 4)) * (random.random((n_rows, 4)) < 0.5),
    "counts": lambda random, n_rows: random.poisson(2.0, (n_rows, 5)).astype(float),
    "answers of two values": lambda random, n_rows: (random.random((n_rows, 6)) < 0.4).astype(float),
    "a number beside answers": lambda random, n_rows: np.column_stack(
        [random.normal(size=n_rows), random.random((n_rows, 4)) < 0.5]
    ),
}


@pytest.mark.parametrize("n_rows", [150, 500])
@pytest.mark.parametrize("kind", CLOUDS)
def test_one_cloud_of_any_shape_is_no_groups(kind: str, n_rows: int) -> None:
    X = CLOUDS[kind](np.random.default_rng(n_rows), n_rows)
    assert find_overlapping_groups(X / X.std(axis=0), one_group(X), range(1, 13)) is None


def test_a_random_answer_makes_no_group() -> None:
    random = np.random.default_rng(1)
    truth = random.integers(3, size=400)
    X = np.column_stack([6.0 * np.eye(3)[truth] + random.normal(size=(400, 3)), 5.0 * (random.random((400, 3)) < 0.5)])
    assert find_overlapping_groups(X, truth.astype(np.int32), range(1, 13)) is None


def test_too_few_rows_to_tell_are_no_groups() -> None:
    X = np.array([[0.0, 1.0], [5.0, 2.0], [9.0, 7.0], [3.0, 3.0]])
    assert find_overlapping_groups(X, one_group(X), range(1, 5)) is None
    assert find_overlapping_groups(np.ones((50, 2)), one_group(np.ones((50, 2))), [1, 2]) is None


def by_chance(random: Any, X: Any) -> Any:
    return random.random(X.shape) < 0.3


def not_asked(random: Any, X: Any) -> Any:
    return np.column_stack([np.zeros(len(X), bool), *[X[:, 0] > 0.8] * (X.shape[1] - 1)])


@pytest.mark.parametrize(
    ("n_rows", "n_columns", "seed", "missing"),
    [(1500, 5, 5, by_chance), (1500, 2, 12, by_chance), (1500, 4, 2, not_asked)],
)
def test_values_filled_in_make_no_groups(n_rows: int, n_columns: int, seed: int, missing: Any) -> None:
    random = np.random.default_rng(seed)
    X = random.normal(size=(n_rows, n_columns))
    hidden = missing(random, X)
    filled = fill_unknown(X, hidden)
    assert find_overlapping_groups(filled, one_group(X), range(1, 21), hidden=hidden) is None


@pytest.mark.parametrize("share", [0.1, 0.2])
@pytest.mark.parametrize("mostly_missing", [False, True])
def test_overlapping_groups_are_found_though_values_are_missing(share: float, mostly_missing: bool) -> None:
    random = np.random.default_rng(0)
    truth = random.integers(3, size=900)
    X = 3.2 * np.eye(3, 5)[truth] + random.normal(size=(900, 5))
    hidden = random.random(X.shape) < share
    hidden[:, 4] = random.random(900) < (0.95 if mostly_missing else share)
    found = find_overlapping_groups(fill_unknown(X, hidden), one_group(X), range(1, 9), hidden=hidden)
    assert found is not None
    assert found.k == 3
    assert adjusted_rand_score(truth, found.labels) > 0.5


def test_rows_without_missing_values_that_are_too_few_tell_of_no_groups() -> None:
    random = np.random.default_rng(0)
    X = 3.2 * np.eye(3, 4)[random.integers(3, size=900)] + random.normal(size=(900, 4))
    some = np.zeros(X.shape, bool)
    some[99:, 3] = random.random(801) < 0.45
    few = some.copy()
    few[99:, 0] = ~few[99:, 3]
    few[:, 0] &= random.random(900) < 0.9
    few[99:, 1] |= ~few[99:].any(axis=1)
    assert (~few.any(axis=1)).sum() == 99
    assert (few.mean(axis=0) <= 0.5).all()
    assert find_overlapping_groups(X, one_group(X), range(1, 9), hidden=some) is not None
    assert find_overlapping_groups(X, one_group(X), range(1, 9), hidden=few) is None
