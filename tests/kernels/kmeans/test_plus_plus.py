"""k-means++ seeds and their potential, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from engine.kernels.cpu.kmeans import plus_plus as seeding
from tests import reference


def rows_and_weights(n_rows: int, n_features: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.normal(size=(n_rows, n_features)).astype(np.float32), random.exponential(size=n_rows)


@pytest.mark.parametrize("n_rows", [70, 64, 3 * seeding.STRIP + 1])
def test_each_seed_lowers_the_potential_as_the_loops_say(n_rows: int) -> None:
    X, weights = rows_and_weights(n_rows, 5)
    closest = np.full(n_rows, np.inf)
    seeds: list[int] = []
    for candidates in ([3, 41], [41, 3], [3, 63], [17, n_rows - 1]):
        lowest, potentials = np.empty((2, n_rows)), np.empty(2)
        seeding.lowered(seeding.strips_of(X), weights, closest, np.array(candidates), lowest, potentials)
        for trial, candidate in enumerate(candidates):
            assert potentials[trial] == reference.potential(X.tolist(), weights.tolist(), [*seeds, candidate])
        assert (lowest <= closest).all()
        seeds.append(candidates[1])
        closest = lowest[1].copy()
    assert closest[[41, 3, 63, n_rows - 1]].tolist() == [0.0] * 4


def test_a_seed_is_the_best_of_its_draws() -> None:
    X, weights = rows_and_weights(150, 4)
    uniform = np.random.default_rng(1).uniform(size=(9, 3))
    seeds = np.zeros(9, np.int64)
    seeding.greedy_seeds(seeding.strips_of(X), weights, uniform, seeds)
    chosen: list[int] = []
    for number in range(9):
        shares = np.cumsum(weights * closest_to(X, chosen))
        drawn = np.searchsorted(shares, uniform[number, : 3 if number else 1] * shares[-1]).tolist()
        chosen.append(min(drawn, key=lambda row: reference.potential(X.tolist(), weights.tolist(), [*chosen, row])))
    assert seeds.tolist() == chosen


def test_the_first_row_is_repeated_once_every_distinct_row_is_a_seed() -> None:
    X = np.array([[0.0], [1.0], [5.0]], np.float32)
    seeds = np.full(5, -1, np.int64)
    seeding.greedy_seeds(seeding.strips_of(X), np.ones(3), np.full((5, 2), 0.99), seeds)
    assert sorted(seeds[:3].tolist()) == [0, 1, 2]
    assert seeds[3:].tolist() == [0, 0]


def closest_to(X: np.ndarray, seeds: list[int]) -> np.ndarray:
    if not seeds:
        return np.ones(len(X))
    wide = X.astype(np.float64)
    return np.min([np.cumsum(np.square(wide - wide[seed]), axis=1)[:, -1] for seed in seeds], axis=0)
