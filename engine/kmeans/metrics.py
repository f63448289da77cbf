"""Metrics of clusterings: silhouette, Calinski-Harabasz, Davies-Bouldin, and the adjusted Rand index of two.

    X (n_rows, n_features), labels (n_rows,)  ->  one number each, as scikit-learn's functions of these names give
    contingency table (n_old, n_new)          ->  adjusted Rand index

Rousseeuw 1987; Caliński & Harabasz 1974; Davies & Bouldin 1979; Hubert & Arabie 1985. They are computed in float64, in
the order of rows: the same bits for any number of threads. To import scikit-learn would take longer than to compute
them all; the tests compare with it.
"""

from __future__ import annotations

from math import comb

import numpy as np

from engine.execution.threads import map_blocks, row_blocks
from engine.utils.array_types import Float64s, Int32s, Int64s, Rows

SILHOUETTE_ROWS = 64  # rows of a block of distances to all rows: 2.5 MB for 5,000 rows stay in cache


def silhouette(X: Rows, labels: Int32s) -> float:
    """Return the mean of the rows' `silhouettes`."""
    return float(silhouettes(X, labels).mean())


def silhouettes(X: Rows, labels: Int32s) -> Float64s:
    """Return the silhouette of each row, (b - a) / max(a, b).

    a is a row's mean distance to the other rows of its cluster, b to those of the nearest other cluster. There are
    between 2 and n_rows - 1 clusters; the silhouette of a row that is alone in its cluster is 0.
    """
    distinct_labels, codes = np.unique(labels, return_inverse=True)
    exact = X.astype(np.float64)
    exact -= exact.mean(axis=0)  # far from zero, squared distances from products would cancel
    squared_norms = np.square(exact).sum(axis=1)
    membership = (codes[:, None] == np.arange(len(distinct_labels))).astype(np.float64)
    sizes = membership.sum(axis=0)

    def of_block(part: slice) -> Float64s:
        squared = (-2.0 * exact[part]) @ exact.T
        squared += squared_norms
        squared += squared_norms[part, None]
        np.fill_diagonal(squared[:, part], 0.0)
        np.maximum(squared, 0.0, out=squared)
        totals = np.sqrt(squared, out=squared) @ membership
        rows, clusters = np.arange(len(totals)), codes[part]
        a = totals[rows, clusters] / np.maximum(sizes[clusters] - 1, 1)
        means = totals / sizes
        means[rows, clusters] = np.inf
        b = means.min(axis=1)
        largest = np.maximum(a, b)
        values: Float64s = np.divide(b - a, largest, out=np.zeros(len(rows)), where=largest > 0)
        values[sizes[clusters] == 1] = 0.0
        return values

    return np.concatenate(list(map_blocks(of_block, row_blocks(len(X), SILHOUETTE_ROWS))))


def calinski_harabasz(X: Rows, labels: Int32s) -> float:
    """Return the Calinski-Harabasz score: scatter between over within clusters, each by its degrees of freedom."""
    exact = X.astype(np.float64)
    sizes, means, codes = _cluster_means(exact, labels)
    between = float((sizes * np.square(means - exact.mean(axis=0)).sum(axis=1)).sum())
    within = float(np.square(exact - means[codes]).sum())
    n_rows, n_clusters = len(X), len(sizes)
    return between * (n_rows - n_clusters) / (within * (n_clusters - 1)) if within > 0 else 1.0


def davies_bouldin(X: Rows, labels: Int32s) -> float:
    """Return the Davies-Bouldin score: the mean over clusters of the largest (radius + other radius) / distance."""
    exact = X.astype(np.float64)
    sizes, means, codes = _cluster_means(exact, labels)
    radii = np.bincount(codes, np.linalg.norm(exact - means[codes], axis=1)) / sizes
    distances = np.linalg.norm(means[:, None] - means, axis=2)
    if not radii.any() or not distances.any():  # exactly: in small units, small radii are no zeros
        return 0.0
    distances[distances == 0] = np.inf
    return float(((radii[:, None] + radii) / distances).max(axis=1).mean())


def _cluster_means(exact: Float64s, labels: Int32s) -> tuple[Float64s, Float64s, Int32s]:
    """Return sizes and means of the clusters, and every row's cluster as a number from 0 on."""
    distinct_labels, codes = np.unique(labels, return_inverse=True)
    sizes = np.bincount(codes).astype(np.float64)
    sums = np.stack([np.bincount(codes, column, minlength=len(distinct_labels)) for column in exact.T], axis=1)
    return sizes, sums / sizes[:, None], codes.astype(np.int32)


def adjusted_rand_index(counts: Int64s) -> float:
    """Return the adjusted Rand index of two clusterings, exact up to one division.

    `counts` (n_old, n_new) is their contingency table: the number of rows in each pair of clusters.
    """
    # Pairs of rows: in all, in one cluster of both clusterings, in one old cluster, and in one new cluster.
    n_pairs, n_both = comb(int(counts.sum()), 2), _count_pairs(counts.ravel())
    n_old, n_new = _count_pairs(counts.sum(axis=1)), _count_pairs(counts.sum(axis=0))
    denominator = (n_old + n_new) * n_pairs - 2 * n_old * n_new
    return 2 * (n_both * n_pairs - n_old * n_new) / denominator if denominator else 1.0


def _count_pairs(sizes: Int64s) -> int:
    return sum(comb(size, 2) for size in sizes.tolist())
