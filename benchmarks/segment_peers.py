"""What people would do by hand instead of `-k auto`, each as a function of a standardised matrix and a seed.

    X (n_rows, n_features), seed  ->  a label for each row

X-means is pyclustering's, k-medoids the package kmedoids, K-Means and HDBSCAN are scikit-learn's. G-means and
`estimate_k` are written after their descriptions; neither is the code of its authors.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.stats import anderson
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.metrics import pairwise_distances, silhouette_score

K_MAX = 30
SILHOUETTE_ROWS = 2000
MEDOID_ROWS = 1000  # k-medoids holds all distances between rows: the others go to the nearest medoid
G_MEANS_CRITICAL = 1.8692  # of the Anderson-Darling statistic, at the level 0.0001 of the paper
Labels = Any


def sweep(X: Any, seed: int) -> dict[int, KMeans]:
    """Return scikit-learn's K-Means for every k."""
    return {k: KMeans(k, n_init=1, random_state=seed).fit(X) for k in range(2, K_MAX + 1) if k < len(X)}


def silhouette(X: Any, fits: dict[int, KMeans], seed: int) -> Labels:
    """Return the clusters with the largest silhouette, which are at least two."""
    rows = np.random.default_rng(seed).permutation(len(X))[:SILHOUETTE_ROWS]
    scores = {
        k: silhouette_score(X[rows], fit.labels_[rows]) for k, fit in fits.items() if len(set(fit.labels_[rows])) > 1
    }
    return fits[max(scores, key=lambda k: scores[k])].labels_


def elbow(X: Any, fits: dict[int, KMeans], seed: int) -> Labels:
    """Return the clusters at the elbow of the inertia, by kneed."""
    from kneed import KneeLocator

    ks = [1, *fits]
    inertias = [float(np.square(X - X.mean(axis=0)).sum()), *(fit.inertia_ for fit in fits.values())]
    found = KneeLocator(ks, inertias, curve="convex", direction="decreasing").elbow
    return np.zeros(len(X), int) if found in (None, 1) else fits[int(found)].labels_


def hdbscan(X: Any, seed: int) -> Labels:
    """Return the clusters of HDBSCAN, each of at least 1 % of the rows; rows that it calls noise are one more."""
    return HDBSCAN(min_cluster_size=max(15, len(X) // 100)).fit_predict(X)


def x_means(X: Any, seed: int) -> Labels:
    """Return the clusters of X-means (Pelleg & Moore 2000), from two centers on."""
    np.warnings = warnings  # type: ignore[attr-defined]  # pyclustering 0.10 was written for NumPy 1
    from pyclustering.cluster.center_initializer import kmeans_plusplus_initializer
    from pyclustering.cluster.xmeans import xmeans

    start = kmeans_plusplus_initializer(X, 2, random_state=seed).initialize()
    found = xmeans(X, start, kmax=K_MAX, random_state=seed)
    found.process()
    labels = np.zeros(len(X), int)
    for number, rows in enumerate(found.get_clusters()):
        labels[rows] = number
    return labels


def g_means(X: Any, seed: int) -> Labels:
    """Return the clusters of G-means (Hamerly & Elkan 2003): a cluster whose rows are not normal is split in two."""
    centers = X.mean(axis=0, keepdims=True)
    while True:
        labels = KMeans(len(centers), init=centers, n_init=1, random_state=seed).fit(X).labels_
        split: list[Any] = []
        for label in range(len(centers)):
            split += _g_means_children(X[labels == label], seed)
        if len(split) == len(centers) or len(split) > K_MAX:
            return labels
        centers = np.array(split)


def _g_means_children(rows: Any, seed: int) -> list[Any]:
    """Return two centers for rows that are not normal along the line between them, or their mean."""
    mean = rows.mean(axis=0)
    if len(rows) < 20:
        return [mean]
    values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(rows.T)))
    step = vectors[:, -1] * np.sqrt(2 * max(values[-1], 0) / np.pi)
    pair = KMeans(2, init=np.stack([mean - step, mean + step]), n_init=1, random_state=seed).fit(rows).cluster_centers_
    line = rows @ (pair[0] - pair[1])
    if line.std() == 0:
        return [mean]
    statistic = anderson(line, "norm").statistic * (1 + 4 / len(line) - 25 / len(line) ** 2)
    return list(pair) if statistic > G_MEANS_CRITICAL else [mean]


def estimate_k(X: Any, seed: int) -> Labels:
    """Return the clusters of a search as H2O documents it for `estimate_k`.

    The cluster of the widest column is cut at its mean, K-Means runs, until the error no longer falls by a share of
    0.02 + 10 / rows + 2.5 / columns², at most 0.8.
    """
    centers, labels = X.mean(axis=0, keepdims=True), np.zeros(len(X), int)
    error = float(np.square(X - centers).sum())
    least = min(0.02 + 10 / len(X) + 2.5 / X.shape[1] ** 2, 0.8)
    for _ in range(1, K_MAX):
        ranges = np.array([np.ptp(X[labels == label], axis=0) for label in range(len(centers))])
        cluster, column = np.unravel_index(ranges.argmax(), ranges.shape)
        rows = X[labels == cluster]
        above = rows[:, column] > rows[:, column].mean()
        start = np.vstack([np.delete(centers, cluster, axis=0), rows[above].mean(axis=0), rows[~above].mean(axis=0)])
        found = KMeans(len(start), init=start, n_init=1, random_state=seed).fit(X)
        if error - found.inertia_ < least * error:
            break
        centers, labels, error = found.cluster_centers_, found.labels_, found.inertia_
    return labels


def k_medoids(X: Any, seed: int) -> Labels:
    """Return the clusters around medoids whose medoid silhouette is largest (kmedoids.dynmsc)."""
    import kmedoids

    rows = np.random.default_rng(seed).permutation(len(X))[:MEDOID_ROWS]
    found = kmedoids.dynmsc(pairwise_distances(X[rows]).astype(np.float32), K_MAX, 2, random_state=seed)
    return pairwise_distances(X, X[rows][found.medoids]).argmin(axis=1)


BY_SWEEP: dict[str, Callable[..., Labels]] = {"silhouette": silhouette, "elbow": elbow}
ALONE: dict[str, Callable[..., Labels]] = {
    "hdbscan": hdbscan,
    "x-means": x_means,
    "g-means": g_means,
    "estimate_k": estimate_k,
    "k-medoids": k_medoids,
}
PEERS = (*BY_SWEEP, *ALONE)
