"""Project rows onto principal axes in float64: the scores of PCA.

    X (n_rows, n_features), mean (n_features,), axes (n_features, n_components) -> scores (n_rows, n_components)

The mean is subtracted in float64 before anything is rounded to the rows' dtype. A score is summed over the features in
their order, with components in the SIMD lanes: so the scores of a row have the same bits in any block, which BLAS does
not guarantee.
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
    unrolled = n_features - n_features % 4  # four features at a time: a quarter of the loads and stores
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


@numba.njit(nogil=True, cache=True)
def project_encoded(
    dense: NDArray[np.float32],
    starts: NDArray[np.int32],
    hot: NDArray[np.int32],
    base: NDArray[np.float64],
    dense_axes: NDArray[np.float64],
    hot_axes: NDArray[np.float64],
    out: NDArray[np.float32],
) -> None:
    """Write the scores of encoded rows: base + dense @ dense_axes + the sum of the hot columns' hot_axes, in order.

    base (width,), dense_axes (n_dense, width), hot_axes (n_hot_columns, width): `width` is n_components or more, with
    zeros beyond; with a multiple of the SIMD width, loops have no remainder.
    """
    n_dense, width = dense_axes.shape
    unrolled = n_dense - n_dense % 4
    sums = np.empty(width)
    for i in range(dense.shape[0]):
        sums[:] = base
        for c in range(0, unrolled, 4):
            v0, v1 = np.float64(dense[i, c]), np.float64(dense[i, c + 1])
            v2, v3 = np.float64(dense[i, c + 2]), np.float64(dense[i, c + 3])
            for p in range(width):
                total = sums[p] + v0 * dense_axes[c, p]
                total += v1 * dense_axes[c + 1, p]
                total += v2 * dense_axes[c + 2, p]
                sums[p] = total + v3 * dense_axes[c + 3, p]
        for c in range(unrolled, n_dense):
            value = np.float64(dense[i, c])
            for p in range(width):
                sums[p] += value * dense_axes[c, p]
        q, end = starts[i], starts[i + 1]
        while q + 4 <= end:
            h0, h1, h2, h3 = hot[q], hot[q + 1], hot[q + 2], hot[q + 3]
            for p in range(width):
                total = sums[p] + hot_axes[h0, p]
                total += hot_axes[h1, p]
                total += hot_axes[h2, p]
                sums[p] = total + hot_axes[h3, p]
            q += 4
        while q < end:
            h = hot[q]
            for p in range(width):
                sums[p] += hot_axes[h, p]
            q += 1
        for p in range(out.shape[1]):
            out[i, p] = sums[p]
