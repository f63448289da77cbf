"""Score centers for a tile of rows in registers, and keep the least scores: the matrix product of K-Means.

    quantized rows, QuantizedCenters -> for every row: the two least scores, the center of the first, and the least
                                        score of every block of centers

A tile is a register block, as in a matrix product: the rows lie in the lanes of two vectors, and TILE_CENTERS centers
are broadcast one after the other. Its 2 x TILE_CENTERS accumulators use every loaded word often enough to keep both
multipliers busy. Sums of integers become scores by a conversion and two fused multiply-adds, with numbers of the row
and of the center. To rank centers takes five more operations a score, and the minimum of their block one: by the
minima, few blocks are scored again for rows that stay open, with the centers in the lanes (block_scores.py).
What a score is: quantized_centers.py. What scores prove: certify.py and refine.py.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from engine.kernels.cpu.jit_options import INNER
from engine.kernels.cpu.kmeans.quantize import Float32s
from engine.kernels.cpu.kmeans.quantized_centers import (
    BLOCK_CENTERS,
    PADDING_SCORE,
    TILE_CENTERS,
    Int32s,
    Int64s,
    RowTerm,
    Sums,
)
from engine.kernels.cpu.simd.quantized import apply_scales
from engine.kernels.cpu.simd.vectors import (
    LANES,
    broadcast,
    dot_accumulate,
    fma,
    gather,
    gather_quads,
    less,
    load,
    maximum,
    minimum,
    prefetch,
    select,
    splat,
    store,
)

TILE_VECTORS = 2  # vectors of rows in a tile
TILE_ROWS = TILE_VECTORS * LANES  # rows of a tile
LINE_WORDS = 16  # words of a cache line
MAX_ROW_TERM = np.float32(1e15)  # larger ones would make scores infinite; their rows are open in any case


@numba.njit(**INNER)
def load_tile(words: Int32s, width: int, rows: Int64s, start: int, tile: Int32s) -> None:
    """Transpose the words (flat, `width` a row) of rows[start : start + TILE_ROWS] into tile [word][TILE_ROWS]."""
    for vector in range(TILE_VECTORS):
        lane = vector * LANES
        for word in range(0, width, 4):
            gather_quads(words, rows, start + lane, width, word, TILE_ROWS, tile, word * TILE_ROWS + lane)


@numba.njit(**INNER, forceinline=True)
def prefetch_rows(words: Int32s, width: int, rows: Int64s, start: int, stop: int) -> None:
    """Prefetch the words of a tile of rows, rows[start:stop] at most: where rows are skipped, hardware does not."""
    for p in range(start, min(start + TILE_ROWS, stop)):
        for word in range(0, width, LINE_WORDS):
            prefetch(words, rows[p] * width + word)


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
def _update_least(score: Any, number: Any, best: Any, second: Any, leader: Any) -> Any:
    """Update the two least scores of every lane, and the number that belongs to the first, with `score`."""
    leader = select(less(score, best), number, leader)
    after = maximum(score, best)
    return minimum(score, best), minimum(after, second), leader


@numba.njit(**INNER, forceinline=True)
def _rank_tile(
    scores: Any, j: int, best0: Any, second0: Any, leader0: Any, best1: Any, second1: Any, leader1: Any
) -> Any:
    """Update the two least scores of every row, and the centers of the first, with those of TILE_CENTERS centers."""
    a00, a01, a10, a11, a20, a21, a30, a31, a40, a41, a50, a51 = scores
    center = splat(np.int32(j))
    best0, second0, leader0 = _update_least(a00, center, best0, second0, leader0)
    best1, second1, leader1 = _update_least(a01, center, best1, second1, leader1)
    center = splat(np.int32(j + 1))
    best0, second0, leader0 = _update_least(a10, center, best0, second0, leader0)
    best1, second1, leader1 = _update_least(a11, center, best1, second1, leader1)
    center = splat(np.int32(j + 2))
    best0, second0, leader0 = _update_least(a20, center, best0, second0, leader0)
    best1, second1, leader1 = _update_least(a21, center, best1, second1, leader1)
    center = splat(np.int32(j + 3))
    best0, second0, leader0 = _update_least(a30, center, best0, second0, leader0)
    best1, second1, leader1 = _update_least(a31, center, best1, second1, leader1)
    center = splat(np.int32(j + 4))
    best0, second0, leader0 = _update_least(a40, center, best0, second0, leader0)
    best1, second1, leader1 = _update_least(a41, center, best1, second1, leader1)
    center = splat(np.int32(j + 5))
    best0, second0, leader0 = _update_least(a50, center, best0, second0, leader0)
    best1, second1, leader1 = _update_least(a51, center, best1, second1, leader1)
    return best0, second0, leader0, best1, second1, leader1


@numba.njit(**INNER, forceinline=True)
def least_of_tile(scores: Any) -> Any:
    """Return the least score of each row of a tile, in two vectors, of its scores as compute_tile_scores has them."""
    a00, a01, a10, a11, a20, a21, a30, a31, a40, a41, a50, a51 = scores
    least0 = minimum(minimum(minimum(a00, a10), minimum(a20, a30)), minimum(a40, a50))
    least1 = minimum(minimum(minimum(a01, a11), minimum(a21, a31)), minimum(a41, a51))
    return least0, least1


@numba.njit(**INNER)
def rank_centers(
    kind: Any,
    row_tile: Int32s,
    scales: Float32s,
    width: int,
    tile_words: Int32s,
    n_in_tiles: int,
    sums: Sums,
    steps: Float32s,
    offsets: Float32s,
    best_scores: Float32s,
    second_scores: Float32s,
    best_centers: Int32s,
    block_least: Float32s,
) -> None:
    """Write the two least scores of each row of a tile, the center of the first, and the least score of each block.

    `block_least` is flat [block][TILE_ROWS].
    """
    best0, second0, leader0 = splat(PADDING_SCORE), splat(PADDING_SCORE), splat(np.int32(0))
    best1, second1, leader1 = best0, second0, leader0
    for j in range(0, n_in_tiles, BLOCK_CENTERS):
        scores = compute_tile_scores(kind, row_tile, scales, width, tile_words, sums, steps, offsets, j)
        least0, least1 = least_of_tile(scores)
        best0, second0, leader0, best1, second1, leader1 = _rank_tile(
            scores, j, best0, second0, leader0, best1, second1, leader1
        )
        if j + TILE_CENTERS < n_in_tiles:
            scores = compute_tile_scores(
                kind, row_tile, scales, width, tile_words, sums, steps, offsets, j + TILE_CENTERS
            )
            other0, other1 = least_of_tile(scores)
            least0, least1 = minimum(least0, other0), minimum(least1, other1)
            best0, second0, leader0, best1, second1, leader1 = _rank_tile(
                scores, j + TILE_CENTERS, best0, second0, leader0, best1, second1, leader1
            )
        store(block_least, j // BLOCK_CENTERS * TILE_ROWS, least0)
        store(block_least, j // BLOCK_CENTERS * TILE_ROWS + LANES, least1)
    store(best_scores, 0, best0)
    store(best_scores, LANES, best1)
    store(second_scores, 0, second0)
    store(second_scores, LANES, second1)
    store(best_centers, 0, leader0)
    store(best_centers, LANES, leader1)
