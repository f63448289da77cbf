"""Local search on seeds: centers of little utility move to the clusters of the largest error."""

from __future__ import annotations

import numpy as np

from engine.backends import resolve
from engine.execution.threads import threads
from engine.kmeans.estimator import KMeans
from engine.kmeans.initialization import initialize_centers
from engine.kmeans.lloyd import Samples, lloyd
from engine.kmeans.local_search import improve_seeds

BACKEND, _ = resolve("cpu")
MEANS = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0], [50.0, 50.0], [60.0, 50.0]], np.float32)


def blobs(rows_each: int = 60) -> tuple[Samples, np.ndarray]:
    random = np.random.default_rng(0)
    X = np.concatenate([mean + random.normal(size=(rows_each, 2)).astype(np.float32) for mean in MEANS])
    return Samples.from_array(X, np.ones(len(X)), BACKEND), X


def inertia_from(sample: Samples, centers: np.ndarray) -> float:
    return lloyd(sample, centers, max_iter=100, tolerance=0.0).inertia


def test_a_center_leaves_a_crowded_cluster_for_two_clusters_that_share_one() -> None:
    sample, X = blobs()
    start = np.stack([X[0], X[1], X[2], X[60], X[180], X[240]])  # three in one cluster, one in the last two
    local_optimum = inertia_from(sample, start)
    improved = improve_seeds(sample, start, np.random.RandomState(0))
    assert inertia_from(sample, improved) < 0.25 * local_optimum
    assert np.abs(improved[:, None] - MEANS[None]).max(axis=2).min(axis=0).max() < 1.0  # one near every mean


def test_a_clustering_that_cannot_be_better_stays() -> None:
    sample, _ = blobs()
    best = lloyd(sample, MEANS.copy(), max_iter=100, tolerance=0.0)
    improved = improve_seeds(sample, best.centers, np.random.RandomState(0))
    assert inertia_from(sample, improved) == best.inertia


def test_few_iterations_over_all_rows_improve_the_seeds_less_and_later_ones_agree_with_many() -> None:
    X = np.random.default_rng(1).normal(size=(20_000, 8)).astype(np.float32)
    inertias = [KMeans(40, random_state=0, max_iter=m).fit(X).inertia_ for m in (1, 2, 5, 20)]
    assert inertias == sorted(inertias, reverse=True)
    assert inertias[0] > inertias[1]
    seeds = [
        initialize_centers(Samples.from_array(X, None, BACKEND), "k-means++", 40, np.random.RandomState(0), m).tobytes()
        for m in (1, 20, 300)
    ]
    assert seeds[0] != seeds[1] == seeds[2]


def test_a_round_ends_where_one_without_earlier_labels_ends() -> None:
    sample, X = blobs(700)
    state = sample.new_state(12)
    before = lloyd(sample, X[::350].copy(), max_iter=3, tolerance=0.0, state=state)
    for start in (before.centers, before.centers[::-1].copy(), X[1::350].copy()):
        trial = state.copy()
        trial.update_bounds(before.centers, start)
        resumed, fresh = (lloyd(sample, start, max_iter=3, tolerance=0.0, state=given) for given in (trial, None))
        assert resumed.centers.tobytes() == fresh.centers.tobytes()
        assert (resumed.labels == fresh.labels).all()
        assert resumed.inertia == fresh.inertia
    assert (state.labels == before.labels).all()  # a copy is independent


def test_bits_do_not_depend_on_threads() -> None:
    sample, X = blobs(700)
    start = X[::350].copy()
    seeds = set()
    for count in (1, 2, 5):
        with threads(count):
            seeds.add(improve_seeds(sample, start, np.random.RandomState(3)).tobytes())
    assert len(seeds) == 1


def test_one_cluster_and_as_many_as_rows_have_nothing_to_move() -> None:
    sample, X = blobs(2)
    assert improve_seeds(sample, X[:1].copy(), np.random.RandomState(0)).shape == (1, 2)
    assert inertia_from(sample, improve_seeds(sample, X.copy(), np.random.RandomState(0))) == 0.0


def test_no_cluster_of_one_row_where_every_row_is_far_from_all_others() -> None:
    X = np.random.default_rng(0).normal(size=(3000, 500)).astype(np.float32)
    for seed in range(3):
        labels = KMeans(8, random_state=seed).fit(X).labels_
        assert np.bincount(labels).min() > 3000 / 8 / 4
