"""Find groups that overlap, or have too few rows for a valley to show: a silhouette beyond that of clouds.

    X (n_rows, n_features), the groups that valleys separate  ->  OverlappingGroups (k, labels, silhouettes), or None

The silhouette of K-Means has a maximum in any table, noise too. So it is compared with that of tables drawn without
further groups: each group is one cloud, of the group's own values in every column, and of its own rank correlations (a
Gaussian copula). If K-Means with more clusters has a silhouette far beyond theirs, and as large as with fewer clusters
but for chance, there are more groups. Attributes that are yes or no, or one category of several, are left out: between
their values there is nothing, so that their every combination is a group to the silhouette. Values filled in are copies
of others, which makes groups as well: only rows in which all numbers are known are tested.

Nothing is random: the same rows give the same groups. Measurements: decisions/0041-groups-that-overlap.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine import backends
from engine.execution.threads import one_blas_thread
from engine.kmeans.metrics import silhouettes
from engine.kmeans.restarts import cluster_rows
from engine.kmeans.unknown_values import Unknown
from engine.kmeans.valleys import Attributes
from engine.utils.array_types import Float64s, Int32s, Int64s, Rows
from engine.utils.row_sampling import sample_rows

TEST_ROWS = 2_000  # rows that are clustered
SILHOUETTE_ROWS = 1_000  # rows of these that the silhouette is computed on: its cost grows with their square
SEED = 0  # of the rows, K-Means and the drawn tables: the answer must not follow the seed of a run
MOST_UNKNOWN = 0.5  # share of the rows: a column in which more is unknown is left out
# Rows in which all is known must be so many, or that share of all rows; else there are no groups but those of valleys.
MIN_WHOLE_ROWS, MIN_WHOLE_SHARE = 100, 0.5
N_CANDIDATES = 3  # numbers of clusters of largest silhouette that are tested
N_FIRST, N_DRAWN = 5, 20  # tables drawn: after the first ones, it ends if nothing stands out
# A silhouette stands out that exceeds the mean of drawn tables by so many of their standard deviations. The answer is
# the largest silhouette of those that exceed it by PLAUSIBLE, if one of them does by CERTAIN.
CERTAIN, PLAUSIBLE = 5.0, 2.5
STANDARD_ERRORS = 2.0  # of the mean difference of silhouettes: within it, one number's are as large as another's
MIN_DEVIATION = 0.005  # a cloud is seldom quite a Gaussian copula: what counts as one standard deviation at least


@dataclass(frozen=True)
class OverlappingGroups:
    """Groups beyond those that valleys separate.

    Attributes
    ----------
    k : int
    labels : int32 ndarray of shape (n_rows,)
    silhouette : float
    of_clouds : float
        The mean silhouette of tables drawn without further groups, at the same k.
    """

    k: int
    labels: Int32s
    silhouette: float
    of_clouds: float


@one_blas_thread()  # bits must not depend on the number of BLAS threads
def find_overlapping_groups(
    X: Rows, labels: Int32s, ks: Sequence[int], attributes: Attributes = (), hidden: Unknown | None = None
) -> OverlappingGroups | None:
    """Find more groups than `labels` tells apart.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features), float32 or float64
    labels : int32 ndarray of shape (n_rows,)
        The groups that valleys separate: 0 to n_groups - 1.
    ks : sequence of int
        The numbers of clusters that may be the answer. Those up to n_groups are only compared with.
    attributes : sequence of int arrays, default=()
        The columns of each attribute that is yes or no, or one category of several: they are left out.
    hidden : bool ndarray of shape (n_rows, n_features), optional
        The cells of X that were filled in, as `hidden_cells` returns them.

    Returns
    -------
    OverlappingGroups or None
        None if no larger number of clusters has a silhouette that is the largest, but for chance, and stands out, or if
        too few rows have no hidden cell to tell.
    """
    n_groups = int(labels.max()) + 1
    rows, numbers = _whole_rows_and_numbers(X, attributes, hidden)
    tested = np.ascontiguousarray(X[rows][:, numbers])
    of_rows = {k: _silhouettes(tested, k) for k in ks if 1 < k < len(tested) // 2} if numbers else {}
    found = {k: float(of_row.mean()) for k, of_row in of_rows.items()}
    candidates = sorted((k for k in found if k > n_groups), key=lambda k: -found[k])[:N_CANDIDATES]
    if not candidates or _is_smaller(of_rows[candidates[0]], of_rows[max(found, key=lambda k: found[k])]):
        return None
    clouds, random = _Clouds(tested, labels[rows]), np.random.RandomState(SEED)
    values = np.array([found[k] for k in candidates])
    of_clouds = np.empty((0, len(candidates)))
    for n_drawn, least in ((N_FIRST, PLAUSIBLE), (N_DRAWN, CERTAIN)):
        drawn = [clouds.draw(random) for _ in range(n_drawn - len(of_clouds))]
        of_clouds = np.vstack([of_clouds, [[_silhouettes(table, k).mean() for k in candidates] for table in drawn]])
        excess = (values - of_clouds.mean(axis=0)) / np.maximum(of_clouds.std(axis=0, ddof=1), MIN_DEVIATION)
        if excess.max() < least:
            return None
    best = int(np.flatnonzero(excess >= PLAUSIBLE)[0])
    k = candidates[best]
    clustering = cluster_rows(np.ascontiguousarray(X[:, numbers]), k, backends.resolve("cpu")[0], seed=SEED)
    return OverlappingGroups(k, clustering.labels, float(values[best]), float(of_clouds[:, best].mean()))


def _whole_rows_and_numbers(X: Rows, attributes: Attributes, hidden: Unknown | None) -> tuple[Int64s, list[int]]:
    """Return a sample of the rows without a hidden cell, and the columns of numbers; no column if such rows are few."""
    of_attributes = set(np.concatenate([*attributes, np.empty(0, np.int64)]).tolist())
    numbers, whole = [c for c in range(X.shape[1]) if c not in of_attributes], np.arange(len(X))
    if hidden is not None:
        numbers = [c for c in numbers if hidden[:, c].mean() <= MOST_UNKNOWN]
        whole = np.flatnonzero(~hidden[:, numbers].any(axis=1))
    rows = whole[sample_rows(len(whole), TEST_ROWS, SEED)]
    if len(whole) < min(MIN_WHOLE_ROWS, MIN_WHOLE_SHARE * len(X)):
        return rows, []
    return rows, [c for c in numbers if len(np.unique(X[rows, c])) > 2]


def _silhouettes(X: Rows, k: int) -> Float64s:
    """Return the silhouettes by K-Means of a sample of the rows; 0 if these are in one cluster."""
    rows = sample_rows(len(X), SILHOUETTE_ROWS, SEED + 1)
    labels = cluster_rows(X, k, backends.resolve("cpu")[0], seed=SEED).labels[rows]
    return silhouettes(X[rows], labels) if len(np.unique(labels)) > 1 else np.zeros(len(rows))


def _is_smaller(silhouettes_of_rows: Float64s, largest: Float64s) -> bool:
    """Return whether the mean of the rows' silhouettes is below that of others by more than chance explains."""
    differences = largest - silhouettes_of_rows
    return bool(differences.mean() > STANDARD_ERRORS * differences.std() / np.sqrt(len(differences)))


class _Clouds:
    """A table drawn again and again, in which every group is one cloud with its own values and rank correlations."""

    def __init__(self, X: Rows, labels: Int32s) -> None:
        self.X, random = X, np.random.RandomState(SEED)
        self.groups = [np.flatnonzero(labels == group) for group in np.unique(labels)]
        self.order_and_axes = [_order_and_axes(X[rows], random) for rows in self.groups]

    def draw(self, random: np.random.RandomState) -> Rows:
        """Return a table of the same shape."""
        drawn = np.empty_like(self.X)
        for rows, (order, axes) in zip(self.groups, self.order_and_axes, strict=True):
            ranks = np.argsort(np.argsort(random.normal(size=order.shape) @ axes, axis=0), axis=0)
            drawn[rows] = np.take_along_axis(self.X[rows], np.take_along_axis(order, ranks, axis=0), axis=0)
        return drawn


def _order_and_axes(X: Rows, random: np.random.RandomState) -> tuple[Int64s, Float64s]:
    """Return the order of the rows in every column, and what makes independent normal numbers correlate like them."""
    from scipy.special import ndtri  # its import takes 0.15 s, which a table that is one cloud at first sight saves

    ties = random.uniform(size=X.shape)
    order = np.stack([np.lexsort((ties[:, c], X[:, c])) for c in range(X.shape[1])], axis=1)
    scores = np.empty(X.shape)
    np.put_along_axis(scores, order, ndtri((np.arange(len(X)) + 0.5) / len(X))[:, None], axis=0)
    eigenvalues, vectors = np.linalg.eigh(scores.T @ scores / len(X))
    return order, (vectors * np.sqrt(np.maximum(eigenvalues, 0.0))).T
