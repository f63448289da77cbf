"""How sure each cluster is: whether K-Means finds it again in other samples of the same people.

    Z (n_rows, n_features), centers  ->  ClusterStability: mean Jaccard index, how often each cluster was found again,
                                         and the odds of the runner-up by the margin

A sample of the rows is resampled with replacement (bootstrap) and clustered from new seeds (resamples.py), and every
row of the sample is labelled by the new centers. The Jaccard index of a cluster is that with the most similar new
cluster: shared rows by rows in either (Hennig, "Cluster-wise assessment of cluster stability", Computational Statistics
& Data Analysis 52, 2007). A stable cluster need not be a group of its own: K-Means cuts an even cloud alike again and
again. Whether there is a valley is the concern of valleys.py.

The same resamples give the odds that a row's runner-up is its cluster: the share of rows with about its margin, in its
cluster, that were put into the new cluster that corresponds to the runner-up. Odds learned on half of the rows and half
of the resamples are checked on the other halves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine import backends
from engine.execution.threads import map_blocks
from engine.kmeans.metrics import silhouettes
from engine.kmeans.resamples import Resamples
from engine.utils.array_types import Float32s, Float64s, Int32s, Int64s, Rows
from engine.utils.formatting import format_percent
from engine.utils.row_sampling import sample_rows

N_RESAMPLES = 20
STABILITY_ROWS = 10_000  # of the sample that is resampled
SILHOUETTE_ROWS = 2_500  # of these: the cost grows with their square
SAMPLE_SEED = 0  # the sample must not follow the seed of a run
FOUND_AGAIN = 0.75  # Jaccard index from which a cluster is found again, by Hennig
STABLE = 0.6  # mean Jaccard index below which a cluster is not a stable group, by Hennig


MARGIN_EDGES = np.array([0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8])  # of the bins of the odds
PRIOR_ROWS = 100.0  # observations of all clusters that are added to those of a bin of one cluster
CHECK_BINS = 10  # of predicted odds, in which they are compared with what happened


@dataclass(frozen=True)
class ClusterStability:
    """Stability of the clusters.

    Attributes
    ----------
    jaccard : float64 ndarray of shape (n_clusters,)
        Mean over the resamples; NaN for a cluster without sampled rows, and where there is one cluster alone.
    silhouette : float64 ndarray of shape (n_clusters,)
        Mean of SILHOUETTE_ROWS sampled rows; NaN where fewer than two of them are in the cluster.
    found_again : int64 ndarray of shape (n_clusters,)
        Resamples in which the cluster was found again, of N_RESAMPLES.
    odds : float32 ndarray of shape (n_clusters, len(MARGIN_EDGES) + 1)
        The odds of the runner-up, by the cluster and the bin of the margin; see `runner_up_odds`.
    odds_error : float
        How far odds lie from what happened, on rows and resamples that they were not learned on: the mean distance over
        bins of the odds, weighted by rows. NaN for one cluster.
    """

    jaccard: Float64s
    silhouette: Float64s
    found_again: Int64s
    odds: Float32s
    odds_error: float


def cluster_stability(Z: Rows, centers: Rows, advance: Callable[[int], None] | None = None) -> ClusterStability:
    """Return how stable each cluster of the rows is under resampling, and the odds of the runner-up.

    `advance` is called with 1 after each of the N_RESAMPLES.
    """
    n_clusters, backend = len(centers), backends.resolve("cpu")[0]
    sample = np.ascontiguousarray(Z[sample_rows(len(Z), STABILITY_ROWS, SAMPLE_SEED)])
    nearest = backend.nearest_two(sample, centers)
    known, sizes = nearest.labels, np.bincount(nearest.labels, minlength=n_clusters)
    switched = np.zeros((N_RESAMPLES, len(sample)), bool)
    indices = np.full((N_RESAMPLES, n_clusters), np.nan)
    resamples = Resamples(sample, centers, backend)

    def cluster_again(number: int) -> tuple[Float64s, NDArray[np.bool_]]:
        """Cluster a resample; return the clusters' Jaccard indices, and the rows that are in their runner-up then."""
        found = resamples.cluster(number)
        shared = _contingency(known, found, n_clusters)
        return _jaccard(shared), shared.argmax(axis=0)[found] == nearest.second_labels

    if n_clusters > 1:  # a resample a thread: passes over 10,000 rows are too short to be shared by threads
        for number, results in enumerate(map_blocks(cluster_again, range(N_RESAMPLES))):
            indices[number], switched[number] = results
            if advance is not None:
                advance(1)
    indices[:, sizes == 0] = np.nan
    bins, half = np.digitize(nearest.margin(), MARGIN_EDGES), np.arange(len(sample)) % 2 == 0
    learned = _odds(known[half], bins[half], switched[::2, half].mean(axis=0), n_clusters, N_RESAMPLES / 2)
    error = _calibration_error(learned[known, bins][~half], switched[1::2, ~half].mean(axis=0))
    return ClusterStability(
        indices.mean(axis=0),
        _cluster_silhouettes(sample, known, n_clusters),
        (indices >= FOUND_AGAIN).sum(axis=0),
        _odds(known, bins, switched.mean(axis=0), n_clusters, N_RESAMPLES),
        error if n_clusters > 1 else np.nan,
    )


def runner_up_odds(odds: Float32s, labels: Int32s, margins: Float32s) -> Float32s:
    """Return the odds of each row that its runner-up is its cluster, given its label and margin."""
    values: Float32s = odds[labels, np.digitize(margins, MARGIN_EDGES)]
    return values


def _odds(labels: Int32s, bins: Int64s, switched: Float64s, n_clusters: int, n_resamples: float) -> Float32s:
    """Return the mean of `switched` by cluster and bin of the margin, drawn towards that of all clusters in the bin."""
    n_bins = len(MARGIN_EDGES) + 1
    place = labels.astype(np.int64) * n_bins + bins
    n_seen = n_resamples * np.bincount(place, minlength=n_clusters * n_bins).reshape(n_clusters, n_bins)
    n_switched = n_resamples * np.bincount(place, switched, n_clusters * n_bins).reshape(n_clusters, n_bins)
    of_all: Float64s = n_switched.sum(axis=0) / np.maximum(n_seen.sum(axis=0), 1)
    odds: Float64s = (n_switched + PRIOR_ROWS * of_all) / (n_seen + PRIOR_ROWS)
    return odds.astype(np.float32)


def _cluster_silhouettes(sample: Rows, labels: Int32s, n_clusters: int) -> Float64s:
    """Return the mean silhouette of each cluster, on every n-th row of the sample."""
    rows = slice(None, None, -(-len(sample) // SILHOUETTE_ROWS))
    X, labels = sample[rows], labels[rows]
    counts = np.bincount(labels, minlength=n_clusters)
    if not 1 < np.count_nonzero(counts) < len(X):
        return np.full(n_clusters, np.nan)
    sums = np.bincount(labels, silhouettes(X, labels), n_clusters)
    return np.where(counts > 1, sums / np.maximum(counts, 1), np.nan)


def _calibration_error(predicted: Float32s, happened: Float64s) -> float:
    """Return the mean distance of predicted odds and observed shares over bins of the odds, weighted by rows."""
    bins = np.minimum((predicted * CHECK_BINS).astype(np.int64), CHECK_BINS - 1)
    difference = np.bincount(bins, predicted.astype(np.float64) - happened, CHECK_BINS)
    return float(np.abs(difference).sum() / max(len(predicted), 1))


class Sureness(NamedTuple):
    """How sure a cluster is: in a sentence, None where that is not known, and whether it is a stable group."""

    words: str | None
    is_stable: bool


def describe_stability(stability: ClusterStability) -> list[Sureness]:
    """Return for each cluster how sure it is."""

    def describe(jaccard: float) -> Sureness:
        if np.isnan(jaccard):
            return Sureness(None, True)
        found = f"is found again on average ({format_percent(STABLE)} is asked of a stable group)."
        again = f"lustered again on other samples of the rows, {format_found_again(jaccard)}"
        if jaccard < STABLE:
            return Sureness(f"Not a stable group: c{again} of it {found}", False)
        return Sureness(f"C{again} of this group {found}", True)

    return [describe(jaccard) for jaccard in stability.jaccard.tolist()]


def format_found_again(jaccard: float) -> str:
    """Format a mean Jaccard index as the percentage of a cluster that is found again.

    It is rounded down, so that a cluster that is not stable never shows the percentage that is asked of a stable one.
    """
    return f"{math.floor(100.0 * jaccard)} %"


def _contingency(labels: Int32s, other_labels: Int32s, n_clusters: int) -> Float64s:
    shared = np.zeros((n_clusters, n_clusters))
    np.add.at(shared, (labels, other_labels), 1)
    return shared


def _jaccard(shared: Float64s) -> Float64s:
    """Return the largest Jaccard index of each cluster with one of the others, given the rows that they share."""
    either = shared.sum(axis=1)[:, None] + shared.sum(axis=0) - shared
    indices: Float64s = (shared / np.maximum(either, 1)).max(axis=1)
    return indices
