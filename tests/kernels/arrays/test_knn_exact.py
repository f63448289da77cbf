"""Neighbors on whole arrays are those of all distances, for tiles of any size; memory is that of a tile."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.kernels.arrays.neighbors import knn_exact
from tests.gpu.counting import CountingModule, start_counting
from tests.gpu.strict import StrictModule, to_device, to_numpy


def brute_force(X: Any, k: int) -> tuple[Any, Any]:
    squared = np.zeros((len(X), len(X)))
    for column in X.T.astype(np.float64):
        squared += (column[:, None] - column) ** 2
    np.fill_diagonal(squared, np.inf)
    order = np.argsort(squared, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(squared, order, axis=1)


def rows(n_rows: int, n_features: int, kind: str) -> Any:
    random = np.random.default_rng(n_rows)
    if kind == "grid":  # every distance occurs many times
        return random.integers(0, 4, (n_rows, n_features)).astype(np.float32)
    X = random.normal(size=(n_rows, n_features)).astype(np.float32)
    if kind == "sorted":  # the nearest rows of the last ones are in the last tile, those of the first in the first
        return X[np.argsort(X[:, 0])]
    return X[np.argsort(-np.abs(X[:, 0]))]  # later rows are nearer to most: thresholds sink in every tile


@pytest.mark.parametrize("kind", ["grid", "sorted", "inwards"])
@pytest.mark.parametrize(("n_rows", "n_features", "k"), [(2, 1, 1), (40, 3, 39), (500, 5, 12), (600, 2, 90)])
@pytest.mark.parametrize("chunk_values", [6300, 1 << 20])
def test_neighbors_are_those_of_all_distances(
    kind: str, n_rows: int, n_features: int, k: int, chunk_values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(knn_exact, "TILE_COLUMNS", 50)
    monkeypatch.setattr(knn_exact, "COLUMNS_PER_CANDIDATE", 2)
    X = rows(n_rows, n_features, kind)
    found, squared = knn_exact.find_exact_neighbors(StrictModule(), to_device(X), k, chunk_values)
    expected, distances = brute_force(X, k)
    np.testing.assert_array_equal(to_numpy(squared), distances)
    if kind != "grid":
        np.testing.assert_array_equal(to_numpy(found), expected)
    else:  # rows beyond those that are ranked may be as near
        exact = ((X[:, None].astype(np.float64) - X[to_numpy(found)]) ** 2).sum(axis=2)
        np.testing.assert_array_equal(exact, distances)
        assert (np.diff(np.sort(to_numpy(found), axis=1), axis=1) > 0).all()


def test_of_many_equal_rows_the_first_are_neighbors() -> None:
    X = np.zeros((1500, 2), np.float32)
    found, squared = knn_exact.find_exact_neighbors(np, X, 5, 1 << 20)
    np.testing.assert_array_equal(found[5:], np.tile(np.arange(5), (1495, 1)))
    np.testing.assert_array_equal(found[0], np.arange(1, 6))
    assert not squared.any()


def test_a_tile_takes_few_operations_and_memory_is_that_of_a_tile() -> None:
    """The number of rows in a chunk does not depend on how many there are in all."""
    xp, counts, chunk_values = CountingModule(), [], 1 << 19
    for n_rows in (2048, 4096):
        X = xp.asarray(rows(n_rows, 2, "random"))
        counter = start_counting(np.empty(0))
        knn_exact.find_exact_neighbors(xp, X, 20, chunk_values)
        n_chunks, n_tiles = n_rows * 1024 // chunk_values, n_rows // 1024
        counts.append(len(counter.operations) / n_chunks)
        assert counts[-1] <= 6 * n_tiles + 120
        assert counter.largest == chunk_values
    assert counts[1] - counts[0] < 6 * 2 + 2 * 18  # for two more tiles: operations of each, and of two merges at most
