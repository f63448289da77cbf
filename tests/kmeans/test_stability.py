"""Stability of clusters under resampling."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.kmeans.estimator import KMeans
from engine.kmeans.stability import N_RESAMPLES, STABLE, _jaccard, cluster_stability


def fitted(X: Any, k: int) -> Any:
    return cluster_stability(X, KMeans(k, random_state=0).fit(X).labels_, k)


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


def test_the_index_is_shared_rows_by_rows_in_either() -> None:
    labels, other = np.array([0, 0, 0, 0, 1, 1], np.int32), np.array([1, 1, 1, 0, 0, 0], np.int32)
    np.testing.assert_allclose(_jaccard(labels, other, 2), [3 / 4, 2 / 3])


def test_a_single_cluster_and_one_without_rows_have_no_index() -> None:
    X = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    assert np.isnan(cluster_stability(X, np.zeros(50, np.int32), 1).jaccard).all()
    assert np.isnan(cluster_stability(X, (X[:, 0] > 0).astype(np.int32), 3).jaccard).tolist() == [False, False, True]
