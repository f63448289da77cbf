"""Nearest neighbors are those of plain loops, whatever is near, equal or far away."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import engine.tsne.neighbors
from engine.kernels.cpu.neighbors.knn_approximate import RELATIVE_TOLERANCE, find_approximate_neighbors
from engine.kernels.cpu.neighbors.packed_leaves import LEAF_SIZE
from engine.tsne.centering import Centering
from engine.tsne.neighbors import PackedLeaves, leaf_order, plan_neighbor_search
from tests import reference


def find_all_neighbors(X: Any, k: int) -> tuple[Any, Any]:
    leaves = PackedLeaves.from_rows(X)
    numbers, squared = np.empty((len(X), k), np.int32), np.empty((len(X), k))
    for leaf in range(len(leaves.radii)):
        rows = leaves.members[leaves.positions(leaf)]
        places, squared[rows] = leaves.search_leaf(leaf, k)
        numbers[rows] = leaves.members[places]
    return numbers, squared


def assert_exact(X: Any, k: int) -> None:
    numbers, squared = find_all_neighbors(X, k)
    for row in range(len(X)):
        expected = reference.nearest(X[row], X, k, own=row)
        assert numbers[row].tolist() == [number for number, _ in expected]
        assert squared[row].tolist() == [distance for _, distance in expected]


@pytest.mark.parametrize("n_rows", [2, 5, LEAF_SIZE - 1, LEAF_SIZE, LEAF_SIZE + 1, 2 * LEAF_SIZE + 1])
@pytest.mark.parametrize("n_features", [1, 3, 8])
def test_neighbors_are_those_of_plain_loops(n_rows: int, n_features: int) -> None:
    X = np.random.default_rng(n_rows).normal(size=(n_rows, n_features)).astype(np.float32)
    assert_exact(X, min(7, n_rows - 1))


def test_ties_go_to_the_lowest_number() -> None:
    X = np.random.default_rng(0).integers(0, 3, size=(400, 2)).astype(np.float32)
    assert_exact(X, 60)


def test_more_equal_rows_than_a_buffer_holds() -> None:
    X = np.zeros((700, 3), np.float32)
    X[600:] = np.random.default_rng(0).normal(size=(100, 3))
    assert_exact(X, 20)


def test_every_other_row_can_be_asked_for() -> None:
    assert_exact(np.random.default_rng(0).normal(size=(150, 4)).astype(np.float32), 149)


def test_rows_far_from_zero_and_an_outlier_stay_exact() -> None:
    random = np.random.default_rng(0)
    X = (random.normal(size=(300, 5)) + 1e4).astype(np.float32)
    X[17] = 3e7
    assert_exact(X, 10)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(2, 300), st.integers(1, 6), st.sampled_from([0.0, 1.0, 100.0]))
def test_any_table_gives_exact_neighbors(seed: int, n_rows: int, n_features: int, offset: float) -> None:
    random = np.random.default_rng(seed)
    X = (random.normal(size=(n_rows, n_features)).round(1) + offset).astype(np.float32)
    assert_exact(X, min(9, n_rows - 1))


def test_leaves_of_clustered_rows_are_looked_into_only_where_they_are_near() -> None:
    random = np.random.default_rng(0)
    X = (random.integers(0, 40, 4000)[:, None] * 100.0 + random.normal(size=(4000, 3))).astype(np.float32)
    order = leaf_order(X)
    assert sorted(order.tolist()) == list(range(4000))
    spread = [np.ptp(X[order[start : start + LEAF_SIZE], 0]) for start in range(0, 4000, LEAF_SIZE)]
    assert max(spread) < 400.0


def search_all_leaves(X: Any, queries: Any, k: int) -> tuple[Any, Any]:
    leaves = PackedLeaves.from_rows(X)
    places, squared = np.empty((len(queries), k), np.int32), np.empty((len(queries), k))
    all_leaves = np.arange(len(leaves.radii), dtype=np.int32)
    find_approximate_neighbors(
        queries, leaves.panels, leaves.half_norms, leaves.members, all_leaves, k, places, squared
    )
    return leaves.members[places], squared


@pytest.mark.parametrize("n_rows", [16, LEAF_SIZE - 1, LEAF_SIZE + 1, 3 * LEAF_SIZE + 7])
def test_the_nearest_of_a_few_leaves_are_near_enough_for_weights(n_rows: int) -> None:
    X = np.random.default_rng(n_rows).normal(size=(n_rows + 20, 6)).astype(np.float32)
    queries, X = X[:20], np.ascontiguousarray(X[20:])
    numbers, squared = search_all_leaves(X, queries, 16)
    for row in range(len(queries)):
        expected = reference.nearest(queries[row], X, 16, own=-1)
        assert set(numbers[row].tolist()) == {number for number, _ in expected}
        np.testing.assert_allclose(squared[row], [distance for _, distance in expected], rtol=RELATIVE_TOLERANCE)
        assert (np.diff(squared[row]) >= 0).all()


@pytest.mark.parametrize("offset", [0.0, 1e4])  # scores decide, and scores leave all open
def test_equal_rows_and_rows_far_from_zero_are_ranked_by_definition(offset: float) -> None:
    random = np.random.default_rng(0)
    X = (random.integers(0, 3, size=(400, 2)) + offset).astype(np.float32)
    numbers, squared = search_all_leaves(X, X[:30], 16)
    for row in range(30):
        expected = reference.nearest(X[row], X, 16, own=-1)
        assert numbers[row].tolist() == [number for number, _ in expected]
        assert squared[row].tolist() == [distance for _, distance in expected]


def clustered_rows(n_rows: int) -> Any:
    random = np.random.default_rng(0)
    centres = random.normal(size=(30, 8)) * 3
    return (centres[random.integers(0, 30, n_rows)] + random.normal(size=(n_rows, 8))).astype(np.float32)


def test_clusters_around_a_row_hold_the_neighbors_they_are_said_to_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.tsne.neighbors, "CLUSTER_ROWS", 200)
    X = clustered_rows(12_000)
    leaves, wanted, recall = plan_neighbor_search(X, Centering.from_rows(X), 30, "clusters")
    assert wanted is not None
    assert wanted < len(leaves.radii)
    exact = PackedLeaves.from_rows(X, Centering.from_rows(X))
    limits = np.empty(len(X))
    for leaf in range(len(exact.radii)):
        limits[exact.members[exact.positions(leaf)]] = exact.search_leaf(leaf, 30)[1][:, -1]
    found = [
        (leaves.search_leaf(leaf, 30, wanted)[1] <= limits[leaves.members[leaves.positions(leaf)], None]).mean()
        for leaf in range(len(leaves.radii))
    ]
    assert engine.tsne.neighbors.MIN_RECALL <= recall <= 1.0
    assert np.mean(found) == pytest.approx(recall, abs=0.02)


def test_auto_is_exact_up_to_a_number_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    X = clustered_rows(3000)
    assert plan_neighbor_search(X, Centering.from_rows(X), 20)[1:] == (None, 1.0)
    monkeypatch.setattr(engine.tsne.neighbors, "EXACT_ROWS", 2999)
    monkeypatch.setattr(engine.tsne.neighbors, "CLUSTER_ROWS", 100)
    assert plan_neighbor_search(X, Centering.from_rows(X), 20)[2] < 1.0
    assert plan_neighbor_search(X, Centering.from_rows(X), 20, "exact")[1:] == (None, 1.0)


def test_neighbors_that_all_leaves_hold_are_exact() -> None:
    X = np.random.default_rng(0).normal(size=(500, 4)).astype(np.float32)
    assert plan_neighbor_search(X, Centering.from_rows(X), 490, "clusters")[1:] == (None, 1.0)
