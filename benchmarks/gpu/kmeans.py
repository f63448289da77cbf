"""K-Means: milliseconds of an iteration, and what share of reading the rows once that is.

Everybody gets the same rows and the same initial centers. The engine's iterations are timed one by one, and the first,
in which every row comes to a cluster, is not in the median; of libraries a run of one iteration is taken from a run of
ITERATIONS. Streamed rows come from the host in every pass, as of tables that do not fit on the device. The floor is the
bytes of the rows by the bandwidth of a copy on the device (read and written bytes).
flash-kmeans computes float32 products in TF32, cuML's sums are float32: what their centers are worth is the inertia.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import psutil
from common import Mixture, Section, Setting, gpu, start_of, timed

from engine.backends.array_kmeans import RESIDENT_SHARE, ArrayBackend
from engine.backends.cpu import CpuBackend
from engine.bench.gpu import cuml_kmeans, flash_kmeans
from engine.execution.threads import threads
from engine.kmeans.lloyd import Samples, inertia_sums

ITERATIONS = 5
HOST_SHARE = 0.6  # of free host memory that the rows may take
FEATURES = 64


def run(section: Section, setting: Setting, *, size: int) -> None:
    """Measure everybody at one of the sizes: rows are on the device once, for all."""
    sizes, ks = setting.pick((10_000_000, 100_000_000), (2000, 5000)), setting.pick((20, 100, 1000), (3, 20))
    backend, first = gpu(), size == 0
    n_rows = [*sizes, most(backend, setting)][size]
    X = Mixture(n_rows, FEATURES).upto(n_rows)
    rows = Samples.from_array(X, None, backend)
    there = rows.prepared.X
    if there is None:
        raise MemoryError(f"{n_rows} rows of {FEATURES} features do not fit on the device")
    contenders: dict[str, Callable[[Any], tuple[list[float], Any]]] = {
        "engine": lambda start: engine(rows, start),
        "cuML": lambda start: library(backend.xp, cuml_kmeans, there, start),
        "engine, cpu": lambda start: engine(Samples.from_array(X, None, CpuBackend()), start),
        "engine, rows streamed": lambda start: engine(Samples.from_array(X, None, without_room()), start),
        "flash-kmeans": lambda start: library(backend.xp, flash, there, start),
    }
    if not first:
        del contenders["engine, cpu"], contenders["engine, rows streamed"]
    bandwidth = section.report.read().get("machine", {}).get("bandwidth", {}).get("bytes_per_second")
    for name, contender in contenders.items():
        for k in ks:

            def measure(contender: Any = contender, k: int = k) -> dict[str, Any]:
                seconds, centers = contender(start_of(X, k))
                return speed(X.nbytes, seconds, bandwidth) | ({"inertia": worth(rows, centers)} if first else {})

            section.case(f"{n_rows} x {FEATURES}, k = {k}, {name}", measure)
    if first:
        section.case("tuning", lambda: tuning(rows, ks[-1], setting))


def without_room() -> Any:
    """Return a backend on which no rows fit: they come from the host in every pass, in pieces."""
    backend = gpu()
    backend._resident = lambda shape, dtype: None
    return backend


def most(backend: Any, setting: Setting) -> int:
    """Return how many rows fit on the device, and in the host's memory beside it."""
    if setting.tiny:
        return 7000
    fit = min(RESIDENT_SHARE * backend.free_memory(), HOST_SHARE * psutil.virtual_memory().available)
    return int(fit / (FEATURES * 4 + 8)) // 1_000_000 * 1_000_000


def speed(n_bytes: int, seconds: list[float], bandwidth: float | None) -> dict[str, Any]:
    typical = statistics.median(seconds[1:])
    return {
        "milliseconds": [round(1e3 * one, 3) for one in seconds],
        "milliseconds_an_iteration": round(1e3 * typical, 3),
        "gb_per_second": round(n_bytes / typical / 1e9, 2),
        "share_of_floor": None if bandwidth is None else round(n_bytes / bandwidth / typical, 4),
    }


def engine(rows: Samples, centers: Any) -> tuple[list[float], Any]:
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


def library(xp: Any, fit: Callable[..., Any], X: Any, start: Any) -> tuple[list[float], Any]:
    """Return the seconds of a run of one iteration, then of each of the following."""
    fit(X[: 100 * len(start)], start, 1, 0.0)  # loaded and compiled outside the clock
    first, (_, before) = timed(xp, lambda: fit(X, start, 1, 0.0))
    whole, (centers, after) = timed(xp, lambda: fit(X, start, ITERATIONS, 0.0))
    return [first] + [(whole - first) / (after - before)] * (after - before), centers


def flash(X: Any, start: Any, iterations: int, tol: float) -> tuple[Any, int]:
    share_memory()
    return flash_kmeans(X, start, iterations, tol)


def share_memory() -> None:
    """Let PyTorch allocate from RMM's pool, which has most of the memory; only before its first allocation."""
    import torch
    from rmm.allocators.torch import rmm_torch_allocator

    if not torch.cuda.is_initialized():
        torch.cuda.memory.change_current_allocator(rmm_torch_allocator)


def worth(rows: Samples, centers: Any) -> float:
    """Return the inertia a row of centers, by one computation for everybody."""
    exact = np.ascontiguousarray(centers, rows.X.dtype)
    labels = rows.label(exact)
    return float(sum(inertia_sums(rows.X, rows.weights, exact, labels, rows.backend, rows.prepared)) / len(rows.X))


def tuning(rows: Samples, k: int, setting: Setting) -> dict[str, Any]:
    """Return milliseconds of an iteration by the values in a chunk, and by the threads that launch kernels."""
    found: dict[str, Any] = {"shape": [*rows.X.shape, k]}
    start, backend = start_of(rows.X, k), cast(ArrayBackend, rows.backend)
    for values in setting.pick((1 << 22, 1 << 24, 1 << 26), (1 << 10, 1 << 14)):
        backend.chunk_values = values
        for n_threads in setting.pick((1, 4, 16), (1, 2)):
            with threads(n_threads):
                seconds, _ = engine(rows, start)
            found[f"{values} values, {n_threads} threads"] = round(1e3 * statistics.median(seconds[1:]), 3)
    return found
