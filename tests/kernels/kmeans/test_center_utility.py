"""Terms of the utility of centers, against the definition of a distance."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from engine.kernels.cpu.kmeans.center_utility import compute_utility_terms, draw_center, find_neighboring_centers
from engine.kernels.cpu.kmeans.plus_plus import arrange_in_strips
from tests import reference


def squared_distances(X: np.ndarray, centers: np.ndarray) -> np.ndarray:
    return np.array([[reference.squared_distance(row, center) for center in centers.tolist()] for row in X.tolist()])


def find_neighbors(centers: np.ndarray, n_near: int, splits: tuple[int, ...] = ()) -> np.ndarray:
    wide = centers.astype(np.float64)
    neighbors = np.full((len(centers), n_near), -1)
    edges = (0, *splits, len(centers))
    for first, last in itertools.pairwise(edges):
        find_neighboring_centers(wide, arrange_in_strips(wide), first, last, neighbors)
    return neighbors


@pytest.mark.parametrize(("k", "n_near"), [(2, 2), (7, 7), (64, 16), (65, 16), (200, 16)])
def test_neighboring_centers_are_those_of_the_definition_ties_to_the_lowest(k: int, n_near: int) -> None:
    centers = np.random.default_rng(k).integers(0, 4, size=(k, 3)).astype(np.float32)  # many at the same distance
    distances = squared_distances(centers, centers)
    np.fill_diagonal(distances, -1.0)  # a center comes before others that coincide with it
    expected = np.argsort(distances, axis=1, kind="stable")[:, :n_near]
    np.testing.assert_array_equal(find_neighbors(centers, n_near), expected)
    np.testing.assert_array_equal(find_neighbors(centers, n_near, splits=(1, k // 2)), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_second_nearest_center_is_the_nearest_neighbor_of_the_own_one(dtype: type) -> None:
    random = np.random.default_rng(0)
    X, centers = random.normal(size=(500, 5)).astype(dtype), random.normal(size=(40, 5)).astype(dtype)
    distances = squared_distances(X, centers)
    labels = distances.argmin(axis=1)
    order = np.argsort(labels, kind="stable")
    edges = np.searchsorted(labels[order], np.arange(41))
    neighbors = find_neighbors(centers, 16)
    distances_to_own, second_distances, second_nearest = np.empty(500), np.empty(500), np.empty(40, np.int64)
    for first, last in ((0, 13), (13, 40)):
        compute_utility_terms(
            X,
            order,
            edges,
            centers.astype(np.float64),
            neighbors,
            first,
            last,
            distances_to_own,
            second_distances,
            second_nearest,
        )
    np.testing.assert_array_equal(distances_to_own, distances.min(axis=1))
    choices = neighbors[labels][:, 1:]
    np.testing.assert_array_equal(second_distances, np.take_along_axis(distances, choices, axis=1).min(axis=1))
    targets = np.take_along_axis(
        choices, np.take_along_axis(distances, choices, axis=1).argmin(axis=1)[:, None], axis=1
    )
    for c in range(40):
        votes = np.bincount(targets[labels == c, 0], minlength=40)
        assert votes[second_nearest[c]] == votes.max() if votes.any() else second_nearest[c] == c


def test_a_new_center_lies_towards_a_drawn_row_no_farther_than_rows_spread() -> None:
    X = np.array([[9.0, 9.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 4.0]])
    members, weights, errors = np.array([1, 2, 3]), np.ones(4), np.array([50.0, 1.0, 1.0, 16.0])
    center, out = np.zeros(2), np.empty(2)
    draw_center(X, members, weights, errors, center, 0.05, 1.0, out)  # 0.9 of 18: the first member
    np.testing.assert_allclose(out, [np.sqrt(2.0 / 3.0), 0.0])  # along: 1, -1, 0
    draw_center(X, members, weights, errors, center, 0.1, 1.0, out)  # 1.8: the second
    np.testing.assert_allclose(out, [-np.sqrt(2.0 / 3.0), 0.0])
    draw_center(X, members, weights, errors, center, 0.999, 0.25, out)  # the third, but no farther than a quarter
    np.testing.assert_allclose(out, [0.0, 1.0])
