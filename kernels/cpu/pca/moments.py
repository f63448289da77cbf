"""Shift rows by a point near their mean, in float64, and sum them: the first step of a covariance matrix.

    X (n_rows, n_features), shift (n_features,) -> shifted (n_rows, n_features) float64; their sums (n_features,)

One pass that reads X once and writes rows that stay in cache for the product that follows.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(nogil=True, cache=True)
def shift_rows(
    X: NDArray[np.floating[Any]],
    shift: NDArray[np.float64],
    shifted: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> None:
    """Write X - shift, and add its rows to sums."""
    for i in range(X.shape[0]):
        for t in range(X.shape[1]):
            value = np.float64(X[i, t]) - shift[t]
            shifted[i, t] = value
            sums[t] += value
