"""The GPU backend: CuPy under the verbs of array_kmeans.py, cuML for a whole stage, one pool of memory.

    probe()  ->  whether a GPU can be used, and why not;   GpuBackend  ->  the verbs of `Backend` on cuda

cuDF, cuML and CuPy allocate from one RMM pool. Nothing here has run on a GPU: not measured yet. Calls into the
libraries are checked against RAPIDS 26.10 (`make test-gpu-contract`).
"""

from __future__ import annotations

import gc
import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from engine.backends.array_kmeans import ArrayBackend
from engine.backends.cpu import CpuBackend
from engine.backends.cuda_driver import NoGpu, first_gpu
from engine.backends.device_matrix import array_in
from engine.backends.host_to_device import staged
from engine.backends.pinned_buffers import PinnedLanes
from engine.backends.protocol import Float64s, LibraryPlan, Rows
from engine.errors import DeviceNotAvailableError
from engine.kernels.arrays.kmeans import filter as screen

PACKAGES = ("cupy", "rmm", "pylibcudf", "cudf", "cuml")
LEAST_MEMORY = 1 << 30  # bytes that have to be free: contexts and libraries take half of that
POOL_SHARE = 0.9  # of the free memory that the pool may grow to; the rest is for what allocates past it
POOL_STEP = 256  # bytes that sizes of pools are multiples of
BUFFER_ROWS = 1 << 20  # host rows that cuML's K-Means takes at a time where not all fit
logger = logging.getLogger(__name__)
_starting = threading.Lock()


@dataclass(frozen=True)
class Probe:
    """Whether a GPU can be used, and what there is or what is missing."""

    usable: bool
    finding: str


@cache
def probe() -> Probe:
    """Look for a driver, a GPU, the libraries, and memory; the first thing missing is the reason."""
    try:
        gpu = first_gpu()
    except NoGpu as reason:
        return Probe(False, str(reason))
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        return Probe(False, f"there is a GPU ({gpu.words()}), but {', '.join(missing)} cannot be found")
    try:
        for name in PACKAGES:
            import_module(name)
        free, _ = import_module("cupy").cuda.runtime.memGetInfo()
    except Exception as error:  # libraries fail in many ways; each is a reason, told in its words
        return Probe(False, f"there is a GPU ({gpu.words()}), but {name} does not work: {_first_line(error)}")
    if free < LEAST_MEMORY:
        return Probe(False, f"the GPU has {free >> 20} MiB free, {LEAST_MEMORY >> 20} are needed ({gpu.words()})")
    return Probe(True, gpu.words())


@cache
def _pool_size() -> int:
    """Let cuDF, cuML and CuPy share one pool; return how large it may grow.

    A pool that somebody has set up before is kept: pointers of the old one would be lost.
    """
    import cupy
    import rmm
    from rmm.allocators.cupy import rmm_cupy_allocator

    free, _ = cupy.cuda.runtime.memGetInfo()
    size = int(free * POOL_SHARE) // POOL_STEP * POOL_STEP
    if type(rmm.mr.get_current_device_resource()) is rmm.mr.CudaMemoryResource:
        rmm.reinitialize(pool_allocator=True, initial_pool_size=LEAST_MEMORY // 2, maximum_pool_size=size)
    else:
        logger.info("RMM has been set up before: its memory resource is kept.")
    rmm.statistics.enable_statistics()
    cupy.cuda.set_allocator(rmm_cupy_allocator)
    return size


class GpuBackend(ArrayBackend):
    """Every verb of `Backend` on a GPU; `spare` takes over where memory runs out, or a library cannot do what is asked.

    Raises
    ------
    DeviceNotAvailableError
        If products of float32 matrices are less exact than labels need (TF32).
    """

    name = "cuda"
    one_per_worker = True
    libraries = frozenset({"cudf", "cuml"})

    def __init__(self, *, spare: CpuBackend | None = None) -> None:
        import cupy

        super().__init__(cupy, spare=spare)
        self._copying = threading.Lock()
        self._lanes: PinnedLanes | None = None
        with _starting:
            self._size = _pool_size()
            exact = _products_are_exact()
        if not exact:
            raise DeviceNotAvailableError(
                f"float32 products on the GPU are rounded to fewer digits (CUPY_TF32={os.environ.get('CUPY_TF32')!r}).",
                hint="unset CUPY_TF32 and NVIDIA_TF32_OVERRIDE: labels are proven for float32 only.",
            )

    def __reduce__(self) -> tuple[Any, ...]:
        return _on_this_worker, (self.spare is not None,)  # what the pool is does not travel

    def staged(self, X: Any) -> Iterator[tuple[slice, Any]]:
        """Yield rows of the host on the device, copied while others are computed on; one block at a time."""
        with self._copying:
            if self._lanes is None:
                from cupyx import empty_pinned

                self._lanes = PinnedLanes(self.xp, empty_pinned)
            yield from staged(X, self._lanes)

    def free_memory(self) -> int:
        import rmm

        used = rmm.statistics.get_statistics()
        return self._size - (0 if used is None else used.current_bytes)

    def release(self) -> None:
        gc.collect()  # arrays in cycles; the pool takes back what they held

    def library_centres(self, X: Rows, weights: Float64s, start: Rows | str, plan: LibraryPlan) -> tuple[Rows, int]:
        from cuml.cluster import KMeans
        from sklearn import config_context

        there = array_in(X)
        fits = there is not None or X.nbytes <= self.free_memory() // 2
        on_device = X if there is None else there
        rows, given = (self.xp.asarray(on_device), self.xp.asarray(weights)) if fits else (X, weights)
        model = KMeans(
            n_clusters=plan.n_clusters,
            max_iter=plan.max_iter,
            tol=plan.tol,
            random_state=plan.seed,
            init=start if isinstance(start, str) else self.xp.asarray(start),
            n_init=plan.n_runs,
            device_buffer_samples=0 if fits else BUFFER_ROWS,
            output_type="numpy",
        )
        with config_context(assume_finite=True):  # the caller has looked
            model.fit(rows, sample_weight=given.astype(X.dtype) if len(weights) else None)
        return np.ascontiguousarray(model.cluster_centers_, X.dtype), int(model.n_iter_)


@cache
def _on_this_worker(with_spare: bool) -> GpuBackend:
    """Return the backend of this process, which a pass was sent to: its GPU is the first that it is let see.

    A worker without one is an error, whatever the device was chosen by: moments would have other last digits.
    """
    found = probe()
    if not found.usable:
        raise DeviceNotAvailableError(
            f"Device 'cuda' is to be used on every worker, but on one of them {found.finding}.",
            hint="start workers with `dask-cuda worker`, one a GPU, or use --device cpu.",
        )
    return GpuBackend(spare=CpuBackend() if with_spare else None)


@cache
def _products_are_exact() -> bool:
    import cupy

    return screen.rounds_as_float32(cupy)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).split("\n", 1)[0]
