"""The refinement: measure the candidates of rows that the filter left open, by the definition where they are close.

    X, a RowBuffer of filtered rows, QuantizedCenters  ->  the label and a lower bound of the gap of every open row

Candidates are the centers whose score is within twice the error bound of the best one. They are compared by their
distance in float32; where distances differ by less than they are rounded, the definition in distance.py decides. So
labels are those of the definition at every level of precision. Bounds: decisions/0005-screening.md.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from engine.kernels.cpu.distance import label_by_definition, squared_distance
from engine.kernels.cpu.jit_options import INNER
from engine.kernels.cpu.kmeans.certify import DEFINITION_ERROR, Float32s, Float64s, Int32s, Int64s, RowBuffer, Rows
from engine.kernels.cpu.kmeans.quantize import QuantizedRows
from engine.kernels.cpu.kmeans.quantized_centers import PADDING_SCORE, QuantizedCenters
from engine.kernels.cpu.kmeans.tiled_scores import (
    MAX_CANDIDATES,
    TILE_ROWS,
    find_candidates,
    find_tile_candidates,
    load_tile,
    load_tile_scales,
)
from engine.kernels.cpu.simd.quantized import load_differences
from engine.kernels.cpu.simd.vectors import (
    LANES,
    compress_store,
    count_lanes,
    fma,
    invert_mask,
    lane_indices,
    less,
    load,
    prefetch,
    reduce_sum,
    set_tag,
    splat,
)

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
    X: Rows, i: int, centers: Rows, factor: Any, candidates: Int32s, start: int, count: int, margin: float
) -> tuple[int, float]:
    """Return the nearest of candidates[start : start + count], and a lower bound of its gap to all other centers.

    Scores of centers that are no candidates exceed the best score by `margin` at least. A gap that is not positive says
    that the definition has to decide: among all centers if it is -infinity, else among the candidates.
    """
    label, first, second = candidates[start], np.inf, np.inf
    for q in range(start, start + count):
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
def _find_nearest_by_definition(X: Rows, i: int, centers: Float64s, candidates: Int32s, start: int, count: int) -> int:
    """Return the nearest of candidates[start : start + count] by the definition."""
    label, least_squared = -1, np.inf
    for q in range(start, start + count):
        squared = squared_distance(X, i, centers, candidates[q])
        if label < 0 or squared < least_squared or (squared == least_squared and candidates[q] < label):
            label, least_squared = candidates[q], squared
    return label


@numba.njit(**INNER, forceinline=True)
def _list_open_rows(gaps: Float32s, count: int, open_rows: Int64s) -> int:
    """Write the positions of the rows whose gap is not positive, the open rows; return how many."""
    zero, positions = splat(np.float32(0.0)), np.empty(count + LANES, np.int32)
    n_open, n_in_vectors = 0, count // LANES * LANES
    for p in range(0, n_in_vectors, LANES):
        is_open = invert_mask(less(zero, load(gaps, p)))
        compress_store(positions, n_open, splat(np.int32(p)) + lane_indices(), is_open)
        n_open += count_lanes(is_open)
    for p in range(n_in_vectors, count):
        positions[n_open] = p
        n_open += 0 if gaps[p] > 0 else 1
    for index in range(n_open):
        open_rows[index] = positions[index]
    return n_open


@numba.njit(**INNER, forceinline=True)
def prefetch_row(X: Rows, i: int) -> None:
    """Prefetch row i into the caches: open rows lie far apart in memory."""
    for t in range(0, X.shape[1], LINE_BYTES // X.itemsize):
        prefetch(X, i * X.shape[1] + t)


@numba.njit(**INNER, inline="always")
def refine_open_rows(
    X: Rows, quantized: QuantizedRows, centers: QuantizedCenters, count: int, buffer: RowBuffer
) -> tuple[int, int]:
    """Refine every open row of the buffer; return how many there are, and how many the definition had to label.

    Most rows have two candidates. Those with more come last: see _refine_with_candidates.
    """
    # Arrays are taken out of their tuples before the loops: to pass on a tuple, numba counts references to all in it.
    # Numbers that are passed on are int64, not literals: numba would compile a callee for each literal.
    original, factor, open_rows, rows = centers.original, centers.factor, buffer.open, buffer.rows
    best_centers, gaps, third_margins, bounds = buffer.best_centers, buffer.gaps, buffer.third_margins, buffer.bounds
    n_clusters, pair, scratch = original.shape[0], np.empty(2, np.int32), np.empty(original.shape[0])
    n_open, n_defined, n_many = _list_open_rows(gaps, count, open_rows), 0, np.int64(0)
    zero, two = np.int64(0), np.int64(2)
    for index in range(n_open):
        p = open_rows[index]
        i = rows[p]
        prefetch_row(X, rows[open_rows[min(index + PREFETCH_ROWS, n_open - 1)]])
        if bounds[p] < np.inf and not (third_margins[p] > 0 and best_centers[1, p] < n_clusters):
            open_rows[n_many] = p
            n_many += 1
            continue
        pair[0], pair[1] = best_centers[0, p], best_centers[1, p]
        label, gap = pair[0], -np.inf
        if bounds[p] < np.inf:
            label, gap = _find_nearest(X, i, original, factor, pair, zero, two, np.float64(third_margins[p]))
        if not gap > 0:
            open_to_all = gap < 0
            label = (
                label_by_definition(X[i], centers.columns, scratch)
                if open_to_all
                else _find_nearest_by_definition(X, i, centers.exact, pair, zero, two)
            )
            n_defined += 1
        best_centers[0, p], gaps[p] = label, gap
    return n_open, n_defined + _refine_with_candidates(X, quantized, centers, n_many, buffer, scratch)


@numba.njit(**INNER, inline="always")
def _refine_with_candidates(
    X: Rows, quantized: QuantizedRows, centers: QuantizedCenters, count: int, buffer: RowBuffer, scratch: Float64s
) -> int:
    """Refine the first `count` rows of buffer.open; return how many the definition had to label.

    Candidates are all centers whose score is within twice the error bound of the best score: the true scores of the
    others exceed the best one by the bound at least. Scores are computed once more, to find the candidates.
    """
    values, kind, score_mask, n_in_tiles = (
        quantized.values, quantized.values.dtype.type(0), centers.score_mask, centers.n_in_tiles
    )  # fmt: skip
    row_steps, errors, norms, row_term = quantized.steps, quantized.errors, quantized.norms, centers.row_term
    sums, steps, offsets = centers.sums, centers.steps, centers.offsets
    original, factor, tile_words, open_rows = centers.original, centers.factor, centers.tile_words, buffer.open
    best_centers, best_scores, bounds = buffer.best_centers, buffer.best_scores, buffer.bounds
    rows, slots, gaps = buffer.rows, buffer.slots, buffer.gaps
    words = values.view(np.int32).reshape(-1)
    padded_width, width = words.shape[0] // values.shape[0], tile_words.shape[0] // n_in_tiles
    row_tile, tile_slots = np.empty(padded_width * TILE_ROWS, np.int32), np.empty(TILE_ROWS, np.int64)
    scales = np.empty(2 * TILE_ROWS, np.float32)
    limits, other_least = np.empty(TILE_ROWS, np.float32), np.empty(TILE_ROWS, np.float32)
    tile_candidates, counts = np.empty(TILE_ROWS * MAX_CANDIDATES, np.int32), np.empty(TILE_ROWS, np.int64)
    row_candidates, other_scores = np.empty(offsets.shape[0] + 1, np.int32), np.empty(LANES, np.float32)
    n_defined, zero = 0, np.int64(0)
    for start in range(0, count, TILE_ROWS):
        n_rows = min(TILE_ROWS, count - start)
        for lane in range(TILE_ROWS):
            p = open_rows[start + min(lane, n_rows - 1)]
            best = np.float64(set_tag(best_scores[0, p], score_mask, np.int32(0)))
            tile_slots[lane] = slots[p]
            limits[lane] = min(best + 1.25 * bounds[p], np.float64(PADDING_SCORE))
            prefetch_row(X, rows[p])
        load_tile(words, padded_width, tile_slots, 0, row_tile)
        if values.itemsize != 4:
            load_tile_scales(row_steps, errors, norms, row_term, tile_slots, 0, scales)
        find_tile_candidates(
            kind, row_tile, scales, width, tile_words, n_in_tiles, sums, steps, offsets, limits, tile_candidates,
            counts, other_least,
        )  # fmt: skip
        for lane in range(n_rows):
            p = open_rows[start + lane]
            i = rows[p]
            best = np.float64(set_tag(best_scores[0, p], score_mask, np.int32(0)))
            margin = np.float64(other_least[lane]) - best - bounds[p]
            # Two branches of the same steps: to choose between the arrays, numba would count references to them.
            if counts[lane] <= MAX_CANDIDATES:
                label, gap = _find_nearest(
                    X, i, original, factor, tile_candidates, lane * MAX_CANDIDATES, counts[lane], margin
                )
                if gap == 0.0:
                    label = _find_nearest_by_definition(
                        X, i, centers.exact, tile_candidates, lane * MAX_CANDIDATES, counts[lane]
                    )
            else:
                n_candidates = find_candidates(
                    kind, words, tile_slots[lane] * padded_width, scales[lane], scales[TILE_ROWS + lane], width,
                    centers.block_words, sums, steps, offsets, limits[lane], row_candidates, other_scores,
                )  # fmt: skip
                label, gap = _find_nearest(X, i, original, factor, row_candidates, zero, n_candidates, margin)
                if gap == 0.0:
                    label = _find_nearest_by_definition(X, i, centers.exact, row_candidates, zero, n_candidates)
            if gap < 0:
                label = label_by_definition(X[i], centers.columns, scratch)
            n_defined += 0 if gap > 0 else 1
            best_centers[0, p], gaps[p] = label, gap
    return n_defined
