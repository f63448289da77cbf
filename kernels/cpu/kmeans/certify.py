"""The filter: score all centers for quantized rows, and certify the labels that the scores prove.

    X, QuantizedRows, QuantizedCenters  ->  RowBuffer: best centers, error bounds of scores, gaps to the other centers

Every row gets its best and its second best score. Scores are lower bounds, so if the second exceeds the best one by
more than that one's error bound, the label is certified, and so is a lower bound of the gap between the distances to
the two nearest centers. The other rows stay open, and are refined in refine.py. Bounds: decisions/0005-screening.md,
decisions/0058-heavy-tails.md.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

from engine.kernels.cpu.jit_options import INNER
from engine.kernels.cpu.kmeans.quantize import (
    FLOAT32,
    INT8,
    INT16,
    QuantizedRows,
    RowQuantizer,
    allocate_values,
    quantize_rows,
)
from engine.kernels.cpu.kmeans.quantized_centers import ErrorBound, QuantizedCenters
from engine.kernels.cpu.kmeans.tiled_scores import TILE_ROWS, rank_centers
from engine.kernels.cpu.simd.vectors import (
    LANES,
    fma,
    gather,
    load,
    maximum,
    set_tag,
    splat,
    sqrt,
    store,
)

RUN_ROWS = 4096  # rows filtered at a time: their scores and labels stay in the L2 cache
ROUND_DOWN = np.float32(1.0 - 2.0**-18)  # relative: more than the 60 float32 roundings, of 2^-24 each, behind a gap
DEFINITION_ERROR = np.float32(2.0**-20)  # far more than the definition rounds a gap, relative to the distances

Rows: TypeAlias = NDArray[np.floating[Any]]
Float32s: TypeAlias = NDArray[np.float32]
Float64s: TypeAlias = NDArray[np.float64]
Int32s: TypeAlias = NDArray[np.int32]
Int64s: TypeAlias = NDArray[np.int64]


class RowBuffer(NamedTuple):
    """Work space of one run: up to RUN_ROWS rows that are filtered, and what is found about them."""

    rows: Int64s  # their indices in X
    slots: Int64s  # their indices in the QuantizedRows that were used
    open: Int64s  # positions in this buffer of the rows that the filter left open
    quantized: QuantizedRows  # the rows quantized on the fly, where the caller stores none
    best_scores: Float32s  # (3, capacity): the three least scores of each, tagged
    best_centers: Int32s  # (2, capacity): the centers of the two least scores; once refined, the first is the label
    bounds: Float32s  # error bounds of the best scores
    gaps: Float32s  # lower bound of distance to any other center - distance to the best; not positive: an open row
    third_margins: Float32s  # lower bound of third least - least exact score


def allocate_row_buffer(rows: QuantizedRows, n_features: int) -> RowBuffer:
    """Allocate a buffer for RUN_ROWS rows, and for their quantized values if `rows` holds none."""
    capacity = RUN_ROWS + TILE_ROWS
    n_stored = RUN_ROWS if len(rows.values) == 0 else 0
    level = {1: INT8, 2: INT16, 4: FLOAT32}[rows.values.itemsize]
    quantized = QuantizedRows(
        allocate_values(n_stored, n_features, level), *(np.empty(n_stored, np.float32) for _ in range(3))
    )
    return RowBuffer(
        np.zeros(capacity, np.int64),
        np.zeros(capacity, np.int64),
        np.zeros(capacity, np.int64),
        quantized,
        np.empty((3, capacity), np.float32),
        np.empty((2, capacity), np.int32),
        *(np.empty(capacity, np.float32) for _ in range(3)),
    )


@numba.njit(**INNER, inline="always")
def filter_rows(
    X: Rows, rows: QuantizedRows, quantizer: RowQuantizer, centers: QuantizedCenters, count: int, buffer: RowBuffer
) -> QuantizedRows:
    """Filter buffer.rows[:count]: write best scores and centers, error bounds and gaps to the buffer.

    Returns the quantized rows that were used, which buffer.slots indexes.
    """
    if rows.values.shape[0] > 0:
        used = rows
        for p in range(count):
            buffer.slots[p] = buffer.rows[p]
    else:
        used = buffer.quantized
        quantize_rows(X, buffer.rows, count, quantizer, used.values, used.steps, used.errors, used.norms)
        for p in range(count):
            buffer.slots[p] = p
    rank_centers(used, buffer.slots, count, centers, buffer.best_scores, buffer.best_centers)
    certify_labels(used.errors, used.norms, centers, count, buffer)
    return used


@numba.njit(**INNER, forceinline=True)
def splat_error_bound(bound: ErrorBound) -> Any:
    """Return the coefficients of an error bound, each in every lane, in the order of ErrorBound."""
    return (
        splat(bound.per_error), splat(bound.per_error_size), splat(bound.per_norm_size),
        splat(bound.constant), splat(bound.per_size), splat(bound.per_score),
    )  # fmt: skip


@numba.njit(**INNER, forceinline=True)
def bound_gap(best: Any, second: Any, error: Any, norm: Any, size: Any, terms: Any) -> Any:
    """Return the error bound of the best score, and a lower bound of the gap between distances.

    `best` and `second` are the two least scores. With d the distance to the best center and g a lower bound of the true
    difference of scores, any other center is at least sqrt(d^2 + 2 g) away. So the gap is at least
    2 g / (sqrt(d^2 + 2 g) + d), which falls with d: an upper bound of d is used.
    """
    zero, two = splat(np.float32(0.0)), splat(np.float32(2.0))
    round_down, round_up, rounding = (
        splat(ROUND_DOWN),
        splat(np.float32(2.0) - ROUND_DOWN),
        splat(DEFINITION_ERROR),
    )
    per_error, per_error_size, per_norm_size, constant, per_size, per_score = terms
    bound = fma(error, fma(per_error_size, size, per_error), constant)
    bound = fma(size, fma(norm, per_norm_size, per_size), bound)
    largest = maximum(maximum(best, zero - best), maximum(second, zero - second))
    bound = fma(per_score, largest + largest, bound)
    gain = second - best - bound
    distance = sqrt(maximum(fma(norm, norm, two * (best + bound)), zero)) * round_up
    other_distance = sqrt(maximum(fma(distance, distance, two * gain), zero)) * round_up
    return bound, (two * gain) / (other_distance + distance) * round_down - rounding * (other_distance + distance)


@numba.njit(**INNER)
def certify_labels(errors: Float32s, norms: Float32s, centers: QuantizedCenters, count: int, buffer: RowBuffer) -> None:
    """Write the error bounds and gaps of the first `count` rows of the buffer, from their scores."""
    terms, score_mask, no_tag = splat_error_bound(centers.error_bound), centers.score_mask, np.int32(0)
    round_down = splat(ROUND_DOWN)
    best_scores, best_centers, slots, sizes = buffer.best_scores, buffer.best_centers, buffer.slots, centers.sizes
    capacity = best_scores.shape[1]
    for p in range(0, count, LANES):
        first = set_tag(load(best_scores, p), score_mask, no_tag)
        second = set_tag(load(best_scores, p + capacity), score_mask, no_tag)
        third = set_tag(load(best_scores, p + 2 * capacity), score_mask, no_tag)
        bound, gap = bound_gap(
            first, second, gather(errors, slots, p), gather(norms, slots, p), gather(sizes, best_centers, p), terms
        )
        store(buffer.bounds, p, bound)
        store(buffer.gaps, p, gap)
        store(buffer.third_margins, p, (third - first - bound) * round_down)
