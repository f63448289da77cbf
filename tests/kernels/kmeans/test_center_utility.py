"""What centres are worth, against the definition of a distance."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from engine.kernels.cpu.kmeans.center_utility import nearest_centres, place_between, worth
from engine.kernels.cpu.kmeans.plus_plus import strips_of
from tests import reference


def squared_distances(X: np.ndarray, centres: np.ndarray) -> np.ndarray:
    return np.array([[reference.squared_distance(row, centre) for centre in centres.tolist()] for row in X.tolist()])


def near_of(centres: np.ndarray, n_near: int, cuts: tuple[int, ...] = ()) -> np.ndarray:
    wide = centres.astype(np.float64)
    near = np.full((len(centres), n_near), -1)
    edges = (0, *cuts, len(centres))
    for first, last in itertools.pairwise(edges):
        nearest_centres(wide, strips_of(wide), first, last, near)
    return near


@pytest.mark.parametrize(("k", "n_near"), [(2, 2), (7, 7), (64, 16), (65, 16), (200, 16)])
def test_the_nearest_centres_are_those_of_the_definition_ties_to_the_lowest(k: int, n_near: int) -> None:
    centres = np.random.default_rng(k).integers(0, 4, size=(k, 3)).astype(np.float32)  # many at the same distance
    distances = squared_distances(centres, centres)
    np.fill_diagonal(distances, -1.0)  # a centre comes before others that lie upon it
    wanted = np.argsort(distances, axis=1, kind="stable")[:, :n_near]
    np.testing.assert_array_equal(near_of(centres, n_near), wanted)
    np.testing.assert_array_equal(near_of(centres, n_near, cuts=(1, k // 2)), wanted)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_go_to_the_best_of_the_centres_near_their_own(dtype: type) -> None:
    random = np.random.default_rng(0)
    X, centres = random.normal(size=(500, 5)).astype(dtype), random.normal(size=(40, 5)).astype(dtype)
    distances = squared_distances(X, centres)
    labels = distances.argmin(axis=1)
    order = np.argsort(labels, kind="stable")
    edges = np.searchsorted(labels[order], np.arange(41))
    near = near_of(centres, 16)
    own, other, rivals = np.empty(500), np.empty(500), np.empty(40, np.int64)
    for first, last in ((0, 13), (13, 40)):
        worth(X, order, edges, centres.astype(np.float64), near, first, last, own, other, rivals)
    np.testing.assert_array_equal(own, distances.min(axis=1))
    choices = near[labels][:, 1:]
    np.testing.assert_array_equal(other, np.take_along_axis(distances, choices, axis=1).min(axis=1))
    goals = np.take_along_axis(choices, np.take_along_axis(distances, choices, axis=1).argmin(axis=1)[:, None], axis=1)
    for c in range(40):
        votes = np.bincount(goals[labels == c, 0], minlength=40)
        assert votes[rivals[c]] == votes.max() if votes.any() else rivals[c] == c


def test_a_place_lies_on_the_way_to_a_drawn_row_no_farther_than_rows_spread() -> None:
    X = np.array([[9.0, 9.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 4.0]])
    members, weights, errors = np.array([1, 2, 3]), np.ones(4), np.array([50.0, 1.0, 1.0, 16.0])
    centre, out = np.zeros(2), np.empty(2)
    place_between(X, members, weights, errors, centre, 0.05, 1.0, out)  # 0.9 of 18: the first member
    np.testing.assert_allclose(out, [np.sqrt(2.0 / 3.0), 0.0])  # along: 1, -1, 0
    place_between(X, members, weights, errors, centre, 0.1, 1.0, out)  # 1.8: the second
    np.testing.assert_allclose(out, [-np.sqrt(2.0 / 3.0), 0.0])
    place_between(X, members, weights, errors, centre, 0.999, 0.25, out)  # the third, but no farther than a quarter
    np.testing.assert_allclose(out, [0.0, 1.0])
