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
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from engine.backends.array_kmeans import ArrayBackend
from engine.backends.cpu import CpuBackend
from engine.backends.cuda_driver import GpuNotFoundError, first_gpu
from engine.backends.device_matrix import device_array
from engine.backends.gpu_libraries import device_errors, installed_libraries, memory_pool
from engine.backends.host_to_device import copy_in_pieces
from engine.backends.pinned_buffers import PinnedStagingBuffers
from engine.backends.protocol import LibraryKMeansSettings
from engine.errors import DeviceNotAvailableError, UsageError, first_line
from engine.kernels.arrays.kmeans import certify as row_filter
from engine.utils.array_types import Float64s, Rows

MIN_FREE_BYTES = 1 << 30  # of GPU memory: contexts and libraries take half of it
PROBE_SIZE = 64  # numbers, and rows and columns of matrices: their sums are exact in float32
BUFFER_ROWS = 1 << 20  # rows that cuML's K-Means copies from the host at a time if they do not all fit
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
        If products of float32 matrices are rounded to TF32: labels need float32.
    """

    name = "cuda"
    one_per_worker = True

    def __init__(self, *, fallback: CpuBackend | None = None) -> None:
        import cupy

        super().__init__(cupy, fallback=fallback)
        self._copy_lock = threading.Lock()
        self._buffers: PinnedStagingBuffers | None = None
        with _starting:
            self._pool = memory_pool()
            self.libraries = installed_libraries().available
            self.device_errors = device_errors(cupy)
            exact = _products_are_exact()
        if not exact:
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
        self, X: Rows, weights: Float64s, start: Rows | str, plan: LibraryKMeansSettings
    ) -> tuple[Rows, int]:
        if "cuml" not in self.libraries:
            raise UsageError(
                f"algorithm='cuml' is the K-Means of cuML, and {installed_libraries().reasons['cuml']}.",
                hint="install cuML, or use algorithm='lloyd'.",
            )
        from cuml.cluster import KMeans
        from sklearn import config_context

        resident = device_array(X)
        fits = resident is not None or X.nbytes <= self.free_memory() // 2
        source = X if resident is None else resident
        rows, sample_weight = (self.xp.asarray(source), self.xp.asarray(weights)) if fits else (X, weights)
        model = KMeans(
            n_clusters=plan.n_clusters,
            max_iter=plan.max_iter,
            tol=plan.tol,
            random_state=plan.seed,
            init=start if isinstance(start, str) else self.xp.asarray(start),
            n_init=plan.n_init,
            device_buffer_samples=0 if fits else BUFFER_ROWS,
            output_type="numpy",
        )
        with config_context(assume_finite=True):  # the caller has checked
            model.fit(rows, sample_weight=sample_weight.astype(X.dtype) if len(weights) else None)
        return np.ascontiguousarray(model.cluster_centers_, X.dtype), int(model.n_iter_)


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
def _products_are_exact() -> bool:
    import cupy

    return row_filter.rounds_as_float32(cupy)
