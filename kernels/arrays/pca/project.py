"""Project rows onto principal axes in float64, with the bits of kernels/cpu/pca/project.py.

    X, mean, axes  ->  (X - mean) @ axes;   encoded rows, base, axes  ->  base + dense @ dense_axes + hot axes

A score is summed over the features in their order, and every product and every sum is a separate array operation, so
that none can be fused. A matrix product does not guarantee that a row has the same bits in another block.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.kernels.arrays.distance import row_chunks

Array = Any  # of the array module `xp`


def project(xp: Any, X: Array, mean: Array, axes: Array, chunk_values: int) -> Array:
    """Return the scores (n_rows, n_components) in the dtype of X."""
    out = xp.empty((len(X), axes.shape[1]), X.dtype)
    for chunk in row_chunks(len(X), axes.shape[1], chunk_values):
        sums = xp.zeros((chunk.stop - chunk.start, axes.shape[1]))
        for t in range(len(axes)):
            sums += (X[chunk, t].astype(np.float64) - mean[t])[:, None] * axes[t]
        out[chunk] = sums
    return out


def project_encoded(
    xp: Any,
    encoded: tuple[Array, Array, Array],
    base: Array,
    dense_axes: Array,
    hot_axes: Array,
    n_components: int,
    chunk_values: int,
) -> Array:
    """Return the scores (n_rows, n_components) float32 of encoded rows; axes may be wider than n_components."""
    dense, starts, hot = encoded
    out = xp.empty((len(dense), n_components), np.float32)
    for chunk in row_chunks(len(dense), len(base), chunk_values):
        sums = xp.zeros((chunk.stop - chunk.start, len(base)))
        sums += base
        for c in range(dense.shape[1]):
            sums += dense[chunk, c].astype(np.float64)[:, None] * dense_axes[c]
        first, last = starts[chunk], starts[chunk.start + 1 : chunk.stop + 1]
        for q in range(int((last - first).max())):
            rows = xp.flatnonzero(first + q < last)
            sums[rows] += hot_axes[hot[first[rows] + q]]
        out[chunk] = sums[:, :n_components]
    return out
