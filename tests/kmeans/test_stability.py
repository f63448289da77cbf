"""Stability of clusters under resampling."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import silhouette_samples

from engine.kmeans.estimator import KMeans
from engine.kmeans.stability import (
    N_RESAMPLES,
    STABLE,
    ClusterStability,
    _calibration_error,
    _contingency,
    _jaccard,
    _odds,
    cluster_stability,
    describe_stability,
    runner_up_odds,
)


def fitted(X: Any, k: int) -> Any:
    return cluster_stability(X, KMeans(k, random_state=0).fit(X).cluster_centers_)


def test_groups_far_apart_are_found_in_every_resample() -> None:
    random = np.random.default_rng(0)
    X = (np.repeat(10.0 * np.eye(3), 100, axis=0) + random.normal(size=(300, 3))).astype(np.float32)
    found = fitted(X, 3)
    assert found.found_again.tolist() == [N_RESAMPLES] * 3
    assert (found.jaccard > 0.99).all()


def test_a_cut_through_noise_is_not_stable() -> None:
    noise = np.random.default_rng(0).normal(size=(500, 8)).astype(np.float32)
    found = fitted(noise, 6)
    assert found.jaccard.mean() < STABLE
    assert found.found_again.sum() < 6 * N_RESAMPLES / 4


def test_silhouettes_are_those_of_the_clusters_and_unknown_of_few_rows() -> None:
    random = np.random.default_rng(0)
    X = (np.repeat(3.0 * np.eye(3), 100, axis=0) + random.normal(size=(300, 3))).astype(np.float32)
    model = KMeans(3, random_state=0).fit(X)
    expected = silhouette_samples(X.astype(np.float64), model.labels_)
    found = cluster_stability(X, model.cluster_centers_)
    np.testing.assert_allclose(found.silhouette, [expected[model.labels_ == c].mean() for c in range(3)], rtol=1e-6)
    centers = np.vstack([model.cluster_centers_, [[50, 50, 50]]]).astype(np.float32)
    alone = cluster_stability(np.vstack([X, centers[-1:]]), centers)
    assert np.isnan(alone.silhouette[3])
    assert not np.isnan(alone.silhouette[:3]).any()


def test_the_figure_that_words_show_is_the_one_that_decides() -> None:
    jaccard = np.array([1.0, 0.69, 0.6, np.nextafter(0.6, 0), 0.55, np.nan])
    found = np.array([20, 3, 7, 11, 11, 0])  # resamples, which decide nothing
    stability = ClusterStability(jaccard, jaccard, found, np.zeros((6, 2), np.float32), 0.0)
    words, stable = zip(*describe_stability(stability), strict=True)
    again = "lustered again on other samples of the rows"
    asked = "60 % is asked of a stable group"
    assert words == (
        f"C{again}, 100 % of this group is found again on average ({asked}).",
        f"C{again}, 69 % of this group is found again on average ({asked}).",
        f"C{again}, 60 % of this group is found again on average ({asked}).",
        f"Not a stable group: c{again}, 59 % of it is found again on average ({asked}).",
        f"Not a stable group: c{again}, 55 % of it is found again on average ({asked}).",
        None,
    )
    assert stable == (True, True, True, False, False, True)


def test_the_index_is_shared_rows_by_rows_in_either() -> None:
    labels, other = np.array([0, 0, 0, 0, 1, 1], np.int32), np.array([1, 1, 1, 0, 0, 0], np.int32)
    np.testing.assert_allclose(_jaccard(_contingency(labels, other, 2)), [3 / 4, 2 / 3])


def test_a_single_cluster_and_one_without_rows_have_no_index() -> None:
    X = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    one = cluster_stability(X, X[:1])
    assert np.isnan([*one.jaccard, one.odds_error]).all()
    assert (one.odds == 0).all()
    far = np.array([[-1, 0], [1, 0], [99, 99]], np.float32)
    assert np.isnan(cluster_stability(X, far).jaccard).tolist() == [False, False, True]


def test_odds_of_the_runner_up_are_those_of_further_resamples() -> None:
    random = np.random.default_rng(1)
    X = (np.repeat(2.5 * np.eye(4), 400, axis=0) + random.normal(size=(1600, 4))).astype(np.float32)
    model = KMeans(4, random_state=0).fit(X)
    found = cluster_stability(X, model.cluster_centers_)
    assert found.odds_error < 0.03
    edge, inside = runner_up_odds(found.odds, np.zeros(2, np.int32), np.array([0.01, 0.7], np.float32))
    assert inside < 0.05 < 0.2 < edge < 0.7


def test_odds_are_shares_by_cluster_and_margin_drawn_towards_all() -> None:
    labels, bins = np.repeat([0, 1], 1000).astype(np.int32), np.zeros(2000, np.int64)
    switched = np.repeat([0.1, 0.3], 1000)
    odds = _odds(labels, bins, switched, 2, n_resamples=1.0)
    np.testing.assert_allclose(odds[:, 0], [(100 + 20) / 1100, (300 + 20) / 1100], rtol=1e-6)


def test_the_error_of_odds_is_their_distance_from_what_happened() -> None:
    predicted = np.array([0.05, 0.05, 0.5, 0.5], np.float32)
    assert _calibration_error(predicted, np.array([0.0, 0.1, 0.6, 0.6])) == pytest.approx(0.05)
