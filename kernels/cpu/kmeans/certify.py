"""The filter: score all centers for quantized rows, and certify the labels that the scores prove.

    X, QuantizedRows, QuantizedCenters  ->  RowBuffer: best centers, gaps to the other centers, candidates of open rows

Every row gets its best and its second best score. Scores are lower bounds, so if the second exceeds the best one by
more than that one's error bound, the label is certified, and so is a lower bound of the gap between the distances to
the two nearest centers. The other rows stay open; their candidates, listed here, are measured in refine.py. Bounds:
decisions/0005-screening.md, decisions/0058-heavy-tails.md, decisions/0067-blocks-of-centers.md.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

from engine.kernels.cpu.jit_options import INNER
from engine.kernels.cpu.kmeans.block_scores import MAX_CANDIDATES, list_candidates
from engine.kernels.cpu.kmeans.quantize import (
    FLOAT32,
    INT8,
    INT16,
    QuantizedRows,
    RowQuantizer,
    allocate_values,
    quantize_rows,
)
from engine.kernels.cpu.kmeans.quantized_centers import BLOCK_CENTERS, PADDING_SCORE, ErrorBound, QuantizedCenters
from engine.kernels.cpu.kmeans.tiled_scores import (
    TILE_ROWS,
    load_tile,
    load_tile_scales,
    prefetch_rows,
    rank_centers,
)
from engine.kernels.cpu.simd.vectors import (
    LANES,
    count_trailing_zeros,
    fma,
    gather,
    invert_mask,
    less,
    load,
    mask_to_bits,
    maximum,
    minimum,
    select,
    splat,
    sqrt,
    store,
)

RUN_ROWS = 4096  # rows filtered at a time: their scores and labels stay in the L2 cache
PREFETCH_TILES = 2  # between the prefetch of a tile of rows and its use
CANDIDATE_BOUNDS = np.float32(1.25)  # candidates are centers whose score exceeds the best by up to so many bounds
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
    slots: Int64s  # their indices in `quantized`
    open: Int64s  # positions in this buffer of the rows that the filter left open
    quantized: QuantizedRows  # the rows quantized on the fly, where the caller stores none
    labels: Int32s  # the center of the least score of each; once refined, the label
    old_labels: Int32s  # work space of a pass that moves rows from one cluster to another
    gaps: Float32s  # lower bound of distance to any other center - distance to the best; not positive: an open row
    candidates: Int32s  # the candidates of the open rows, one row after the other
    candidate_ends: Int64s  # where those of each open row end
    margins: Float64s  # of each open row: lower bound of the exact score of any other center - that of the best


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
        np.empty(capacity, np.int32),
        np.empty(capacity, np.int32),
        np.empty(capacity, np.float32),
        np.empty((RUN_ROWS + 1) * MAX_CANDIDATES, np.int32),
        np.empty(capacity, np.int64),
        np.empty(capacity, np.float64),
    )


@numba.njit(**INNER, inline="always")
def quantize_run(
    X: Rows, rows: QuantizedRows, quantizer: RowQuantizer, count: int, buffer: RowBuffer
) -> tuple[QuantizedRows, Int64s]:
    """Return the quantized rows that hold buffer.rows[:count], and the indices of these in them.

    Rows are quantized on the fly where none are stored.
    """
    used, slots = rows, buffer.rows
    if rows.values.shape[0] == 0:
        used, slots = buffer.quantized, buffer.slots
        quantize_rows(X, buffer.rows, count, quantizer, used.values, used.steps, used.errors, used.norms)
        for p in range(count):
            slots[p] = p
    return used, slots


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
def filter_rows(rows: QuantizedRows, slots: Int64s, centers: QuantizedCenters, count: int, buffer: RowBuffer) -> int:
    """Rank the centers of the quantized rows slots[:count], and write labels and gaps to the buffer.

    `slots` has room for whole tiles. Returns the number of open rows, whose positions and candidates are written to the
    buffer as well.
    """
    # Arrays are taken out of their tuples before the loop: to pass on a tuple, numba counts references to all in it.
    values, row_steps, errors, norms, row_term = rows.values, rows.steps, rows.errors, rows.norms, centers.row_term
    tile_words, sums, steps, offsets = centers.tile_words, centers.sums, centers.steps, centers.offsets
    block_words, block_sums = centers.block_words, centers.block_sums
    block_steps, block_offsets, sizes = centers.block_steps, centers.block_offsets, centers.sizes
    open_rows, labels, gaps = buffer.open, buffer.labels, buffer.gaps
    candidates, candidate_ends, margins = buffer.candidates, buffer.candidate_ends, buffer.margins
    n_in_tiles, n_in_blocks, terms = centers.n_in_tiles, sums.shape[0], splat_error_bound(centers.error_bound)
    kind, words = values.dtype.type(0), values.view(np.int32).reshape(-1)
    padded_width, width = words.shape[0] // values.shape[0], tile_words.shape[0] // n_in_blocks
    row_tile, scales = np.empty(padded_width * TILE_ROWS, np.int32), np.empty(2 * TILE_ROWS, np.float32)
    best, second = np.empty(TILE_ROWS, np.float32), np.empty(TILE_ROWS, np.float32)
    bounds, leaders = np.empty(TILE_ROWS, np.float32), np.empty(TILE_ROWS, np.int32)
    block_least = np.empty(n_in_blocks // BLOCK_CENTERS * TILE_ROWS, np.float32)
    tile_candidates, counts = np.empty(TILE_ROWS * MAX_CANDIDATES, np.int32), np.empty(TILE_ROWS, np.int64)
    limits, least_others = np.empty(TILE_ROWS, np.float32), np.empty(TILE_ROWS, np.float32)
    other_scores = np.empty(TILE_ROWS * LANES, np.float32)
    n_open, end, zero, nothing = np.int64(0), np.int64(0), splat(np.float32(0.0)), splat(np.float32(-np.inf))
    for first_lane in range(count, -(-count // TILE_ROWS) * TILE_ROWS):
        slots[first_lane] = slots[0]  # the last tile repeats a row where it is not full
    for start in range(0, count, TILE_ROWS):
        prefetch_rows(words, padded_width, slots, min(start + PREFETCH_TILES * TILE_ROWS, count), count)
        load_tile(words, padded_width, slots, start, row_tile)
        if values.itemsize != 4:
            load_tile_scales(row_steps, errors, norms, row_term, slots, start, scales)
        rank_centers(
            kind, row_tile, scales, width, tile_words, n_in_tiles, sums, steps, offsets, best, second, leaders,
            block_least,
        )  # fmt: skip
        open_bits = np.uint32(0)
        for lane in range(0, TILE_ROWS, LANES):
            least = load(best, lane)
            bound, gap = bound_gap(
                least, load(second, lane), gather(errors, slots, start + lane), gather(norms, slots, start + lane),
                gather(sizes, leaders, lane), terms,
            )  # fmt: skip
            store(gaps, start + lane, gap)
            store(labels, start + lane, load(leaders, lane))
            store(bounds, lane, bound)
            certified, known = less(zero, gap), less(bound, splat(np.float32(np.inf)))
            limit = minimum(least + bound * splat(CANDIDATE_BOUNDS), splat(PADDING_SCORE))
            store(limits, lane, select(certified, nothing, select(known, limit, nothing)))
            open_bits |= mask_to_bits(invert_mask(certified)) << np.uint32(lane)
        if start + TILE_ROWS > count:
            open_bits &= (np.uint32(1) << np.uint32(count - start)) - np.uint32(1)
        if open_bits == 0:
            continue
        list_candidates(
            kind, words, padded_width, slots, start, scales, width, block_words, block_sums, block_steps, block_offsets,
            block_least, limits, tile_candidates, counts, least_others, other_scores,
        )  # fmt: skip
        while open_bits != 0:
            lane = count_trailing_zeros(open_bits)
            open_bits &= open_bits - np.uint32(1)
            first = lane * MAX_CANDIDATES
            n_candidates = counts[lane] if counts[lane] <= MAX_CANDIDATES - LANES else 0
            for q in range(0, n_candidates, LANES):
                store(candidates, end + q, load(tile_candidates, first + q))
            end += n_candidates
            open_rows[n_open], candidate_ends[n_open] = start + lane, end
            margins[n_open] = np.float64(least_others[lane]) - np.float64(best[lane]) - np.float64(bounds[lane])
            n_open += 1
    return int(n_open)
