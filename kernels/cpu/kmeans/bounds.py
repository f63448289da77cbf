"""Estimate how many rows the next pass has to compare with all centers, for several numbers of fast centers.

    labels, gap_bound (n_rows,), movement of the centers (n_clusters,), numbers of fast centers  ->  shares (n_counts,)

The choice among them: engine/kmeans/bounds.py.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(nogil=True, cache=True)
def estimate_active_shares(
    labels: NDArray[np.int32],
    gap_bound: NDArray[np.float32],
    movement: NDArray[np.float64],
    fastest_steps: NDArray[np.float64],
    step_ranks: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return the share of active rows, those that cannot be skipped, for every number of fast centers in `counts`.

    A row is active if its center is among the fast ones, or if its gap bound does not exceed the movement of its
    cluster plus the longest last step of the slow centers, fastest_steps (n_counts,). step_ranks (n_clusters,) ranks
    the centers by their last step, the longest first.
    """
    shares = np.zeros(counts.shape[0])
    for i in range(labels.shape[0]):
        remaining = np.float64(gap_bound[i]) - movement[labels[i]]
        for m in range(counts.shape[0]):
            shares[m] += 1.0 if not remaining > fastest_steps[m] or step_ranks[labels[i]] < counts[m] else 0.0
    for m in range(counts.shape[0]):
        shares[m] /= labels.shape[0]
    return shares
