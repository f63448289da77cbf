"""Rows to cluster and clocks, for the benchmarks of K-Means. Who clusters them: engine/bench/kmeans.py."""

from __future__ import annotations

import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import history
import numba
import numpy as np
from machine_info import describe_machine, earlier_results

import engine
from engine.backends import resolve
from engine.bench.kmeans import IMPLEMENTATIONS
from engine.config import FitConfig
from engine.datasets.demo_table import write_demo
from engine.execution.threads import map_blocks, thread_count
from engine.kernels.cpu.simd.vectors import LANES, fma, reduce_sum, splat
from engine.kmeans.lloyd import inertia, label_rows
from engine.tables import open_table

# "cpu" on a machine that is busy with other work: pin the process to one core then, as threads that wait count as well.
CLOCK = os.environ.get("ROOMS_BENCH_CLOCK", "wall")
now = time.process_time if CLOCK == "cpu" else time.perf_counter
# What there is to win differs by host.
NAME = f"kmeans_{LANES}_lanes" + ("_processor_time" if CLOCK == "cpu" else "")
RESULTS = Path(__file__).parent / "results" / f"{NAME}.json"
DATA = Path(os.environ.get("ROOMS_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
ours = IMPLEMENTATIONS["engine"]
LONG_SECONDS = 20.0  # peers that took longer than this for one round get no second one


def rows(kind: str, n_rows: int, n_features: int, n_clusters: int) -> Any:
    """Return float32 rows.

    "mixture" and "blobs": components one standard deviation apart per feature, or five. Heavy tails, as raw columns
    have them: "student", Student's t of 4 degrees of freedom, features of other widths each and a shift that all
    features share; "spend", lognormal amounts of four common factors, standardised.
    """
    random = np.random.default_rng(0)
    means = random.normal(size=(n_clusters, n_features)) * (1.0 if kind == "mixture" else 5.0)
    widths, factors = np.linspace(3.0, 0.3, n_features), random.normal(size=(4, n_features)) * 0.6
    X = np.empty((n_rows, n_features), np.float32)
    for start in range(0, n_rows, 100_000):
        part = X[start : start + 100_000]
        n = len(part)
        if kind == "student":
            part[:] = random.standard_t(4, size=part.shape) * widths + random.integers(0, 4, (n, 1))
        elif kind == "spend":
            part[:] = np.exp(random.normal(size=(n, 4)) @ factors + random.normal(size=part.shape) * 0.7)
        else:
            part[:] = means[random.integers(0, n_clusters, n)] + random.normal(size=part.shape)
    return (X - X.mean(axis=0)) / X.std(axis=0) if kind == "spend" else X


def scores(kind: str, n_rows: int) -> Any:
    """Return what K-Means sees of a table: of generated members ("profiles"), or of the health survey ("survey")."""
    config = FitConfig.merge({}, skip=["map", "report", "explain"])
    with tempfile.TemporaryDirectory() as folder:
        if kind == "profiles":
            source, id = write_demo(Path(folder), n_rows, seed=0).members, "user_id"
        else:
            source, id = DATA / "health_survey_2015.csv.gz", None
        run = engine.fit(source, out=Path(folder) / "run", id=id, n_clusters=2, config=config)
        model = engine.load(run.path)
        blocks = open_table(source, id=id).blocks(model.encoder.columns)
        return np.concatenate([model.scores(block.rows) for block in blocks])[:n_rows]


def float32_peak() -> float:
    """Return the machine's float32 operations a second: fused multiply-adds in registers, on all threads."""
    turns = 20_000_000
    _spin(1000)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        list(map_blocks(_spin, [turns] * thread_count()))
        seconds.append(time.perf_counter() - start)
    return thread_count() * turns * 8 * LANES * 2 / min(seconds)


@numba.njit(nogil=True)
def _spin(turns: int) -> float:
    x, a = splat(np.float32(0.999)), splat(np.float32(1.0))
    b = c = d = e = f = g = h = a
    for _ in range(turns):
        a, b, c, d = fma(a, x, x), fma(b, x, x), fma(c, x, x), fma(d, x, x)
        e, f, g, h = fma(e, x, x), fma(f, x, x), fma(g, x, x), fma(h, x, x)
    return reduce_sum(a + b + c + d + e + f + g + h)


def exact_inertia(X: Any, centers: Any) -> float:
    backend, _ = resolve("cpu")
    centers = np.ascontiguousarray(centers, X.dtype)
    labels = np.empty(len(X), np.int32)
    label_rows(X, centers, labels, backend)
    return inertia(X, np.empty(0), centers, labels, backend)


def timed(fit: Callable[[], tuple[Any, int]], rounds: int) -> tuple[list[float], Any, int]:
    seconds: list[float] = []
    centers, n_iter = None, 0
    while len(seconds) < rounds and (not seconds or seconds[0] < LONG_SECONDS):
        start = now()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # not converged after 20 iterations: that is the case
            centers, n_iter = fit()
        seconds.append(round(now() - start, 4))
    return seconds, centers, n_iter


def write(report: dict[str, Any]) -> None:
    """Write what was measured, beside what was measured before on other cases."""
    before = earlier_results(RESULTS).get("cases", {})
    document = {"machine": describe_machine(), "threads": thread_count(), "cases": {**before, **report}}
    history.record(RESULTS, document)
