"""Small jobs that need every kernel, to compile all of them ahead: `rooms warm`, and the kernels of a wheel.

A kernel is compiled when it is first called with arguments of some types, so real fits say what has to be compiled; a
list of signatures would grow stale. Jobs run in processes of their own. Each takes what others have compiled already
from where kernels are kept, so the ones that differ most come first.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from engine.errors import OutOfResourcesError
from engine.progress import Reporter


def _clustered_rows(n_rows: int, n_features: int, dtype: Any, n_clusters: int = 6) -> Any:
    random = np.random.default_rng(0)
    centers = random.normal(scale=4.0, size=(n_clusters, n_features))
    return (centers[np.arange(n_rows) % n_clusters] + random.normal(size=(n_rows, n_features))).astype(dtype)


def kmeans_estimator(folder: Path) -> None:
    """Fit, predict and transform, with weights and without, from every start; and k chosen by the engine."""
    from engine import KMeans, choose_k

    for dtype in (np.float32, np.float64):
        rows = _clustered_rows(20_000, 24, dtype)
        model = KMeans(20, random_state=0, device="cpu").fit(rows)
        model.predict(rows[:200])
        model.transform(rows[:200])
    rows = _clustered_rows(2000, 6, np.float32)
    KMeans(8, init="random", n_init=2, device="cpu").fit(rows[:900], sample_weight=np.ones(900))
    choose_k(rows, device="cpu")


def kmeans_passes(folder: Path) -> None:
    """Pass over rows at every level of precision, and label few and many rows once.

    Which levels a fit goes on to depends on its rows and on what kernels cost, so no fit is sure to need all of them.
    """
    from engine.backends.cpu import FEW_ROWS, CpuBackend, allocate_rows_at
    from engine.execution.array_storage import IN_MEMORY
    from engine.kernels.cpu.kmeans.quantize import FLOAT32, coarsest_level
    from engine.kmeans.lloyd import Samples, lloyd

    backend, n_features = CpuBackend(), 24
    for dtype in (np.float32, np.float64):
        rows = _clustered_rows(FEW_ROWS + 1, n_features, dtype)
        samples, everything = Samples.from_array(rows, None, backend), slice(0, len(rows))
        for level in range(coarsest_level(n_features), FLOAT32 + 1):
            prepared = allocate_rows_at(level, rows, len(rows), IN_MEMORY)
            backend.prepare_and_range(rows, np.empty(0), prepared, everything)
            backend.requantize_rows(rows, prepared, everything)
            lloyd(replace(samples, prepared=prepared), rows[:20], max_iter=3, tolerance=0.0)
        for some in (rows[:300], rows):
            backend.label(some, rows[:20], np.empty(len(some), np.int32))
            backend.nearest_two(some, rows[:20])


def maps(folder: Path) -> None:
    """t-SNE with exact and with approximate neighbors, and repulsion over all pairs and on a grid."""
    from engine import TSNE

    for n_rows, neighbors in ((400, "exact"), (3000, "clusters")):
        rows = _clustered_rows(n_rows, 8, np.float32)
        TSNE(perplexity=10, max_iter=250, neighbors=neighbors, random_state=0, device="cpu").fit(rows).transform(rows)


def components(folder: Path) -> None:
    """PCA of rows in memory, of both precisions."""
    from engine import PCA

    for dtype in (np.float32, np.float64):
        rows = _clustered_rows(20_000, 40, dtype)
        PCA(0.95, device="cpu").fit(rows).transform(rows)


def ratings(folder: Path) -> None:
    """Profiles from ratings, and a fit of them."""
    from engine import profiles_from_ratings
    from engine.ratings.factorize_ids import IdFactorizer

    random = np.random.default_rng(0)
    genres = ["Crime|Drama", "Comedy", "Sci-Fi|Comedy", "Drama"]
    items = {"item_id": range(80), "title": [f"Film {i} ({1950 + i % 60})" for i in range(80)]}
    rated = {"user_id": np.repeat(np.arange(300), 10), "item_id": random.integers(0, 80, 3000)}
    rated |= {"rating": random.integers(1, 6, 3000).astype(float), "timestamp": random.integers(0, 10**7, 3000)}
    titles = pa.table({**items, "genres": [genres[i % 4] for i in range(80)]})
    profiles: Any = profiles_from_ratings(pa.table(rated), titles).table
    heavy_tail = np.exp(random.normal(scale=4.0, size=len(profiles)))
    _fit(profiles.append_column("spend", pa.array(heavy_tail)), folder / "run", id="user_id", n_clusters=4)
    names = pa.array([f"u{user}" for user in rated["user_id"]])
    named = profiles_from_ratings(pa.table({**rated, "user_id": names}), titles).table
    _fit(named, folder / "named", id="user_id", skip=["map", "report"])
    many = pa.array(range(2000))  # so many that hash tables grow
    for ids in (many, many.cast(pa.string())):
        IdFactorizer().factorize(ids)


def members(folder: Path) -> None:
    """Whole runs of a demo table, in memory and streamed; new rows assigned and placed; a map that goes on."""
    from engine import compare, load
    from engine.datasets.demo_table import write_demo

    source = write_demo(folder, 12_000).members
    first = _fit(source, folder / "first", id="user_id", n_clusters=12, map={"max_iter": 250, "place_all": True})
    load(first.path).assign(source, out=folder / "assigned", place=True)
    second = _fit(source, folder / "second", id="user_id", n_clusters=6, previous=str(first.path), memory="400MiB")
    compare(first.path, second.path)


def _fit(source: Any, out: Path, *, id: str, n_clusters: int | str = "auto", **settings: Any) -> Any:
    import engine
    from engine.config import FitConfig

    config = FitConfig.merge({}, device="cpu", **settings)
    return engine.fit(source, out=out, id=id, n_clusters=n_clusters, config=config)


# The longest first, and those that need the same kernels apart.
JOBS: dict[str, Callable[[Path], None]] = {
    job.__name__: job for job in (members, kmeans_passes, maps, kmeans_estimator, ratings, components)
}


def run_jobs(environment: Mapping[str, str], processes: int, reporter: Reporter, name: str) -> None:
    """Run all jobs, each in a process with the given environment.

    Parameters
    ----------
    environment : mapping
    processes : int
        Most processes at a time.
    reporter : Reporter
        Is told of every job that is done, in a stage called `name`.
    name : str

    Raises
    ------
    OutOfResourcesError
        If a job fails, with the last line that it printed.
    """
    with reporter.stage(name, len(JOBS)) as advance, ThreadPoolExecutor(processes) as pool:
        waiting = [pool.submit(_run_process, job, environment) for job in JOBS]
        for done in as_completed(waiting):
            done.result()
            advance(1)


def _run_process(job: str, environment: Mapping[str, str]) -> None:
    command = [sys.executable, "-P", "-m", "engine.pipeline.kernel_jobs", job]
    process = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False)
    if process.returncode != 0:
        last = (process.stderr.strip().splitlines() or ["nothing was printed"])[-1]
        raise OutOfResourcesError(f"Job {job} ended with exit code {process.returncode}: {last}")


def _main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        JOBS[sys.argv[1]](Path(folder))


if __name__ == "__main__":
    _main()
