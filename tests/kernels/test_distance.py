"""Distances as defined, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics.pairwise import euclidean_distances

from engine.kernels.cpu import distance
from tests import reference


def columns(centers: Any) -> Any:
    return np.ascontiguousarray(centers.T, dtype=np.float64)


def test_own_distances_are_the_definitions_to_the_bit() -> None:
    random = np.random.default_rng(0)
    n_rows = 3 * distance.UNROLLED_ROWS + 2
    X = random.normal(size=(n_rows, 13)).astype(np.float32)
    centers = random.normal(size=(4, 13))
    labels = random.integers(0, 4, n_rows).astype(np.int32)
    out = np.empty(n_rows)
    distance.assigned_distances(X, centers, labels, out)
    expected = [reference.squared_distance(x, centers[j]) for x, j in zip(X.tolist(), labels, strict=True)]
    assert out.tolist() == expected


def test_distances_agree_with_scikit_learn() -> None:
    random = np.random.default_rng(0)
    X, centers = random.normal(size=(30, 6)), random.normal(size=(5, 6))
    out = np.empty((30, 5))
    distance.distances(X, columns(centers), out)
    np.testing.assert_allclose(out, euclidean_distances(X, centers), rtol=1e-12)


@pytest.mark.parametrize("n_rows", [1, 3, 4, 5, 8])
def test_runs_are_added_in_order_with_and_without_weights(n_rows: int) -> None:
    values = np.array([0.1, 1e16, -1e16, 0.3, 0.7, 0.1, 1e-3, 2.0])[:n_rows]
    weights = np.arange(1.0, n_rows + 1)
    for given in (np.empty(0), weights):
        expected = []
        for start in range(0, n_rows, 4):
            total = 0.0
            for i in range(start, min(start + 4, n_rows)):
                total += values[i] * (given[i] if len(given) else 1.0)
            expected.append(total)
        assert distance.block_sums(values, given, 4).tolist() == expected
