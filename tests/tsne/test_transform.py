"""Places for new rows: where t-SNE would put them, whatever block they come in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.neighbors import KNeighborsClassifier

from engine.backends.cpu import CpuBackend
from engine.execution.threads import threads
from engine.kernels.cpu.neighbors.packed_leaves import LEAF
from engine.tsne.device import place, placement_index
from engine.tsne.estimator import TSNE
from engine.tsne.transform import NEIGHBOURS, PERPLEXITY, Atlas
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
    places = tsne.transform(new)
    assert places.shape == (1000, 2)
    assert places.dtype == np.float32
    assert KNeighborsClassifier(15).fit(tsne.embedding_, labels).score(places, new_labels) > 0.99


def test_new_rows_are_where_a_joint_map_would_balance_them(fitted: Any) -> None:
    tsne, X, _, new, _ = fitted
    atlas = Atlas.of(tsne._rows, tsne.embedding_)
    rows = tsne._frame.rows(new[:20])
    homes = np.array(reference.labels(rows, atlas.centres), np.int32)
    start, end = atlas.place(rows, homes, 0).places, atlas.place(rows, homes).places

    def loss(row: Any, place: Any) -> float:
        """-sum p log q, with q normalised by what one landmark has on average."""
        found = reference.nearest(row, tsne._rows, NEIGHBOURS, own=-1)
        p = reference.conditional_probabilities([distance for _, distance in found], PERPLEXITY)
        pull = sum(
            q * np.log1p(np.square(tsne.embedding_[j] - place).sum()) for q, (j, _) in zip(p, found, strict=True)
        )
        push = (1.0 / (1.0 + np.square(tsne.embedding_ - place).sum(axis=1))).sum()
        return float(pull + push * len(X) / atlas.field.z)

    before = [loss(row, place) for row, place in zip(rows, start, strict=True)]
    after = [loss(row, place) for row, place in zip(rows, end, strict=True)]
    nudged = [loss(row, place + np.float32(0.5)) for row, place in zip(rows, end, strict=True)]
    assert np.mean(after) < np.mean(before)
    assert np.mean(after) < np.mean(nudged)


def test_fitted_rows_have_the_places_they_have(fitted: Any) -> None:
    tsne, X, *_ = fitted
    np.testing.assert_array_equal(tsne.transform(X), tsne.embedding_)


@pytest.mark.parametrize("rows_a_block", [1, 7, LEAF, 1000])
def test_blocks_and_threads_do_not_change_bits(fitted: Any, rows_a_block: int) -> None:
    tsne, _, _, new, _ = fitted
    together = tsne.transform(new)
    with threads(1):
        parts = [
            tsne.transform(new[s : s + rows_a_block]) for s in range(0, min(1000, 20 * rows_a_block), rows_a_block)
        ]
    alone = np.concatenate(parts)
    np.testing.assert_array_equal(alone, together[: len(alone)])


def test_a_row_between_two_clusters_goes_to_the_medoid_and_is_doubtful() -> None:
    random = np.random.default_rng(0)
    sides = np.repeat([-10.0, 10.0], 200)
    X = random.normal(size=(400, 3)).astype(np.float32) * 0.1
    X[:, 0] += sides
    places = (random.normal(size=(400, 2)) + sides[:, None] * 5).astype(np.float32)
    backend = CpuBackend()
    placed = place(
        backend, np.array([[0.0, 0.0, 0.0], [10.0, 0.0, 0.0]], np.float32), placement_index(backend, X, places)
    )
    assert placed.doubtful.tolist() == [True, False]
    assert np.abs(np.abs(placed.places[0]) - 50.0).max() < 10.0
    assert np.abs(placed.places[1] - 50.0).max() < 5.0


def test_a_row_far_from_everything_stays_near_the_map(fitted: Any) -> None:
    tsne, *_ = fitted
    places = tsne.transform(np.full((1, 6), 1e6, np.float32))
    assert np.isfinite(places).all()
    assert np.abs(places).max() < np.abs(tsne.embedding_).max() + 12.0


def test_a_map_of_one_component_takes_new_rows(fitted: Any) -> None:
    _, X, labels, new, new_labels = fitted
    tsne = TSNE(1, perplexity=20, max_iter=500, random_state=0).fit(X)
    places = tsne.transform(new)
    assert places.shape == (1000, 1)
    assert KNeighborsClassifier(15).fit(tsne.embedding_, labels).score(places, new_labels) > 0.97
