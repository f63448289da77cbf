"""Score all centers for a tile of rows in registers, and keep the least scores: the matrix product of K-Means.

    quantized rows, QuantizedCenters -> the three least scores of every row, and the centers of the first two
                                     or, for a limit a row, all centers whose score is below it: the candidates

A tile is a register block, as in a matrix product: the rows lie in the lanes of two vectors, and TILE_CENTERS centers
are broadcast one after the other. Its 2 x TILE_CENTERS accumulators use every loaded word often enough to keep both
multipliers busy. Sums of integers become scores by a conversion and two fused multiply-adds, with numbers of the row
and of the center. A center's index within its chunk, the tag, is stored in the low bits of its score. So ranking takes
one bit operation, three minima and two maxima a score, and no labels are moved.
What a score is: quantized_centers.py. What scores prove: certify.py and refine.py.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from engine.kernels.cpu.jit_options import INNER
from engine.kernels.cpu.kmeans.quantize import Float32s, QuantizedRows
from engine.kernels.cpu.kmeans.quantized_centers import (
    BLOCK_CENTERS,
    CHUNK_CENTERS,
    PADDING_SCORE,
    TILE_CENTERS,
    Int32s,
    Int64s,
    QuantizedCenters,
    RowTerm,
    Sums,
)
from engine.kernels.cpu.simd.quantized import apply_scales
from engine.kernels.cpu.simd.vectors import (
    LANES,
    broadcast,
    count_trailing_zeros,
    dot_accumulate,
    fma,
    gather,
    gather_quads,
    less,
    load,
    mask_to_bits,
    maximum,
    minimum,
    reinterpret_as_ints,
    select,
    set_tag,
    splat,
    store,
)

TILE_VECTORS = 2  # vectors of rows in a tile
TILE_ROWS = TILE_VECTORS * LANES  # rows of a tile
MAX_ROW_TERM = np.float32(1e15)  # larger ones would make scores infinite; their rows are open in any case
MAX_CANDIDATES = 48  # of a row, in find_tile_candidates: rows with more are handed to find_candidates one by one


@numba.njit(**INNER)
def load_tile(words: Int32s, width: int, rows: Int64s, start: int, tile: Int32s) -> None:
    """Transpose the words (flat, `width` a row) of rows[start : start + TILE_ROWS] into tile [word][TILE_ROWS]."""
    for vector in range(TILE_VECTORS):
        lane = vector * LANES
        for word in range(0, width, 4):
            gather_quads(words, rows, start + lane, width, word, TILE_ROWS, tile, word * TILE_ROWS + lane)


@numba.njit(**INNER, forceinline=True)
def load_tile_scales(
    steps: Float32s,
    errors: Float32s,
    norms: Float32s,
    row_term: RowTerm,
    slots: Int64s,
    start: int,
    scales: Float32s,
) -> None:
    """Write the steps of the rows slots[start : start + TILE_ROWS], and their row terms with a minus sign.

    `scales` (2 * TILE_ROWS,) holds the steps first.
    """
    per_error, per_norm, least = splat(-row_term.per_error), splat(-row_term.per_norm), splat(-MAX_ROW_TERM)
    for lane in range(0, TILE_ROWS, LANES):
        store(scales, lane, gather(steps, slots, start + lane))
        term = gather(norms, slots, start + lane) * per_norm
        term = fma(gather(errors, slots, start + lane), per_error, term)
        store(scales, TILE_ROWS + lane, maximum(least, term))


@numba.njit(**INNER, forceinline=True)
def compute_tile_scores(
    kind: Any,
    row_tile: Int32s,
    scales: Float32s,
    width: int,
    tile_words: Int32s,
    sums: Sums,
    steps: Float32s,
    offsets: Float32s,
    j: int,
) -> Any:
    """Return the scores of a tile: two vectors a center, for TILE_CENTERS centers from j on, in order.

    The dtype of `kind` is that of the quantized values, and selects the instruction: see dot_accumulate. `width` words
    a center are multiplied.
    """
    a00 = broadcast(sums, j)
    a10 = broadcast(sums, j + 1)
    a20 = broadcast(sums, j + 2)
    a30 = broadcast(sums, j + 3)
    a40 = broadcast(sums, j + 4)
    a50 = broadcast(sums, j + 5)
    a01, a11, a21, a31, a41, a51 = a00, a10, a20, a30, a40, a50
    word_index = j * width
    for word in range(width):
        x0, x1 = load(row_tile, word * TILE_ROWS), load(row_tile, word * TILE_ROWS + LANES)
        c = broadcast(tile_words, word_index)
        a00, a01 = dot_accumulate(kind, a00, x0, c), dot_accumulate(kind, a01, x1, c)
        c = broadcast(tile_words, word_index + 1)
        a10, a11 = dot_accumulate(kind, a10, x0, c), dot_accumulate(kind, a11, x1, c)
        c = broadcast(tile_words, word_index + 2)
        a20, a21 = dot_accumulate(kind, a20, x0, c), dot_accumulate(kind, a21, x1, c)
        c = broadcast(tile_words, word_index + 3)
        a30, a31 = dot_accumulate(kind, a30, x0, c), dot_accumulate(kind, a31, x1, c)
        c = broadcast(tile_words, word_index + 4)
        a40, a41 = dot_accumulate(kind, a40, x0, c), dot_accumulate(kind, a41, x1, c)
        c = broadcast(tile_words, word_index + 5)
        a50, a51 = dot_accumulate(kind, a50, x0, c), dot_accumulate(kind, a51, x1, c)
        word_index += TILE_CENTERS
    row_step0, row_step1 = load(scales, 0), load(scales, LANES)
    row_term0, row_term1 = load(scales, TILE_ROWS), load(scales, TILE_ROWS + LANES)
    step, offset = broadcast(steps, j), broadcast(offsets, j)
    b00 = apply_scales(a00, row_step0, row_term0, step, offset)
    b01 = apply_scales(a01, row_step1, row_term1, step, offset)
    step, offset = broadcast(steps, j + 1), broadcast(offsets, j + 1)
    b10 = apply_scales(a10, row_step0, row_term0, step, offset)
    b11 = apply_scales(a11, row_step1, row_term1, step, offset)
    step, offset = broadcast(steps, j + 2), broadcast(offsets, j + 2)
    b20 = apply_scales(a20, row_step0, row_term0, step, offset)
    b21 = apply_scales(a21, row_step1, row_term1, step, offset)
    step, offset = broadcast(steps, j + 3), broadcast(offsets, j + 3)
    b30 = apply_scales(a30, row_step0, row_term0, step, offset)
    b31 = apply_scales(a31, row_step1, row_term1, step, offset)
    step, offset = broadcast(steps, j + 4), broadcast(offsets, j + 4)
    b40 = apply_scales(a40, row_step0, row_term0, step, offset)
    b41 = apply_scales(a41, row_step1, row_term1, step, offset)
    step, offset = broadcast(steps, j + 5), broadcast(offsets, j + 5)
    b50 = apply_scales(a50, row_step0, row_term0, step, offset)
    b51 = apply_scales(a51, row_step1, row_term1, step, offset)
    return b00, b01, b10, b11, b20, b21, b30, b31, b40, b41, b50, b51


@numba.njit(**INNER, forceinline=True)
def _update_least(score: Any, score_mask: Any, tag: Any, best: Any, second: Any, third: Any) -> Any:
    """Tag scores with an index, and update the three least scores of every lane with them."""
    score = set_tag(score, score_mask, tag)
    after = maximum(score, best)
    return minimum(score, best), minimum(after, second), minimum(maximum(after, second), third)


@numba.njit(**INNER, forceinline=True)
def _merge_least(score: Any, center: Any, best: Any, second: Any, third: Any, leader: Any, runner_up: Any) -> Any:
    """Update the three least scores of every lane, and the centers of the first two, with scores of `center`."""
    first, closer = less(score, best), less(score, second)
    runner_up = select(first, leader, select(closer, center, runner_up))
    after = maximum(score, best)
    best, second, third = minimum(score, best), minimum(after, second), minimum(maximum(after, second), third)
    return best, second, third, select(first, center, leader), runner_up


@numba.njit(**INNER)
def rank_tile(
    kind: Any,
    row_tile: Int32s,
    scales: Float32s,
    width: int,
    tile_words: Int32s,
    n_in_tiles: int,
    sums: Sums,
    steps: Float32s,
    offsets: Float32s,
    score_mask: Any,
    first_lane: int,
    best_scores: Float32s,
    best_centers: Int32s,
) -> None:
    """Rank all centers for one tile, as rank_centers does; results are written from position `first_lane` on."""
    best0, second0, third0 = splat(PADDING_SCORE), splat(PADDING_SCORE), splat(PADDING_SCORE)
    best1, second1, third1 = best0, second0, third0
    leader0, runner0 = splat(np.int32(0)), splat(np.int32(0))
    leader1, runner1 = leader0, runner0
    for first in range(0, n_in_tiles, CHUNK_CENTERS):
        b0, s0, t0 = splat(PADDING_SCORE), splat(PADDING_SCORE), splat(PADDING_SCORE)
        b1, s1, t1 = b0, s0, t0
        for j in range(first, min(first + CHUNK_CENTERS, n_in_tiles), TILE_CENTERS):
            a00, a01, a10, a11, a20, a21, a30, a31, a40, a41, a50, a51 = compute_tile_scores(
                kind, row_tile, scales, width, tile_words, sums, steps, offsets, j
            )
            tag = j - first
            b0, s0, t0 = _update_least(a00, score_mask, tag, b0, s0, t0)
            b1, s1, t1 = _update_least(a01, score_mask, tag, b1, s1, t1)
            b0, s0, t0 = _update_least(a10, score_mask, tag + 1, b0, s0, t0)
            b1, s1, t1 = _update_least(a11, score_mask, tag + 1, b1, s1, t1)
            b0, s0, t0 = _update_least(a20, score_mask, tag + 2, b0, s0, t0)
            b1, s1, t1 = _update_least(a21, score_mask, tag + 2, b1, s1, t1)
            b0, s0, t0 = _update_least(a30, score_mask, tag + 3, b0, s0, t0)
            b1, s1, t1 = _update_least(a31, score_mask, tag + 3, b1, s1, t1)
            b0, s0, t0 = _update_least(a40, score_mask, tag + 4, b0, s0, t0)
            b1, s1, t1 = _update_least(a41, score_mask, tag + 4, b1, s1, t1)
            b0, s0, t0 = _update_least(a50, score_mask, tag + 5, b0, s0, t0)
            b1, s1, t1 = _update_least(a51, score_mask, tag + 5, b1, s1, t1)
        chunk_start = splat(np.int32(first))
        center = set_tag(reinterpret_as_ints(b0), ~score_mask, np.int32(0)) + chunk_start
        best0, second0, third0, leader0, runner0 = _merge_least(b0, center, best0, second0, third0, leader0, runner0)
        center = set_tag(reinterpret_as_ints(s0), ~score_mask, np.int32(0)) + chunk_start
        best0, second0, third0, leader0, runner0 = _merge_least(s0, center, best0, second0, third0, leader0, runner0)
        center = set_tag(reinterpret_as_ints(b1), ~score_mask, np.int32(0)) + chunk_start
        best1, second1, third1, leader1, runner1 = _merge_least(b1, center, best1, second1, third1, leader1, runner1)
        center = set_tag(reinterpret_as_ints(s1), ~score_mask, np.int32(0)) + chunk_start
        best1, second1, third1, leader1, runner1 = _merge_least(s1, center, best1, second1, third1, leader1, runner1)
        third0, third1 = minimum(t0, third0), minimum(t1, third1)
    capacity = best_scores.shape[1]
    store(best_scores, first_lane, best0)
    store(best_scores, first_lane + LANES, best1)
    store(best_scores, capacity + first_lane, second0)
    store(best_scores, capacity + first_lane + LANES, second1)
    store(best_scores, 2 * capacity + first_lane, third0)
    store(best_scores, 2 * capacity + first_lane + LANES, third1)
    store(best_centers, first_lane, leader0)
    store(best_centers, first_lane + LANES, leader1)
    store(best_centers, capacity + first_lane, runner0)
    store(best_centers, capacity + first_lane + LANES, runner1)


@numba.njit(**INNER)
def rank_centers(
    rows: QuantizedRows,
    slots: Int64s,
    count: int,
    centers: QuantizedCenters,
    best_scores: Float32s,
    best_centers: Int32s,
) -> None:
    """Write for each of slots[:count] the three least scores, tagged, and the centers of the first two.

    `best_scores` (3, capacity), `best_centers` (2, capacity) and `slots` have room for whole tiles.
    """
    # Arrays are taken out of their tuples before the loop: to pass on a tuple, numba counts references to all in it.
    values, row_steps, errors, norms, row_term = rows.values, rows.steps, rows.errors, rows.norms, centers.row_term
    tile_words, sums, steps, offsets = centers.tile_words, centers.sums, centers.steps, centers.offsets
    n_in_tiles, score_mask = centers.n_in_tiles, centers.score_mask
    words = values.view(np.int32).reshape(-1)
    padded_width, width = words.shape[0] // values.shape[0], tile_words.shape[0] // n_in_tiles
    row_tile, scales = np.empty(padded_width * TILE_ROWS, np.int32), np.empty(2 * TILE_ROWS, np.float32)
    for first_lane in range(count, -(-count // TILE_ROWS) * TILE_ROWS):
        slots[first_lane] = slots[0]  # the last tile repeats a row where it is not full
    for start in range(0, count, TILE_ROWS):
        load_tile(words, padded_width, slots, start, row_tile)
        if values.itemsize != 4:
            load_tile_scales(row_steps, errors, norms, row_term, slots, start, scales)
        rank_tile(
            values.dtype.type(0), row_tile, scales, width, tile_words, n_in_tiles, sums, steps, offsets, score_mask,
            start, best_scores, best_centers,
        )  # fmt: skip


@numba.njit(**INNER, forceinline=True)
def _append_to_rows(
    score: Any,
    limit: Any,
    padding: Any,
    other_score: Any,
    j: int,
    first_lane: int,
    candidates: Int32s,
    counts: Int64s,
) -> Any:
    """Append center j to the candidates of rows whose score is below the limit; return the least other scores."""
    chosen = less(score, limit)
    chosen_bits = mask_to_bits(chosen)
    while chosen_bits != 0:
        row = first_lane + count_trailing_zeros(chosen_bits)
        candidates[row * MAX_CANDIDATES + min(counts[row], MAX_CANDIDATES - 1)] = j
        counts[row] += 1
        chosen_bits &= chosen_bits - np.uint32(1)
    return minimum(other_score, select(chosen, padding, score))


@numba.njit(**INNER)
def find_tile_candidates(
    kind: Any,
    row_tile: Int32s,
    scales: Float32s,
    width: int,
    tile_words: Int32s,
    n_in_tiles: int,
    sums: Sums,
    steps: Float32s,
    offsets: Float32s,
    limits: Float32s,
    candidates: Int32s,
    counts: Int64s,
    other_scores: Float32s,
) -> None:
    """Write for each row of one tile the centers whose score is below its limit, and the least score of the others.

    `candidates` (flat) holds MAX_CANDIDATES a row; where its count is larger, the rest are lost. Scores have no tags.
    """
    # Not literals: numba would compile a callee for each of them.
    padding, low, high = splat(PADDING_SCORE), np.int64(0), np.int64(LANES)
    limit0, limit1 = load(limits, 0), load(limits, LANES)
    other0, other1 = padding, padding
    for row in range(TILE_ROWS):
        counts[row] = 0
    for j in range(0, n_in_tiles, TILE_CENTERS):
        a00, a01, a10, a11, a20, a21, a30, a31, a40, a41, a50, a51 = compute_tile_scores(
            kind, row_tile, scales, width, tile_words, sums, steps, offsets, j
        )
        other0 = _append_to_rows(a00, limit0, padding, other0, j, low, candidates, counts)
        other1 = _append_to_rows(a01, limit1, padding, other1, j, high, candidates, counts)
        other0 = _append_to_rows(a10, limit0, padding, other0, j + 1, low, candidates, counts)
        other1 = _append_to_rows(a11, limit1, padding, other1, j + 1, high, candidates, counts)
        other0 = _append_to_rows(a20, limit0, padding, other0, j + 2, low, candidates, counts)
        other1 = _append_to_rows(a21, limit1, padding, other1, j + 2, high, candidates, counts)
        other0 = _append_to_rows(a30, limit0, padding, other0, j + 3, low, candidates, counts)
        other1 = _append_to_rows(a31, limit1, padding, other1, j + 3, high, candidates, counts)
        other0 = _append_to_rows(a40, limit0, padding, other0, j + 4, low, candidates, counts)
        other1 = _append_to_rows(a41, limit1, padding, other1, j + 4, high, candidates, counts)
        other0 = _append_to_rows(a50, limit0, padding, other0, j + 5, low, candidates, counts)
        other1 = _append_to_rows(a51, limit1, padding, other1, j + 5, high, candidates, counts)
    store(other_scores, 0, other0)
    store(other_scores, LANES, other1)


@numba.njit(**INNER, forceinline=True)
def _append_lanes(
    score: Any, limit: Any, padding: Any, first_center: int, other_score: Any, candidates: Int32s, count: int
) -> tuple[Any, int]:
    """Append the centers of lanes whose score is below the limit; return the least other scores and the count."""
    chosen = less(score, limit)
    chosen_bits = mask_to_bits(chosen)
    center = first_center
    while chosen_bits != 0:
        candidates[count] = center
        count += chosen_bits & np.uint32(1)
        chosen_bits >>= np.uint32(1)
        center += 1
    return minimum(other_score, select(chosen, padding, score)), count


@numba.njit(**INNER)
def find_candidates(
    kind: Any,
    words: Int32s,
    start: int,
    row_step: Any,
    row_term: Any,
    width: int,
    block_words: Int32s,
    sums: Sums,
    steps: Float32s,
    offsets: Float32s,
    limit: Any,
    candidates: Int32s,
    other_scores: Float32s,
) -> int:
    """Write the centers whose score is below `limit` for the row whose words begin at `start`; return how many.

    Centers lie in the lanes, and scores have no tags. `row_term` has a minus sign. `candidates` has room for one more
    than all centers. The minimum of `other_scores` (LANES,) is the least score of all other centers.
    """
    limits, padding = splat(limit), splat(PADDING_SCORE)
    scale, term = splat(row_step), splat(row_term)
    other_score, count = padding, np.int64(0)
    for block in range(0, offsets.shape[0], BLOCK_CENTERS):
        a0, a1 = load(sums, block), load(sums, block + LANES)
        a2, a3 = load(sums, block + 2 * LANES), load(sums, block + 3 * LANES)
        word_index = block * width
        for word in range(width):
            x = broadcast(words, start + word)
            a0 = dot_accumulate(kind, a0, x, load(block_words, word_index))
            a1 = dot_accumulate(kind, a1, x, load(block_words, word_index + LANES))
            a2 = dot_accumulate(kind, a2, x, load(block_words, word_index + 2 * LANES))
            a3 = dot_accumulate(kind, a3, x, load(block_words, word_index + 3 * LANES))
            word_index += BLOCK_CENTERS
        b0 = apply_scales(a0, scale, term, load(steps, block), load(offsets, block))
        b1 = apply_scales(a1, scale, term, load(steps, block + LANES), load(offsets, block + LANES))
        b2 = apply_scales(a2, scale, term, load(steps, block + 2 * LANES), load(offsets, block + 2 * LANES))
        b3 = apply_scales(a3, scale, term, load(steps, block + 3 * LANES), load(offsets, block + 3 * LANES))
        other_score, count = _append_lanes(b0, limits, padding, block, other_score, candidates, count)
        other_score, count = _append_lanes(b1, limits, padding, block + LANES, other_score, candidates, count)
        other_score, count = _append_lanes(b2, limits, padding, block + 2 * LANES, other_score, candidates, count)
        other_score, count = _append_lanes(b3, limits, padding, block + 3 * LANES, other_score, candidates, count)
    store(other_scores, 0, other_score)
    return int(count)
