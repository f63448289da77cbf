"""The backend of array modules, on NumPy: the bits of the CPU backend, whatever fits into memory."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.backends.array_kmeans import ArrayBackend
from engine.backends.chunked import TRIES
from engine.backends.cpu import CpuBackend
from engine.backends.protocol import EncodedRows, Projection
from engine.errors import OutOfResourcesError
from engine.execution.array_storage import IN_MEMORY
from engine.kmeans.lloyd import RowSet, inertia, label_rows
from engine.kmeans.restarts import best_clustering
from engine.tsne.device import place, placement_index
from tests import reference
from tests.gpu.strict import StrictModule

CPU = CpuBackend()
WHOLE = slice(0, None)


class Streaming(ArrayBackend):
    """A device on which no rows fit."""

    def free_memory(self) -> int:
        return 0


class Scarce:
    """NumPy that has no memory for large products, or for the first so many."""

    def __init__(self, largest: int) -> None:
        self._largest, self.refused = largest, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def matmul(self, left: Any, right: Any) -> Any:
        if len(left) * right.shape[1] > self._largest:
            self.refused += 1
            raise MemoryError(f"no room for {len(left)} x {right.shape[1]} values\nand more that is not told")
        return np.matmul(left, right)


ALL = [
    pytest.param(ArrayBackend(np), id="rows on the device"),
    pytest.param(ArrayBackend(np, values=64), id="small chunks"),
    pytest.param(Streaming(np, values=1000), id="rows copied in every pass"),
    pytest.param(ArrayBackend(StrictModule(), values=5000), id="as CuPy allows it"),
]
every_way = pytest.mark.parametrize("backend", ALL)


def mixture(n_rows: int, n_features: int, dtype: Any = np.float32) -> Any:
    random = np.random.default_rng(n_rows + n_features)
    means = random.normal(size=(7, n_features)) * 2
    return (means[random.integers(0, 7, n_rows)] + random.normal(size=(n_rows, n_features))).astype(dtype)


def clustered(X: Any, k: int, backend: Any, weights: Any = None, **options: Any) -> Any:
    rows = RowSet.of(X, weights, backend)
    return best_clustering(rows, k, random=np.random.RandomState(0), **options)


def assert_same(one: Any, other: Any) -> None:
    np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_array_equal(one.centres, other.centres)
    assert (one.inertia, one.n_iter) == (other.inertia, other.n_iter)


@every_way
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n_rows", "n_features", "k"), [(1, 1, 1), (40, 3, 40), (1023, 5, 7), (3000, 16, 20)])
def test_k_means_has_the_bits_of_the_cpu(backend: Any, dtype: Any, n_rows: int, n_features: int, k: int) -> None:
    X = mixture(n_rows, n_features, dtype)
    assert_same(clustered(X, k, backend), clustered(X, k, CPU))


@every_way
def test_weighted_k_means_has_the_bits_of_the_cpu(backend: Any) -> None:
    X, random = mixture(2000, 6), np.random.default_rng(1)
    weights = random.exponential(size=2000) * (random.random(2000) > 0.1)
    assert_same(clustered(X, 5, backend, weights), clustered(X, 5, CPU, weights))


@every_way
def test_several_runs_on_the_same_rows_do_not_disturb_each_other(backend: Any) -> None:
    X = mixture(1500, 4)
    assert_same(clustered(X, 6, backend, n_runs=4, init="random"), clustered(X, 6, CPU, n_runs=4, init="random"))


@every_way
def test_empty_clusters_and_repeated_rows_have_the_bits_of_the_cpu(backend: Any) -> None:
    X = np.repeat(mixture(9, 3), 50, axis=0)
    start = np.concatenate([X[::100], np.full((4, 3), 1e3, np.float32)])
    assert_same(clustered(X, len(start), backend, init=start), clustered(X, len(start), CPU, init=start))


@every_way
@settings(max_examples=60)
@given(data=st.data())
def test_labels_are_the_definitions_for_ties_duplicates_and_any_scale(backend: Any, data: st.DataObject) -> None:
    X, centres = scaled_integers(data)
    labels = np.empty(len(X), np.int32)
    backend.label(X, centres, labels)
    assert labels.tolist() == reference.labels(X.tolist(), centres.tolist())
    with np.errstate(over="ignore"):  # of distances beyond float32
        ours, theirs = backend.nearest_two(X, centres), CPU.nearest_two(X, centres)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(mine, other)
        assert mine.dtype == other.dtype


def scaled_integers(data: st.DataObject) -> tuple[Any, Any]:
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    powers = [-540, -500, -130, -60, 0, 60, 500] if dtype is np.float64 else [-140, -60, -1, 0, 60]
    scale = dtype(2.0 ** data.draw(st.sampled_from(powers)))
    offset = data.draw(st.sampled_from([0, 3, 4096]))
    n_rows, n_features, k = (data.draw(st.integers(1, most)) for most in (12, 6, 7))
    values = st.integers(-4, 4)
    draw = [data.draw(st.lists(values, min_size=n * n_features, max_size=n * n_features)) for n in (n_rows, k)]
    X, centres = (np.array(drawn, np.int64).reshape(-1, n_features) + offset for drawn in draw)
    return X.astype(dtype) * scale, centres.astype(dtype) * scale


@every_way
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offset", [0.0, 1e4, 1e7])
def test_rows_on_bisectors_are_labelled_by_the_definition(backend: Any, dtype: Any, offset: float) -> None:
    random = np.random.default_rng(1)
    centres = (random.normal(size=(6, 8)) + offset).astype(dtype)
    middles = ((centres[:, None].astype(np.float64) + centres[None]) / 2).reshape(-1, 8)
    nudged = [np.nextafter(middles.astype(dtype), dtype(side * np.inf)) for side in (-1, 1)]
    X = np.concatenate([middles.astype(dtype), *nudged])
    labels = np.empty(len(X), np.int32)
    backend.label(X, centres, labels)
    assert labels.tolist() == reference.labels(X.tolist(), centres.tolist())


@every_way
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_distances_to_centres_have_the_bits_of_the_cpu(backend: Any, dtype: Any) -> None:
    X, centres = mixture(1100, 5, dtype), mixture(9, 5, dtype)
    labels = np.random.default_rng(0).integers(0, 9, len(X)).astype(np.int32)
    np.testing.assert_array_equal(backend.distances(X, centres), CPU.distances(X, centres))
    ours = backend.own_distances(X, None, WHOLE, centres, labels)
    np.testing.assert_array_equal(ours, CPU.own_distances(X, None, WHOLE, centres, labels))
    for weights in (np.empty(0), np.random.default_rng(1).random(len(X))):
        assert inertia(X, weights, centres, labels, backend) == inertia(X, weights, centres, labels, CPU)


@every_way
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_have_the_bits_of_the_cpu_and_moments_its_value(backend: Any, dtype: Any) -> None:
    X = mixture(1000, 11, dtype) + dtype(100)
    axes = np.random.default_rng(0).normal(size=(11, 4))
    mean = X.mean(axis=0, dtype=np.float64)
    np.testing.assert_array_equal(backend.scores(X, mean, axes), CPU.scores(X, mean, axes))
    ours, theirs = backend.moments(X), CPU.moments(X)
    np.testing.assert_allclose(ours.mean, theirs.mean, rtol=1e-13)
    np.testing.assert_allclose(ours.scatter, theirs.scatter, rtol=0, atol=1e-11 * theirs.scatter.max())


def encoded(n_rows: int, n_hot_columns: int) -> EncodedRows:
    random = np.random.default_rng(n_rows)
    ones = random.random((n_rows, n_hot_columns)) < 0.3
    ones[:2] = False
    starts = np.concatenate([[0], np.cumsum(ones.sum(axis=1))]).astype(np.int32)
    order = [random.permutation(np.flatnonzero(row)) for row in ones]
    return EncodedRows(
        random.normal(size=(n_rows, 5)).astype(np.float32), starts, np.concatenate(order).astype(np.int32)
    )


@every_way
@pytest.mark.parametrize("n_hot_columns", [0, 13])
def test_encoded_rows_have_the_scores_and_counts_of_the_cpu(backend: Any, n_hot_columns: int) -> None:
    rows, random = encoded(300, n_hot_columns), np.random.default_rng(0)
    projection = Projection(
        3, random.normal(size=8), random.normal(size=(5, 8)), random.normal(size=(n_hot_columns, 8))
    )
    ours, theirs = backend.encoded_moments(rows, n_hot_columns), CPU.encoded_moments(rows, n_hot_columns)
    np.testing.assert_array_equal(backend.encoded_scores(rows, projection), CPU.encoded_scores(rows, projection))
    np.testing.assert_array_equal(ours.pairs + ours.pairs.T, theirs.pairs + theirs.pairs.T)
    assert ours.n_rows == theirs.n_rows
    np.testing.assert_allclose(ours.gram, theirs.gram, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ours.cross, theirs.cross, rtol=1e-12, atol=1e-12)


def test_rows_without_weight_do_not_widen_the_range_and_nan_is_told() -> None:
    for backend in (CPU, ArrayBackend(np)):
        rows = backend.prepare_rows(mixture(4, 2), IN_MEMORY)
        X = np.array([[1, 2], [9, 9], [3, 0], [2, 1]], np.float32)
        low, high, finite = backend.survey(X, np.array([1.0, 0.0, 2.0, 1.0]), rows, slice(0, 4))
        assert (low.tolist(), high.tolist(), finite) == ([1, 0], [3, 2], True)
        X[1, 0] = np.nan
        assert not backend.survey(X, np.empty(0), rows, slice(0, 4))[2]
        none = backend.survey(X[:1], np.zeros(1), rows, slice(0, 1))
        assert (none[0].tolist(), none[1].tolist()) == ([np.inf] * 2, [-np.inf] * 2)


def test_new_rows_get_the_places_of_the_cpu() -> None:
    X, random = mixture(3000, 6), np.random.default_rng(0)
    places = random.normal(size=(2000, 2)).astype(np.float32) * 3 + X[:2000, :2]
    new = np.concatenate([X[1990:], X[5:8]])
    backend = ArrayBackend(np)
    ours, theirs = (place(b, new, placement_index(b, X[:2000], places)) for b in (backend, CPU))
    np.testing.assert_array_equal(ours.doubtful, theirs.doubtful)
    apart = np.abs(ours.places - theirs.places).max(axis=1)
    assert (apart < 2e-3).mean() > 0.995  # neighbours that are equally near to rounding may be others
    assert apart.max() < 0.1
    np.testing.assert_array_equal(ours.places[-3:], places[5:8])


def test_smaller_chunks_are_tried_three_times(caplog: Any) -> None:
    X, centres = mixture(4000, 3), mixture(8, 3)
    scarce = Scarce(32_000 // 4**TRIES)
    labels, expected = np.empty((2, len(X)), np.int32)
    with caplog.at_level(logging.WARNING):
        ArrayBackend(scarce, values=32_000).label(X, centres, labels)
    CPU.label(X, centres, expected)
    np.testing.assert_array_equal(labels, expected)
    assert scarce.refused == TRIES
    assert "no room for 4000 x 8 values" in caplog.text
    assert "and more that is not told" not in caplog.text


def test_a_device_asked_for_by_name_that_has_no_memory_is_an_error() -> None:
    labels = np.empty(100, np.int32)
    with pytest.raises(OutOfResourcesError, match=r"no room for .*\nHint: free memory on the device"):
        ArrayBackend(Scarce(0)).label(mixture(100, 2), mixture(3, 2), labels)


@pytest.mark.parametrize("kind", [ArrayBackend, Streaming])
def test_the_cpu_takes_over_loudly_with_the_same_bits(caplog: Any, kind: Any) -> None:
    X = mixture(3000, 4)
    with caplog.at_level(logging.WARNING):
        found = clustered(X, 6, kind(Scarce(0), spare=CpuBackend()))
    assert_same(found, clustered(X, 6, CPU))
    assert "the CPU computes this block" in caplog.text


def test_labels_on_the_device_are_right_again_after_the_cpu_took_over() -> None:
    """Memory comes and goes: some blocks of some passes run on the device, others on the CPU."""

    class Moody(Scarce):
        calls = 0

        def matmul(self, left: Any, right: Any) -> Any:
            self.calls += 1
            if left.dtype == np.float32 and self.calls // 7 % 2:
                raise MemoryError
            return np.matmul(left, right)

    X = mixture(5000, 5)
    assert_same(clustered(X, 9, ArrayBackend(Moody(0), spare=CpuBackend())), clustered(X, 9, CPU))


def test_estimators_label_new_rows_the_same() -> None:
    X = mixture(500, 3)
    ours, theirs = np.empty((2, 500), np.int32)
    label_rows(X, X[:4].copy(), ours, ArrayBackend(np))
    label_rows(X, X[:4].copy(), theirs, CPU)
    np.testing.assert_array_equal(ours, theirs)
