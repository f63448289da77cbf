"""The reference itself: values worked by hand, and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import KMeans

from tests import reference

SQUARE = [[0.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 2.0]]


def test_a_distance_is_the_sum_of_squared_differences() -> None:
    assert reference.squared_distance([1.0, 2.0], [4.0, -2.0]) == 25.0


def test_a_row_between_two_centres_takes_the_lower_label() -> None:
    assert reference.label([1.0, 0.0], [[2.0, 0.0], [0.0, 0.0]]) == 0
    assert reference.runner_up([1.0, 0.0], [[2.0, 0.0], [0.0, 0.0]]) == 1
    assert reference.runner_up([1.0, 0.0], [[2.0, 0.0]]) == -1


def test_a_lloyd_step_moves_centres_to_the_means_of_their_rows() -> None:
    of, means = reference.lloyd_step(SQUARE, [[0.0, 0.5], [2.0, 1.5]])
    assert of == [0, 0, 1, 1]
    assert means == [[0.0, 1.0], [2.0, 1.0]]


def test_fixed_point_rounds_halves_to_even() -> None:
    assert [reference.fixed_point(value, 0.0, 1.0, 2.0) for value in (0.25, 0.75, 1.25, -0.25)] == [0, 2, 2, 0]
    assert reference.fixed_point(3.0, 1.0, 0.5, 4.0) == 4


def test_inertia_counts_weights() -> None:
    assert reference.inertia(SQUARE, [1.0, 2.0, 1.0, 1.0], [[0.0, 0.0], [2.0, 0.0]], [0, 0, 1, 1], run=3) == 12.0


def test_the_farthest_row_comes_first_and_ties_go_to_the_lowest_number() -> None:
    assert reference.farthest_rows([[1.0], [-3.0], [3.0], [0.0]], [[0.0]], [0, 0, 0, 0]) == [1, 2, 0, 3]


def test_the_potential_is_the_distance_to_the_nearest_seed() -> None:
    assert reference.potential(SQUARE, [1.0] * 4, [0]) == 16.0
    assert reference.potential(SQUARE, [1.0] * 4, [0, 3]) == 8.0


def test_moments_of_two_rows() -> None:
    assert reference.moments([[1.0, 10.0], [3.0, 14.0]]) == ([2.0, 12.0], [[2.0, 4.0], [4.0, 8.0]])


def test_scores_subtract_the_mean_first() -> None:
    assert reference.scores([3.0, 5.0], [1.0, 1.0], [[1.0, 0.0], [2.0, -1.0]]) == [10.0, -4.0]


def test_row_keys_mix_as_splitmix64_does() -> None:
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]  # its first outputs for seed 1234567
    states = [(1234567 + step * reference.GOLDEN) % reference.WORD for step in (1, 2, 3)]
    assert [reference.mix(state) for state in states] == published


def test_lloyd_steps_agree_with_scikit_learn() -> None:
    X = np.random.default_rng(0).normal(size=(60, 3))
    start = X[:4]
    of, means = reference.lloyd_step(X.tolist(), start.tolist())
    peer = KMeans(4, init=start, n_init=1, max_iter=1, tol=0).fit(X)
    assert peer.cluster_centers_ == pytest.approx(np.array(means), rel=1e-12)
    assert reference.labels(X.tolist(), means) == peer.labels_.tolist()
    assert len(set(of)) == 4
