"""Time contenders in turn on the same generated rows, and measure what each found.

    rows, features, clusters, stages  ->  Report: one Result a contender and stage, and who is missing, and why

Everybody runs once outside the clock (kernels are compiled and loaded), then `rounds` times in turn; seconds are the
least and the median. Quality is computed anew from each one's centres, axes or places, by one function for all.
"""

from __future__ import annotations

import logging
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from engine import backends
from engine.backends.gpu import probe
from engine.bench.libraries import STAGES, Contender
from engine.bench.task import PERPLEXITY, Array, Task
from engine.errors import UsageError
from engine.execution.threads import thread_count
from engine.kmeans.lloyd import inertia, label_rows

MAP_ROWS = 5_000  # at most so many rows for t-SNE, whose peers would take minutes
COMPONENTS = 16
LIBRARIES = ("rooms-engine", "numpy", "numba", "scikit-learn", "scikit-learn-intelex", "faiss-cpu", "openTSNE")
GPU_LIBRARIES = ("cuml-cu13", "cuml-cu12", "cupy-cuda13x", "cupy-cuda12x", "flash-kmeans", "torch")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """What a contender took, and how good what it found is."""

    stage: str
    contender: str
    rows: int
    seconds: float  # the least
    median: float
    rows_per_second: float
    measure: str  # of quality: what it is, …
    quality: float  # … and how much; lower is better but for explained variance
    all_seconds: list[float]


@dataclass
class Report:
    """Results of all stages, and contenders that could not take part."""

    settings: dict[str, Any]
    machine: dict[str, Any]
    results: list[Result] = field(default_factory=list)
    missing: list[dict[str, str]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return asdict(self)


def bench(*, rows: int, features: int, clusters: int, stages: list[str], rounds: int = 3, seed: int = 0) -> Report:
    """Run the stages.

    Raises
    ------
    UsageError
        If a stage is not one, or there are fewer rows than clusters.
    """
    unknown = [stage for stage in stages if stage not in STAGES]
    if unknown or not stages:
        raise UsageError(f"Stages {', '.join(unknown) or 'none'}: they are some of {', '.join(STAGES)}.")
    if rows < max(clusters, 200):
        raise UsageError(f"rows={rows} must be at least {max(clusters, 200)}: that many rows are needed to compare on.")
    settings = {"rows": rows, "features": features, "clusters": clusters, "stages": stages, "rounds": rounds}
    report = Report(settings | {"seed": seed}, describe_machine())
    X = mixture(rows, features, clusters, seed)
    for stage in stages:
        run_stage(report, stage, X, clusters, rounds, seed)
    return report


def run_stage(report: Report, stage: str, X: Array, clusters: int, rounds: int, seed: int) -> None:
    """Run one stage into the report."""
    task = task_of(stage, X, clusters, seed)
    ready = [contender for contender in STAGES[stage] if _takes_part(contender, task, report, stage)]
    seconds: dict[str, list[float]] = {contender.name: [] for contender in ready}
    found: dict[str, Any] = {}
    for _ in range(rounds):
        for contender in ready:
            start = time.perf_counter()
            found[contender.name] = _quietly(contender.run, task)
            seconds[contender.name].append(time.perf_counter() - start)
    measure, judge = JUDGES[stage]
    for name, all_seconds in seconds.items():
        least, n_rows = min(all_seconds), len(task.X)
        report.results.append(
            Result(
                stage, name, n_rows, least, statistics.median(all_seconds), round(n_rows / least, 1),
                measure, judge(task, np.asarray(found[name])), all_seconds,
            )
        )  # fmt: skip


def task_of(stage: str, X: Array, clusters: int, seed: int) -> Task:
    """Return the rows of a stage, and where everybody starts."""
    random = np.random.default_rng(seed + 1)
    if stage != "tsne":
        start = X[random.choice(len(X), clusters, replace=False)].copy()
        return Task(X, start, clusters, min(COMPONENTS, *X.shape))
    rows = X[:MAP_ROWS]
    centred = rows - rows.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    scores = centred @ axes.T
    start = (scores / scores[:, 0].std() * 1e-4).astype(np.float32)
    return Task(rows, start, clusters, 2)


def mixture(rows: int, features: int, clusters: int, seed: int) -> Array:
    """Return float32 rows of a mixture whose components overlap."""
    random = np.random.default_rng(seed)
    means = random.normal(size=(clusters, features))
    X = np.empty((rows, features), np.float32)
    for start in range(0, rows, 100_000):
        part = X[start : start + 100_000]
        part[:] = means[random.integers(0, clusters, len(part))] + random.normal(size=part.shape)
    return X


def describe_machine() -> dict[str, Any]:
    """Return the CPU, its threads, the GPU or why there is none, and versions of whatever may take part."""
    import llvmlite.binding as llvm

    versions = {}
    for name in LIBRARIES + GPU_LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    system = platform.platform(terse=True)
    return {
        "cpu": llvm.get_host_cpu_name(), "threads": thread_count(), "gpu": probe().finding, "system": system,
        "python": platform.python_version(), "versions": versions,
    }  # fmt: skip


def _takes_part(contender: Contender, task: Task, report: Report, stage: str) -> bool:
    """Run a contender outside the clock and tell whether it can; else note why not."""
    reason = None
    if contender.needs_gpu and not probe().usable:
        reason = f"no GPU: {probe().finding}"
    else:
        try:
            _quietly(contender.run, task)
        except ImportError as error:
            reason = f"not installed (pip install {contender.install}): {str(error).splitlines()[0]}"
        except Exception as error:  # a peer's fault, which is told and does not end the others' runs
            if contender.install == "rooms-engine":
                raise
            reason = f"failed: {type(error).__name__}: {(str(error).splitlines() or ['no reason given'])[0]}"
    if reason is not None:
        report.missing.append({"stage": stage, "contender": contender.name, "reason": reason})
    return reason is None


def _quietly(run: Callable[[Task], Any], task: Task) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not converged after so few iterations: that is the case
        return run(task)


def _inertia(task: Task, centres: Array) -> float:
    backend, _ = backends.resolve("cpu")
    exact = np.ascontiguousarray(centres, task.X.dtype)
    labels = np.empty(len(task.X), np.int32)
    label_rows(task.X, exact, labels, backend)
    return round(inertia(task.X, np.empty(0), exact, labels, backend) / len(task.X), 6)


def _explained(task: Task, axes: Array) -> float:
    sample = task.X[:100_000].astype(np.float64)
    centred = sample - sample.mean(axis=0)
    return round(float(np.square(centred @ axes.T).sum() / np.square(centred).sum()), 6)


def _divergence(task: Task, places: Array) -> float:
    from engine.tsne.affinities import affinities_of
    from engine.tsne.gradient_descent import kl_divergence

    P = affinities_of(np.ascontiguousarray(task.X), PERPLEXITY, lambda rows: None)
    return round(kl_divergence(P, np.ascontiguousarray(places[P.rows], np.float32)), 4)


JUDGES: dict[str, tuple[str, Callable[[Task, Array], float]]] = {
    "kmeans": ("inertia a row", _inertia),
    "pca": ("variance explained", _explained),
    "tsne": ("KL divergence", _divergence),
}
