"""Several runs of Lloyd's algorithm from different starts, the best one kept: what K-Means is behind its estimator.

    RowSet, n_clusters, `init`, a generator -> Clustering (centres, labels, inertia, iterations)

Nothing here validates, or imports scikit-learn: that takes as long as clustering a million rows does, and a job that
made its rows itself has nothing to validate. The estimator is estimator.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from engine.backends.protocol import Backend, Int32s, LibraryPlan, Rows
from engine.execution.array_storage import IN_MEMORY, Storage
from engine.execution.passes import current
from engine.execution.threads import one_blas_thread, row_blocks
from engine.kmeans.distributed import SharedRows
from engine.kmeans.initialization import Init, checked_centres, initial_centres
from engine.kmeans.lloyd import Clustering, RowSet, Step, lloyd, tolerance
from engine.utils.row_sampling import KEY_ROWS

LIBRARY_STARTS = {"k-means++": "scalable-k-means++", "k-means||": "scalable-k-means++", "random": "random"}
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pause:
    """Where a clustering can be left and gone on with: in which run, after which step, the best of the runs before."""

    run: int
    random: Any  # the generator's state once the run had its first centres
    step: Step
    best: Clustering | None  # without labels they are found again


Watch = Callable[[Pause], None]


@one_blas_thread()  # once for all passes: those over a sample take as long as ten times this
def best_clustering(
    rows: RowSet,
    n_clusters: int,
    *,
    init: Init = "k-means++",
    n_runs: int = 1,
    max_iter: int = 300,
    tol: float = 1e-4,
    random: np.random.RandomState,
    verbose: bool = False,
    pause: Pause | None = None,
    watch: Watch | None = None,
) -> Clustering:
    """Return the run of least inertia, the first of equal ones; parameters as in engine.KMeans.

    `watch` is told where one could pause, and `pause` is such a place to go on from.
    """
    if not isinstance(init, str) and not callable(init):
        init = checked_centres(init, rows.X, n_clusters)
    limit = tolerance(rows, tol) if max_iter > 1 else 0.0  # one iteration is the last one anyway
    best = None if pause is None or pause.best is None else _labelled(rows, pause.best)
    if pause is not None:
        random.set_state(pause.random)
    for number in range(0 if pause is None else pause.run, n_runs):
        step = pause.step if pause is not None and number == pause.run else None
        centres = initial_centres(rows, init, n_clusters, random, max_iter) if step is None else step.centres
        told = None if watch is None else partial(_tell, watch, number, random.get_state(), best)
        run = lloyd(
            rows, centres, max_iter=max_iter, tolerance=limit, verbose=verbose, earlier=step, watch=told
        )  # fmt: skip
        if best is None or (run.inertia < best.inertia and not _same_partition(run.labels, best.labels)):
            best = run
    assert best is not None
    return best


def cluster_rows(
    Z: Rows,
    n_clusters: int,
    backend: Backend,
    *,
    seed: int,
    n_runs: int = 1,
    max_iter: int = 300,
    tol: float = 1e-4,
    algorithm: str = "lloyd",
    storage: Storage = IN_MEMORY,
    pause: Pause | None = None,
    watch: Watch | None = None,
) -> Clustering:
    """Cluster rows that are known to be finite: the bits of engine.KMeans(n_clusters, random_state=seed).

    With the algorithm "cuml" there is no pause: the library tells nothing until it has ended.
    """
    random = np.random.RandomState(seed)
    cluster = None if storage.folder is None else current()  # workers see what lies in files
    rows = RowSet.of(Z, None, backend, storage) if cluster is None else SharedRows.on(cluster, Z, backend, storage)
    if algorithm == "cuml":
        return library_clustering(rows, n_clusters, n_runs=n_runs, max_iter=max_iter, tol=tol, random=random)
    return best_clustering(
        rows, n_clusters, n_runs=n_runs, max_iter=max_iter, tol=tol, random=random, pause=pause, watch=watch
    )


def _tell(watch: Watch, run: int, random: Any, best: Clustering | None, step: Step) -> None:
    watch(Pause(run, random, step, best))


def _labelled(rows: RowSet, found: Clustering) -> Clustering:
    """Return a clustering with its labels, which its centres alone decide."""
    return replace(found, labels=rows.label(found.centres))


def library_clustering(
    rows: RowSet,
    n_clusters: int,
    *,
    init: Init = "k-means++",
    n_runs: int = 1,
    max_iter: int = 300,
    tol: float = 1e-4,
    random: np.random.RandomState,
    verbose: bool = False,
) -> Clustering:
    """Return what the K-Means of the device's own library finds; its labels and inertia as everywhere here."""
    seed = int(random.randint(2**31 - 1))
    if callable(init):
        init = init(rows.X, n_clusters, random_state=random)
    start = LIBRARY_STARTS[init] if isinstance(init, str) else checked_centres(init, rows.X, n_clusters)
    plan = LibraryPlan(n_clusters, n_runs, max_iter, tol, seed)
    centres, n_iter = rows.library_centres(start, plan)
    run = rows.run(n_clusters)
    run.relabel(centres)
    found = run.inertia(centres)
    if verbose:
        logger.info("the library stopped after %d iterations", n_iter)
    return Clustering(centres, run.labels, found, n_iter, run.work)


def _same_partition(labels: Int32s, others: Int32s) -> bool:
    """Return whether every cluster of `labels` lies within one cluster of `others`."""
    other_of = np.empty(labels.max() + 1, np.int32)
    runs = list(row_blocks(len(labels), KEY_ROWS))
    for rows in runs:
        other_of[labels[rows]] = others[rows]
    return all(bool((other_of[labels[rows]] == others[rows]).all()) for rows in runs)
