"""Initial centers of K-Means: "k-means++", "k-means||", "random", an array, or what a callable returns.

    Samples, `init`, a generator -> centers (n_clusters, n_features) of the rows' dtype

"k-means++" (Arthur & Vassilvitskii, SODA 2007) seeds greedily on a sample of the rows and improves the seeds there by
local search (local_search.py): on all rows, n_clusters sequential passes would take longer than the clustering. It can
seed several times and keep the seeds that lead to the least inertia on the sample.
"k-means||" draws candidates from all rows in a few passes (Bahmani et al., "Scalable k-means++", VLDB 2012) and seeds
on those.

Rows are sampled by a counter-based generator keyed on (seed, row number), engine/utils/row_sampling.py, so a sample
depends on neither blocks nor threads. Before seeding, equal rows become one weighted row, in the order of their bytes:
rows in another order, or repeated instead of weighted, give the same seeds. Measurements: decisions/0004-seeding.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from engine.backends.protocol import SUM_ROWS
from engine.execution.threads import map_blocks
from engine.kernels.cpu import distance
from engine.kernels.cpu.kmeans import plus_plus
from engine.kmeans.lloyd import Clustering, Samples, lloyd, pass_blocks
from engine.kmeans.local_search import improve_seeds
from engine.utils.array_types import Float64s, Int32s, Int64s, Rows
from engine.utils.row_sampling import row_keys, sample_rows

# Rows of the sample on which seeds are improved: at least SAMPLE_ROWS, and so many per cluster. A sample of m rows
# costs about n_clusters / m of the inertia before Lloyd's algorithm runs on all rows.
SAMPLE_ROWS, SAMPLE_ROWS_PER_CLUSTER = 1 << 14, 32
# Rows of that sample from which greedy k-means++ draws: at least SEED_ROWS, and so many per cluster.
SEED_ROWS, SEED_ROWS_PER_CLUSTER = 1 << 12, 8
TRIALS_PER_SEED = 2  # the best draw becomes the seed: more draws gain nothing that local search does not
SEARCH_ROUNDS_PER_ITERATION = 4  # rounds of local search for every iteration beyond the first that the caller allows
MAX_SEEDINGS, SEEDINGS_TIMES_CLUSTERS = 8, 160  # seedings of a sample, fewer with many clusters: each takes longer
SEEDING_ITERATIONS = 100  # of Lloyd's algorithm on the sample, before seedings are compared
SAME_INERTIA = 1e-5  # relative difference below which two seedings have led to the same centers
PARALLEL_ROUNDS = 5  # passes of k-means|| over all rows
OVERSAMPLING = 2  # candidates per cluster that a pass of k-means|| draws, on average

Init = str | Callable[..., Any] | Any


def initialize_centers(
    samples: Samples,
    init: Init,
    n_clusters: int,
    random: np.random.RandomState,
    max_iter: int = 300,
    *,
    several: bool = False,
) -> Rows:
    """Return initial centers (n_clusters, n_features); `init` is that of engine.KMeans.

    With a small `max_iter`, less time is spent on seeds too. With `several`, "k-means++" seeds again until the least
    inertia on the sample was found twice, at most MAX_SEEDINGS times.
    """
    if isinstance(init, str):
        seed = int(random.randint(2**31 - 1))
        if init == "random":
            return _draw_rows(samples, n_clusters, seed)
        rounds = SEARCH_ROUNDS_PER_ITERATION * (max_iter - 1)
        if init == "k-means++":
            sample = _draw_sample(samples, n_clusters, seed)
            n_seedings = min(MAX_SEEDINGS, SEEDINGS_TIMES_CLUSTERS // n_clusters) if several else 1
            if n_seedings > 1:
                return _best_of_seedings(sample, n_clusters, seed, random, rounds, n_seedings)
            seeds = seeds_of_sample(sample.X, sample.weights, n_clusters, seed, random)
            return improve_seeds(sample, seeds, random, rounds)
        return improve_seeds(*_kmeans_parallel(samples, n_clusters, seed, random), random, rounds)
    if callable(init):
        init = init(samples.X, n_clusters, random_state=random)
    return validate_initial_centers(init, samples.X, n_clusters)


def validate_initial_centers(init: Any, X: Rows, n_clusters: int) -> Rows:
    """Return given centers in the rows' dtype.

    Raises
    ------
    ValueError
        If their shape is not (n_clusters, n_features), or a value is NaN or infinite.
    """
    from sklearn.utils import check_array  # its import takes half a second, which a fit that draws its seeds saves

    centers: Rows = check_array(init, dtype=X.dtype, copy=True, order="C")
    if centers.shape[0] != n_clusters:
        raise ValueError(
            f"The shape of the initial centers {centers.shape} does not match the number of clusters {n_clusters}."
        )
    if centers.shape[1] != X.shape[1]:
        raise ValueError(
            f"The shape of the initial centers {centers.shape} does not match "
            f"the number of features of the data {X.shape[1]}."
        )
    return centers


def _draw_sample(samples: Samples, n_clusters: int, seed: int) -> Samples:
    """Return a sample of the rows; equal rows are one weighted row."""
    size = max(SAMPLE_ROWS, SAMPLE_ROWS_PER_CLUSTER * n_clusters)
    rows = sample_rows(len(samples.X), size, seed)
    weights = np.ones(len(rows))
    if len(samples.weights):
        with_weight = np.flatnonzero(samples.weights > 0)
        rows = with_weight[sample_rows(len(with_weight), size, seed)]
        weights = samples.weights[rows]
    return Samples.from_array(*distinct_rows(samples.X[rows], weights), samples.backend)


def seeds_of_sample(X: Rows, weights: Float64s, n_clusters: int, seed: int, random: np.random.RandomState) -> Rows:
    """Return seeds (n_clusters, n_features) drawn by greedy k-means++ from a part of weighted rows."""
    rows = sample_rows(len(X), max(SEED_ROWS, SEED_ROWS_PER_CLUSTER * n_clusters), seed)
    seeds: Rows = X[rows[greedy_seeds(X[rows], weights[rows], n_clusters, random)]]
    return seeds


def _best_of_seedings(
    sample: Samples, n_clusters: int, seed: int, random: np.random.RandomState, max_rounds: int, n_seedings: int
) -> Rows:
    """Return the centers of least inertia on the sample, once two seedings have led to it, or after `n_seedings`."""
    best: Clustering | None = None
    for number in range(n_seedings):
        seeds = seeds_of_sample(sample.X, sample.weights, n_clusters, seed + number, random)
        seeds = improve_seeds(sample, seeds, random, max_rounds)
        found = lloyd(sample, seeds, max_iter=SEEDING_ITERATIONS, tolerance=0.0)
        if best is not None and abs(found.inertia - best.inertia) <= SAME_INERTIA * best.inertia:
            break
        if best is None or found.inertia < best.inertia:
            best = found
    assert best is not None
    return best.centers


def _kmeans_parallel(
    samples: Samples, n_clusters: int, seed: int, random: np.random.RandomState
) -> tuple[Samples, Rows]:
    """Return candidates drawn by k-means||, each weighted by the rows nearest to it, and seeds drawn from those."""
    drawn = candidates = _draw_rows(samples, 1, seed)
    closest = np.full(len(samples.X), np.inf)
    for number in range(1, PARALLEL_ROUNDS + 1):
        _, distances = _nearest_centers(samples, drawn)
        closest = np.minimum(closest, distances)
        potential = math.fsum(distance.block_sums(closest, samples.weights, SUM_ROWS))
        if potential == 0:
            break
        weights = samples.weights if len(samples.weights) else 1.0
        probability = closest * weights * (OVERSAMPLING * n_clusters / potential)
        drawn = samples.X[_uniform_numbers(seed + number, len(samples.X)) < probability]
        candidates = np.concatenate([candidates, drawn])
    candidates, _ = distinct_rows(candidates, np.ones(len(candidates)))
    labels, _ = _nearest_centers(samples, candidates)
    row_weights = samples.weights if len(samples.weights) else None
    weights = np.bincount(labels, row_weights, len(candidates)).astype(np.float64)
    candidates, weights = candidates[weights > 0], weights[weights > 0]
    seeds = candidates[greedy_seeds(candidates, weights, n_clusters, random)]
    return Samples.from_array(candidates, weights, samples.backend), seeds


def _nearest_centers(samples: Samples, centers: Rows) -> tuple[Int32s, Float64s]:
    """Return every row's nearest center (n_samples,), and the squared distance to it (n_samples,)."""
    labels, distances = np.empty(len(samples.X), np.int32), np.empty(len(samples.X))
    backend = samples.backend

    def label_block(part: slice) -> None:
        X = samples.X[part]
        backend.label(X, centers, labels[part])
        distances[part] = backend.assigned_distances(X, samples.prepared, part, centers, labels[part])

    for _ in map_blocks(label_block, pass_blocks(len(samples.X), backend)):
        pass
    return labels, distances


def _uniform_numbers(seed: int, n_rows: int) -> Float64s:
    """Return a number in (0, 1) for every row, by (seed, row number)."""
    return (row_keys(seed, np.arange(n_rows, dtype=np.int64)).astype(np.float64) + 0.5) / 2.0**64


def _draw_rows(samples: Samples, n_clusters: int, seed: int) -> Rows:
    """Return rows drawn by weight without replacement, by exponential keys (Efraimidis & Spirakis, 2006)."""
    if not len(samples.weights):
        return samples.X[sample_rows(len(samples.X), n_clusters, seed)]
    with np.errstate(divide="ignore"):  # a weight of 0 makes an infinite key, which comes last
        keys = -np.log(_uniform_numbers(seed, len(samples.X))) / samples.weights
    return samples.X[np.sort(np.argsort(keys, kind="stable")[:n_clusters])]


def distinct_rows(X: Rows, weights: Float64s) -> tuple[Rows, Float64s]:
    """Return the distinct rows in the order of their bytes, and the sums of their weights."""
    unsigned_zeros = np.ascontiguousarray(X + X.dtype.type(0))  # -0 and 0 are one value
    as_bytes = unsigned_zeros.view(np.dtype((np.void, unsigned_zeros.strides[0]))).ravel()
    _, first, group = np.unique(as_bytes, return_index=True, return_inverse=True)
    return unsigned_zeros[first], np.bincount(group, weights=weights, minlength=len(first)).astype(np.float64)


def greedy_seeds(X: Rows, weights: Float64s, n_clusters: int, random: np.random.RandomState) -> Int64s:
    """Return the row numbers of seeds (n_clusters,) drawn by greedy k-means++.

    Each seed is the best of TRIALS_PER_SEED draws proportional to weight x squared distance to the nearest seed. Once
    every distinct row is a seed, the first row is repeated.
    """
    seeds = np.zeros(n_clusters, np.int64)
    uniform = random.uniform(size=(n_clusters, TRIALS_PER_SEED))
    plus_plus.greedy_kmeans_plusplus(plus_plus.arrange_in_strips(X), weights, uniform, seeds)
    return seeds
