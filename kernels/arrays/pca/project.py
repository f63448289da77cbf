"""Project rows on principal axes in float64, to the bits of kernels/cpu/pca/project.py.

    X, mean, axes  ->  (X - mean) @ axes;   encoded rows, base, axes  ->  base + dense @ dense_axes + hot axes

A score adds over the features in their order, every product and sum an array operation of its own: no product of
matrices promises the same bits for a row in another block, and none of these can be fused.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.kernels.arrays.distance import runs

Array = Any  # of the array module `xp`


def project(xp: Any, X: Array, mean: Array, axes: Array, values: int) -> Array:
    """Return scores (n_rows, n_components) in the dtype of X."""
    out = xp.empty((len(X), axes.shape[1]), X.dtype)
    for part in runs(len(X), axes.shape[1], values):
        sums = xp.zeros((part.stop - part.start, axes.shape[1]))
        for t in range(len(axes)):
            sums += (X[part, t].astype(np.float64) - mean[t])[:, None] * axes[t]
        out[part] = sums
    return out


def project_encoded(
    xp: Any,
    encoded: tuple[Array, Array, Array],
    base: Array,
    dense_axes: Array,
    hot_axes: Array,
    n_components: int,
    values: int,
) -> Array:
    """Return scores (n_rows, n_components) float32 of dense, starts, hot; axes may be wider than n_components."""
    dense, starts, hot = encoded
    out = xp.empty((len(dense), n_components), np.float32)
    for part in runs(len(dense), len(base), values):
        sums = xp.zeros((part.stop - part.start, len(base)))
        sums += base
        for c in range(dense.shape[1]):
            sums += dense[part, c].astype(np.float64)[:, None] * dense_axes[c]
        first, last = starts[part], starts[part.start + 1 : part.stop + 1]
        for q in range(int((last - first).max())):
            rows = xp.flatnonzero(first + q < last)
            sums[rows] += hot_axes[hot[first[rows] + q]]
        out[part] = sums[:, :n_components]
    return out
