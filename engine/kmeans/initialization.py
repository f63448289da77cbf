"""Where the centres of K-Means start.

    RowSet, `init`, a generator -> centres (n_clusters, n_features) of the rows' dtype

"k-means++" seeds greedily on a sample drawn by (seed, row number) and improves the seeds there, by Lloyd steps and by
moving centres that are of little use (local_search.py): on all rows, k sequential passes would take longer than the
clustering. "k-means||" draws candidates from all rows in a few passes (Bahmani et al., "Scalable k-means++", VLDB
2012), and seeds on those. Rows that seed are distinct, weighted, and in the order of their bytes, so rows in another
order, or repeated instead of weighted, give the same seeds. Why a sample, and why swaps: decisions/0004-seeding.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from engine.backends.protocol import SUM_ROWS, Float64s, Int32s, Int64s, Rows
from engine.execution.threads import map_blocks
from engine.kernels.cpu import distance
from engine.kernels.cpu.kmeans import plus_plus as seeding
from engine.kmeans.lloyd import RowSet, jobs
from engine.kmeans.local_search import improved
from engine.utils.row_sampling import row_keys, sample_rows

SAMPLE_ROWS = 1 << 14  # at least so many rows improve the seeds …
SAMPLE_ROWS_PER_CLUSTER = 32  # … and so many per cluster: a sample of m rows costs about k / m of inertia before Lloyd
SEED_ROWS = 1 << 12  # of those, at least so many are where greedy k-means++ draws from …
SEED_ROWS_PER_CLUSTER = 8  # … and so many per cluster
TRIALS = 2  # draws for a seed, the best one kept: more gain nothing that swaps do not
ROUNDS_PER_ITERATION = 4  # of moving centres, for every iteration that the caller allows beyond the first
ROUNDS = 5  # passes of k-means|| over all rows …
OVERSAMPLING = 2  # … each of which draws about so many candidates per cluster

Init = str | Callable[..., Any] | Any


def initial_centres(
    rows: RowSet, init: Init, n_clusters: int, random: np.random.RandomState, max_iter: int = 300
) -> Rows:
    """Return the centres to start from: "k-means++", "k-means||", "random", an array, or what a callable returns.

    Who wants few iterations over all rows gets seeds that took little time as well.
    """
    if isinstance(init, str):
        seed = int(random.randint(2**31 - 1))
        if init == "random":
            return _random(rows, n_clusters, seed)
        sample, seeds = (_plus_plus if init == "k-means++" else _parallel)(rows, n_clusters, seed, random)
        return improved(sample, seeds, random, most_rounds=ROUNDS_PER_ITERATION * (max_iter - 1))
    if callable(init):
        init = init(rows.X, n_clusters, random_state=random)
    return checked_centres(init, rows.X, n_clusters)


def checked_centres(init: Any, X: Rows, n_clusters: int) -> Rows:
    """Return given centres in the rows' dtype, or say which shape does not match."""
    from sklearn.utils import check_array  # half a second that a job with seeds of its own saves

    centres: Rows = check_array(init, dtype=X.dtype, copy=True, order="C")
    if centres.shape[0] != n_clusters:
        raise ValueError(
            f"The shape of the initial centers {centres.shape} does not match the number of clusters {n_clusters}."
        )
    if centres.shape[1] != X.shape[1]:
        raise ValueError(
            f"The shape of the initial centers {centres.shape} does not match "
            f"the number of features of the data {X.shape[1]}."
        )
    return centres


def _plus_plus(rows: RowSet, n_clusters: int, seed: int, random: np.random.RandomState) -> tuple[RowSet, Rows]:
    """Return a sample, and seeds from it."""
    size = max(SAMPLE_ROWS, SAMPLE_ROWS_PER_CLUSTER * n_clusters)
    numbers = sample_rows(len(rows.X), size, seed)
    if len(rows.weights):
        heavy = np.flatnonzero(rows.weights > 0)
        numbers = heavy[sample_rows(len(heavy), size, seed)]
    X, weights = distinct_rows(rows.X[numbers], rows.weights[numbers] if len(rows.weights) else np.ones(len(numbers)))
    few = sample_rows(len(X), max(SEED_ROWS, SEED_ROWS_PER_CLUSTER * n_clusters), seed)
    seeds = X[few[greedy_seeds(X[few], weights[few], n_clusters, random)]]
    return RowSet.of(X, weights, rows.backend), seeds


def _parallel(rows: RowSet, n_clusters: int, seed: int, random: np.random.RandomState) -> tuple[RowSet, Rows]:
    """Draw candidates from all rows by their share of the potential, weigh them by the rows near them, and seed."""
    drawn = candidates = _random(rows, 1, seed)
    closest = np.full(len(rows.X), np.inf)
    for step in range(1, ROUNDS + 1):
        _, distances = _labelled(rows, drawn)
        closest = np.minimum(closest, distances)
        potential = math.fsum(distance.sums_of_runs(closest, rows.weights, SUM_ROWS))
        if potential == 0:
            break
        wanted = closest * (rows.weights if len(rows.weights) else 1.0) * (OVERSAMPLING * n_clusters / potential)
        drawn = rows.X[_uniform(seed + step, len(rows.X)) < wanted]
        candidates = np.concatenate([candidates, drawn])
    candidates, _ = distinct_rows(candidates, np.ones(len(candidates)))
    labels, _ = _labelled(rows, candidates)
    weights = np.bincount(labels, rows.weights if len(rows.weights) else None, len(candidates)).astype(np.float64)
    candidates, weights = candidates[weights > 0], weights[weights > 0]
    seeds = candidates[greedy_seeds(candidates, weights, n_clusters, random)]
    return RowSet.of(candidates, weights, rows.backend), seeds


def _labelled(rows: RowSet, centres: Rows) -> tuple[Int32s, Float64s]:
    """Return every row's nearest centre, and the squared distance to it."""
    labels, distances = np.empty(len(rows.X), np.int32), np.empty(len(rows.X))

    def one(part: slice) -> None:
        rows.backend.label(rows.X[part], centres, labels[part])
        distances[part] = rows.backend.own_distances(rows.X[part], rows.prepared, part, centres, labels[part])

    for _ in map_blocks(one, jobs(len(rows.X), rows.backend)):
        pass
    return labels, distances


def _uniform(seed: int, n_rows: int) -> Float64s:
    """Return a number in (0, 1) for every row, by (seed, row number)."""
    return (row_keys(seed, np.arange(n_rows, dtype=np.int64)).astype(np.float64) + 0.5) / 2.0**64


def _random(rows: RowSet, n_clusters: int, seed: int) -> Rows:
    """Return distinct row numbers' rows; with weights, drawn with their probability (Efraimidis & Spirakis, 2006)."""
    if not len(rows.weights):
        return rows.X[sample_rows(len(rows.X), n_clusters, seed)]
    with np.errstate(divide="ignore"):
        waits = -np.log(_uniform(seed, len(rows.X))) / rows.weights  # a weight of 0 waits for ever
    return rows.X[np.sort(np.argsort(waits, kind="stable")[:n_clusters])]


def distinct_rows(X: Rows, weights: Float64s) -> tuple[Rows, Float64s]:
    """Return the distinct rows in the order of their bytes, and the sums of their weights."""
    clean = np.ascontiguousarray(X + X.dtype.type(0))  # -0 and 0 are one value
    as_bytes = clean.view(np.dtype((np.void, clean.strides[0]))).ravel()
    _, first, group = np.unique(as_bytes, return_index=True, return_inverse=True)
    return clean[first], np.bincount(group, weights=weights, minlength=len(first)).astype(np.float64)


def greedy_seeds(X: Rows, weights: Float64s, n_clusters: int, random: np.random.RandomState) -> Int64s:
    """Return the numbers of `n_clusters` rows, each the best of TRIALS draws proportional to weight x distance^2.

    Once every distinct row is a seed, the first row is repeated.
    """
    seeds = np.zeros(n_clusters, np.int64)
    seeding.greedy_seeds(seeding.strips_of(X), weights, random.uniform(size=(n_clusters, TRIALS)), seeds)
    return seeds
