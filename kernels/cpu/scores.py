"""Project rows on principal axes in float64.

    X (n_rows, n_features), mean (n_features,), axes (n_features, n_components) -> scores (n_rows, n_components)

The mean is subtracted in float64 before anything is rounded to the rows' dtype. Each score adds over the features in
their order, components in the SIMD lanes: so a row's scores have the same bits in whatever block it comes, which
BLAS does not promise.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(nogil=True, cache=True)
def project(
    X: NDArray[np.floating[Any]], mean: NDArray[np.float64], axes: NDArray[np.float64], out: NDArray[np.floating[Any]]
) -> None:
    """Write (X - mean) @ axes."""
    n_features, n_components = axes.shape
    unrolled = n_features - n_features % 4  # four features a visit: a quarter of the loads and stores of sums
    sums = np.empty(n_components)
    for i in range(X.shape[0]):
        sums[:] = 0.0
        for t in range(0, unrolled, 4):
            v0, v1 = np.float64(X[i, t]) - mean[t], np.float64(X[i, t + 1]) - mean[t + 1]
            v2, v3 = np.float64(X[i, t + 2]) - mean[t + 2], np.float64(X[i, t + 3]) - mean[t + 3]
            for p in range(n_components):
                total = sums[p] + v0 * axes[t, p]
                total += v1 * axes[t + 1, p]
                total += v2 * axes[t + 2, p]
                sums[p] = total + v3 * axes[t + 3, p]
        for t in range(unrolled, n_features):
            value = np.float64(X[i, t]) - mean[t]
            for p in range(n_components):
                sums[p] += value * axes[t, p]
        for p in range(n_components):
            out[i, p] = sums[p]
