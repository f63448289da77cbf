"""The GPU backend on stand-ins for RAPIDS: calls fit the recorded signatures of 26.10 and pass the intended values."""

from __future__ import annotations

import logging
import pickle
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import engine
from engine import backends
from engine.backends import gpu, gpu_libraries
from engine.backends.array_kmeans import ArrayBackend
from engine.backends.chunked import LibraryError
from engine.backends.cpu import CpuBackend
from engine.backends.gpu import GpuBackend, GpuProbe
from engine.backends.protocol import Backend
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


@pytest.mark.parametrize(("mib", "values"), [(4, 1 << 23), (50, 50 << 18), (126, 126 << 18), (1000, 1 << 26)])
def test_an_array_of_a_chunk_fills_the_cache_of_the_device(pool: Any, mib: int, values: int) -> None:
    sys.modules["cupy"].cuda.Device().attributes["L2CacheSize"] = mib << 20
    assert GpuBackend().chunk_values == values


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
            parts = [to_numpy(part) for part in (left, right)]
            if parts[0].dtype == np.float32:
                parts = [(part.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32) for part in parts]
            return to_device(np.matmul(*parts))

    libraries.install(monkeypatch, xp=Rounded())
    with pytest.raises(DeviceNotAvailableError, match="rounded to fewer digits"):
        GpuBackend()


@pytest.mark.parametrize("bits", [32, 48])
def test_float64_products_by_fewer_bits_are_refused(pool: Any, monkeypatch: pytest.MonkeyPatch, bits: int) -> None:
    class Emulated(StrictModule):
        def matmul(self, left: Any, right: Any) -> Any:
            parts = [to_numpy(part) for part in (left, right)]
            if parts[0].dtype == np.float64:
                parts = [np.ldexp(np.rint(np.ldexp(part, bits)), -bits) for part in parts]
            return to_device(np.matmul(*parts))

    libraries.install(monkeypatch, xp=Emulated())
    with pytest.raises(DeviceNotAvailableError, match="float64 products on the GPU are not those of IEEE"):
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
    options: dict[str, Any] = {"n_init": 1, "tol": 0, "max_iter": 40, "random_state": 0}
    kmeans = engine.KMeans(4, init=start, algorithm="cuml", device="cuda", **options).fit(X)
    found = kmeans.cluster_centers_.tolist()
    assert kmeans.labels_.tolist() == reference.labels(X.tolist(), found)
    assert kmeans.inertia_ == reference.inertia(X.tolist(), [1.0] * len(X), found, kmeans.labels_, 1024)
    if init in ("array", "callable"):
        ours = engine.KMeans(4, init=X[:4], device="cpu", **options).fit(X)
        np.testing.assert_allclose(kmeans.cluster_centers_, ours.cluster_centers_, rtol=1e-5)
        np.testing.assert_array_equal(to_numpy(libraries.KMeans.last["init"]), X[:4])


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_cuml_ends_when_our_own_would_whatever_the_unit_of_the_rows(pool: Any, scale: float) -> None:
    X = np.random.default_rng(3).normal(size=(900, 6)).astype(np.float32) * np.float32(scale)
    options: dict[str, Any] = {"init": X[:5], "n_init": 1, "tol": 1e-3, "random_state": 0}
    ours = engine.KMeans(5, device="cpu", **options).fit(X)
    assert 3 < ours.n_iter_ < 100
    theirs = engine.KMeans(5, device="cuda", algorithm="cuml", **options).fit(X)
    variance = X.var(axis=0, dtype=np.float64).mean()
    # The library also ends where an iteration lowers the inertia by a share less than this: never more than tol.
    assert libraries.KMeans.last["tol"] == pytest.approx(1e-3 * min(1.0, variance), rel=1e-6)
    assert theirs.inertia_ < 1.01 * ours.inertia_


class CumlError(Exception):
    """As a library in C++ raises."""


@pytest.mark.parametrize(
    ("raised", "error", "message"),
    [
        (CumlError("RAFT failure at kmeans.cuh\nObtained 9 stack frames"), LibraryError, "failed: RAFT failure at"),
        (TypeError("unexpected keyword"), LibraryError, "failed: unexpected keyword"),
        (MemoryError("std::bad_alloc: out_of_memory"), OutOfResourcesError, "ran out of GPU memory: std::bad_alloc"),
    ],
)
def test_what_cuml_raises_is_an_error_of_the_device_or_of_its_memory(
    pool: Any, monkeypatch: pytest.MonkeyPatch, raised: Exception, error: type[Exception], message: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise raised

    monkeypatch.setattr(libraries.KMeans, "fit", fail)
    monkeypatch.setattr(libraries.PCA, "fit", fail)
    backend = GpuBackend()
    assert LibraryError in backend.device_errors
    with pytest.raises(error, match=f"cuML's K-Means {message}"):
        engine.KMeans(3, algorithm="cuml", device="cuda").fit(rows())
    with pytest.raises(error, match=f"cuML's PCA {message}"):
        backend.library_axes(backend.allocate_columns((50, 4)))


def test_axes_that_cannot_be_right_are_refused(pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = GpuBackend()
    for wrong in (np.full((4, 4), np.nan), np.eye(4) * 1.01):
        parts = {"mean_": np.zeros(4), "explained_variance_": np.ones(4), "components_": wrong}
        monkeypatch.setattr(libraries.PCA, "fit", lambda model, X, parts=parts: model.set_fitted(**parts))
        with pytest.raises(LibraryError, match="its axes are not orthonormal"):
            backend.library_axes(backend.allocate_columns((50, 4)))


def test_the_matrix_of_cumls_pca_is_bounded(pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = GpuBackend()
    with pytest.raises(OutOfResourcesError, match="cuML's PCA needs at least 2 features, and there is 1"):
        backend.allocate_columns((100, 1))
    with pytest.raises(OutOfResourcesError, match=r"cuML's PCA takes 2,147,483,647 values"):
        backend.allocate_columns((1 << 26, 32))
    monkeypatch.setattr(backend, "free_memory", lambda: 1000)
    with pytest.raises(OutOfResourcesError, match=r"cuML's PCA needs all rows on the GPU: .* GiB are free"):
        backend.allocate_columns((100, 2))


def test_cuml_takes_the_rows_that_are_on_the_device_and_no_others(pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    X = rows()
    uploaded = []
    prepare = GpuBackend.prepare_and_range

    def prepare_and_note(backend: GpuBackend, *arguments: Any) -> Any:
        uploaded.append(arguments[2].X)
        return prepare(backend, *arguments)

    monkeypatch.setattr(GpuBackend, "prepare_and_range", prepare_and_note)
    engine.KMeans(3, algorithm="cuml", device="cuda").fit(X, sample_weight=np.ones(len(X)))
    assert libraries.KMeans.last["X"] is uploaded[0]  # not a second copy
    monkeypatch.setattr(GpuBackend, "free_memory", lambda _: 1000)
    with pytest.raises(OutOfResourcesError, match="cuML's K-Means needs all rows on the GPU"):
        engine.KMeans(3, algorithm="cuml", device="cuda").fit(X)


def test_cuml_is_refused_on_the_cpu() -> None:
    with pytest.raises(UsageError, match="runs on device 'cuda' only"):
        engine.KMeans(3, algorithm="cuml", device="cpu").fit(rows())


def test_cuml_gets_the_parameters_of_the_embedding_plan(pool: Any) -> None:
    X = rows(300)
    result = embed(GpuBackend(), X, np.zeros((300, 2), np.float32), PLAN, Silent())
    given = libraries.TSNE.last
    assert (given["learning_rate_method"], given["init"], given["method"]) == (None, "pca", "fft")
    assert (given["perplexity"], given["learning_rate"]) == (10.0, 200.0)  # more than 300 / 12
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


def test_rows_of_one_feature_are_embedded_by_cuml_too(pool: Any) -> None:
    X = np.ascontiguousarray(rows(60)[:, :1])
    result = embed(GpuBackend(), X, np.zeros((60, 2), np.float32), PLAN._replace(perplexity=5.0), Silent())
    assert (result.embedding.shape, result.library) == ((60, 2), "cuML")
    assert libraries.TSNE.last["init"] == "random"  # from principal components a map would stay on a line
    assert to_numpy(libraries.TSNE.last["X"]).shape == (60, 2)


def test_the_room_in_a_pool_that_rmm_had_before_counts(pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rmm: Any = sys.modules["rmm"]
    without = gpu_libraries.RmmPool().max_bytes
    assert pool.pop("pool_allocator")
    statistics = SimpleNamespace(upstream_mr=SimpleNamespace(pool_size=lambda: 5 << 30))
    monkeypatch.setattr(rmm.mr, "get_current_device_resource", lambda: statistics)
    assert gpu_libraries.RmmPool().max_bytes == without + (5 << 30)
    assert "pool_allocator" not in pool  # it was not set up again


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
