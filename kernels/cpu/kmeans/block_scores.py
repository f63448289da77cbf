"""List the candidates of the rows of a tile: the centers whose score is below a limit of the row's own.

    words of rows, QuantizedCenters, the least score of each block, limits -> candidates, the least other scores

Only blocks whose least score is below the limit are scored, for one row at a time: the centers lie in the lanes, where
tiled_scores.py has rows there. Scores of integers have the same bits as those of tiled_scores.py. Those of floats are
added in another order, within the same error bound.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from engine.kernels.cpu.jit_options import INNER
from engine.kernels.cpu.kmeans.quantize import Float32s
from engine.kernels.cpu.kmeans.quantized_centers import (
    BLOCK_CENTERS,
    BLOCK_VECTORS,
    PADDING_SCORE,
    Int32s,
    Int64s,
    Sums,
)
from engine.kernels.cpu.kmeans.tiled_scores import TILE_ROWS
from engine.kernels.cpu.simd.quantized import apply_scales
from engine.kernels.cpu.simd.vectors import (
    LANES,
    broadcast,
    compress_store,
    count_lanes,
    count_trailing_zeros,
    dot_accumulate,
    lane_indices,
    less,
    load,
    mask_to_bits,
    minimum,
    reduce_min,
    select,
    splat,
    store,
)

MAX_CANDIDATES = 192  # of a row; rows with more are labelled by the definition


@numba.njit(**INNER, forceinline=True)
def _score_lanes(
    kind: Any,
    words: Int32s,
    start: int,
    width: int,
    row_step: Any,
    row_term: Any,
    block_words: Int32s,
    sums: Sums,
    steps: Float32s,
    offsets: Float32s,
    vector: int,
) -> Any:
    """Return the scores of one vector of a block for the row whose words begin at `start`."""
    a, word_index = load(sums, vector * LANES), vector * width * LANES
    b = c = d = a - a  # four sums, because a sum waits for its last addition
    for word in range(start, start + width // 4 * 4, 4):
        a = dot_accumulate(kind, a, broadcast(words, word), load(block_words, word_index))
        b = dot_accumulate(kind, b, broadcast(words, word + 1), load(block_words, word_index + LANES))
        c = dot_accumulate(kind, c, broadcast(words, word + 2), load(block_words, word_index + 2 * LANES))
        d = dot_accumulate(kind, d, broadcast(words, word + 3), load(block_words, word_index + 3 * LANES))
        word_index += 4 * LANES
    for word in range(start + width // 4 * 4, start + width):
        a = dot_accumulate(kind, a, broadcast(words, word), load(block_words, word_index))
        word_index += LANES
    scores = (a + b) + (c + d)
    return apply_scales(
        scores, splat(row_step), splat(row_term), load(steps, vector * LANES), load(offsets, vector * LANES)
    )


@numba.njit(**INNER)
def list_candidates(
    kind: Any,
    words: Int32s,
    padded_width: int,
    slots: Int64s,
    first_slot: int,
    scales: Float32s,
    width: int,
    block_words: Int32s,
    sums: Sums,
    steps: Float32s,
    offsets: Float32s,
    block_least: Float32s,
    limits: Float32s,
    candidates: Int32s,
    counts: Int64s,
    least_others: Float32s,
    other_scores: Float32s,
) -> None:
    """Write the candidates of each row of a tile (flat, MAX_CANDIDATES a row), and the least score of the others.

    A limit of -infinity asks for nothing. Where the count exceeds MAX_CANDIDATES - LANES, candidates are lost.
    `scales` are those of load_tile_scales; `other_scores` (flat [TILE_ROWS][LANES]) is work space.
    """
    padding, lanes = splat(PADDING_SCORE), lane_indices()
    limits0, limits1 = load(limits, 0), load(limits, LANES)
    others0, others1 = padding, padding
    for lane in range(TILE_ROWS):
        counts[lane] = 0
        store(other_scores, lane * LANES, padding)
    for block in range(offsets.shape[0] // (BLOCK_VECTORS * LANES)):
        least0, least1 = load(block_least, block * TILE_ROWS), load(block_least, block * TILE_ROWS + LANES)
        chosen0, chosen1 = less(least0, limits0), less(least1, limits1)
        others0 = minimum(others0, select(chosen0, padding, least0))
        others1 = minimum(others1, select(chosen1, padding, least1))
        bits = mask_to_bits(chosen0) | mask_to_bits(chosen1) << np.uint32(LANES)
        while bits != 0:
            lane = count_trailing_zeros(bits)
            bits &= bits - np.uint32(1)
            start, limit = slots[first_slot + lane] * padded_width, splat(limits[lane])
            for part in range(BLOCK_VECTORS):
                scores = _score_lanes(
                    kind, words, start, width, scales[lane], scales[TILE_ROWS + lane], block_words, sums, steps,
                    offsets, block * BLOCK_VECTORS + part,
                )  # fmt: skip
                chosen = less(scores, limit)
                others = minimum(load(other_scores, lane * LANES), select(chosen, padding, scores))
                store(other_scores, lane * LANES, others)
                end = lane * MAX_CANDIDATES + min(counts[lane], MAX_CANDIDATES - LANES)
                compress_store(candidates, end, lanes + splat(np.int32(block * BLOCK_CENTERS + part * LANES)), chosen)
                counts[lane] += count_lanes(chosen)
    store(least_others, 0, others0)
    store(least_others, LANES, others1)
    for lane in range(TILE_ROWS):
        least_others[lane] = min(least_others[lane], reduce_min(load(other_scores, lane * LANES)))
