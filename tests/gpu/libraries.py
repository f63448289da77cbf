"""Stand-ins for CuPy, RMM and cuML: calls are bound to the recorded signatures, results are small computations."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine.backends import gpu_libraries
from tests.gpu.contract import ATTRIBUTES, bind
from tests.gpu.strict import StrictArray, StrictModule, to_device, to_numpy

GIB = 1 << 30


class CheckedCalls:
    """Base of the stand-in for a class: the arguments of every call must fit the recorded signature."""

    path = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        bind(self.path, *args, **kwargs)
        self.parameters = kwargs

    def bind_call(self, method: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return bind(f"{self.path}.{method}", *args, **kwargs)

    def set_fitted(self, **attributes: Any) -> None:
        unknown = set(attributes) - set(ATTRIBUTES[self.path])
        assert not unknown, f"{self.path} has no {unknown}"
        self.__dict__ |= attributes


class KMeans(CheckedCalls):
    """Lloyd's algorithm with cuML's stopping rules, which are not ours: both of them are absolute."""

    path = "cuml.cluster.KMeans"
    last: Any = None

    def fit(self, *args: Any, **kwargs: Any) -> KMeans:
        arguments = self.bind_call("fit", *args, **kwargs)
        KMeans.last = self.parameters | arguments
        X, weights = arguments["X"], arguments["sample_weight"]
        assert isinstance(X, StrictArray), "cuML would copy rows of the host in every iteration"
        assert X.flags.c_contiguous
        assert weights is None or (isinstance(weights, StrictArray) and weights.dtype == X.dtype)
        rows, start = to_numpy(X).astype(np.float64), self.parameters["init"]
        assert isinstance(start, str) or start.dtype == X.dtype
        if isinstance(start, str):
            assert start in ("scalable-k-means++", "random")
            start = rows[np.random.default_rng(self.parameters["random_state"]).permutation(len(rows))]
        weights = np.ones(len(rows)) if weights is None else to_numpy(weights)
        centers = np.array(start)[: self.parameters["n_clusters"]].astype(np.float64)
        centers, n_iter = self._iterate(rows, weights, centers)
        self.set_fitted(cluster_centers_=centers.astype(X.dtype), n_iter_=n_iter)
        return self

    def _iterate(self, rows: Any, weights: Any, centers: Any) -> tuple[Any, int]:
        tol, cost_before = self.parameters["tol"], 0.0
        n_iter = 0
        while n_iter < self.parameters["max_iter"]:
            n_iter += 1
            squared = np.square(rows[:, None] - centers).sum(axis=2)
            labels, cost = squared.argmin(axis=1), float((weights * squared.min(axis=1)).sum())
            moved = centers.copy()
            for label in np.unique(labels):  # an empty cluster keeps its center
                moved[label] = np.average(rows[labels == label], axis=0, weights=weights[labels == label])
            movement, centers = np.square(moved - centers).sum(), moved
            if movement < tol or (cost_before > 0.0 and cost / cost_before > 1.0 - tol):
                break
            cost_before = cost
        return centers, n_iter


class PCA(CheckedCalls):
    """Eigenvectors of the covariance in float32, of whatever sign; centers X where it lies if it may."""

    path = "cuml.decomposition.PCA"

    def fit(self, *args: Any, **kwargs: Any) -> PCA:
        X = self.bind_call("fit", *args, **kwargs)["X"]
        assert isinstance(X, StrictArray)
        assert X.flags.f_contiguous, "cuML would copy it"
        assert X.shape[1] >= 2, "cuML refuses one feature"
        assert X.dtype == np.float32
        assert (self.parameters["copy"], self.parameters["svd_solver"]) == (False, "full")
        rows = to_numpy(X)
        mean = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
        rows -= mean
        variances, axes = np.linalg.eigh(rows.T.astype(np.float64) @ rows / (len(rows) - 1))
        n_kept = self.parameters["n_components"]
        signs = np.where(np.arange(n_kept) % 2, 1, -1)[:, None]
        self.set_fitted(
            mean_=mean,
            explained_variance_=variances[::-1][:n_kept].astype(np.float32),
            components_=np.asfortranarray((signs * axes.T[::-1][:n_kept]).astype(np.float32)),
        )
        return self


class TSNE(CheckedCalls):
    """Stretches the rows; takes only what cuML reads without a copy, and a graph whose rows begin with themselves."""

    path = "cuml.manifold.TSNE"
    last: Any = None

    def fit_transform(self, *args: Any, **kwargs: Any) -> Any:
        arguments = self.bind_call("fit_transform", *args, **kwargs)
        TSNE.last = self.parameters | arguments
        X, (indices, distances) = arguments["X"], map(self._checked_array, arguments["knn_graph"])
        assert X.shape[1] >= 2, "cuML refuses rows with one feature"
        assert (X.dtype, indices.dtype, distances.dtype) == (np.float32, np.int64, np.float32)
        assert indices.shape == distances.shape == (len(X), self.parameters["n_neighbors"])
        assert (indices[:, 0] == np.arange(len(X))).all(), "a row is its own first neighbor"
        assert (indices >= 0).all()
        assert (indices < len(X)).all()
        assert (np.diff(distances) >= 0).all(), "neighbors come by their distance, which is no squared one"
        np.testing.assert_allclose(
            distances, np.linalg.norm(to_numpy(X)[indices] - to_numpy(X)[:, None], axis=2), rtol=1e-3, atol=1e-3
        )
        assert self.parameters["exaggeration_iter"] <= self.parameters["max_iter"]
        assert self.parameters["init"] in ("pca", "random")
        self.set_fitted(n_iter_=self.parameters["max_iter"])
        return to_device(np.asfortranarray(to_numpy(arguments["X"])[:, :2] * 3 + 5))

    @staticmethod
    def _checked_array(array: Any) -> Any:
        assert isinstance(array, StrictArray), "cuML would copy an array of the host"
        assert array.flags.c_contiguous, "cuML reads the graph row by row"
        return to_numpy(array)


def clear_gpu_caches() -> None:
    """Forget which libraries this process has, and its memory pool."""
    gpu_libraries.installed_libraries.cache_clear()
    gpu_libraries.memory_pool.cache_clear()


class MemoryPool:
    """CuPy's own pool."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        self.arguments, self.n_freed = arguments, 0

    def set_limit(self, *args: Any, **kwargs: Any) -> None:
        self.arguments |= {"limit": bind("cupy.cuda.MemoryPool.set_limit", *args, **kwargs)["size"]}

    def used_bytes(self, *args: Any) -> int:
        bind("cupy.cuda.MemoryPool.used_bytes", *args)
        return GIB

    def free_all_blocks(self, *args: Any) -> None:
        bind("cupy.cuda.MemoryPool.free_all_blocks", *args)
        self.n_freed += 1


def install(
    monkeypatch: pytest.MonkeyPatch, *, free: int = 8 * GIB, xp: Any = None, rapids: bool = True
) -> dict[str, Any]:
    """Install the stand-ins in sys.modules; return the arguments with which the memory pool is set up.

    Without `rapids`, there is CuPy alone.
    """
    pool: dict[str, Any] = {}
    cupy: Any = StrictModule() if xp is None else xp
    runtime = SimpleNamespace(memGetInfo=lambda: (free, 2 * free))
    attributes = {"L2CacheSize": 50 << 20, "MultiProcessorCount": 132}
    device = SimpleNamespace(compute_capability="90", attributes=attributes)
    from tests.gpu.streams import Cuda, empty_pinned  # imported late: it imports this module

    cupy.__dict__["cuda"] = Cuda().namespace(
        runtime=runtime,
        Device=lambda: device,
        set_allocator=lambda *args: pool.update(bind("cupy.cuda.set_allocator", *args)),
    )
    pinned: Any = ModuleType("cupyx")
    pinned.empty_pinned = empty_pinned

    class CudaMemoryResource:
        pass

    rmm: Any = ModuleType("rmm")
    rmm.mr = SimpleNamespace(
        CudaMemoryResource=CudaMemoryResource, get_current_device_resource=lambda: CudaMemoryResource()
    )
    rmm.reinitialize = lambda *args, **kwargs: pool.update(bind("rmm.reinitialize", *args, **kwargs))
    rmm.statistics = SimpleNamespace(
        enable_statistics=lambda: None, get_statistics=lambda: SimpleNamespace(current_bytes=GIB)
    )
    allocators: Any = ModuleType("rmm.allocators.cupy")
    allocators.rmm_cupy_allocator = "RMM's allocator"
    cluster: Any = ModuleType("cuml.cluster")
    cluster.KMeans = KMeans
    decomposition: Any = ModuleType("cuml.decomposition")
    decomposition.PCA = PCA
    manifold: Any = ModuleType("cuml.manifold")
    manifold.TSNE = TSNE
    modules = {"cupy": cupy, "cupyx": pinned, "rmm": rmm, "rmm.allocators.cupy": allocators, "cuml": ModuleType("cuml")}
    modules |= {"cuml.cluster": cluster, "cuml.decomposition": decomposition, "cuml.manifold": manifold}
    if not rapids:
        own_pool = MemoryPool(pool)
        cupy.__dict__["get_default_memory_pool"] = lambda: own_pool
        modules = {"cupy": cupy, "cupyx": pinned}
        monkeypatch.setattr(gpu_libraries, "_is_findable", lambda name: False)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return pool
