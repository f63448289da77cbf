"""Choice of the number of clusters, and the reason for it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score, silhouette_score

from engine.errors import TooFewRowsError, UsageError
from engine.kmeans.estimator import KMeans
from engine.kmeans.select_k import METRICS, choose_k


def blobs(n_rows: int = 1500, centers: int = 4) -> Any:
    X, _ = make_blobs(n_rows, 3, centers=centers, cluster_std=0.5, random_state=3)
    return X.astype(np.float32)


def test_planted_clusters_are_found_at_the_elbow() -> None:
    chosen = choose_k(blobs(), range(1, 11))
    assert chosen.k == 4
    assert chosen.reason == "the inertia over k = 1 to 10 has its elbow at k = 4"
    assert [row["k"] for row in chosen.table] == list(range(1, 11))
    assert chosen.notes == ()


def test_the_table_holds_scikit_learns_metrics() -> None:
    X = blobs()
    one, three = choose_k(X, [1, 3]).table
    assert tuple(three) == METRICS
    labels = KMeans(3, random_state=0).fit(X).labels_
    assert three["silhouette"] == pytest.approx(silhouette_score(X, labels))
    assert three["calinski_harabasz"] == pytest.approx(calinski_harabasz_score(X, labels))
    assert three["davies_bouldin"] == pytest.approx(davies_bouldin_score(X, labels))
    assert all(math.isnan(one[name]) for name in METRICS[2:])
    assert one["inertia"] == pytest.approx(float(np.var(X, axis=0, dtype=np.float64).sum() * len(X)))


def test_without_an_elbow_the_silhouette_decides_and_the_reason_says_so() -> None:
    chosen = choose_k(blobs(centers=3), [2, 3])
    assert chosen.k == 3
    assert "no elbow; k = 3 has the best silhouette, 0." in chosen.reason


def test_without_elbow_and_silhouette_the_smallest_is_taken() -> None:
    chosen = choose_k(np.array([[0.0], [1.0]]), [1, 2])
    assert chosen.k == 1
    assert "no silhouette" in chosen.reason


def test_a_single_k_is_taken_as_it_is() -> None:
    chosen = choose_k(blobs(), [5])
    assert (chosen.k, len(chosen.table)) == (5, 1)
    assert chosen.reason == "k = 5 is the only candidate"


def test_more_clusters_than_distinct_rows_are_skipped_and_noted() -> None:
    chosen = choose_k(np.repeat([[0.0], [4.0], [9.0]], 20, axis=0), range(1, 7))
    assert [row["k"] for row in chosen.table] == [1, 2, 3]
    assert chosen.notes == ("k = 4 to 6 skipped: the sample has 3 distinct rows.",)


def test_the_same_seed_gives_the_same_table() -> None:
    X = blobs()
    first, second = (choose_k(X, range(2, 6), sample_size=700, silhouette_size=200, random_state=1) for _ in range(2))
    assert first == second
    assert first.table != choose_k(X, range(2, 6), sample_size=700, silhouette_size=200, random_state=2).table


@pytest.mark.parametrize("k_range", [[], [0, 1], [-3]])
def test_a_range_without_positive_numbers_is_refused(k_range: list[int]) -> None:
    with pytest.raises(UsageError, match="k_range must hold positive numbers"):
        choose_k(blobs(), k_range)


def test_too_few_distinct_rows_for_every_k_is_an_error() -> None:
    with pytest.raises(TooFewRowsError, match="n_clusters=3 needs as many distinct rows, but the sample has 2"):
        choose_k(np.array([[0.0], [1.0], [1.0]]), [3, 4])
