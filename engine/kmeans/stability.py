"""How sure each cluster is: whether K-Means finds it again in other samples of the same people.

    Z (n_rows, n_features), labels (n_rows,)  ->  ClusterStability: mean Jaccard index, and how often it was found again

A sample of the rows is resampled with replacement (bootstrap), clustered from new seeds, and every row of the sample is
labelled by the new centers. The Jaccard index of a cluster is that with the most similar new cluster: shared rows by
rows in either (Hennig, "Cluster-wise assessment of cluster stability", Computational Statistics & Data Analysis 52,
2007). A stable cluster need not be a group of its own: K-Means cuts an even cloud alike again and again. Whether there
is a valley is the concern of valleys.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine import backends
from engine.kmeans.restarts import cluster_rows
from engine.utils.array_types import Float64s, Int32s, Int64s, Rows
from engine.utils.row_sampling import row_keys, sample_rows

N_RESAMPLES = 20
STABILITY_ROWS = 10_000  # of the sample that is resampled
SAMPLE_SEED = 0  # the sample must not follow the seed of a run
FOUND_AGAIN = 0.75  # Jaccard index from which a cluster is found again, by Hennig
STABLE = 0.6  # mean Jaccard index below which a cluster is not a stable group, by Hennig


@dataclass(frozen=True)
class ClusterStability:
    """Stability of the clusters.

    Attributes
    ----------
    jaccard : float64 ndarray of shape (n_clusters,)
        Mean over the resamples; NaN for a cluster without sampled rows, and where there is one cluster alone.
    found_again : int64 ndarray of shape (n_clusters,)
        Resamples in which the cluster was found again, of N_RESAMPLES.
    """

    jaccard: Float64s
    found_again: Int64s


def cluster_stability(Z: Rows, labels: Int32s, n_clusters: int) -> ClusterStability:
    """Return how stable each cluster of the rows is under resampling."""
    rows = sample_rows(len(Z), STABILITY_ROWS, SAMPLE_SEED)
    sample, known = np.ascontiguousarray(Z[rows]), labels[rows]
    sizes = np.bincount(known, minlength=n_clusters)
    indices = np.full((N_RESAMPLES, n_clusters), np.nan)
    if n_clusters > 1:
        backend = backends.resolve("cpu")[0]
        for number in range(N_RESAMPLES):
            drawn = (row_keys(number + 1, np.arange(len(sample))) % np.uint64(len(sample))).astype(np.int64)
            resample = np.ascontiguousarray(sample[np.sort(drawn)])
            centers = cluster_rows(resample, n_clusters, backend, seed=number).centers
            indices[number] = _jaccard(known, backend.nearest_two(sample, centers).labels, n_clusters)
    indices[:, sizes == 0] = np.nan
    return ClusterStability(indices.mean(axis=0), (indices >= FOUND_AGAIN).sum(axis=0))


def stability_sentences(stability: ClusterStability) -> list[str | None]:
    """Return for each cluster how sure it is, in a sentence; None where that is not known."""

    def sentence(jaccard: float, found: int) -> str | None:
        if np.isnan(jaccard):
            return None
        if jaccard < STABLE:
            return f"Not a stable group: found again in {found} of {N_RESAMPLES} resamples."
        return f"Found again in {found} of {N_RESAMPLES} resamples."

    return [
        sentence(jaccard, found)
        for jaccard, found in zip(stability.jaccard.tolist(), stability.found_again.tolist(), strict=True)
    ]


def _jaccard(labels: Int32s, other_labels: Int32s, n_clusters: int) -> Float64s:
    """Return the largest Jaccard index of each cluster with one of the others."""
    shared = np.zeros((n_clusters, n_clusters))
    np.add.at(shared, (labels, other_labels), 1)
    either = shared.sum(axis=1)[:, None] + shared.sum(axis=0) - shared
    indices: Float64s = (shared / np.maximum(either, 1)).max(axis=1)
    return indices
