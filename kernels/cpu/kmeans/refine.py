"""The refinement: measure the candidates of rows that the filter left open, by the definition where they are close.

    X, a RowBuffer of filtered rows, QuantizedCenters  ->  the label and a lower bound of the gap of every open row

Candidates are compared by their distance in float32; where distances differ by less than they are rounded, the
definition in distance.py decides. So labels are those of the definition at every level of precision. Bounds:
decisions/0005-screening.md.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from engine.kernels.cpu.distance import label_by_definition, squared_distance
from engine.kernels.cpu.jit_options import INNER
from engine.kernels.cpu.kmeans.certify import DEFINITION_ERROR, Float64s, Int32s, RowBuffer, Rows
from engine.kernels.cpu.kmeans.quantized_centers import QuantizedCenters
from engine.kernels.cpu.simd.quantized import load_differences
from engine.kernels.cpu.simd.vectors import LANES, fma, prefetch, reduce_sum, splat

PREFETCH_ROWS = 12  # open rows between the prefetch of a row and its use
LINE_BYTES = 64  # of a cache line
UNDERFLOW = 1e-30  # of squared distances, where the values of rows are about 1: smaller ones may have lost digits
MIN_RELATIVE_MARGIN = 2.0**-30  # of squared distances, relative: no rounding in float64 inverts it


@numba.njit(**INNER, forceinline=True)
def _squared_distance_float32(X: Rows, i: int, centers: Rows, j: int, factor: Any) -> float:
    """Return the squared distance of row i and center j in units of y, added in float32 in any order."""
    n_features, sums = X.shape[1], splat(np.float32(0.0))
    for t in range(0, n_features, LANES):
        difference = load_differences(X, i * n_features + t, centers, j * n_features + t, n_features - t, factor)
        sums = fma(difference, difference, sums)
    return np.float64(reduce_sum(sums))


@numba.njit(**INNER, forceinline=True)
def _find_nearest(
    X: Rows, i: int, centers: Rows, factor: Any, candidates: Int32s, start: int, end: int, margin: float
) -> tuple[int, float]:
    """Return the nearest of candidates[start:end], and a lower bound of its gap to all other centers.

    Scores of centers that are no candidates exceed the best score by `margin` at least. A gap that is not positive says
    that the definition has to decide: among all centers if it is -infinity, else among the candidates.
    """
    label, first, second = candidates[start], np.inf, np.inf
    for q in range(start, end):
        squared = _squared_distance_float32(X, i, centers, candidates[q], factor)
        label = candidates[q] if squared < first else label
        second = min(second, max(squared, first))
        first = min(first, squared)
    if not margin > MIN_RELATIVE_MARGIN * first:  # also where distances overflow
        return label, -np.inf
    relative_error = (X.shape[1] + 8) * 2.0**-24
    if not second - first > relative_error * (first + second) + UNDERFLOW:
        return label, 0.0
    distance = np.sqrt(first)
    other_distance = min(np.sqrt(second), np.sqrt(first + 2.0 * margin))
    return label, max(
        other_distance * (1.0 - DEFINITION_ERROR - relative_error)
        - distance * (1.0 + DEFINITION_ERROR + relative_error),
        2.0**-126,
    )


@numba.njit(**INNER)
def _find_nearest_by_definition(X: Rows, i: int, centers: Float64s, candidates: Int32s, start: int, end: int) -> int:
    """Return the nearest of candidates[start:end] by the definition."""
    label, least_squared = -1, np.inf
    for q in range(start, end):
        squared = squared_distance(X, i, centers, candidates[q])
        if label < 0 or squared < least_squared or (squared == least_squared and candidates[q] < label):
            label, least_squared = candidates[q], squared
    return label


@numba.njit(**INNER, forceinline=True)
def prefetch_row(X: Rows, i: int) -> None:
    """Prefetch row i into the caches: open rows lie far apart in memory."""
    for t in range(0, X.shape[1], LINE_BYTES // X.itemsize):
        prefetch(X, i * X.shape[1] + t)


@numba.njit(**INNER, inline="always")
def refine_open_rows(X: Rows, centers: QuantizedCenters, n_open: int, buffer: RowBuffer) -> int:
    """Write labels and gaps of the first `n_open` rows of buffer.open; return how many the definition had to label."""
    # Arrays are taken out of their tuples before the loop: to pass on a tuple, numba counts references to all in it.
    original, exact, columns, factor = centers.original, centers.exact, centers.columns, centers.factor
    open_rows, rows, labels, gaps = buffer.open, buffer.rows, buffer.labels, buffer.gaps
    candidates, candidate_ends, margins = buffer.candidates, buffer.candidate_ends, buffer.margins
    scratch, n_defined, start = np.empty(original.shape[0]), 0, np.int64(0)
    for index in range(n_open):
        p, end = open_rows[index], candidate_ends[index]
        i = rows[p]
        prefetch_row(X, rows[open_rows[min(index + PREFETCH_ROWS, n_open - 1)]])
        label, gap = np.int64(labels[p]), -np.inf
        if end > start:
            label, gap = _find_nearest(X, i, original, factor, candidates, start, end, margins[index])
        if not gap > 0:
            if gap < 0:
                label = label_by_definition(X[i], columns, scratch)
            else:
                label = _find_nearest_by_definition(X, i, exact, candidates, start, end)
            n_defined += 1
        labels[p], gaps[p], start = label, gap, end
    return n_defined
