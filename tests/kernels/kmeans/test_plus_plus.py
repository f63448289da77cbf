"""k-means++ seeds and their potential, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from engine.kernels.cpu.kmeans import plus_plus
from tests import reference


def rows_and_weights(n_rows: int, n_features: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.normal(size=(n_rows, n_features)).astype(np.float32), random.exponential(size=n_rows)


@pytest.mark.parametrize("n_rows", [70, 64, 3 * plus_plus.STRIP_ROWS + 1])
def test_the_potential_of_each_candidate_is_that_of_the_loops(n_rows: int) -> None:
    X, weights = rows_and_weights(n_rows, 5)
    closest_squared = np.full(n_rows, np.inf)
    seeds: list[int] = []
    for candidates in ([3, 41], [41, 3], [3, 63], [17, n_rows - 1]):
        candidate_squared, potentials = np.empty((2, n_rows)), np.empty(2)
        plus_plus.evaluate_candidates(
            plus_plus.arrange_in_strips(X),
            weights,
            closest_squared,
            np.array(candidates),
            candidate_squared,
            potentials,
        )
        for trial, candidate in enumerate(candidates):
            assert potentials[trial] == reference.potential(X.tolist(), weights.tolist(), [*seeds, candidate])
        assert (candidate_squared <= closest_squared).all()
        seeds.append(candidates[1])
        closest_squared = candidate_squared[1].copy()
    assert closest_squared[[41, 3, 63, n_rows - 1]].tolist() == [0.0] * 4


def test_a_seed_is_the_best_of_its_candidates() -> None:
    X, weights = rows_and_weights(150, 4)
    uniform = np.random.default_rng(1).uniform(size=(9, 3))
    seeds = np.zeros(9, np.int64)
    plus_plus.greedy_kmeans_plusplus(plus_plus.arrange_in_strips(X), weights, uniform, seeds)
    seeds_so_far: list[int] = []
    for number in range(9):
        shares = np.cumsum(weights * squared_to_nearest(X, seeds_so_far))
        draws = np.searchsorted(shares, uniform[number, : 3 if number else 1] * shares[-1]).tolist()
        seeds_so_far.append(
            min(draws, key=lambda row: reference.potential(X.tolist(), weights.tolist(), [*seeds_so_far, row]))
        )
    assert seeds.tolist() == seeds_so_far


def test_the_first_row_is_repeated_once_every_distinct_row_is_a_seed() -> None:
    X = np.array([[0.0], [1.0], [5.0]], np.float32)
    seeds = np.full(5, -1, np.int64)
    plus_plus.greedy_kmeans_plusplus(plus_plus.arrange_in_strips(X), np.ones(3), np.full((5, 2), 0.99), seeds)
    assert sorted(seeds[:3].tolist()) == [0, 1, 2]
    assert seeds[3:].tolist() == [0, 0]


def squared_to_nearest(X: np.ndarray, seeds: list[int]) -> np.ndarray:
    if not seeds:
        return np.ones(len(X))
    wide = X.astype(np.float64)
    return np.min([np.cumsum(np.square(wide - wide[seed]), axis=1)[:, -1] for seed in seeds], axis=0)
