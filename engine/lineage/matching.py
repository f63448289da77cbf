"""Match the clusters of two runs by the people they share, so that fewest people count as moved.

    shared people (n_old, n_new)  ->  the new cluster of each old one, or UNMATCHED

It is the assignment problem (Kuhn, "The Hungarian method for the assignment problem", Naval Research Logistics
Quarterly 2, 1955). Several matchings may share equally many people; of those, the one of the largest sum of Jaccard
indices is taken. Where that is equal too, the pairs in which the best matchings differ are left out: nothing but the
order of the numbers would decide. So neither the numbering of clusters nor the direction of a comparison matters.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
UNMATCHED = -1
EXACT = 2.0**52  # whole numbers up to this are added up exactly in float64
TIE_LEVELS = 2.0**20  # steps in which Jaccard indices are compared


def match_clusters(shared: Counts) -> NDArray[np.int32]:
    """Return the new cluster of each old one, by the people whom they share.

    Parameters
    ----------
    shared : int64 array of shape (n_old, n_new)
        People who are in an old and in a new cluster.

    Returns
    -------
    int32 array of shape (n_old,)
        UNMATCHED for old clusters that share nobody with the rest, or no more with one than with another.
    """
    matched = np.full(len(shared), UNMATCHED, np.int32)
    if not shared.any():
        return matched
    from scipy.optimize import linear_sum_assignment  # its import takes a tenth of a second, which most fits save

    n = max(shared.shape)
    weights = np.zeros((n, n))
    weights[: shared.shape[0], : shared.shape[1]] = _weights(shared)
    old, new = linear_sum_assignment(weights, maximize=True)
    certain = ~_exchangeable(weights, new)
    for i, j in zip(old.tolist(), new.tolist(), strict=True):
        if certain[i] and weights[i, j] > 0:
            matched[i] = j
    return matched


def _weights(shared: Counts) -> NDArray[np.float64]:
    """Return whole numbers that order matchings by the people they share, then by their Jaccard indices."""
    either = shared.sum(axis=1)[:, None] + shared.sum(axis=0) - shared
    n_pairs, most = min(shared.shape), float(shared.sum())
    levels = min(TIE_LEVELS, np.floor(EXACT / (n_pairs * (most + 1.0))))
    ties = np.rint(max(levels, 0.0) * shared / np.maximum(either, 1))
    weights: NDArray[np.float64] = shared * (n_pairs * max(levels, 0.0) + 1.0) + ties
    return weights


def _exchangeable(weights: NDArray[np.float64], matched: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which rows of a best matching have another column in an equally good one.

    A row is in such a matching if it lies on a cycle of rows that pass their columns on without a loss. The lengths of
    all shortest paths are found by the algorithm of Floyd and Warshall (Floyd, "Algorithm 97", CACM 5, 1962).
    """
    loss = weights[np.arange(len(weights)), matched][:, None] - weights[:, matched]  # row i takes the column of row j
    np.fill_diagonal(loss, np.inf)
    path = loss.copy()
    for via in range(len(path)):
        np.minimum(path, path[:, via, None] + path[via], out=path)
    cycles: NDArray[np.bool_] = np.diag(path) <= 0
    return cycles
