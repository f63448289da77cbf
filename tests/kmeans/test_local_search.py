"""Local search on a sample: centres leave where they are of little use."""

from __future__ import annotations

import numpy as np

from engine.backends import resolve
from engine.execution.threads import threads
from engine.kmeans.estimator import KMeans
from engine.kmeans.initialization import initial_centres
from engine.kmeans.lloyd import RowSet, lloyd
from engine.kmeans.local_search import improved

BACKEND, _ = resolve("cpu")
PLACES = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0], [50.0, 50.0], [60.0, 50.0]], np.float32)


def blobs(rows_each: int = 60) -> tuple[RowSet, np.ndarray]:
    random = np.random.default_rng(0)
    X = np.concatenate([place + random.normal(size=(rows_each, 2)).astype(np.float32) for place in PLACES])
    return RowSet.of(X, np.ones(len(X)), BACKEND), X


def inertia_from(sample: RowSet, centres: np.ndarray) -> float:
    return lloyd(sample, centres, max_iter=100, tolerance=0.0).inertia


def test_a_centre_leaves_a_crowd_for_two_clusters_that_share_one() -> None:
    sample, X = blobs()
    crowded = np.stack([X[0], X[1], X[2], X[60], X[180], X[240]])  # three in one cluster, one in the last two
    stuck = inertia_from(sample, crowded)
    found = improved(sample, crowded, np.random.RandomState(0))
    assert inertia_from(sample, found) < 0.25 * stuck
    assert np.abs(found[:, None] - PLACES[None]).max(axis=2).min(axis=0).max() < 1.0  # one at every place


def test_a_clustering_that_cannot_be_better_stays() -> None:
    sample, _ = blobs()
    best = lloyd(sample, PLACES.copy(), max_iter=100, tolerance=0.0)
    found = improved(sample, best.centres, np.random.RandomState(0))
    assert inertia_from(sample, found) == best.inertia


def test_few_iterations_over_all_rows_improve_the_seeds_less_and_later_ones_agree_with_many() -> None:
    X = np.random.default_rng(1).normal(size=(20_000, 8)).astype(np.float32)
    found = [KMeans(40, random_state=0, max_iter=m).fit(X).inertia_ for m in (1, 2, 5, 20)]
    assert found == sorted(found, reverse=True)
    assert found[0] > found[1]
    seeds = [
        initial_centres(RowSet.of(X, None, BACKEND), "k-means++", 40, np.random.RandomState(0), m).tobytes()
        for m in (1, 20, 300)
    ]
    assert seeds[0] != seeds[1] == seeds[2]


def test_a_round_ends_where_one_without_earlier_labels_ends() -> None:
    sample, X = blobs(700)
    run = sample.run(12)
    before = lloyd(sample, X[::350].copy(), max_iter=3, tolerance=0.0, run=run)
    for start in (before.centres, before.centres[::-1].copy(), X[1::350].copy()):
        trial = run.copy()
        trial.follow(before.centres, start)
        found, wanted = (lloyd(sample, start, max_iter=3, tolerance=0.0, run=given) for given in (trial, None))
        assert found.centres.tobytes() == wanted.centres.tobytes()
        assert (found.labels == wanted.labels).all()
        assert found.inertia == wanted.inertia
    assert (run.labels == before.labels).all()  # a copy leaves the run it was made from as it was


def test_bits_do_not_depend_on_threads() -> None:
    sample, X = blobs(700)
    start = X[::350].copy()
    found = []
    for count in (1, 2, 5):
        with threads(count):
            found.append(improved(sample, start, np.random.RandomState(3)).tobytes())
    assert len(set(found)) == 1


def test_one_cluster_and_as_many_as_rows_have_nothing_to_move() -> None:
    sample, X = blobs(2)
    assert improved(sample, X[:1].copy(), np.random.RandomState(0)).shape == (1, 2)
    assert inertia_from(sample, improved(sample, X.copy(), np.random.RandomState(0))) == 0.0


def test_no_cluster_of_one_row_where_every_row_is_far_from_all_others() -> None:
    X = np.random.default_rng(0).normal(size=(3000, 500)).astype(np.float32)
    for seed in range(3):
        labels = KMeans(8, random_state=seed).fit(X).labels_
        assert np.bincount(labels).min() > 3000 / 8 / 4
