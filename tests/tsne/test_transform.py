"""Out-of-sample placement: new rows are placed where t-SNE would put them, whatever block they are in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.neighbors import KNeighborsClassifier

from engine.backends.cpu import CpuBackend
from engine.execution.threads import threads
from engine.kernels.cpu.neighbors.packed_leaves import LEAF_SIZE
from engine.tsne.device import build_placement_index, place_rows
from engine.tsne.estimator import TSNE
from engine.tsne.transform import N_NEIGHBORS, PERPLEXITY, PlacementIndex
from tests import reference


def blobs(n_rows: int, seed: int = 0) -> tuple[Any, Any]:
    X, labels = make_blobs(n_rows, 6, centers=5, cluster_std=1.0, center_box=(-12, 12), random_state=seed)
    return X.astype(np.float32), labels


@pytest.fixture(scope="module")
def fitted() -> tuple[TSNE, Any, Any, Any, Any]:
    X, labels = blobs(3000)
    return (
        TSNE(perplexity=20, max_iter=500, random_state=0).fit(X[:2000]),
        X[:2000],
        labels[:2000],
        X[2000:],
        labels[2000:],
    )


def test_new_rows_go_to_their_cluster(fitted: Any) -> None:
    tsne, _, labels, new, new_labels = fitted
    coordinates = tsne.transform(new)
    assert coordinates.shape == (1000, 2)
    assert coordinates.dtype == np.float32
    assert KNeighborsClassifier(15).fit(tsne.embedding_, labels).score(coordinates, new_labels) > 0.99


def test_new_rows_are_where_the_forces_of_a_joint_embedding_balance(fitted: Any) -> None:
    tsne, X, _, new, _ = fitted
    index = PlacementIndex.from_landmarks(tsne._rows, tsne.embedding_)
    rows = tsne._centering.apply(new[:20])
    home_leaf = np.array(reference.labels(rows, index.centers), np.int32)
    start, end = index.place(rows, home_leaf, 0).coordinates, index.place(rows, home_leaf).coordinates

    def loss(row: Any, coordinates: Any) -> float:
        """Return -sum p log q, with q normalised by what one landmark has on average."""
        neighbors = reference.nearest(row, tsne._rows, N_NEIGHBORS, own=-1)
        p = reference.conditional_probabilities([distance for _, distance in neighbors], PERPLEXITY)
        pull = sum(
            q * np.log1p(np.square(tsne.embedding_[j] - coordinates).sum())
            for q, (j, _) in zip(p, neighbors, strict=True)
        )
        push = (1.0 / (1.0 + np.square(tsne.embedding_ - coordinates).sum(axis=1))).sum()
        return float(pull + push * len(X) / index.field.z)

    before = [loss(row, coordinates) for row, coordinates in zip(rows, start, strict=True)]
    after = [loss(row, coordinates) for row, coordinates in zip(rows, end, strict=True)]
    nudged = [loss(row, coordinates + np.float32(0.5)) for row, coordinates in zip(rows, end, strict=True)]
    assert np.mean(after) < np.mean(before)
    assert np.mean(after) < np.mean(nudged)


def test_fitted_rows_keep_their_coordinates(fitted: Any) -> None:
    tsne, X, *_ = fitted
    np.testing.assert_array_equal(tsne.transform(X), tsne.embedding_)


@pytest.mark.parametrize("rows_a_block", [1, 7, LEAF_SIZE, 1000])
def test_blocks_and_threads_do_not_change_bits(fitted: Any, rows_a_block: int) -> None:
    tsne, _, _, new, _ = fitted
    together = tsne.transform(new)
    with threads(1):
        parts = [
            tsne.transform(new[s : s + rows_a_block]) for s in range(0, min(1000, 20 * rows_a_block), rows_a_block)
        ]
    alone = np.concatenate(parts)
    np.testing.assert_array_equal(alone, together[: len(alone)])


def test_a_row_between_two_clusters_goes_to_the_medoid_and_is_uncertain() -> None:
    random = np.random.default_rng(0)
    sides = np.repeat([-10.0, 10.0], 200)
    X = random.normal(size=(400, 3)).astype(np.float32) * 0.1
    X[:, 0] += sides
    embedding = (random.normal(size=(400, 2)) + sides[:, None] * 5).astype(np.float32)
    backend = CpuBackend()
    placement = place_rows(
        backend, np.array([[0.0, 0.0, 0.0], [10.0, 0.0, 0.0]], np.float32), build_placement_index(backend, X, embedding)
    )
    assert placement.uncertain.tolist() == [True, False]
    assert np.abs(np.abs(placement.coordinates[0]) - 50.0).max() < 10.0
    assert np.abs(placement.coordinates[1] - 50.0).max() < 5.0


def test_a_row_far_from_all_landmarks_stays_near_the_embedding(fitted: Any) -> None:
    tsne, *_ = fitted
    coordinates = tsne.transform(np.full((1, 6), 1e6, np.float32))
    assert np.isfinite(coordinates).all()
    assert np.abs(coordinates).max() < np.abs(tsne.embedding_).max() + 12.0


def test_new_rows_are_placed_in_one_dimension(fitted: Any) -> None:
    _, X, labels, new, new_labels = fitted
    tsne = TSNE(1, perplexity=20, max_iter=500, random_state=0).fit(X)
    coordinates = tsne.transform(new)
    assert coordinates.shape == (1000, 1)
    assert KNeighborsClassifier(15).fit(tsne.embedding_, labels).score(coordinates, new_labels) > 0.97
