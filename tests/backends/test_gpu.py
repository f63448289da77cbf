"""The GPU backend on stand-ins for RAPIDS: calls fit the recorded signatures of 26.10 and pass the intended values."""

from __future__ import annotations

import logging
import pickle
import sys
from typing import Any

import numpy as np
import pytest

import engine
from engine import backends
from engine.backends import gpu
from engine.backends.array_kmeans import ArrayBackend
from engine.backends.cpu import CpuBackend
from engine.backends.gpu import GpuBackend, GpuProbe
from engine.backends.protocol import Backend, LibraryKMeansSettings
from engine.errors import DeviceNotAvailableError, OutOfResourcesError, UsageError
from engine.progress import Silent
from engine.tsne.device import build_placement_index, embed, place_rows
from engine.tsne.types import EmbeddingPlan
from tests import reference
from tests.gpu import libraries
from tests.gpu.libraries import GIB
from tests.gpu.strict import StrictModule, to_device, to_numpy

PLAN = EmbeddingPlan(10.0, 12.0, 250, 500, None, 1e-7, "pca")


def clear_caches() -> None:
    libraries.clear_gpu_caches()
    for function in (gpu._products_are_exact, gpu.backend_of_this_process):
        function.cache_clear()


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Any:
    clear_caches()
    monkeypatch.setattr(gpu, "probe", lambda: GpuProbe(True, "a GPU of tests"))
    yield libraries.install(monkeypatch)
    clear_caches()


def rows(n_rows: int = 400, n_features: int = 6) -> Any:
    random = np.random.default_rng(n_features)
    return (random.integers(0, 5, (n_rows, 1)) + random.normal(size=(n_rows, n_features)) / 3).astype(np.float32)


def test_cudf_cuml_and_cupy_share_one_pool(pool: Any) -> None:
    backend = GpuBackend()
    assert pool["pool_allocator"] is True
    assert pool["maximum_pool_size"] == int(8 * GIB * 0.9) // 256 * 256
    assert pool["initial_pool_size"] == GIB // 2
    assert pool["allocator"] == "RMM's allocator"
    assert backend.free_memory() == pool["maximum_pool_size"] - GIB


@pytest.fixture
def cupy_alone(monkeypatch: pytest.MonkeyPatch) -> Any:
    clear_caches()
    monkeypatch.setattr(gpu, "probe", lambda: GpuProbe(True, "a GPU of tests"))
    yield libraries.install(monkeypatch, rapids=False)
    clear_caches()


def test_without_rapids_cupy_has_a_pool_of_its_own(cupy_alone: Any) -> None:
    backend = GpuBackend()
    assert backend.libraries == frozenset()
    assert cupy_alone["limit"] == int(8 * GIB * 0.9) // 256 * 256
    assert backend.free_memory() == cupy_alone["limit"] - GIB
    backend.free_unused_memory()
    assert backend._pool._pool.n_freed == 1  # type: ignore[attr-defined]


def test_without_rapids_estimators_have_the_bits_of_the_cpu(cupy_alone: Any) -> None:
    X = rows()
    ours, theirs = (engine.KMeans(5, random_state=0, device=device).fit(X) for device in ("cuda", "cpu"))
    np.testing.assert_array_equal(ours.labels_, theirs.labels_)
    np.testing.assert_array_equal(ours.cluster_centers_, theirs.cluster_centers_)


def test_without_cuml_its_k_means_is_refused_and_the_cpu_embeds(cupy_alone: Any) -> None:
    X = rows(60)
    with pytest.raises(UsageError, match="algorithm='cuml' is the K-Means of cuML, and cuml cannot be found"):
        engine.KMeans(3, algorithm="cuml", device="cuda").fit(X)
    plan, start = PLAN._replace(perplexity=5.0), np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    found = embed(GpuBackend(), X, start, plan, Silent())
    np.testing.assert_array_equal(found.embedding, embed(CpuBackend(), X, start, plan, Silent()).embedding)


def test_every_public_method_of_the_backend_is_one_that_is_called() -> None:
    methods = {name for name, value in vars(GpuBackend).items() if callable(value) and not name.startswith("_")}
    assert methods <= {*dir(ArrayBackend), *dir(Backend)}  # any other is an override that has kept an old name


class CudaError(RuntimeError):
    """As CUDA's libraries raise: no MemoryError."""


def test_an_error_of_the_device_ends_on_the_cpu_with_auto_and_in_an_error_with_cuda(
    pool: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    X = rows()

    def fail(*_: Any) -> None:
        raise CudaError("cudaErrorIllegalAddress: an illegal memory access\nwas encountered")

    monkeypatch.setattr(gpu, "device_errors", lambda cupy: (CudaError,))
    expected = CpuBackend().moments(X)
    monkeypatch.setattr("engine.kernels.arrays.pca.moments.compute_moments", fail)
    with caplog.at_level(logging.WARNING):
        found = GpuBackend(fallback=CpuBackend()).moments(X)
    np.testing.assert_array_equal(found.scatter, expected.scatter)
    assert "cuda failed (cudaErrorIllegalAddress: an illegal memory access): the CPU computes this block" in caplog.text
    with pytest.raises(OutOfResourcesError, match="Device 'cuda' failed: cudaErrorIllegalAddress"):
        GpuBackend().moments(X)


def test_auto_and_cuda_get_the_gpu_and_say_so(pool: Any) -> None:
    chosen, why = backends.resolve("auto")
    named, reason = backends.resolve("cuda")
    assert (chosen.name, why) == ("cuda", "cuda, because a GPU answers: a GPU of tests")
    assert (named.name, reason) == ("cuda", "cuda, because it was asked for: a GPU of tests")
    assert isinstance(chosen, GpuBackend)
    assert isinstance(named, GpuBackend)
    assert isinstance(chosen.fallback, CpuBackend)
    assert named.fallback is None


def test_a_pickled_backend_sets_up_the_gpu_of_the_worker_once(pool: Any) -> None:
    parcel = pickle.dumps(GpuBackend(fallback=CpuBackend()))
    pool.clear()
    libraries.clear_gpu_caches()
    backend = pickle.loads(parcel)
    assert isinstance(backend.fallback, CpuBackend)
    assert pool["pool_allocator"] is True
    assert pickle.loads(parcel) is backend
    assert pickle.loads(pickle.dumps(GpuBackend())).fallback is None


@pytest.mark.parametrize("fallback", [None, CpuBackend()])
def test_a_worker_without_a_gpu_is_an_error_and_never_the_cpu(
    pool: Any, monkeypatch: pytest.MonkeyPatch, fallback: Any
) -> None:
    parcel = pickle.dumps(GpuBackend(fallback=fallback))
    monkeypatch.setattr(gpu, "probe", lambda: GpuProbe(False, "the NVIDIA driver sees no GPU"))
    with pytest.raises(DeviceNotAvailableError, match=r"on one of them the NVIDIA driver.*\nHint: .*dask-cuda worker"):
        pickle.loads(parcel)


def test_products_in_tf32_are_refused(pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Rounded(StrictModule):
        def matmul(self, left: Any, right: Any) -> Any:
            rounded = [
                (to_numpy(part).view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32) for part in (left, right)
            ]
            return to_device(np.matmul(*rounded))

    libraries.install(monkeypatch, xp=Rounded())
    with pytest.raises(DeviceNotAvailableError, match="rounded to fewer digits"):
        GpuBackend()


def test_estimators_have_the_bits_of_the_cpu(pool: Any) -> None:
    X = rows()
    ours = engine.KMeans(5, random_state=0, device="auto").fit(X)
    theirs = engine.KMeans(5, random_state=0, device="cpu").fit(X)
    assert ours.device_ == "cuda"
    np.testing.assert_array_equal(ours.labels_, theirs.labels_)
    np.testing.assert_array_equal(ours.cluster_centers_, theirs.cluster_centers_)
    assert ours.inertia_ == theirs.inertia_
    np.testing.assert_array_equal(ours.predict(X[::3]), theirs.predict(X[::3]))
    np.testing.assert_array_equal(ours.transform(X[::3]), theirs.transform(X[::3]))


@pytest.mark.parametrize("init", ["k-means++", "random", "array", "callable"])
def test_cuml_finds_the_centers_and_the_engine_labels_the_rows(pool: Any, init: str) -> None:
    X = rows()
    start: Any = {"array": X[:4], "callable": lambda X, k, random_state: X[:k]}.get(init, init)
    kmeans = engine.KMeans(4, init=start, n_init=1, algorithm="cuml", random_state=0, device="cuda").fit(X)
    np.testing.assert_array_equal(kmeans.cluster_centers_, X[:4])
    assert kmeans.labels_.tolist() == reference.labels(X.tolist(), X[:4].tolist())
    assert kmeans.inertia_ == reference.inertia(X.tolist(), [1.0] * len(X), X[:4].tolist(), kmeans.labels_, 1024)
    assert kmeans.n_iter_ == 3


def test_cuml_takes_rows_from_the_host_where_they_do_not_fit(pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = {}

    class RecordingKMeans(libraries.KMeans):
        def fit(self, *args: Any, **kwargs: Any) -> Any:
            arguments.update(self.parameters, rows=args[0], weights=kwargs["sample_weight"])
            return super().fit(*args, **kwargs)

    monkeypatch.setattr(sys.modules["cuml.cluster"], "KMeans", RecordingKMeans)
    X, plan = rows(), LibraryKMeansSettings(3, 1, 10, 1e-4, 0)
    backend = GpuBackend()
    backend.library_centers(X, np.ones(len(X)), "random", plan)
    assert (type(arguments["rows"]).__name__, arguments["device_buffer_samples"]) == ("StrictArray", 0)
    assert arguments["weights"].dtype == np.float32
    monkeypatch.setattr(backend, "free_memory", lambda: 1000)
    backend.library_centers(X, np.empty(0), "random", plan)
    assert (type(arguments["rows"]).__name__, arguments["device_buffer_samples"]) == ("ndarray", gpu.BUFFER_ROWS)
    assert arguments["weights"] is None


def test_cuml_is_refused_on_the_cpu() -> None:
    with pytest.raises(UsageError, match="runs on device 'cuda' only"):
        engine.KMeans(3, algorithm="cuml", device="cpu").fit(rows())


def test_cuml_gets_the_parameters_of_the_embedding_plan(pool: Any) -> None:
    X = rows(300)
    result = embed(GpuBackend(), X, np.zeros((300, 2), np.float32), PLAN, Silent())
    given = libraries.TSNE.last
    assert (given["learning_rate_method"], given["init"], given["method"]) == (None, "pca", "fft")
    assert (given["perplexity"], given["learning_rate"]) == (10.0, 300 / 12)
    numbers, distances = map(to_numpy, given["knn_graph"])
    assert given["n_neighbors"] == numbers.shape[1] == 31
    assert (numbers.dtype, distances.dtype) == (np.int64, np.float32)
    np.testing.assert_array_equal(numbers[:, 0], np.arange(300))
    assert result.n_iter == 500
    np.testing.assert_allclose(result.embedding.mean(axis=0), 0, atol=1e-4)


def test_neighbors_and_divergence_are_those_of_the_definition(pool: Any) -> None:
    X = np.concatenate([rows(90), rows(10)])
    result = embed(GpuBackend(), X, np.zeros((100, 2), np.float32), PLAN._replace(perplexity=5.0), Silent())
    numbers, distances = map(to_numpy, libraries.TSNE.last["knn_graph"])
    for i in (0, 7, 95):
        expected = reference.nearest(X[i].tolist(), X.tolist(), 15, own=i)
        assert numbers[i, 1:].tolist() == [number for number, _ in expected]
        np.testing.assert_allclose(distances[i, 1:] ** 2, [squared for _, squared in expected], rtol=1e-5, atol=1e-9)
    joint = reference.joint_probabilities(X.tolist(), 5.0, 15)
    assert result.kl_divergence == pytest.approx(reference.kl_divergence(joint, result.embedding.tolist()), abs=1e-4)


@pytest.mark.parametrize(("plan", "width"), [(PLAN._replace(init="given"), 2), (PLAN, 1)])
def test_an_embedding_that_cuml_does_not_support_is_the_cpus_or_an_error(
    pool: Any, caplog: Any, plan: EmbeddingPlan, width: int
) -> None:
    X, start = rows(60), np.random.default_rng(0).normal(size=(60, width)).astype(np.float32)
    with pytest.raises(UsageError, match="cuML makes no map"):
        embed(GpuBackend(), X, start, plan, Silent())
    with caplog.at_level(logging.WARNING):
        result = embed(GpuBackend(fallback=CpuBackend()), X, start, plan, Silent())
    np.testing.assert_array_equal(result.embedding, embed(CpuBackend(), X, start, plan, Silent()).embedding)
    assert "the CPU makes it" in caplog.text


def test_coordinates_of_new_rows_agree_with_the_cpu(pool: Any) -> None:
    X, embedding = rows(500), np.random.default_rng(0).normal(size=(400, 2)).astype(np.float32) * 3
    ours, cpu = GpuBackend(), CpuBackend()
    placement = place_rows(ours, X[400:], build_placement_index(ours, X[:400], embedding))
    expected = place_rows(cpu, X[400:], build_placement_index(cpu, X[:400], embedding))
    np.testing.assert_array_equal(placement.uncertain, expected.uncertain)
    assert (np.abs(placement.coordinates - expected.coordinates).max(axis=1) < 2e-3).mean() > 0.98
