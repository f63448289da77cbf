"""The definition of a distance and of a label, computed as it is written: in float64, feature by feature.

    X (n_rows, n_features) float32 or float64, centers (n_features, n_clusters) float64
      -> labels (n_rows,) int32; squared distances (n_rows,) float64

A squared distance is the float64 sum of (x - c)^2 over the features in their order, each operation rounded once, no
fused multiply-add. Centers lie in the SIMD lanes, so every lane adds in that order. Ties go to the lowest index.
Fast paths to the same labels are in kernels/cpu/kmeans; the reasons: decisions/0002-labels-and-sums.md.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from engine.kernels.cpu.jit_options import INNER

UNROLLED_ROWS = 4  # rows whose sums are interleaved: an addition has a latency of four cycles


@numba.njit(nogil=True, cache=True)
def squared_distances(row: NDArray[np.floating[Any]], centers: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Write the squared distance of one row to every center of centers (n_features, n_clusters)."""
    out[:] = 0.0
    for t in range(row.shape[0]):
        value = np.float64(row[t])
        for j in range(out.shape[0]):
            difference = value - centers[t, j]
            out[j] += difference * difference


@numba.njit(nogil=True, cache=True)
def label_by_definition(
    row: NDArray[np.floating[Any]], centers: NDArray[np.float64], scratch: NDArray[np.float64]
) -> np.int32:
    """Return the label of one row by the definition; scratch (n_clusters,) gets its squared distances."""
    squared_distances(row, centers, scratch)
    label = 0
    for j in range(1, scratch.shape[0]):
        if scratch[j] < scratch[label]:
            label = j
    return np.int32(label)


@numba.njit(**INNER)
def squared_distance(X: NDArray[np.floating[Any]], i: int, centers: NDArray[np.float64], j: int) -> float:
    """Return the squared distance of row i and center j of centers (n_clusters, n_features)."""
    total = 0.0
    for t in range(X.shape[1]):
        difference = np.float64(X[i, t]) - centers[j, t]
        total += difference * difference
    return total


@numba.njit(nogil=True, cache=True)
def distances(X: NDArray[np.floating[Any]], centers: NDArray[np.float64], out: NDArray[np.floating[Any]]) -> None:
    """Write the Euclidean distance of every row to every center to out (n_rows, n_clusters)."""
    scratch = np.empty(centers.shape[1])
    for i in range(X.shape[0]):
        squared_distances(X[i], centers, scratch)
        for j in range(scratch.shape[0]):
            out[i, j] = np.sqrt(scratch[j])


@numba.njit(nogil=True, cache=True)
def assigned_distances(
    X: NDArray[np.floating[Any]], centers: NDArray[np.float64], labels: NDArray[np.int32], out: NDArray[np.float64]
) -> None:
    """Write the squared distance of every row to the center of its label; centers (n_clusters, n_features).

    UNROLLED_ROWS rows are summed side by side: the additions of one row depend on each other, those of four do not.
    """
    n_rows = X.shape[0]
    for i in range(0, n_rows, UNROLLED_ROWS):
        i1, i2, i3 = min(i + 1, n_rows - 1), min(i + 2, n_rows - 1), min(i + 3, n_rows - 1)
        j, j1, j2, j3 = labels[i], labels[i1], labels[i2], labels[i3]
        total, total1, total2, total3 = 0.0, 0.0, 0.0, 0.0
        for t in range(X.shape[1]):
            difference = np.float64(X[i, t]) - centers[j, t]
            difference1 = np.float64(X[i1, t]) - centers[j1, t]
            difference2 = np.float64(X[i2, t]) - centers[j2, t]
            difference3 = np.float64(X[i3, t]) - centers[j3, t]
            total += difference * difference
            total1 += difference1 * difference1
            total2 += difference2 * difference2
            total3 += difference3 * difference3
        out[i3], out[i2], out[i1], out[i] = total3, total2, total1, total


@numba.njit(nogil=True, cache=True)
def block_sums(values: NDArray[np.float64], weights: NDArray[np.float64], block_size: int) -> NDArray[np.float64]:
    """Return the sum of values * weights over each block of `block_size`, added in order; no weights stand for ones."""
    sums = np.zeros((values.shape[0] + block_size - 1) // block_size)
    for i in range(values.shape[0]):
        sums[i // block_size] += values[i] * weights[i] if weights.shape[0] else values[i]
    return sums
