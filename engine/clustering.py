"""Several runs of Lloyd's algorithm from different starts, the best one kept: what K-Means is behind its estimator.

    RowSet, n_clusters, `init`, a generator -> Clustering (centres, labels, inertia, iterations)

Nothing here validates, or imports scikit-learn: that takes as long as clustering a million rows does, and a job that
made its rows itself has nothing to validate. The estimator is cluster.py.
"""

from __future__ import annotations

import numpy as np

from engine.backends.protocol import Backend, Int32s, Rows
from engine.lloyd import Clustering, RowSet, lloyd, tolerance
from engine.seeding import Init, checked_centres, initial_centres


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
) -> Clustering:
    """Return the run of least inertia, the first of equal ones; parameters as in engine.KMeans."""
    if not isinstance(init, str) and not callable(init):
        init = checked_centres(init, rows.X, n_clusters)
    limit = tolerance(rows, tol)
    best: Clustering | None = None
    for _ in range(n_runs):
        centres = initial_centres(rows, init, n_clusters, random)
        run = lloyd(rows, centres, max_iter=max_iter, tolerance=limit, verbose=verbose)
        if best is None or (run.inertia < best.inertia and not _same_partition(run.labels, best.labels)):
            best = run
    assert best is not None
    return best


def cluster_rows(
    Z: Rows, n_clusters: int, backend: Backend, *, seed: int, n_runs: int = 1, max_iter: int = 300, tol: float = 1e-4
) -> Clustering:
    """Cluster rows that are known to be finite: the bits of engine.KMeans(n_clusters, random_state=seed)."""
    random = np.random.RandomState(seed)
    rows = RowSet.of(Z, None, backend)
    return best_clustering(rows, n_clusters, n_runs=n_runs, max_iter=max_iter, tol=tol, random=random)


def _same_partition(labels: Int32s, others: Int32s) -> bool:
    """Return whether every cluster of `labels` lies within one cluster of `others`."""
    other_of = np.empty(labels.max() + 1, np.int32)
    other_of[labels] = others
    return bool((other_of[labels] == others).all())
