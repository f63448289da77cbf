"""K-Means of resamples, which ends once its clusters are as tight as the given ones."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from engine.backends.cpu import CpuBackend
from engine.kmeans import resamples
from engine.kmeans.resamples import Resamples


def groups(n_groups: int = 5, n_rows: int = 400) -> tuple[Any, Any, Any]:
    """Return rows in groups far apart, the groups' centers, and labels."""
    random = np.random.default_rng(0)
    labels = (np.arange(n_rows) % n_groups).astype(np.int32)
    centers = (12 * np.eye(n_groups)).astype(np.float32)
    return (centers[labels] + random.normal(size=(n_rows, n_groups))).astype(np.float32), centers, labels


def searches(given: Resamples, seeds: Any = None) -> tuple[int, Any]:
    """Return how often the first resample was searched, from given seeds or its own, and its labels."""
    draw = {"return_value": seeds} if seeds is not None else {"side_effect": resamples.seeds_of_sample}
    with (
        patch.object(resamples, "seeds_of_sample", **draw),
        patch.object(resamples, "improve_seeds", side_effect=resamples.improve_seeds) as search,
    ):
        labels = given.cluster(0)
    return search.call_count, labels


def test_a_resample_draws_as_many_rows_as_the_sample_has_with_replacement() -> None:
    X, centers, _ = groups()
    draws = Resamples(X, centers, CpuBackend()).draw(3)
    assert draws.sum() == len(X)
    assert 0.3 < (draws == 0).mean() < 0.45


def test_clusters_as_tight_as_the_given_ones_are_not_searched_further() -> None:
    X, centers, labels = groups()
    count, found = searches(Resamples(X, centers, CpuBackend()), seeds=centers[::-1])
    assert count == 0
    assert (found == 4 - labels).all()


def test_seeds_that_miss_groups_are_searched_until_the_groups_are_found() -> None:
    X, centers, labels = groups()
    two_share_a_seed = np.concatenate([X[labels == 0][:2], centers[1:3], centers[3:].mean(axis=0, keepdims=True)])
    count, found = searches(Resamples(X, centers, CpuBackend()), seeds=two_share_a_seed)
    assert count >= 1
    assert len(np.unique(np.stack([labels, found]), axis=1).T) == 5  # each group is one cluster again


def test_where_the_given_clusters_are_loose_resamples_are_searched_in_full() -> None:
    X, _, labels = groups()
    in_one_group = X[::5][:5]  # Lloyd's algorithm leaves these where the groups are not
    count, found = searches(Resamples(X, in_one_group, CpuBackend()), seeds=in_one_group)
    assert count == 1
    assert len(np.unique(np.stack([labels, found]), axis=1).T) == 5  # each group is one cluster


@pytest.mark.parametrize("n_distinct", [1, 3])
def test_fewer_distinct_rows_than_clusters_are_clustered(n_distinct: int) -> None:
    X = np.repeat(np.eye(3, dtype=np.float32)[:n_distinct], 30, axis=0)
    centers = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [9, 9, 9], [8, 8, 8]], np.float32)
    labels = np.repeat(np.arange(n_distinct, dtype=np.int32), 30)
    found = Resamples(X, centers, CpuBackend()).cluster(0)
    assert all(len(set(found[labels == c])) == 1 for c in range(n_distinct))
