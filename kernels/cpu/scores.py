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
    scratch = np.empty(axes.shape[1])
    for i in range(X.shape[0]):
        scratch[:] = 0.0
        for t in range(X.shape[1]):
            value = np.float64(X[i, t]) - mean[t]
            for p in range(scratch.shape[0]):
                scratch[p] += value * axes[t, p]
        for p in range(scratch.shape[0]):
            out[i, p] = scratch[p]
