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
from engine.kernels.cpu.kmeans.quantized_centers import TILE_CENTERS, QuantizedCenters, Scores
from engine.kernels.cpu.kmeans.tiled_scores import TILE_ROWS, compute_tile_scores, load_tile
from engine.kernels.cpu.simd.vectors import LANES, convert_to_floats, dot_accumulate, load, minimum, splat, store


@numba.njit(**INNER)
def select_centers(centers: QuantizedCenters, width: int, fast: Int32s) -> tuple[Int32s, Scores]:
    """Return words and offsets of the centers `fast`, in tiles as in QuantizedCenters; padding fills the last tile."""
    n_in_tiles = -(-fast.shape[0] // TILE_CENTERS) * TILE_CENTERS
    words, fast_offsets = np.zeros(n_in_tiles * width, np.int32), np.empty(n_in_tiles, centers.offsets.dtype)
    center_words = centers.center_words
    for q in range(n_in_tiles):
        fast_offsets[q] = centers.offsets[fast[q]] if q < fast.shape[0] else centers.padding_score
        if q < fast.shape[0]:
            for word in range(width):
                tile_word = (q // TILE_CENTERS * width + word) * TILE_CENTERS + q % TILE_CENTERS
                words[tile_word] = center_words[fast[q] * width + word]
    return words, fast_offsets


@numba.njit(**INNER)
def _score_tile(
    kind: Any, row_tile: Int32s, assigned_tile: Int32s, width: int, fast_words: Int32s, fast_offsets: Scores,
    padding_score: Any, assigned_offsets: Scores, assigned_scores: Scores, fast_scores: Scores,
) -> None:  # fmt: skip
    """Write the score of each row's assigned center, and the least score of the fast centers, for one tile."""
    assigned0, assigned1 = load(assigned_offsets, 0), load(assigned_offsets, LANES)
    fast0, fast1 = splat(padding_score), splat(padding_score)
    for word in range(width):
        word_index = word * TILE_ROWS
        assigned0 = dot_accumulate(kind, assigned0, load(row_tile, word_index), load(assigned_tile, word_index))
        assigned1 = dot_accumulate(
            kind, assigned1, load(row_tile, word_index + LANES), load(assigned_tile, word_index + LANES)
        )
    store(assigned_scores, 0, assigned0)
    store(assigned_scores, LANES, assigned1)
    for j in range(0, fast_offsets.shape[0], TILE_CENTERS):
        a00, a01, a10, a11, a20, a21, a30, a31, a40, a41, a50, a51 = compute_tile_scores(
            kind, row_tile, width, fast_words, fast_offsets, j
        )
        fast0 = minimum(minimum(minimum(a00, a10), minimum(a20, a30)), minimum(minimum(a40, a50), fast0))
        fast1 = minimum(minimum(minimum(a01, a11), minimum(a21, a31)), minimum(minimum(a41, a51), fast1))
    store(fast_scores, 0, fast0)
    store(fast_scores, LANES, fast1)


@numba.njit(**INNER, inline="always")
def compare_fast_centers(
    X: Rows,
    quantized_rows: QuantizedRows,
    quantizer: RowQuantizer,
    centers: QuantizedCenters,
    fast_words: Int32s,
    fast_offsets: Scores,
    lower_thresholds: Float32s,
    labels: Int32s,
    gap_bound: Float32s,
    n_skipped: int,
    count: int,
    buffer: RowBuffer,
) -> int:
    """Compare the rows buffer.open[:n_skipped] with the fast centers, given as select_centers returns them.

    Where the assigned center is proven to be nearer than all fast ones, gap_bound is lowered to what that proves. All
    other rows are appended to buffer.rows[count:]. Returns the new count.
    """
    stored = quantized_rows.values.shape[0] > 0
    quantized = quantized_rows if stored else buffer.quantized
    values, errors, norms, kind = quantized.values, quantized.errors, quantized.norms, quantized.values.dtype.type(0)
    skipped, rows, center_words = buffer.open, buffer.rows, centers.center_words
    all_offsets, sizes, score_unit = centers.offsets, centers.sizes, splat(centers.score_unit)
    terms, padding_score = splat_error_bound(centers.error_bound), centers.padding_score
    if not stored:
        quantize_rows(X, skipped, n_skipped, quantizer, values, errors, norms)
    words = values.view(np.int32).reshape(-1)
    width = words.shape[0] // values.shape[0]
    row_tile, assigned_tile = np.empty(width * TILE_ROWS, np.int32), np.empty(width * TILE_ROWS, np.int32)
    slots, assigned = np.empty(TILE_ROWS, np.int64), np.empty(TILE_ROWS, np.int64)
    assigned_offsets, assigned_scores = np.empty(TILE_ROWS, fast_offsets.dtype), np.empty(TILE_ROWS, fast_offsets.dtype)
    fast_scores = np.empty(TILE_ROWS, fast_offsets.dtype)
    error, norm = np.empty(TILE_ROWS, np.float32), np.empty(TILE_ROWS, np.float32)
    size, gaps = np.empty(TILE_ROWS, np.float32), np.empty(TILE_ROWS, np.float32)
    for start in range(0, n_skipped, TILE_ROWS):
        n_rows = min(TILE_ROWS, n_skipped - start)
        for lane in range(TILE_ROWS):
            p = start + min(lane, n_rows - 1)
            slot = skipped[p] if stored else p
            j = np.int64(labels[skipped[p]])
            slots[lane], assigned[lane] = slot, j
            assigned_offsets[lane], size[lane] = all_offsets[j], sizes[j]
            error[lane], norm[lane] = errors[slot], norms[slot]
        load_tile(words, width, slots, 0, row_tile)
        load_tile(center_words, width, assigned, 0, assigned_tile)
        _score_tile(
            kind, row_tile, assigned_tile, width, fast_words, fast_offsets, padding_score, assigned_offsets,
            assigned_scores, fast_scores,
        )  # fmt: skip
        for lane in range(0, TILE_ROWS, LANES):
            assigned_score, fast_score = load(assigned_scores, lane), load(fast_scores, lane)
            _, gap = bound_gap(
                convert_to_floats(assigned_score), convert_to_floats(fast_score),
                convert_to_floats(fast_score - assigned_score),
                load(error, lane), load(norm, lane), load(size, lane), score_unit, terms,
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
