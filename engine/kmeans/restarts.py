"""Restarts of Lloyd's algorithm (`n_init`): runs from different initial centers, the one of least inertia kept.

    Samples, n_clusters, `init`, a generator -> Clustering (centers, labels, inertia, iterations)

This is K-Means without its estimator (estimator.py). Nothing here validates rows or imports scikit-learn: that takes
as long as to cluster a million rows, and a fit that encoded its rows itself has nothing to validate.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from engine.backends.protocol import Backend, LibraryKMeansSettings
from engine.execution.array_storage import IN_MEMORY, Storage
from engine.execution.passes import current_cluster
from engine.execution.threads import one_blas_thread, row_blocks
from engine.kmeans.distributed import ShardedSamples
from engine.kmeans.initialization import Init, initialize_centers, validate_initial_centers
from engine.kmeans.lloyd import Clustering, Iteration, Samples, lloyd, scaled_tolerance
from engine.progress import Advance
from engine.utils.array_types import Int32s, Rows
from engine.utils.row_sampling import KEY_ROWS

# cuML's names of the ways to initialize.
LIBRARY_INITS = {"k-means++": "scalable-k-means++", "k-means||": "scalable-k-means++", "random": "random"}
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class KMeansCheckpoint:
    """All that is needed to resume K-Means after an iteration, to the same bits."""

    run: int  # number of the restart, from 0
    generator_state: Any  # of np.random.RandomState, after the initial centers of the restart were drawn
    iteration: Iteration
    best: Clustering | None  # of the restarts before; its labels may be empty: they are computed from the centers


OnCheckpoint = Callable[[KMeansCheckpoint], None]


@one_blas_thread()  # entered once for all passes: to enter it takes ten times as long as a pass over a sample
def best_clustering(
    samples: Samples,
    n_clusters: int,
    *,
    init: Init = "k-means++",
    n_init: int = 1,
    max_iter: int = 300,
    tol: float = 1e-4,
    random: np.random.RandomState,
    several_seedings: bool = False,
    verbose: bool = False,
    checkpoint: KMeansCheckpoint | None = None,
    on_checkpoint: OnCheckpoint | None = None,
    advance: Advance | None = None,
) -> Clustering:
    """Return the clustering of least inertia of `n_init` restarts, the first of equal ones.

    Parameters are those of engine.KMeans; with `several_seedings` the initial centers of each are the best of several
    seedings of a sample. `on_checkpoint` is called after every iteration that another one follows;
    `checkpoint` is where to resume. `advance` is called with 1 after every iteration.
    """
    if not isinstance(init, str) and not callable(init):
        init = validate_initial_centers(init, samples.X, n_clusters)
    tolerance = scaled_tolerance(samples, tol) if max_iter > 1 else 0.0  # a single iteration needs no stopping rule
    best = None if checkpoint is None or checkpoint.best is None else _with_labels(samples, checkpoint.best)
    if checkpoint is not None:
        random.set_state(checkpoint.generator_state)
    for run in range(0 if checkpoint is None else checkpoint.run, n_init):
        resume_from = checkpoint.iteration if checkpoint is not None and run == checkpoint.run else None
        if resume_from is None:
            centers = initialize_centers(samples, init, n_clusters, random, max_iter, several=several_seedings)
            if verbose:
                logger.info("Initialization complete")
        else:
            centers = resume_from.centers
        clustering = lloyd(
            samples, centers, max_iter=max_iter, tolerance=tolerance, verbose=verbose, resume_from=resume_from,
            on_iteration=_iteration_callback(on_checkpoint, run, random, best), advance=advance,
        )  # fmt: skip
        if best is None or (clustering.inertia < best.inertia and not _same_partition(clustering.labels, best.labels)):
            best = clustering
    assert best is not None
    return best


def cluster_rows(
    Z: Rows,
    n_clusters: int,
    backend: Backend,
    *,
    seed: int,
    init: Init = "k-means++",
    n_init: int = 1,
    several_seedings: bool = False,
    max_iter: int = 300,
    tol: float = 1e-4,
    algorithm: str = "lloyd",
    storage: Storage = IN_MEMORY,
    checkpoint: KMeansCheckpoint | None = None,
    on_checkpoint: OnCheckpoint | None = None,
    advance: Advance | None = None,
) -> Clustering:
    """Cluster rows (n_rows, n_features) known to be finite: the bits of engine.KMeans of the same parameters, if one
    seeding of a sample is enough.

    The algorithm "cuml" has no checkpoints: the library reports nothing before it has ended, not even to `advance`,
    which is called with numbers of iterations done. "fused" is "lloyd" by fused kernels of a GPU.
    """
    backend = backend.with_fused_kernels() if algorithm == "fused" else backend
    random = np.random.RandomState(seed)
    # Workers read rows from mapped files only.
    cluster = None if storage.folder is None else current_cluster()
    samples = (
        Samples.from_array(Z, None, backend, storage)
        if cluster is None
        else ShardedSamples.distribute(cluster, Z, backend, storage)
    )
    if algorithm == "cuml":
        clustering = library_clustering(
            samples, n_clusters, init=init, n_init=n_init, max_iter=max_iter, tol=tol, random=random
        )
        if advance is not None:
            advance(clustering.n_iter)
        return clustering
    return best_clustering(
        samples, n_clusters, init=init, n_init=n_init, max_iter=max_iter, tol=tol, random=random,
        several_seedings=several_seedings, checkpoint=checkpoint, on_checkpoint=on_checkpoint, advance=advance,
    )  # fmt: skip


def clustering_by_centers(Z: Rows, centers: Rows, backend: Backend, storage: Storage = IN_MEMORY) -> Clustering:
    """Return the clustering of rows (n_rows, n_features), known to be finite, by given centers."""
    state = Samples.from_array(Z, None, backend, storage).new_state(len(centers))
    state.relabel(centers)
    return Clustering(centers, state.labels, state.inertia(centers), 0, state.pass_counts)


def library_clustering(
    samples: Samples,
    n_clusters: int,
    *,
    init: Init = "k-means++",
    n_init: int = 1,
    max_iter: int = 300,
    tol: float = 1e-4,
    random: np.random.RandomState,
    verbose: bool = False,
) -> Clustering:
    """Return the clustering by the K-Means of the device's own library; labels and inertia are the engine's own.

    `tol` is that of `best_clustering`: relative to the variance of the features, while the library's is not. The
    library also stops when an iteration lowers the inertia by less than that share: it is never told more than `tol`.
    """
    seed = int(random.randint(2**31 - 1))
    if callable(init):
        init = init(samples.X, n_clusters, random_state=random)
    start = LIBRARY_INITS[init] if isinstance(init, str) else validate_initial_centers(init, samples.X, n_clusters)
    settings = LibraryKMeansSettings(n_clusters, n_init, max_iter, min(tol, scaled_tolerance(samples, tol)), seed)
    centers, n_iter = samples.library_centers(start, settings)
    state = samples.new_state(n_clusters)
    state.relabel(centers)
    inertia = state.inertia(centers)
    if verbose:
        logger.info("the library stopped after %d iterations", n_iter)
    return Clustering(centers, state.labels, inertia, n_iter, state.pass_counts)


def _iteration_callback(
    on_checkpoint: OnCheckpoint | None, run: int, random: np.random.RandomState, best: Clustering | None
) -> Callable[[Iteration], None] | None:
    """Return what makes checkpoints of a restart's iterations, with the generator's state of now."""
    if on_checkpoint is None:
        return None
    generator_state = random.get_state()
    return lambda iteration: on_checkpoint(KMeansCheckpoint(run, generator_state, iteration, best))


def _with_labels(samples: Samples, clustering: Clustering) -> Clustering:
    """Return the clustering with its labels, which depend on its centers alone."""
    return replace(clustering, labels=samples.label(clustering.centers))


def _same_partition(labels: Int32s, other_labels: Int32s) -> bool:
    """Return whether every cluster of `labels` lies within one cluster of `other_labels`."""
    other_of_label = np.empty(labels.max() + 1, np.int32)
    blocks = list(row_blocks(len(labels), KEY_ROWS))
    for rows in blocks:
        other_of_label[labels[rows]] = other_labels[rows]
    return all(bool((other_of_label[labels[rows]] == other_labels[rows]).all()) for rows in blocks)
