"""Cluster validity: silhouette, Calinski-Harabasz, Davies-Bouldin, and the adjusted Rand index of two clusterings.

    X (n_rows, n_features), labels (n_rows,)  ->  one number each, as scikit-learn's functions of these names give
    contingency table (n_old, n_new)          ->  adjusted Rand index

Rousseeuw 1987; Caliński & Harabasz 1974; Davies & Bouldin 1979; Hubert & Arabie 1985. In float64, in the order of
rows: the same bits for any number of threads. Own, because importing scikit-learn takes longer than everything they
are used for.
"""

from __future__ import annotations

from math import comb

import numpy as np

from engine.backends.protocol import Float64s, Int32s, Int64s, Rows
from engine.execution.threads import map_blocks, row_blocks

SILHOUETTE_ROWS = 64  # rows whose distances to all others are taken together: 2.5 MB for 5,000 rows stay in cache


def silhouette(X: Rows, labels: Int32s) -> float:
    """Return the mean of (b - a) / max(a, b): a is a row's mean distance to its own cluster, b to the next one.

    Between 2 and n_rows - 1 clusters; a row that is alone in its cluster counts 0.
    """
    names, codes = np.unique(labels, return_inverse=True)
    exact = X.astype(np.float64)
    exact -= exact.mean(axis=0)  # far from zero, squared distances from products would cancel
    lengths = np.square(exact).sum(axis=1)
    members = (codes[:, None] == np.arange(len(names))).astype(np.float64)
    sizes = members.sum(axis=0)

    def of_part(part: slice) -> Float64s:
        squared = (-2.0 * exact[part]) @ exact.T
        squared += lengths
        squared += lengths[part, None]
        np.fill_diagonal(squared[:, part], 0.0)
        np.maximum(squared, 0.0, out=squared)
        totals = np.sqrt(squared, out=squared) @ members
        rows, own = np.arange(len(totals)), codes[part]
        inside = totals[rows, own] / np.maximum(sizes[own] - 1, 1)
        means = totals / sizes
        means[rows, own] = np.inf
        outside = means.min(axis=1)
        largest = np.maximum(inside, outside)
        values: Float64s = np.divide(outside - inside, largest, out=np.zeros(len(rows)), where=largest > 0)
        values[sizes[own] == 1] = 0.0
        return values

    return float(np.concatenate(list(map_blocks(of_part, row_blocks(len(X), SILHOUETTE_ROWS)))).mean())


def calinski_harabasz(X: Rows, labels: Int32s) -> float:
    """Return the scatter between clusters over that within them, each divided by its degrees of freedom."""
    exact = X.astype(np.float64)
    sizes, centres, codes = _centres(exact, labels)
    between = float((sizes * np.square(centres - exact.mean(axis=0)).sum(axis=1)).sum())
    within = float(np.square(exact - centres[codes]).sum())
    n_rows, n_clusters = len(X), len(sizes)
    return between * (n_rows - n_clusters) / (within * (n_clusters - 1)) if within > 0 else 1.0


def davies_bouldin(X: Rows, labels: Int32s) -> float:
    """Return the mean over clusters of the worst (radius + radius of another) / distance of the two centres."""
    exact = X.astype(np.float64)
    sizes, centres, codes = _centres(exact, labels)
    radii = np.bincount(codes, np.linalg.norm(exact - centres[codes], axis=1)) / sizes
    apart = np.linalg.norm(centres[:, None] - centres, axis=2)
    if np.allclose(radii, 0) or np.allclose(apart, 0):
        return 0.0
    apart[apart == 0] = np.inf
    return float(((radii[:, None] + radii) / apart).max(axis=1).mean())


def _centres(exact: Float64s, labels: Int32s) -> tuple[Float64s, Float64s, Int32s]:
    """Return sizes and means of the clusters, and every row's number among them."""
    names, codes = np.unique(labels, return_inverse=True)
    sizes = np.bincount(codes).astype(np.float64)
    sums = np.stack([np.bincount(codes, column, minlength=len(names)) for column in exact.T], axis=1)
    return sizes, sums / sizes[:, None], codes.astype(np.int32)


def adjusted_rand_index(counts: Int64s) -> float:
    """Return how far two clusterings agree beyond chance, exact up to one division.

    `counts` (n_old, n_new) is their contingency table: the number of rows in each pair of clusters.
    """
    together, everybody = _pairs(counts.ravel()), comb(int(counts.sum()), 2)
    old, new = _pairs(counts.sum(axis=1)), _pairs(counts.sum(axis=0))
    below = (old + new) * everybody - 2 * old * new
    return 2 * (together * everybody - old * new) / below if below else 1.0


def _pairs(sizes: Int64s) -> int:
    return sum(comb(size, 2) for size in sizes.tolist())
