"""Choice of the number of clusters, and the reason for it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score, calinski_harabasz_score, davies_bouldin_score, silhouette_score

from engine.errors import TooFewRowsError, UsageError
from engine.kmeans.estimator import KMeans
from engine.kmeans.select_k import METRICS, choose_k


def blobs(n_rows: int = 1500, centers: int = 4) -> Any:
    X, _ = make_blobs(n_rows, 3, centers=centers, cluster_std=0.5, random_state=3)
    return X.astype(np.float32)


def test_planted_clusters_are_found_at_the_elbow() -> None:
    chosen = choose_k(blobs(), range(1, 11), method="elbow")
    assert chosen.k == 4
    assert chosen.reason == "the inertia over k = 1 to 10 has its elbow at k = 4"
    assert [row["k"] for row in chosen.table] == list(range(1, 11))
    assert chosen.notes == ()


@pytest.mark.parametrize("end", [12, 17])
def test_the_answer_does_not_follow_the_end_of_the_range(end: int) -> None:
    X, _ = make_blobs(1500, 6, centers=12, cluster_std=1.0, random_state=1200)
    chosen = choose_k(X.astype(np.float32), range(1, end + 1))
    assert chosen.k == 12
    assert "12 groups have valleys between them" in chosen.reason
    assert chosen.means is not None
    assert chosen.means.shape == (12, 6)


def test_noise_has_no_clusters_and_the_reason_says_so() -> None:
    noise = np.random.default_rng(0).normal(size=(2000, 4)).astype(np.float32)
    chosen = choose_k(noise, range(1, 6))
    assert (chosen.k, chosen.runner_up) == (1, 2)
    assert chosen.reason.startswith("there are no clusters")
    assert "Other measures differ: the silhouette is largest at k = " in chosen.notes[0]


def test_a_range_that_ends_before_the_groups_do_gives_its_end_and_says_so() -> None:
    chosen = choose_k(blobs(centers=4), range(1, 4))
    assert chosen.k == 3
    assert chosen.reason == "there are more groups than that, but k = 3 is the largest of the range"


def test_without_a_range_it_grows_until_its_end_no_longer_looks_best() -> None:
    X, _ = make_blobs(1300, 8, centers=22, cluster_std=0.3, random_state=5)
    chosen = choose_k(X.astype(np.float32), silhouette_size=200)
    assert chosen.k == 22
    assert chosen.table[-1]["k"] == 25


def test_the_table_holds_scikit_learns_metrics() -> None:
    X = blobs()
    one, three = choose_k(X, [1, 3]).table
    assert tuple(three) == METRICS
    labels = KMeans(3, random_state=0).fit(X).labels_
    half = KMeans(3, random_state=0).fit(X[::2])
    assert three["silhouette"] == pytest.approx(silhouette_score(X, labels))
    assert three["calinski_harabasz"] == pytest.approx(calinski_harabasz_score(X, labels))
    assert three["davies_bouldin"] == pytest.approx(davies_bouldin_score(X, labels))
    assert three["stability"] == pytest.approx(adjusted_rand_score(labels, half.predict(X)))
    assert all(math.isnan(one[name]) for name in METRICS[2:])
    assert one["inertia"] == pytest.approx(float(np.var(X, axis=0, dtype=np.float64).sum() * len(X)))


def test_without_an_elbow_the_silhouette_decides_and_the_reason_says_so() -> None:
    chosen = choose_k(blobs(centers=3), [2, 3], method="elbow")
    assert chosen.k == 3
    assert "no elbow; k = 3 has the best silhouette, 0." in chosen.reason


def test_without_elbow_and_silhouette_the_smallest_is_taken() -> None:
    chosen = choose_k(np.array([[0.0], [1.0]]), [1, 2], method="elbow")
    assert chosen.k == 1
    assert "no silhouette" in chosen.reason


def test_a_single_k_is_taken_as_it_is() -> None:
    chosen = choose_k(blobs(), [5])
    assert (chosen.k, len(chosen.table)) == (5, 1)
    assert chosen.reason == "k = 5 is the only candidate"


def test_more_clusters_than_distinct_rows_are_skipped_and_noted() -> None:
    chosen = choose_k(np.repeat([[0.0], [4.0], [9.0]], 20, axis=0), range(1, 7))
    assert [row["k"] for row in chosen.table] == [1, 2, 3]
    assert chosen.notes[0] == "k = 4 to 6 skipped: the sample has 3 distinct rows."


def test_the_same_seed_gives_the_same_table() -> None:
    X = blobs()
    first, second, other = (
        choose_k(X, range(2, 6), sample_size=700, silhouette_size=200, random_state=seed) for seed in (1, 1, 2)
    )
    assert first.facts() == second.facts()
    assert first.table != other.table
    assert first.k == other.k == 4  # the sample that decides does not follow the seed


@pytest.mark.parametrize("k_range", [[], [0, 1], [-3]])
def test_a_range_without_positive_numbers_is_refused(k_range: list[int]) -> None:
    with pytest.raises(UsageError, match="k_range must hold positive numbers"):
        choose_k(blobs(), k_range)


def test_too_few_distinct_rows_for_every_k_is_an_error() -> None:
    with pytest.raises(TooFewRowsError, match="n_clusters=3 needs as many distinct rows, but the sample has 2"):
        choose_k(np.array([[0.0], [1.0], [1.0]]), [3, 4])
