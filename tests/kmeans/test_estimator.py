"""The KMeans estimator: the results of scikit-learn from the same initial centers, and the same bits on any threads."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import sklearn.cluster
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import check_estimator

import engine.kmeans.initialization
import engine.kmeans.lloyd
from engine import backends
from engine.backends import sparse_cpu
from engine.backends.cpu import QUANTIZER_SAMPLE_ROWS
from engine.backends.protocol import SUM_ROWS
from engine.errors import UsageError
from engine.execution.threads import threads
from engine.kernels.cpu.kmeans import quantize
from engine.kmeans import estimator
from engine.kmeans.estimator import KMeans, nearest_two
from engine.kmeans.initialization import SAMPLE_ROWS
from engine.kmeans.restarts import cluster_rows
from engine.utils.sparse_rows import SparseRows
from tests import reference
from tests.kmeans.overlapping_clusters import mixture


def test_the_estimator_keeps_every_rule_of_scikit_learn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # skipped array-API checks, and duplicates in the data of the checks
        check_estimator(KMeans())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_it_ends_where_scikit_learn_ends_from_the_same_start(dtype: Any, weighted: bool) -> None:
    X = mixture(dtype=dtype)
    weights = np.random.default_rng(1).uniform(0.5, 2.0, len(X)) if weighted else None
    ours = KMeans(7, init=X[:7], tol=0).fit(X, sample_weight=weights)
    peer = sklearn.cluster.KMeans(7, init=X[:7], n_init=1, tol=0).fit(X, sample_weight=weights)
    assert ours.n_iter_ == peer.n_iter_
    np.testing.assert_array_equal(ours.labels_, peer.labels_)
    np.testing.assert_allclose(ours.cluster_centers_, peer.cluster_centers_, rtol=1e-4, atol=1e-5)
    assert ours.inertia_ == pytest.approx(peer.inertia_, rel=1e-5)
    assert ours.score(X, sample_weight=weights) == -ours.inertia_


@pytest.mark.parametrize("tol", [1e-2, 1e-3, 1e-4])
def test_it_stops_by_scikit_learns_rule(tol: float) -> None:
    X = mixture(n_rows=2000, dtype=np.float64)
    ours = KMeans(9, init=X[:9], tol=tol).fit(X)
    peer = sklearn.cluster.KMeans(9, init=X[:9], n_init=1, tol=tol).fit(X)
    assert ours.n_iter_ == peer.n_iter_
    np.testing.assert_array_equal(ours.labels_, peer.labels_)


def test_centers_are_the_means_of_the_loops() -> None:
    X = mixture(n_rows=200, dtype=np.float64)
    fitted = KMeans(4, init=X[:4], max_iter=1, tol=0).fit(X)
    _, means = reference.lloyd_step(X.tolist(), X[:4].tolist())
    np.testing.assert_allclose(fitted.cluster_centers_, means, rtol=1e-14, atol=1e-14)
    assert fitted.labels_.tolist() == reference.labels(X.tolist(), fitted.cluster_centers_.tolist())


@pytest.mark.parametrize("init", ["k-means++", "k-means||", "random"])
@pytest.mark.parametrize("weighted", [False, True])
def test_any_number_of_threads_and_any_blocks_give_the_same_bits(
    init: str, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.kmeans.initialization, "SAMPLE_ROWS", 600)
    X = mixture(n_rows=5 * SUM_ROWS + 17)
    weights = np.random.default_rng(2).exponential(size=len(X)) if weighted else None
    results = []
    for n_threads, block_rows in [(1, SUM_ROWS), (2, 2 * SUM_ROWS), (5, 128 * SUM_ROWS), (1, 128 * SUM_ROWS)]:
        monkeypatch.setattr(engine.backends.cpu, "MAX_BLOCK_ROWS", block_rows)
        with threads(n_threads):
            fitted = KMeans(7, init=init, n_init=2, random_state=3).fit(X, sample_weight=weights)
            results.append((fitted.cluster_centers_.tobytes(), fitted.labels_.tobytes(), fitted.inertia_))
    assert results.count(results[0]) == len(results)


def test_the_order_of_rows_does_not_change_a_bit_of_the_centers() -> None:
    X = mixture(n_rows=4000)
    order = np.random.default_rng(0).permutation(len(X))
    weights = np.random.default_rng(1).exponential(size=len(X))
    first = KMeans(7, init=X[:7]).fit(X, sample_weight=weights)
    second = KMeans(7, init=X[:7]).fit(X[order], sample_weight=weights[order])
    np.testing.assert_array_equal(first.cluster_centers_, second.cluster_centers_)
    np.testing.assert_array_equal(first.labels_[order], second.labels_)


def test_fortran_order_and_read_only_rows_give_the_same_bits() -> None:
    X = mixture()
    frozen = X.copy()
    frozen.flags.writeable = False
    expected = KMeans(5, random_state=0).fit(X).cluster_centers_
    for same in (np.asfortranarray(X), frozen):
        np.testing.assert_array_equal(KMeans(5, random_state=0).fit(same).cluster_centers_, expected)


def test_seeds_from_a_sample_find_separated_blobs() -> None:
    X, planted = make_blobs(20_000, 8, centers=20, cluster_std=0.4, random_state=0)
    fitted = KMeans(20, random_state=0).fit(X)
    assert adjusted_rand_score(fitted.labels_, planted) > 0.99


def test_mean_inertia_is_not_above_scikit_learns() -> None:
    X = mixture(n_rows=3000, n_features=8)
    ours, peer = (
        np.mean([make(12, n_init=1, random_state=seed).fit(X).inertia_ for seed in range(8)])
        for make in (KMeans, sklearn.cluster.KMeans)
    )
    assert ours <= peer


def test_more_runs_never_end_worse() -> None:
    X = mixture(n_rows=500)
    one, ten = (KMeans(12, init="random", n_init=n, random_state=5).fit(X).inertia_ for n in (1, 10))
    assert ten <= one


def test_a_callable_gets_the_rows_as_they_are() -> None:
    X = mixture(n_rows=100) + np.float32(100)

    def first_rows(rows: Any, n_clusters: int, random_state: np.random.RandomState) -> Any:
        assert isinstance(random_state, np.random.RandomState)
        np.testing.assert_array_equal(rows, X)
        return rows[:n_clusters]

    given = KMeans(3, init=X[:3]).fit(X)
    called = KMeans(3, init=first_rows, n_init=1).fit(X)
    np.testing.assert_array_equal(given.cluster_centers_, called.cluster_centers_)


def test_transform_gives_distances_and_keeps_the_dtype() -> None:
    X = mixture(n_rows=60)
    fitted = KMeans(4, random_state=0).fit(X)
    distances = fitted.transform(X)
    assert distances.dtype == np.float32
    expected = [[reference.squared_distance(x, c) ** 0.5 for c in fitted.cluster_centers_.tolist()] for x in X.tolist()]
    np.testing.assert_allclose(distances, expected, rtol=1e-6)
    assert fitted.get_feature_names_out().tolist() == ["kmeans0", "kmeans1", "kmeans2", "kmeans3"]


def test_rows_in_any_layout_have_the_same_labels_and_the_same_nearest_two() -> None:
    twice_as_many = np.random.default_rng(0).normal(size=(3000, 20)).astype(np.float32)
    X = twice_as_many[::2].copy()
    fitted = KMeans(9, random_state=0).fit(X)
    expected = nearest_two(X, fitted.cluster_centers_)
    for same in (twice_as_many[::2], np.asfortranarray(X)):
        np.testing.assert_array_equal(fitted.predict(same), expected.labels)
        for actual, desired in zip(nearest_two(same, fitted.cluster_centers_), expected, strict=True):
            np.testing.assert_array_equal(actual, desired)


def test_the_nearest_two_come_with_a_margin() -> None:
    centers = np.array([[0.0], [4.0]], np.float32)
    nearest = nearest_two(np.array([[0.0], [1.0], [2.0], [4.0]], np.float32), centers)
    assert nearest.labels.tolist() == [0, 0, 0, 1]
    assert nearest.second_labels.tolist() == [1, 1, 1, 0]
    assert nearest.distances.tolist() == [0.0, 1.0, 2.0, 0.0]
    assert nearest.second_distances.tolist() == [4.0, 3.0, 2.0, 4.0]
    np.testing.assert_allclose(nearest.margin(), [1.0, 2 / 3, 0.0, 1.0], rtol=1e-6)


def test_a_row_on_two_equal_centers_has_no_margin() -> None:
    nearest = nearest_two(np.array([[1.0]], np.float32), np.array([[1.0], [1.0]], np.float32))
    assert (nearest.labels[0], nearest.second_labels[0], nearest.margin()[0]) == (0, 1, 0.0)


def test_a_single_center_has_no_second_nearest_and_full_margin() -> None:
    nearest = nearest_two(np.array([[1.0], [5.0]], np.float32), np.array([[1.0]], np.float32))
    assert (nearest.second_labels.tolist(), nearest.margin().tolist()) == ([-1, -1], [1.0, 1.0])


def test_verbose_logs_every_iteration(caplog: pytest.LogCaptureFixture) -> None:
    X = mixture(n_rows=300)
    with caplog.at_level(logging.INFO, logger="engine.kmeans"):
        fitted = KMeans(5, init=X[:5], verbose=1).fit(X)
    messages = [record.getMessage() for record in caplog.records]
    assert sum(message.startswith("Iteration ") for message in messages) == fitted.n_iter_
    assert messages[0] == "Initialization complete"
    assert messages[-1].startswith(f"Converged at iteration {fitted.n_iter_}: ")


def test_verbose_prints_where_nothing_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    X = mixture(n_rows=300)
    silent = KMeans(5, init=X[:5]).fit(X)
    assert capsys.readouterr().out == ""
    fitted = KMeans(5, init=X[:5], verbose=1).fit(X)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == fitted.n_iter_ + 2
    inertias = [float(line.split("inertia ")[1].split(":")[0]) for line in lines[1:-1]]
    assert inertias == sorted(inertias, reverse=True)
    assert inertias[-1] >= float(f"{fitted.inertia_:.6g}")
    assert fitted.cluster_centers_.tobytes() == silent.cluster_centers_.tobytes()
    assert logging.getLogger("engine.kmeans").level == logging.NOTSET
    assert not logging.getLogger("engine.kmeans").handlers


def sparse_mixture(dtype: Any, n_rows: int = 5000, n_features: int = 40) -> Any:
    random = np.random.default_rng(0)
    centers = random.normal(size=(6, n_features)) * 4
    X = centers[random.integers(6, size=n_rows)] + random.normal(size=(n_rows, n_features))
    return np.where(random.random(X.shape) < 0.2, X, 0).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("init", ["k-means++", "k-means||", "random"])
@pytest.mark.parametrize("weighted", [False, True])
def test_sparse_rows_have_the_bits_of_dense_ones(init: str, weighted: bool, dtype: Any) -> None:
    X = sparse_mixture(dtype)
    weights = np.random.default_rng(1).uniform(0.5, 2, len(X)) if weighted else None
    dense = KMeans(6, init=init, n_init=1, random_state=0, device="cpu").fit(X, sample_weight=weights)
    matrix = scipy.sparse.csr_array(X)
    sparse = KMeans(6, init=init, n_init=1, random_state=0).fit(matrix, sample_weight=weights)
    assert sparse.cluster_centers_.tobytes() == dense.cluster_centers_.tobytes()
    np.testing.assert_array_equal(sparse.labels_, dense.labels_)
    assert (sparse.inertia_, sparse.n_iter_) == (dense.inertia_, dense.n_iter_)
    np.testing.assert_array_equal(sparse.predict(matrix), dense.labels_)
    np.testing.assert_array_equal(sparse.transform(matrix), dense.transform(X))
    assert sparse.score(matrix, sample_weight=weights) == dense.score(X, sample_weight=weights)


def test_an_empty_cluster_takes_a_sparse_row_as_a_dense_one() -> None:
    X = sparse_mixture(np.float32)
    start = np.vstack([X[:3], np.full((2, X.shape[1]), 1e4)])
    dense, sparse = (KMeans(5, init=start).fit(rows) for rows in (X, scipy.sparse.csr_matrix(X)))
    assert sparse.cluster_centers_.tobytes() == dense.cluster_centers_.tobytes()
    assert len(np.unique(sparse.labels_)) == 5


def test_sparse_rows_are_dense_in_blocks_and_as_a_sample_only(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    class Recorded(SparseRows):
        def __getitem__(self, rows: Any) -> Any:
            dense = super().__getitem__(rows)
            sizes.append(len(dense) if dense.ndim == 2 else 1)
            return dense

    monkeypatch.setattr(estimator, "readable_rows", Recorded)
    monkeypatch.setattr(sparse_cpu, "BLOCK_VALUES", 40 * SUM_ROWS)
    X = scipy.sparse.csr_array(sparse_mixture(np.float32, n_rows=30_000))
    KMeans(6, random_state=0).fit(X).predict(X)
    assert max(sizes) == SAMPLE_ROWS
    assert sorted(set(sizes))[-2] <= 2 * QUANTIZER_SAMPLE_ROWS
    assert SUM_ROWS in sizes


def test_a_callable_gets_the_sparse_matrix() -> None:
    X = scipy.sparse.csr_array(sparse_mixture(np.float64))
    fitted = KMeans(3, init=lambda rows, k, random_state: rows[:k].toarray(), n_init=1).fit(X)
    assert fitted.cluster_centers_.shape == (3, 40)


def test_sparse_rows_are_checked() -> None:
    X = scipy.sparse.csr_array(sparse_mixture(np.float64))
    with pytest.raises(UsageError, match=r"on the CPU only, and device='cuda' was asked for"):
        KMeans(3, device="cuda").fit(X)
    X.data[5] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        KMeans(3).fit(X)


def test_elkan_is_lloyd_and_warns_of_a_single_cluster() -> None:
    X = mixture(n_rows=300)
    lloyd, elkan = (KMeans(5, algorithm=name, random_state=0).fit(X) for name in ("lloyd", "elkan"))
    assert elkan.cluster_centers_.tobytes() == lloyd.cluster_centers_.tobytes()
    with pytest.warns(RuntimeWarning, match="doesn't make sense for a single cluster"):
        KMeans(1, algorithm="elkan").fit(X)


def test_rows_are_clustered_without_the_estimator_to_the_same_bits() -> None:
    X = np.random.default_rng(0).normal(size=(3000, 5)).astype(np.float32)
    estimator = KMeans(7, random_state=3).fit(X)
    clustering = cluster_rows(X, 7, backends.resolve("cpu")[0], seed=3)
    assert clustering.centers.tobytes() == estimator.cluster_centers_.tobytes()
    assert clustering.labels.tobytes() == estimator.labels_.tobytes()
    assert (clustering.inertia, clustering.n_iter) == (estimator.inertia_, estimator.n_iter_)


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("n_features", [16, 32, 64, 200])
def test_quantized_rows_labels_and_bounds_take_half_of_x_and_twenty_bytes_a_row_at_most(
    level: int, n_features: int
) -> None:
    X = np.zeros((1000, n_features), np.float32)
    quantized = quantize.allocate_quantized_rows(len(X), n_features, level)
    labels_and_bounds = 8 * len(X)
    assert sum(array.nbytes for array in quantized) + labels_and_bounds <= X.nbytes / 2 + 20 * len(X)
