"""The array backend on NumPy has the bits of the CPU backend, whatever fits into memory."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.backends import array_pca
from engine.backends.array_kmeans import ArrayBackend
from engine.backends.chunked import N_RETRIES
from engine.backends.cpu import CpuBackend
from engine.backends.protocol import EncodedRows, Projection
from engine.errors import OutOfResourcesError
from engine.execution.array_storage import IN_MEMORY
from engine.kernels.arrays.features.encode import slice_rows
from engine.kmeans.lloyd import Samples, inertia, label_rows
from engine.kmeans.restarts import best_clustering
from engine.tsne.device import build_placement_index, place_rows
from tests import reference
from tests.gpu.strict import StrictModule

CPU = CpuBackend()
WHOLE = slice(0, None)


class Streaming(ArrayBackend):
    """A device whose memory holds no rows."""

    def free_memory(self) -> int:
        return 0


class ScarceMemory:
    """NumPy without memory for products of more than `largest` values."""

    def __init__(self, largest: int) -> None:
        self._largest, self.refused = largest, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def matmul(self, left: Any, right: Any) -> Any:
        if len(left) * right.shape[1] > self._largest:
            self.refused += 1
            raise MemoryError(f"no room for {len(left)} x {right.shape[1]} values\nand a second line")
        return np.matmul(left, right)


BACKENDS = [
    pytest.param(ArrayBackend(np), id="rows on the device"),
    pytest.param(ArrayBackend(np, chunk_values=64), id="small chunks"),
    pytest.param(Streaming(np, chunk_values=1000), id="rows copied in every pass"),
    pytest.param(ArrayBackend(StrictModule(), chunk_values=5000), id="as CuPy allows it"),
]
every_backend = pytest.mark.parametrize("backend", BACKENDS)


def mixture(n_rows: int, n_features: int, dtype: Any = np.float32) -> Any:
    random = np.random.default_rng(n_rows + n_features)
    means = random.normal(size=(7, n_features)) * 2
    return (means[random.integers(0, 7, n_rows)] + random.normal(size=(n_rows, n_features))).astype(dtype)


def cluster(X: Any, k: int, backend: Any, weights: Any = None, **options: Any) -> Any:
    rows = Samples.from_array(X, weights, backend)
    return best_clustering(rows, k, random=np.random.RandomState(0), **options)


def assert_same(one: Any, other: Any) -> None:
    np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_array_equal(one.centers, other.centers)
    assert (one.inertia, one.n_iter) == (other.inertia, other.n_iter)


@every_backend
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n_rows", "n_features", "k"), [(1, 1, 1), (40, 3, 40), (1023, 5, 7), (3000, 16, 20)])
def test_k_means_has_the_bits_of_the_cpu(backend: Any, dtype: Any, n_rows: int, n_features: int, k: int) -> None:
    X = mixture(n_rows, n_features, dtype)
    assert_same(cluster(X, k, backend), cluster(X, k, CPU))


@every_backend
def test_weighted_k_means_has_the_bits_of_the_cpu(backend: Any) -> None:
    X, random = mixture(2000, 6), np.random.default_rng(1)
    weights = random.exponential(size=2000) * (random.random(2000) > 0.1)
    assert_same(cluster(X, 5, backend, weights), cluster(X, 5, CPU, weights))


@every_backend
def test_several_runs_on_the_same_rows_do_not_disturb_each_other(backend: Any) -> None:
    X = mixture(1500, 4)
    assert_same(cluster(X, 6, backend, n_init=4, init="random"), cluster(X, 6, CPU, n_init=4, init="random"))


@every_backend
def test_empty_clusters_and_repeated_rows_have_the_bits_of_the_cpu(backend: Any) -> None:
    X = np.repeat(mixture(9, 3), 50, axis=0)
    start = np.concatenate([X[::100], np.full((4, 3), 1e3, np.float32)])
    assert_same(cluster(X, len(start), backend, init=start), cluster(X, len(start), CPU, init=start))


@every_backend
@settings(max_examples=60)
@given(data=st.data())
def test_labels_are_the_definitions_for_ties_duplicates_and_any_scale(backend: Any, data: st.DataObject) -> None:
    X, centers = scaled_integers(data)
    labels = np.empty(len(X), np.int32)
    backend.label(X, centers, labels)
    assert labels.tolist() == reference.labels(X.tolist(), centers.tolist())
    with np.errstate(over="ignore"):  # of distances beyond float32
        ours, theirs = backend.nearest_two(X, centers), CPU.nearest_two(X, centers)
    for actual, expected in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(actual, expected)
        assert actual.dtype == expected.dtype


def scaled_integers(data: st.DataObject) -> tuple[Any, Any]:
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    powers = [-540, -500, -130, -60, 0, 60, 500] if dtype is np.float64 else [-140, -60, -1, 0, 60]
    scale = dtype(2.0 ** data.draw(st.sampled_from(powers)))
    offset = data.draw(st.sampled_from([0, 3, 4096]))
    n_rows, n_features, k = (data.draw(st.integers(1, most)) for most in (12, 6, 7))
    values = st.integers(-4, 4)
    draw = [data.draw(st.lists(values, min_size=n * n_features, max_size=n * n_features)) for n in (n_rows, k)]
    X, centers = (np.array(drawn, np.int64).reshape(-1, n_features) + offset for drawn in draw)
    return X.astype(dtype) * scale, centers.astype(dtype) * scale


@every_backend
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offset", [0.0, 1e4, 1e7])
def test_rows_on_bisectors_are_labelled_by_the_definition(backend: Any, dtype: Any, offset: float) -> None:
    random = np.random.default_rng(1)
    centers = (random.normal(size=(6, 8)) + offset).astype(dtype)
    middles = ((centers[:, None].astype(np.float64) + centers[None]) / 2).reshape(-1, 8)
    nudged = [np.nextafter(middles.astype(dtype), dtype(side * np.inf)) for side in (-1, 1)]
    X = np.concatenate([middles.astype(dtype), *nudged])
    labels = np.empty(len(X), np.int32)
    backend.label(X, centers, labels)
    assert labels.tolist() == reference.labels(X.tolist(), centers.tolist())


@every_backend
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_distances_to_centres_have_the_bits_of_the_cpu(backend: Any, dtype: Any) -> None:
    X, centers = mixture(1100, 5, dtype), mixture(9, 5, dtype)
    labels = np.random.default_rng(0).integers(0, 9, len(X)).astype(np.int32)
    np.testing.assert_array_equal(backend.distances(X, centers), CPU.distances(X, centers))
    ours = backend.assigned_distances(X, None, WHOLE, centers, labels)
    np.testing.assert_array_equal(ours, CPU.assigned_distances(X, None, WHOLE, centers, labels))
    for weights in (np.empty(0), np.random.default_rng(1).random(len(X))):
        assert inertia(X, weights, centers, labels, backend) == inertia(X, weights, centers, labels, CPU)


@every_backend
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_have_the_bits_of_the_cpu_and_moments_its_value(backend: Any, dtype: Any) -> None:
    X = mixture(1000, 11, dtype) + dtype(100)
    axes = np.random.default_rng(0).normal(size=(11, 4))
    mean = X.mean(axis=0, dtype=np.float64)
    np.testing.assert_array_equal(backend.scores(X, mean, axes), CPU.scores(X, mean, axes))
    ours, theirs = backend.moments(X), CPU.moments(X)
    np.testing.assert_allclose(ours.mean, theirs.mean, rtol=1e-13)
    np.testing.assert_allclose(ours.scatter, theirs.scatter, rtol=0, atol=1e-11 * theirs.scatter.max())


def encoded_rows(n_rows: int, n_hot_columns: int) -> EncodedRows:
    random = np.random.default_rng(n_rows)
    ones = random.random((n_rows, n_hot_columns)) < 0.3
    ones[:2] = False
    starts = np.concatenate([[0], np.cumsum(ones.sum(axis=1))]).astype(np.int32)
    order = [random.permutation(np.flatnonzero(row)) for row in ones]
    return EncodedRows(
        random.normal(size=(n_rows, 5)).astype(np.float32), starts, np.concatenate(order).astype(np.int32)
    )


@every_backend
@pytest.mark.parametrize("shortest", [None, 1.0])
@pytest.mark.parametrize("n_hot_columns", [0, 13])
def test_encoded_rows_have_the_scores_and_counts_of_the_cpu(
    backend: Any, n_hot_columns: int, shortest: float | None
) -> None:
    rows, random = encoded_rows(300, n_hot_columns), np.random.default_rng(0)
    projection = Projection(
        3, random.normal(size=8), random.normal(size=(5, 8)), random.normal(size=(n_hot_columns, 8)), shortest
    )
    ours, theirs = backend.encoded_moments(rows, n_hot_columns), CPU.encoded_moments(rows, n_hot_columns)
    scores = CPU.encoded_scores(rows, projection)
    np.testing.assert_array_equal(backend.encoded_scores(rows, projection), scores)
    if shortest is not None:
        directionless = (scores == 0).all(axis=1)
        assert 0 < directionless.sum() < len(scores) / 2
        np.testing.assert_allclose(np.square(scores[~directionless]).sum(axis=1), 1.0, rtol=1e-6)
    np.testing.assert_array_equal(ours.pairs + ours.pairs.T, theirs.pairs + theirs.pairs.T)
    assert ours.n_rows == theirs.n_rows
    np.testing.assert_allclose(ours.gram, theirs.gram, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ours.cross, theirs.cross, rtol=1e-12, atol=1e-12)


@every_backend
@pytest.mark.parametrize("n_rows", [1, 99, 100, 101, 350, 400])
def test_moments_of_many_blocks_are_those_of_the_blocks_one_by_one(
    backend: Any, n_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(array_pca, "BLOCK_ROWS", 100)
    rows, before = encoded_rows(n_rows, 13), backend.encoded_moments(encoded_rows(50, 13), 13)
    one_by_one = before
    for start in range(0, n_rows, 100):
        block = EncodedRows(*slice_rows(rows, start, min(start + 100, n_rows)))
        one_by_one = one_by_one.plus(backend.encoded_moments(block, 13))
    together = backend.add_moments_of_blocks(before, rows, 13)
    assert together.n_rows == 50 + n_rows
    for ours, theirs in zip(together[1:], one_by_one[1:], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_rows_without_weight_do_not_widen_the_range_and_nan_is_reported() -> None:
    for backend in (CPU, ArrayBackend(np)):
        rows = backend.allocate_rows(mixture(4, 2), IN_MEMORY)
        X = np.array([[1, 2], [9, 9], [3, 0], [2, 1]], np.float32)
        low, high, finite = backend.prepare_and_range(X, np.array([1.0, 0.0, 2.0, 1.0]), rows, slice(0, 4))
        assert (low.tolist(), high.tolist(), finite) == ([1, 0], [3, 2], True)
        X[1, 0] = np.nan
        assert not backend.prepare_and_range(X, np.empty(0), rows, slice(0, 4))[2]
        empty = backend.prepare_and_range(X[:1], np.zeros(1), rows, slice(0, 1))
        assert (empty[0].tolist(), empty[1].tolist()) == ([np.inf] * 2, [-np.inf] * 2)


def test_new_rows_get_the_coordinates_of_the_cpu() -> None:
    X, random = mixture(3000, 6), np.random.default_rng(0)
    embedding = random.normal(size=(2000, 2)).astype(np.float32) * 3 + X[:2000, :2]
    new = np.concatenate([X[1990:], X[5:8]])
    backend = ArrayBackend(np)
    ours, theirs = (place_rows(b, new, build_placement_index(b, X[:2000], embedding)) for b in (backend, CPU))
    np.testing.assert_array_equal(ours.uncertain, theirs.uncertain)
    differences = np.abs(ours.coordinates - theirs.coordinates).max(axis=1)
    assert (differences < 2e-3).mean() > 0.995  # neighbors at equal distances up to rounding may differ
    assert differences.max() < 0.1
    np.testing.assert_array_equal(ours.coordinates[-3:], embedding[5:8])


def test_smaller_chunks_are_tried_three_times(caplog: Any) -> None:
    X, centers = mixture(4000, 3), mixture(8, 3)
    xp = ScarceMemory(32_000 // 4**N_RETRIES)
    labels, expected = np.empty((2, len(X)), np.int32)
    with caplog.at_level(logging.WARNING):
        ArrayBackend(xp, chunk_values=32_000).label(X, centers, labels)
    CPU.label(X, centers, expected)
    np.testing.assert_array_equal(labels, expected)
    assert xp.refused == N_RETRIES
    assert "no room for 4000 x 8 values" in caplog.text
    assert "and a second line" not in caplog.text


def test_a_device_asked_for_by_name_that_has_no_memory_is_an_error() -> None:
    labels = np.empty(100, np.int32)
    with pytest.raises(OutOfResourcesError, match=r"no room for .*\nHint: free memory on the device"):
        ArrayBackend(ScarceMemory(0)).label(mixture(100, 2), mixture(3, 2), labels)


@pytest.mark.parametrize("kind", [ArrayBackend, Streaming])
def test_the_cpu_takes_over_loudly_with_the_same_bits(caplog: Any, kind: Any) -> None:
    X = mixture(3000, 4)
    with caplog.at_level(logging.WARNING):
        result = cluster(X, 6, kind(ScarceMemory(0), fallback=CpuBackend()))
    assert_same(result, cluster(X, 6, CPU))
    assert "the CPU computes this block" in caplog.text


def test_labels_on_the_device_are_right_again_after_the_cpu_took_over() -> None:
    """Some blocks of some passes run on the device, others on the CPU, as memory is short for a while."""

    class UnsteadyMemory(ScarceMemory):
        calls = 0

        def matmul(self, left: Any, right: Any) -> Any:
            self.calls += 1
            if left.dtype == np.float32 and self.calls // 7 % 2:
                raise MemoryError
            return np.matmul(left, right)

    X = mixture(5000, 5)
    assert_same(cluster(X, 9, ArrayBackend(UnsteadyMemory(0), fallback=CpuBackend())), cluster(X, 9, CPU))


def test_estimators_label_new_rows_the_same() -> None:
    X = mixture(500, 3)
    ours, theirs = np.empty((2, 500), np.int32)
    label_rows(X, X[:4].copy(), ours, ArrayBackend(np))
    label_rows(X, X[:4].copy(), theirs, CPU)
    np.testing.assert_array_equal(ours, theirs)
