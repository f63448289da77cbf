"""The GPU backend: the array backend on CuPy, and cuML for whole stages where it is installed.

    probe()  ->  whether a GPU can be used, and why not;   GpuBackend  ->  the methods of `Backend` on cuda

Which libraries there are, and their common memory pool: gpu_libraries.py. Nothing here has run on a GPU: not measured
yet. Calls into the libraries are checked against RAPIDS 26.10 (`make test-gpu-contract`).
"""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from engine.backends.array_kmeans import RESIDENT_SHARE, ArrayBackend, PreparedDeviceRows
from engine.backends.chunked import LibraryError, values_in_cache
from engine.backends.cpu import CpuBackend
from engine.backends.cuda_driver import GpuNotFoundError, first_gpu
from engine.backends.gpu_libraries import device_errors, installed_libraries, memory_pool
from engine.backends.host_to_device import copy_in_pieces
from engine.backends.pinned_buffers import PinnedStagingBuffers
from engine.backends.protocol import LibraryKMeansSettings, PrincipalAxes
from engine.errors import DeviceNotAvailableError, OutOfResourcesError, UsageError, first_line
from engine.kernels.arrays.kmeans import certify as row_filter
from engine.utils.array_types import Array, Float64s, Rows

MIN_FREE_BYTES = 1 << 30  # of GPU memory: contexts and libraries take half of it
PROBE_SIZE = 64  # numbers, and rows and columns of matrices: their sums are exact in float32
MIN_LIBRARY_FEATURES = 2  # of cuML's PCA
MAX_LIBRARY_VALUES = 2**31 - 1  # of the matrix of cuML's PCA: that it counts further is not known
MAX_AXIS_ERROR = 1e-3  # of the products of two axes by cuML's PCA, which are float32: more is a wrong answer
USE_OUR_OWN = "leave the algorithm to the engine (auto), which then takes its own."
_starting = threading.Lock()


@dataclass(frozen=True)
class GpuProbe:
    """Whether a GPU can be used, and a description of it or of what is missing."""

    usable: bool
    description: str


@cache
def probe() -> GpuProbe:
    """Look for a driver, a GPU, CuPy and free memory, and compute something; describe what fails first.

    A kernel is compiled and launched, and matrices are multiplied: a GPU that is there may still not compute.
    """
    try:
        gpu = first_gpu()
    except GpuNotFoundError as reason:
        return GpuProbe(False, str(reason))
    if find_spec("cupy") is None:
        return GpuProbe(False, f"there is a GPU ({gpu.describe()}), but cupy cannot be found")
    try:
        import cupy

        free, _ = cupy.cuda.runtime.memGetInfo()
    except Exception as error:  # imports fail in many ways; the message is passed on
        return GpuProbe(False, f"there is a GPU ({gpu.describe()}), but cupy does not work: {first_line(error)}")
    if free < MIN_FREE_BYTES:
        return GpuProbe(
            False, f"the GPU has {free >> 20} MiB free, {MIN_FREE_BYTES >> 20} are needed ({gpu.describe()})"
        )
    try:
        wrong = _compute_something(cupy)
    except Exception as error:  # of the compiler, the driver or cuBLAS
        return GpuProbe(False, f"there is a GPU ({gpu.describe()}), but it does not compute: {first_line(error)}")
    if wrong is not None:
        return GpuProbe(False, f"there is a GPU ({gpu.describe()}), but {wrong}")
    return GpuProbe(True, f"{gpu.describe()}; {installed_libraries().describe()}")


def _compute_something(cupy: Any) -> str | None:
    """Launch a kernel and multiply matrices; return what is wrong with the results, None if nothing is."""
    counts = cupy.arange(PROBE_SIZE, dtype=np.float32)
    if float(cupy.sqrt(counts * counts).sum()) != PROBE_SIZE * (PROBE_SIZE - 1) / 2:
        return "a kernel returned a wrong sum"
    ones = cupy.ones((PROBE_SIZE, PROBE_SIZE), dtype=np.float32)
    if float(cupy.matmul(ones, ones).sum()) != PROBE_SIZE**3:
        return "a product of matrices was wrong"
    return None


class GpuBackend(ArrayBackend):
    """Methods of `Backend` on a GPU.

    The `fallback` backend computes a block if memory runs out, or if a library does not support what is asked.

    Raises
    ------
    DeviceNotAvailableError
        If products of float32 or float64 matrices are rounded otherwise than IEEE arithmetic does, as by TF32.
    """

    name = "cuda"
    kernels = "CuPy"
    one_per_worker = True

    def __init__(self, *, fallback: CpuBackend | None = None) -> None:
        import cupy

        cache_bytes = int(cupy.cuda.Device().attributes["L2CacheSize"])
        super().__init__(cupy, fallback=fallback, chunk_values=values_in_cache(cache_bytes))
        self._copy_lock = threading.Lock()
        self._buffers: PinnedStagingBuffers | None = None
        with _starting:
            self._pool = memory_pool()
            self.libraries, self.missing_libraries = installed_libraries().available, installed_libraries().reasons
            self.device_errors = (*device_errors(cupy), LibraryError)
            inexact = [dtype for dtype in row_filter.LEVELS if not _products_are_exact(dtype)]
        if np.float64 in inexact:
            raise DeviceNotAvailableError(
                "float64 products on the GPU are not those of IEEE arithmetic.",
                hint="switch off the emulation of float64 by cuBLAS: labels and scores are proven without it only.",
            )
        if inexact:
            raise DeviceNotAvailableError(
                f"float32 products on the GPU are rounded to fewer digits (CUPY_TF32={os.environ.get('CUPY_TF32')!r}).",
                hint="unset CUPY_TF32 and NVIDIA_TF32_OVERRIDE: labels are proven for float32 only.",
            )

    def __reduce__(self) -> tuple[Any, ...]:
        return backend_of_this_process, (
            self.fallback is not None,
        )  # the pool is not pickled: every process has its own

    def copy_in_pieces(self, X: Any) -> Iterator[tuple[slice, Any]]:
        """Yield rows of the host on the device, each piece copied while the one before it is used.

        One caller at a time.
        """
        with self._copy_lock:
            if self._buffers is None:
                from cupyx import empty_pinned

                self._buffers = PinnedStagingBuffers(self.xp, empty_pinned)
            yield from copy_in_pieces(X, self._buffers)

    def free_memory(self) -> int:
        return self._pool.max_bytes - self._pool.used_bytes()

    def free_unused_memory(self) -> None:
        gc.collect()  # frees arrays in reference cycles; their memory returns to the pool
        self._pool.free_unused()

    def with_fused_kernels(self) -> GpuBackend:
        from engine.backends.fused_gpu import fused_backend  # imported late: it imports this module

        return fused_backend(self.fallback is not None)

    def library_centers(
        self, X: Rows, weights: Float64s, rows: PreparedDeviceRows, start: Rows | str, plan: LibraryKMeansSettings
    ) -> tuple[Rows, int]:
        self._check_cuml("K-Means", "lloyd")
        if rows.X is None:
            raise _no_resident_rows("K-Means", X.nbytes, self.free_memory())
        with self._cuml("K-Means"):
            from cuml.cluster import KMeans
            from sklearn import config_context

            model = KMeans(
                n_clusters=plan.n_clusters,
                max_iter=plan.max_iter,
                tol=plan.tol,
                random_state=plan.seed,
                init=start if isinstance(start, str) else self.xp.asarray(start),
                n_init=plan.n_init,
                output_type="numpy",
            )
            sample_weight = self.xp.asarray(weights.astype(X.dtype)) if len(weights) else None
            with config_context(assume_finite=True):  # the caller has checked
                model.fit(rows.X, sample_weight=sample_weight)
            centers = np.ascontiguousarray(model.cluster_centers_, X.dtype)
            if not np.isfinite(centers).all():
                raise ValueError("it found centers that are not finite")
            return centers, int(model.n_iter_)

    def allocate_columns(self, shape: tuple[int, int]) -> Array:
        self._check_cuml("PCA", "moments")
        if shape[1] < MIN_LIBRARY_FEATURES:
            raise OutOfResourcesError(
                f"cuML's PCA needs at least {MIN_LIBRARY_FEATURES} features, and there is {shape[1]}.", hint=USE_OUR_OWN
            )
        if shape[0] * shape[1] > MAX_LIBRARY_VALUES:
            raise OutOfResourcesError(
                f"cuML's PCA takes {MAX_LIBRARY_VALUES:,} values, and the rows have more.", hint=USE_OUR_OWN
            )
        needed, free = shape[0] * shape[1] * np.dtype(np.float32).itemsize, self.free_memory()
        if needed > RESIDENT_SHARE * free:
            raise _no_resident_rows("PCA", needed, free)
        with self._cuml("PCA"):
            return self.xp.zeros(shape, np.float32, order="F")

    def library_axes(self, X: Array) -> PrincipalAxes:
        self._check_cuml("PCA", "moments")
        with self._cuml("PCA"):
            from cuml.decomposition import PCA

            model = PCA(n_components=min(X.shape), svd_solver="full", copy=False, output_type="numpy")
            model.fit(X)
            found = (model.mean_, model.explained_variance_, model.components_)
            axes = PrincipalAxes(*(np.ascontiguousarray(array, np.float64) for array in found))
            # NaN passes no comparison.
            if not np.abs(axes.axes @ axes.axes.T - np.eye(len(axes.axes))).max() <= MAX_AXIS_ERROR:
                raise ValueError("its axes are not orthonormal")
            return axes

    def _check_cuml(self, what: str, instead: str) -> None:
        if "cuml" not in self.libraries:
            raise UsageError(
                f"algorithm='cuml' is the {what} of cuML, and {self.missing_libraries['cuml']}.",
                hint=f"install cuML, or use algorithm='{instead}'.",
            )

    @contextmanager
    def _cuml(self, what: str) -> Iterator[None]:
        """Raise OutOfResourcesError where cuML runs out of memory, and LibraryError where it fails otherwise."""
        try:
            with self.library_call(f"cuML's {what}"):
                yield
        except MemoryError as error:
            self.free_unused_memory()
            raise OutOfResourcesError(
                f"cuML's {what} ran out of GPU memory: {first_line(error)}.", hint=USE_OUR_OWN
            ) from error


def _no_resident_rows(what: str, n_bytes: int, free: int) -> OutOfResourcesError:
    """Return the error that cuML cannot have all rows: they do not fit, or the GPU failed while it got them."""
    if n_bytes > RESIDENT_SHARE * free:
        why = f"{n_bytes / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free"
    else:
        why = "it failed while it got them, see the warnings (`rooms doctor` tries it)"
    return OutOfResourcesError(f"cuML's {what} needs all rows on the GPU: {why}.", hint=USE_OUR_OWN)


@cache
def backend_of_this_process(with_fallback: bool) -> GpuBackend:
    """Return the backend of this worker process, on the first GPU that is visible to it.

    A worker without a GPU is an error even if the device was chosen by "auto": its moments would differ in their last
    digits.
    """
    gpu = probe()
    if not gpu.usable:
        raise DeviceNotAvailableError(
            f"Device 'cuda' is to be used on every worker, but on one of them {gpu.description}.",
            hint="start workers with `dask-cuda worker`, one a GPU, or use --device cpu.",
        )
    return GpuBackend(fallback=CpuBackend() if with_fallback else None)


@cache
def _products_are_exact(dtype: Any) -> bool:
    import cupy

    return row_filter.rounds_as(cupy, dtype)
