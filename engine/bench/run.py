"""Time contenders in turn on the same generated rows, and measure the quality of their results.

    rows, features, clusters, stages  ->  BenchReport: a BenchResult per contender and stage, and the contenders that
                                          could not run, with the reasons

Every contender runs once outside the clock, which compiles and loads its kernels, then `rounds` times in turn; the
seconds reported are the minimum and the median. One function per stage computes the quality of all contenders, from
their centers, principal axes or embeddings.
"""

from __future__ import annotations

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

MAP_ROWS = 5_000  # the most rows for t-SNE: other libraries would take minutes on more
COMPONENTS = 16  # the most principal components
LIBRARIES = ("rooms-engine", "numpy", "numba", "scikit-learn", "scikit-learn-intelex", "faiss-cpu", "openTSNE")
GPU_LIBRARIES = ("cuml-cu13", "cuml-cu12", "cupy-cuda13x", "cupy-cuda12x", "flash-kmeans", "torch")


@dataclass(frozen=True)
class BenchResult:
    """Seconds and quality of one contender in one stage."""

    stage: str
    contender: str
    rows: int
    seconds: float  # the minimum over all rounds
    median: float
    rows_per_second: float
    measure: str  # what `quality` is
    quality: float  # lower is better, except for explained variance
    all_seconds: list[float]


@dataclass
class BenchReport:
    """The results of all stages, and the contenders that could not run."""

    settings: dict[str, Any]
    machine: dict[str, Any]
    results: list[BenchResult] = field(default_factory=list)
    missing: list[dict[str, str]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as values that JSON can hold."""
        return asdict(self)


def bench(*, rows: int, features: int, clusters: int, stages: list[str], rounds: int = 3, seed: int = 0) -> BenchReport:
    """Time all contenders of the stages on generated rows.

    Parameters
    ----------
    rows, features, clusters : int
        Shape of the rows, and the components of the mixture they are drawn from.
    stages : list of str
        Some of "kmeans", "pca" and "tsne".
    rounds : int
        Timed runs of every contender.
    seed : int

    Raises
    ------
    UsageError
        If a stage is unknown, or there are fewer rows than clusters or than 200.
    """
    unknown = [stage for stage in stages if stage not in STAGES]
    if unknown or not stages:
        raise UsageError(f"Stages {', '.join(unknown) or 'none'} cannot be measured: choose from {', '.join(STAGES)}.")
    if rows < max(clusters, 200):
        raise UsageError(f"rows={rows} must be at least {max(clusters, 200)}: that many rows are needed to compare on.")
    settings = {"rows": rows, "features": features, "clusters": clusters, "stages": stages, "rounds": rounds}
    report = BenchReport(settings | {"seed": seed}, describe_machine())
    X = make_mixture(rows, features, clusters, seed)
    for stage in stages:
        run_stage(report, stage, X, clusters, rounds, seed)
    return report


def run_stage(report: BenchReport, stage: str, X: Array, clusters: int, rounds: int, seed: int) -> None:
    """Time the contenders of one stage and add their results to the report."""
    task = make_task(stage, X, clusters, seed)
    runnable = [contender for contender in STAGES[stage] if _warm_up(contender, task, report, stage)]
    seconds: dict[str, list[float]] = {contender.name: [] for contender in runnable}
    outputs: dict[str, Any] = {}
    for _ in range(rounds):
        for contender in runnable:
            start = time.perf_counter()
            outputs[contender.name] = _run_without_warnings(contender.run, task)
            seconds[contender.name].append(time.perf_counter() - start)
    measure, compute_quality = QUALITY_METRICS[stage]
    for name, all_seconds in seconds.items():
        fastest, n_rows = min(all_seconds), len(task.X)
        report.results.append(
            BenchResult(
                stage, name, n_rows, fastest, statistics.median(all_seconds), round(n_rows / fastest, 1),
                measure, compute_quality(task, np.asarray(outputs[name])), all_seconds,
            )
        )  # fmt: skip


def make_task(stage: str, X: Array, clusters: int, seed: int) -> Task:
    """Return the input of a stage: its rows, and the initial centers or embedding."""
    random = np.random.default_rng(seed + 1)
    if stage != "tsne":
        start = X[random.choice(len(X), clusters, replace=False)].copy()
        return Task(X, start, clusters, min(COMPONENTS, *X.shape))
    rows = X[:MAP_ROWS]
    centered = rows - rows.mean(axis=0)
    axes = np.linalg.svd(centered, full_matrices=False)[2][:2]
    scores = centered @ axes.T
    start = (scores / scores[:, 0].std() * 1e-4).astype(np.float32)
    return Task(rows, start, clusters, 2)


def make_mixture(rows: int, features: int, clusters: int, seed: int) -> Array:
    """Return float32 rows drawn from a mixture of overlapping Gaussians."""
    random = np.random.default_rng(seed)
    means = random.normal(size=(clusters, features))
    X = np.empty((rows, features), np.float32)
    for start in range(0, rows, 100_000):
        part = X[start : start + 100_000]
        part[:] = means[random.integers(0, clusters, len(part))] + random.normal(size=part.shape)
    return X


def describe_machine() -> dict[str, Any]:
    """Return the CPU, its threads, the GPU or why none was found, and the versions of installed contenders."""
    import llvmlite.binding as llvm

    versions = {}
    for name in LIBRARIES + GPU_LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    system = platform.platform(terse=True)
    return {
        "cpu": llvm.get_host_cpu_name(), "threads": thread_count(), "gpu": probe().description, "system": system,
        "python": platform.python_version(), "versions": versions,
    }  # fmt: skip


def _warm_up(contender: Contender, task: Task, report: BenchReport, stage: str) -> bool:
    """Run a contender once outside the clock; return whether it can run, and if not, add the reason to the report."""
    reason = None
    if contender.needs_gpu and not probe().usable:
        reason = f"no GPU: {probe().description}"
    else:
        try:
            _run_without_warnings(contender.run, task)
        except ImportError as error:
            reason = f"not installed (pip install {contender.requirement}): {str(error).splitlines()[0]}"
        except Exception as error:  # an error of another library is reported and does not stop the benchmark
            if contender.requirement == "rooms-engine":
                raise
            reason = f"failed: {type(error).__name__}: {(str(error).splitlines() or ['no reason given'])[0]}"
    if reason is not None:
        report.missing.append({"stage": stage, "contender": contender.name, "reason": reason})
    return reason is None


def _run_without_warnings(run: Callable[[Task], Any], task: Task) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # libraries warn that they did not converge in so few iterations
        return run(task)


def _inertia_per_row(task: Task, centers: Array) -> float:
    backend, _ = backends.resolve("cpu")
    exact = np.ascontiguousarray(centers, task.X.dtype)
    labels = np.empty(len(task.X), np.int32)
    label_rows(task.X, exact, labels, backend)
    return round(inertia(task.X, np.empty(0), exact, labels, backend) / len(task.X), 6)


def _explained_variance_ratio(task: Task, axes: Array) -> float:
    sample = task.X[:100_000].astype(np.float64)
    centered = sample - sample.mean(axis=0)
    return round(float(np.square(centered @ axes.T).sum() / np.square(centered).sum()), 6)


def _kl_divergence(task: Task, embedding: Array) -> float:
    from engine.tsne.affinities import compute_affinities
    from engine.tsne.gradient_descent import kl_divergence

    P = compute_affinities(np.ascontiguousarray(task.X), PERPLEXITY, lambda rows: None)
    return round(kl_divergence(P, np.ascontiguousarray(embedding[P.order], np.float32)), 4)


QUALITY_METRICS: dict[str, tuple[str, Callable[[Task, Array], float]]] = {
    "kmeans": ("inertia a row", _inertia_per_row),
    "pca": ("variance explained", _explained_variance_ratio),
    "tsne": ("KL divergence", _kl_divergence),
}
