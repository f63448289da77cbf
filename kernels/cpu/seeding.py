"""How much a candidate seed would lower the potential: the inner loop of greedy k-means++.

    columns (n_features, n_rows) float64, weights, closest (n_rows,), a candidate row -> lowered (n_rows,), potential

Rows lie in the SIMD lanes; each lane adds over the features in their order, as distance.py defines. The draw of
candidates is the caller's concern: see engine/seeding.py.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(nogil=True, cache=True)
def lowered(
    columns: NDArray[np.float64],
    weights: NDArray[np.float64],
    closest: NDArray[np.float64],
    candidate: int,
    out: NDArray[np.float64],
) -> float:
    """Write min(closest, squared distance to the candidate) and return its weighted sum, added in order."""
    out[:] = 0.0
    for t in range(columns.shape[0]):
        value = columns[t, candidate]
        for i in range(out.shape[0]):
            difference = columns[t, i] - value
            out[i] += difference * difference
    potential = 0.0
    for i in range(out.shape[0]):
        out[i] = min(out[i], closest[i])
        potential += out[i] * weights[i]
    return potential
