"""K-Means: milliseconds of an iteration, and their share of one read of the rows.

All contenders get the same rows and the same initial centers. Iterations of the engine are timed one by one, and the
first, in which every row joins a cluster, is left out of the median; for a library, a run of one iteration is
subtracted from a run of ITERATIONS. Streamed rows are copied from the host in every pass, as those of tables that do
not fit on the device. The floor is the bytes of the rows divided by the bandwidth of a copy on the device (bytes read
and written). flash-kmeans computes float32 products in TF32, and cuML sums in float32: the inertia of their centers
says what that costs. The fused kernels are in fused.py.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, cast

import numpy as np
import psutil
from common import Mixture, Section, Setting, gpu, initial_centers, time_call

from engine.backends.array_kmeans import RESIDENT_SHARE, ArrayBackend
from engine.backends.cpu import CpuBackend
from engine.bench.gpu import cuml_kmeans, flash_kmeans
from engine.execution.threads import threads
from engine.kmeans.lloyd import Samples, inertia_sums

ITERATIONS = 5
HOST_SHARE = 0.6  # of free host memory that the rows may take
FEATURES = 64
ROUND_ROWS = 10_000_000  # the largest number of rows is a multiple of it, so that sections choose the same one
INERTIA_ROWS = 1_000_000  # the inertia is that of so many rows


def run_engine(section: Section, setting: Setting, *, size: int) -> None:
    """Measure the engine at one of the sizes, with rows on the device; at the first also on the CPU, and streamed."""
    X, backend = generate_rows(setting, size), gpu()
    rows = Samples.from_array(X, None, backend)
    if rows.prepared.X is None:
        raise MemoryError(f"{len(X)} rows of {FEATURES} features do not fit on the device")
    samples: dict[str, Callable[[], Samples]] = {"engine": lambda: rows}
    if size == 0:
        samples["engine, cpu"] = lambda: Samples.from_array(X, None, CpuBackend())
        samples["engine, rows streamed"] = lambda: Samples.from_array(X, None, streaming_backend())
    for name, make_samples in samples.items():
        measure_cases(section, setting, name, X, lambda start, make=make_samples: time_iterations(make(), start))
    if size == 0:
        section.case("tuning", lambda: measure_tuning(rows, numbers_of_clusters(setting)[-1], setting))


def run_flash(section: Section, setting: Setting, *, size: int) -> None:
    """Measure flash-kmeans at one of the sizes, with rows on the device."""
    import torch

    share_memory_pool()
    X, xp = generate_rows(setting, size), gpu().xp
    on_gpu = torch.as_tensor(X, device="cuda")
    measure_cases(section, setting, "flash-kmeans", X, lambda start: time_library(xp, flash_kmeans, on_gpu, start))


def run_cuml(section: Section, setting: Setting, *, size: int) -> None:
    """Measure cuML's K-Means at one of the sizes, with rows on the device."""
    X, xp = generate_rows(setting, size), gpu().xp
    on_gpu = xp.asarray(X)
    measure_cases(section, setting, "cuML", X, lambda start: time_library(xp, cuml_kmeans, on_gpu, start))


def measure_cases(
    section: Section, setting: Setting, name: str, X: Any, contender: Callable[[Any], tuple[list[float], Any]]
) -> None:
    """Measure a contender for every number of clusters."""
    bandwidth = recorded_bandwidth(section)
    for k in numbers_of_clusters(setting):

        def measure(k: int = k) -> dict[str, Any]:
            seconds, centers = contender(initial_centers(X, k))
            return describe_speed(X.nbytes, seconds, bandwidth) | {"inertia": inertia_per_row(X, centers)}

        section.case(f"{len(X)} x {FEATURES}, k = {k}, {name}", measure)


def generate_rows(setting: Setting, size: int) -> Any:
    """Return the rows of the first, second or largest size."""
    sizes = setting.pick((10_000_000, 100_000_000), (2000, 5000))
    n_rows = [*sizes, largest_row_count(gpu(), setting)][size]
    return Mixture(n_rows, FEATURES).first_rows(n_rows)


def numbers_of_clusters(setting: Setting) -> tuple[int, ...]:
    chosen: tuple[int, ...] = setting.pick((20, 100, 1000), (3, 20))
    return chosen


def recorded_bandwidth(section: Section) -> float | None:
    """Return the bytes a second that the section "machine" has measured, None if it has not run."""
    recorded: float | None = section.report.read().get("machine", {}).get("bandwidth", {}).get("bytes_per_second")
    return recorded


def streaming_backend() -> Any:
    """Return a backend on which no rows are resident: every pass copies them from the host, in pieces."""
    backend = gpu()
    backend._allocate_resident = lambda shape, dtype: None
    return backend


def largest_row_count(backend: Any, setting: Setting) -> int:
    """Return how many rows fit on the device, and in the memory of the host beside it."""
    if setting.tiny:
        return 7000
    fit = min(RESIDENT_SHARE * backend.free_memory(), HOST_SHARE * psutil.virtual_memory().available)
    return int(fit / (FEATURES * 4 + 8)) // ROUND_ROWS * ROUND_ROWS


def describe_speed(n_bytes: int, seconds: list[float], bandwidth: float | None) -> dict[str, Any]:
    typical = statistics.median(seconds[1:])
    return {
        "milliseconds": [round(1e3 * one, 3) for one in seconds],
        "milliseconds_an_iteration": round(1e3 * typical, 3),
        "gb_per_second": round(n_bytes / typical / 1e9, 2),
        "share_of_floor": None if bandwidth is None else round(n_bytes / bandwidth / typical, 4),
    }


def time_iterations(rows: Samples, centers: Any) -> tuple[list[float], Any]:
    """Return the seconds of iterations, as engine/kmeans/lloyd.py makes them, and the centers at the end."""
    state, seconds = rows.new_state(len(centers)), []
    for _ in range(ITERATIONS):
        start = time.perf_counter()
        state.relabel(centers)
        moved = state.update_centers(centers)
        state.update_bounds(centers, moved)
        seconds.append(time.perf_counter() - start)
        centers = moved
    return seconds, centers


def time_library(xp: Any, fit: Callable[..., Any], X: Any, start: Any) -> tuple[list[float], Any]:
    """Return the seconds of a run of one iteration, then of each of the following."""
    fit(X[: 100 * len(start)], start, 1, 0.0)  # loads and compiles outside the clock
    first, (_, before) = time_call(xp, lambda: fit(X, start, 1, 0.0))
    whole, (centers, after) = time_call(xp, lambda: fit(X, start, ITERATIONS, 0.0))
    return [first] + [(whole - first) / (after - before)] * (after - before), centers


def share_memory_pool() -> None:
    """Make PyTorch allocate from RMM's pool where there is one; to be called before its first allocation."""
    if find_spec("rmm") is None:
        return
    import torch
    from rmm.allocators.torch import rmm_torch_allocator

    gpu()  # sets up the pool
    torch.cuda.memory.change_current_allocator(rmm_torch_allocator)


def inertia_per_row(X: Any, centers: Any) -> float:
    """Return the inertia a row of centers, computed by the CPU for all contenders, from the first rows."""
    rows = Samples.from_array(X[:INERTIA_ROWS], None, CpuBackend())
    exact = np.ascontiguousarray(centers, X.dtype)
    labels = rows.label(exact)
    return float(sum(inertia_sums(rows.X, rows.weights, exact, labels, rows.backend, rows.prepared)) / len(rows.X))


def measure_tuning(rows: Samples, k: int, setting: Setting) -> dict[str, Any]:
    """Return milliseconds of an iteration by the values in a chunk, and by the threads that launch kernels."""
    facts: dict[str, Any] = {"shape": [*rows.X.shape, k]}
    start, backend = initial_centers(rows.X, k), cast(ArrayBackend, rows.backend)
    for values in setting.pick((1 << 21, 1 << 22, 1 << 23, 1 << 24, 1 << 26), (1 << 10, 1 << 14)):
        backend.chunk_values = values
        for n_threads in setting.pick((1, 4), (1, 2)):
            with threads(n_threads):
                seconds, _ = time_iterations(rows, start)
            facts[f"{values} values, {n_threads} threads"] = round(1e3 * statistics.median(seconds[1:]), 3)
    return facts
