"""Metrics of clusterings, compared with scikit-learn's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import adjusted_rand_score, calinski_harabasz_score, davies_bouldin_score, silhouette_score

from engine.execution.threads import threads
from engine.kmeans.metrics import SILHOUETTE_ROWS, adjusted_rand_index, calinski_harabasz, davies_bouldin, silhouette


def clustered(n_rows: int, offset: float = 0.0) -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, n_rows).astype(np.int32) * 3  # labels need not be 0, 1, 2 …
    labels[:4] = [0, 3, 6, 9]
    return (random.normal(size=(n_rows, 3)) + labels[:, None] * 0.3 + offset).astype(np.float64), labels


@pytest.mark.parametrize("n_rows", [5, SILHOUETTE_ROWS, SILHOUETTE_ROWS + 1, 3 * SILHOUETTE_ROWS - 1])
@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_they_are_scikit_learns(n_rows: int, offset: float) -> None:
    X, labels = clustered(n_rows, offset)
    near = X - X.mean(axis=0)  # scikit-learn's distances lose digits far from zero
    assert silhouette(X, labels) == pytest.approx(silhouette_score(near, labels), abs=1e-9)
    assert calinski_harabasz(X, labels) == pytest.approx(calinski_harabasz_score(near, labels), rel=1e-9)
    assert davies_bouldin(X, labels) == pytest.approx(davies_bouldin_score(near, labels), rel=1e-9)


def test_a_row_alone_in_its_cluster_counts_zero() -> None:
    X, labels = clustered(50)
    labels[7] = 99
    assert silhouette(X, labels) == pytest.approx(silhouette_score(X, labels))


def test_clusters_of_equal_rows_are_perfect() -> None:
    X = np.repeat([[0.0], [1.0], [5.0]], 4, axis=0)
    labels = np.repeat([0, 1, 2], 4).astype(np.int32)
    assert silhouette(X, labels) == silhouette_score(X, labels) == 1.0
    assert davies_bouldin(X, labels) == davies_bouldin_score(X, labels) == 0.0
    assert calinski_harabasz(X, labels) == calinski_harabasz_score(X, labels) == 1.0


def test_threads_do_not_change_a_bit() -> None:
    X, labels = clustered(1000)
    with threads(1):
        first = silhouette(X, labels)
    with threads(3):
        assert silhouette(X, labels) == first


TABLES = arrays(np.int64, st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=st.integers(0, 20))


@given(TABLES)
def test_the_adjusted_rand_index_is_scikit_learns(counts: np.ndarray) -> None:
    old, new = np.nonzero(np.ones_like(counts))
    times = counts.ravel()
    if times.sum() == 0:
        return
    expected = adjusted_rand_score(np.repeat(old, times), np.repeat(new, times))
    assert adjusted_rand_index(counts) == pytest.approx(expected, abs=1e-12)


def test_davies_bouldin_does_not_depend_on_the_unit() -> None:
    X, labels = clustered(100)
    assert davies_bouldin(X * 1e-9, labels) == pytest.approx(davies_bouldin(X, labels))
