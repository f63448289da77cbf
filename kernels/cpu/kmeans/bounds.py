"""How many rows would wait for a look if some of the fastest centres were left out of what slack pays for.

labels, slack (n_rows,), the way of every centre (n_clusters,), counts of fast centres  ->  shares (n_counts,)
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(nogil=True, cache=True)
def waiting_shares(
    labels: NDArray[np.int32],
    slack: NDArray[np.float32],
    way: NDArray[np.float64],
    fastest: NDArray[np.float64],
    place: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return the share of rows that wait for every count of fast centres.

    A row waits if its own centre is among the fast ones (`place` is a centre's rank by its last step), or its slack
    beyond the way of its cluster does not pay for the last step of the fastest centre left: fastest (n_counts,).
    """
    shares = np.zeros(counts.shape[0])
    for i in range(labels.shape[0]):
        room = np.float64(slack[i]) - way[labels[i]]
        for m in range(counts.shape[0]):
            shares[m] += 1.0 if not room > fastest[m] or place[labels[i]] < counts[m] else 0.0
    for m in range(counts.shape[0]):
        shares[m] /= labels.shape[0]
    return shares
