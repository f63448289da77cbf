"""The definition of a distance and of a label, evaluated as it stands.

    X (n_rows, n_features) float32 or float64, centres (n_features, n_clusters) float64
      -> labels (n_rows,) int32; squared distances (n_rows,) float64

A squared distance is the float64 sum of (x - c)^2 over the features in their order, each operation rounded once, no
fused multiply-add. Centres lie in the SIMD lanes, so every lane adds in that order. Ties go to the lowest index.
Fast paths to the same labels are in assign.py; why this is the definition: decisions/0002-labels-and-sums.md.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from engine.kernels.cpu.jit_options import INNER

ROWS_AT_ONCE = 4  # rows whose distances are added up together: an addition takes four cycles


@numba.njit(nogil=True, cache=True)
def squared_distances(row: NDArray[np.floating[Any]], centres: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Write the squared distance of one row to every centre."""
    out[:] = 0.0
    for t in range(row.shape[0]):
        value = np.float64(row[t])
        for j in range(out.shape[0]):
            difference = value - centres[t, j]
            out[j] += difference * difference


@numba.njit(nogil=True, cache=True)
def defined_label(
    row: NDArray[np.floating[Any]], centres: NDArray[np.float64], scratch: NDArray[np.float64]
) -> np.int32:
    """Return the label of one row; `scratch` holds n_clusters float64."""
    squared_distances(row, centres, scratch)
    label = 0
    for j in range(1, scratch.shape[0]):
        if scratch[j] < scratch[label]:
            label = j
    return np.int32(label)


@numba.njit(**INNER)
def squared_distance(X: NDArray[np.floating[Any]], i: int, centres: NDArray[np.float64], j: int) -> float:
    """Return the squared distance of row i and centre j of centres (n_clusters, n_features)."""
    total = 0.0
    for t in range(X.shape[1]):
        difference = np.float64(X[i, t]) - centres[j, t]
        total += difference * difference
    return total


@numba.njit(nogil=True, cache=True)
def distances(X: NDArray[np.floating[Any]], centres: NDArray[np.float64], out: NDArray[np.floating[Any]]) -> None:
    """Write the Euclidean distance of every row to every centre into out (n_rows, n_clusters)."""
    scratch = np.empty(centres.shape[1])
    for i in range(X.shape[0]):
        squared_distances(X[i], centres, scratch)
        for j in range(scratch.shape[0]):
            out[i, j] = np.sqrt(scratch[j])


@numba.njit(nogil=True, cache=True)
def own_distances(
    X: NDArray[np.floating[Any]], centres: NDArray[np.float64], labels: NDArray[np.int32], out: NDArray[np.float64]
) -> None:
    """Write the squared distance of every row to the centre of its label; centres (n_clusters, n_features).

    Four rows at a time: each row's additions wait for each other, those of other rows do not.
    """
    n_rows = X.shape[0]
    for i in range(0, n_rows, ROWS_AT_ONCE):
        i1, i2, i3 = min(i + 1, n_rows - 1), min(i + 2, n_rows - 1), min(i + 3, n_rows - 1)
        j, j1, j2, j3 = labels[i], labels[i1], labels[i2], labels[i3]
        total, total1, total2, total3 = 0.0, 0.0, 0.0, 0.0
        for t in range(X.shape[1]):
            difference = np.float64(X[i, t]) - centres[j, t]
            difference1 = np.float64(X[i1, t]) - centres[j1, t]
            difference2 = np.float64(X[i2, t]) - centres[j2, t]
            difference3 = np.float64(X[i3, t]) - centres[j3, t]
            total += difference * difference
            total1 += difference1 * difference1
            total2 += difference2 * difference2
            total3 += difference3 * difference3
        out[i3], out[i2], out[i1], out[i] = total3, total2, total1, total


@numba.njit(nogil=True, cache=True)
def sums_of_runs(values: NDArray[np.float64], weights: NDArray[np.float64], run: int) -> NDArray[np.float64]:
    """Return the sum of every `run` values, each added in order; weights multiply unless there are none."""
    sums = np.zeros((values.shape[0] + run - 1) // run)
    for i in range(values.shape[0]):
        sums[i // run] += values[i] * weights[i] if weights.shape[0] else values[i]
    return sums
