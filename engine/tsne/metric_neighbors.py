"""Nearest neighbors by any metric of scikit-learn, by a function, or from given distances: for t-SNE of few rows.

    X (n_rows, n_features), dense or sparse, or distances (n_rows, n_rows); metric  ->  MetricNeighbors

The search is scikit-learn's. Euclidean neighbors of dense rows are the engine's own: neighbors.py.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import issparse
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import VALID_METRICS, NearestNeighbors

from engine.errors import UsageError
from engine.tsne.descent_log import log_search
from engine.utils.array_types import Float64s, Int32s

METRICS = sorted({name for names in VALID_METRICS.values() for name in names})


class MetricNeighbors(NamedTuple):
    """The nearest other rows of every row."""

    positions: Int32s  # (n_rows, k)
    squared: Float64s  # (n_rows, k): squared distances to them, ascending


def find_metric_neighbors(
    X: Any, k: int, *, metric: Any, metric_params: dict[str, Any] | None, all_pairs: bool, n_jobs: int | None
) -> MetricNeighbors:
    """Return the k nearest other rows of every row.

    Parameters
    ----------
    X : ndarray or CSR matrix of shape (n_rows, n_features); of shape (n_rows, n_rows) if metric is "precomputed"
    k : int
    metric, metric_params
        Those of sklearn.metrics.pairwise_distances.
    all_pairs : bool
        Compute the distances of all pairs first, which takes n_rows^2 values.
    n_jobs : int or None

    Raises
    ------
    ValueError
        If distances are negative, or a sparse graph has too few.
    """
    if all_pairs and metric != "precomputed":
        X = pairwise_distances(X, metric=metric, n_jobs=n_jobs, **(metric_params or {}))
        metric, metric_params = "precomputed", None
        if (X < 0).any():
            raise UsageError("All distances should be positive, the metric given is not correct.")
        np.fill_diagonal(X, 0.0)
    log_search(X.shape[0], k)
    search = NearestNeighbors(n_neighbors=k, metric=metric, metric_params=metric_params, n_jobs=n_jobs)
    distances, positions = search.fit(X).kneighbors()
    if (distances < 0).any():
        raise UsageError("All distances should be positive, the metric given is not correct.")
    return MetricNeighbors(positions.astype(np.int32), np.square(distances.astype(np.float64)))


def check_distances(D: Any) -> None:
    """Raise UsageError unless D is square and not negative: (n_rows, n_rows), dense or sparse."""
    if D.shape[0] != D.shape[1]:
        raise UsageError(f"X should be a square distance matrix, but its shape is {D.shape}.")
    if ((D.data if issparse(D) else D) < 0).any():
        raise UsageError("All distances should be positive, but some precomputed ones are negative.")
