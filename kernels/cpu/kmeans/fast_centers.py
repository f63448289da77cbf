"""Compare the assigned center of each row with the few fast-moving centers; the bounds rule out all others.

    QuantizedRows, labels, QuantizedCenters, indices of fast centers -> gap_bound lowered, and the rows to filter

Late in a run a few centers still move far while the others rest. The gap bound of a row accounts for the movement of
all slow centers, so every row that it skips is compared with the fast ones alone, which is the idea of Yinyang K-Means'
groups. Scores are those of tiled_scores.py; the assigned center differs from row to row, so its words are gathered into
the lanes like the row's. Which centers are fast: engine/kmeans/bounds.py. Proof: decisions/0005-screening.md.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from engine.kernels.cpu.jit_options import INNER
from engine.kernels.cpu.kmeans.certify import Float32s, Int32s, RowBuffer, Rows, bound_gap, splat_error_bound
from engine.kernels.cpu.kmeans.quantize import QuantizedRows, RowQuantizer, quantize_rows
from engine.kernels.cpu.kmeans.quantized_centers import PADDING_SCORE, TILE_CENTERS, QuantizedCenters, Sums
from engine.kernels.cpu.kmeans.tiled_scores import (
    TILE_ROWS,
    compute_tile_scores,
    least_of_tile,
    load_tile,
    load_tile_scales,
)
from engine.kernels.cpu.simd.quantized import apply_scales
from engine.kernels.cpu.simd.vectors import LANES, dot_accumulate, gather, load, minimum, splat, store


@numba.njit(**INNER)
def select_centers(centers: QuantizedCenters, fast: Int32s) -> tuple[Int32s, Sums, Float32s, Float32s]:
    """Return words, sums, steps and offsets of the centers `fast`, in tiles as in QuantizedCenters.

    The last tile repeats the last center where it is not full.
    """
    n_in_tiles = -(-fast.shape[0] // TILE_CENTERS) * TILE_CENTERS
    all_words, all_sums = centers.center_words, centers.sums
    width = centers.tile_words.shape[0] // all_sums.shape[0]
    padded_width = all_words.shape[0] // centers.exact.shape[0]
    words, sums = np.zeros(n_in_tiles * width, np.int32), np.empty(n_in_tiles, all_sums.dtype)
    steps, offsets = np.empty(n_in_tiles, np.float32), np.empty(n_in_tiles, np.float32)
    for q in range(n_in_tiles):
        j = fast[min(q, fast.shape[0] - 1)]
        sums[q], steps[q], offsets[q] = all_sums[j], centers.steps[j], centers.offsets[j]
        for word in range(width):
            tile_word = (q // TILE_CENTERS * width + word) * TILE_CENTERS + q % TILE_CENTERS
            words[tile_word] = all_words[j * padded_width + word]
    return words, sums, steps, offsets


@numba.njit(**INNER)
def _score_tile(
    kind: Any, row_tile: Int32s, assigned_tile: Int32s, scales: Float32s, width: int, fast_words: Int32s,
    fast_sums: Sums, fast_steps: Float32s, fast_offsets: Float32s, assigned_sums: Sums, assigned_steps: Float32s,
    assigned_offsets: Float32s, assigned_scores: Float32s, fast_scores: Float32s,
) -> None:  # fmt: skip
    """Write the score of each row's assigned center, and the least score of the fast centers, for one tile."""
    sums0, sums1 = load(assigned_sums, 0), load(assigned_sums, LANES)
    fast0, fast1 = splat(PADDING_SCORE), splat(PADDING_SCORE)
    for word in range(width):
        word_index = word * TILE_ROWS
        sums0 = dot_accumulate(kind, sums0, load(row_tile, word_index), load(assigned_tile, word_index))
        sums1 = dot_accumulate(kind, sums1, load(row_tile, word_index + LANES), load(assigned_tile, word_index + LANES))
    store(assigned_scores, 0, apply_scales(
        sums0, load(scales, 0), load(scales, TILE_ROWS), load(assigned_steps, 0), load(assigned_offsets, 0)
    ))  # fmt: skip
    store(assigned_scores, LANES, apply_scales(
        sums1, load(scales, LANES), load(scales, TILE_ROWS + LANES), load(assigned_steps, LANES),
        load(assigned_offsets, LANES),
    ))  # fmt: skip
    for j in range(0, fast_offsets.shape[0], TILE_CENTERS):
        least0, least1 = least_of_tile(
            compute_tile_scores(kind, row_tile, scales, width, fast_words, fast_sums, fast_steps, fast_offsets, j)
        )
        fast0, fast1 = minimum(least0, fast0), minimum(least1, fast1)
    store(fast_scores, 0, fast0)
    store(fast_scores, LANES, fast1)


@numba.njit(**INNER, inline="always")
def compare_fast_centers(
    X: Rows,
    quantized_rows: QuantizedRows,
    quantizer: RowQuantizer,
    centers: QuantizedCenters,
    fast: tuple[Int32s, Sums, Float32s, Float32s],
    lower_thresholds: Float32s,
    labels: Int32s,
    gap_bound: Float32s,
    n_skipped: int,
    count: int,
    buffer: RowBuffer,
) -> int:
    """Compare the rows buffer.open[:n_skipped] with the fast centers, `fast` as select_centers returns them.

    Where the assigned center is proven to be nearer than all fast ones, gap_bound is lowered to what that proves. All
    other rows are appended to buffer.rows[count:]. Returns the new count.
    """
    stored = quantized_rows.values.shape[0] > 0
    quantized = quantized_rows if stored else buffer.quantized
    values, steps, errors, norms = quantized.values, quantized.steps, quantized.errors, quantized.norms
    skipped, rows, center_words, kind = buffer.open, buffer.rows, centers.center_words, values.dtype.type(0)
    all_sums, all_steps, all_offsets, sizes = centers.sums, centers.steps, centers.offsets, centers.sizes
    terms, row_term = splat_error_bound(centers.error_bound), centers.row_term
    fast_words, fast_sums, fast_steps, fast_offsets = fast
    if not stored:
        quantize_rows(X, skipped, n_skipped, quantizer, values, steps, errors, norms)
    words = values.view(np.int32).reshape(-1)
    padded_width, width = words.shape[0] // values.shape[0], centers.tile_words.shape[0] // all_sums.shape[0]
    row_tile, assigned_tile = np.empty(padded_width * TILE_ROWS, np.int32), np.empty(padded_width * TILE_ROWS, np.int32)
    scales, slots, assigned = (
        np.empty(2 * TILE_ROWS, np.float32),
        np.empty(TILE_ROWS, np.int64),
        np.empty(TILE_ROWS, np.int64),
    )
    assigned_sums, assigned_steps = np.empty(TILE_ROWS, all_sums.dtype), np.empty(TILE_ROWS, np.float32)
    assigned_offsets, assigned_scores = np.empty(TILE_ROWS, np.float32), np.empty(TILE_ROWS, np.float32)
    size, gaps, fast_scores = (
        np.empty(TILE_ROWS, np.float32),
        np.empty(TILE_ROWS, np.float32),
        np.empty(TILE_ROWS, np.float32),
    )
    for start in range(0, n_skipped, TILE_ROWS):
        n_rows = min(TILE_ROWS, n_skipped - start)
        for lane in range(TILE_ROWS):
            p = start + min(lane, n_rows - 1)
            j = np.int64(labels[skipped[p]])
            slots[lane], assigned[lane] = skipped[p] if stored else p, j
            assigned_sums[lane], assigned_steps[lane] = all_sums[j], all_steps[j]
            assigned_offsets[lane], size[lane] = all_offsets[j], sizes[j]
        load_tile(words, padded_width, slots, 0, row_tile)
        load_tile(center_words, padded_width, assigned, 0, assigned_tile)
        if values.itemsize != 4:
            load_tile_scales(steps, errors, norms, row_term, slots, 0, scales)
        _score_tile(
            kind, row_tile, assigned_tile, scales, width, fast_words, fast_sums, fast_steps, fast_offsets,
            assigned_sums, assigned_steps, assigned_offsets, assigned_scores, fast_scores,
        )  # fmt: skip
        for lane in range(0, TILE_ROWS, LANES):
            _, gap = bound_gap(
                load(assigned_scores, lane), load(fast_scores, lane), gather(errors, slots, lane),
                gather(norms, slots, lane), load(size, lane), terms,
            )  # fmt: skip
            store(gaps, lane, gap)
        for lane in range(n_rows):
            i = skipped[start + lane]
            rows[count] = i
            if gaps[lane] > 0:
                gap_bound[i] = min(gap_bound[i], gaps[lane] + lower_thresholds[assigned[lane]])
            else:
                count += 1
    return count
