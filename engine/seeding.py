"""Where the centres of K-Means start.

    RowSet, `init`, a generator -> centres (n_clusters, n_features) of the rows' dtype

"k-means++" seeds greedily on a sample drawn by (seed, row number) and improves the seeds by a few Lloyd steps on that
sample; for few clusters it does so several times and keeps the draft of least inertia. On all rows, k sequential
passes would take longer than the clustering (Arthur & Vassilvitskii, "k-means++: the advantages of careful seeding",
SODA 2007; greedy variant as in scikit-learn). The sample's distinct rows are put in the order of their bytes, so rows
in another order, or repeated instead of weighted, give the same seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from engine.backends.protocol import Backend, Float64s, Int64s, Rows
from engine.execution.local import map_blocks
from engine.lloyd import RowSet, lloyd
from engine.sampling import row_keys, sample_rows

SAMPLE_ROWS = 1 << 14  # at least so many rows seed the centres …
SAMPLE_ROWS_PER_CLUSTER = 50  # … and so many per cluster: a sample of m rows costs about k / m of inertia before Lloyd
SAMPLE_STEPS = 10  # Lloyd steps on the sample, each as cheap as the sample is small
MAX_DRAFTS = 16  # seedings of the sample of which the best is kept; few clusters have the worst local optima, and
CLUSTERS_OF_DRAFTS = 200  # the cheapest seedings: this over k drafts, so one from k = 101 on. decisions/0004-seeding.md

Init = str | Callable[..., Any] | Any


def initial_centres(rows: RowSet, init: Init, n_clusters: int, random: np.random.RandomState) -> Rows:
    """Return the centres to start from: "k-means++", "random", an array, or what a callable returns."""
    if isinstance(init, str):
        seed = int(random.randint(2**31 - 1))
        return _plus_plus(rows, n_clusters, seed, random) if init == "k-means++" else _random(rows, n_clusters, seed)
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


def _plus_plus(rows: RowSet, n_clusters: int, seed: int, random: np.random.RandomState) -> Rows:
    size = max(SAMPLE_ROWS, SAMPLE_ROWS_PER_CLUSTER * n_clusters)
    numbers = sample_rows(len(rows.X), size, seed)
    if len(rows.weights):
        heavy = np.flatnonzero(rows.weights > 0)
        numbers = heavy[sample_rows(len(heavy), size, seed)]
    X, weights = distinct_rows(rows.X[numbers], rows.weights[numbers] if len(rows.weights) else np.ones(len(numbers)))
    sample = RowSet.of(X, weights, rows.backend)
    n_drafts = min(MAX_DRAFTS, max(1, CLUSTERS_OF_DRAFTS // n_clusters))
    if n_drafts == 1 and len(numbers) == len(rows.X):
        return X[greedy_seeds(X, weights, n_clusters, random, rows.backend)]
    drafts = []
    for _ in range(n_drafts):
        seeds = X[greedy_seeds(X, weights, n_clusters, random, rows.backend)]
        drafts.append(lloyd(sample, seeds, max_iter=SAMPLE_STEPS, tolerance=0.0))
    return min(drafts, key=lambda draft: draft.inertia).centres  # the first of equal ones


def _random(rows: RowSet, n_clusters: int, seed: int) -> Rows:
    """Return distinct row numbers' rows; with weights, drawn with their probability (Efraimidis & Spirakis, 2006)."""
    if not len(rows.weights):
        return rows.X[sample_rows(len(rows.X), n_clusters, seed)]
    uniform = (row_keys(seed, np.arange(len(rows.X), dtype=np.int64)).astype(np.float64) + 0.5) / 2.0**64
    with np.errstate(divide="ignore"):
        waits = -np.log(uniform) / rows.weights  # a weight of 0 waits for ever
    return rows.X[np.sort(np.argsort(waits, kind="stable")[:n_clusters])]


def distinct_rows(X: Rows, weights: Float64s) -> tuple[Rows, Float64s]:
    """Return the distinct rows in the order of their bytes, and the sums of their weights."""
    clean = np.ascontiguousarray(X + X.dtype.type(0))  # -0 and 0 are one value
    as_bytes = clean.view(np.dtype((np.void, clean.strides[0]))).ravel()
    _, first, group = np.unique(as_bytes, return_index=True, return_inverse=True)
    return clean[first], np.bincount(group, weights=weights, minlength=len(first)).astype(np.float64)


def greedy_seeds(
    X: Rows, weights: Float64s, n_clusters: int, random: np.random.RandomState, backend: Backend
) -> Int64s:
    """Return the numbers of `n_clusters` rows, each the best of 2 + ln k draws proportional to weight x distance^2.

    Once every distinct row is a seed, the first row is repeated.
    """
    columns = np.ascontiguousarray(X.T, dtype=np.float64)
    trials = 2 + int(np.log(n_clusters))
    seeds = np.zeros(n_clusters, np.int64)
    seeds[0] = _draw(np.cumsum(weights), random.uniform(size=1))[0]
    closest, _ = backend.lowered(columns, weights, np.full(len(X), np.inf), seeds[0])
    for number in range(1, n_clusters):
        candidates = _draw(np.cumsum(weights * closest), random.uniform(size=trials))
        outcomes = list(map_blocks(partial(backend.lowered, columns, weights, closest), candidates))
        best = min(range(trials), key=lambda trial: outcomes[trial][1])  # the first of equal ones
        seeds[number], closest = candidates[best], outcomes[best][0]
    return seeds


def _draw(cumulated: Float64s, uniform: Float64s) -> Int64s:
    """Return positions drawn with the probabilities whose running sum is `cumulated`."""
    drawn: Int64s = np.minimum(np.searchsorted(cumulated, uniform * cumulated[-1]), len(cumulated) - 1)
    return drawn
