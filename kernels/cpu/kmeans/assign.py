"""Label rows by the nearest center, or by the nearest two: the E-step of Lloyd's algorithm for given centers.

    X, QuantizedRows, QuantizedCenters  ->  labels (n_rows,) int32, those of the definition in distance.py

Rows are filtered (certify.py) and refined (refine.py), a run at a time. Passes that skip rows: lloyd.py.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from engine.kernels.cpu.distance import squared_distance
from engine.kernels.cpu.jit_options import INNER
from engine.kernels.cpu.kmeans.block_scores import MAX_CANDIDATES, list_candidates
from engine.kernels.cpu.kmeans.certify import (
    RUN_ROWS,
    Float64s,
    Int32s,
    RowBuffer,
    Rows,
    filter_rows,
    quantize_run,
)
from engine.kernels.cpu.kmeans.quantize import QuantizedRows, RowQuantizer
from engine.kernels.cpu.kmeans.quantized_centers import BLOCK_CENTERS, PADDING_SCORE, QuantizedCenters
from engine.kernels.cpu.kmeans.refine import refine_open_rows
from engine.kernels.cpu.kmeans.tiled_scores import TILE_ROWS, load_tile, load_tile_scales, rank_centers
from engine.kernels.cpu.simd.vectors import LANES


@numba.njit(nogil=True, cache=True)
def label_rows(
    X: Rows, rows: QuantizedRows, quantizer: RowQuantizer, centers: QuantizedCenters, buffer: RowBuffer, labels: Int32s
) -> None:
    """Write the label of every row."""
    for start in range(0, X.shape[0], RUN_ROWS):
        count = min(RUN_ROWS, X.shape[0] - start)
        for p in range(count):
            buffer.rows[p] = start + p
        quantized, slots = quantize_run(X, rows, quantizer, count, buffer)
        refine_open_rows(X, centers, filter_rows(quantized, slots, centers, count, buffer), buffer)
        for p in range(count):
            labels[start + p] = buffer.labels[p]


@numba.njit(**INNER, forceinline=True)
def _score_bound(error: float, norm: float, size: float, score: float, centers: QuantizedCenters) -> Any:
    """Return the error bound of one score, as ErrorBound has it."""
    terms = centers.error_bound
    bound = error * (terms.per_error + terms.per_error_size * size) + terms.constant
    return bound + (norm * terms.per_norm_size + terms.per_size) * size + 4.0 * terms.per_score * abs(score)


@numba.njit(nogil=True, cache=True)
def label_nearest_two(
    X: Rows,
    rows: QuantizedRows,
    quantizer: RowQuantizer,
    centers: QuantizedCenters,
    buffer: RowBuffer,
    labels: Int32s,
    distances: Float64s,
    second_labels: Int32s,
    second_distances: Float64s,
) -> None:
    """Write the two nearest centers of every row and the squared distances to them.

    With a single center, the second label is -1 and its distance infinity. Ties go to the lower label. Candidates are
    the centers whose score exceeds the second least score by no more than twice the larger error bound of the first two
    scores: two centers are nearer than all others.
    """
    n_clusters, n_in_blocks, all_sizes = centers.exact.shape[0], centers.sums.shape[0], centers.sizes
    tile_words, sums, steps, offsets = centers.tile_words, centers.sums, centers.steps, centers.offsets
    block_words, block_sums = centers.block_words, centers.block_sums
    block_steps, block_offsets, exact = centers.block_steps, centers.block_offsets, centers.exact
    width, best_centers = tile_words.shape[0] // n_in_blocks, np.empty(TILE_ROWS, np.int32)
    block_least = np.empty(n_in_blocks // BLOCK_CENTERS * TILE_ROWS, np.float32)
    best_scores, second_scores = np.empty(TILE_ROWS, np.float32), np.empty(TILE_ROWS, np.float32)
    scales, sizes = np.empty(2 * TILE_ROWS, np.float32), np.empty(TILE_ROWS, np.float32)
    limits, least_others = np.empty(TILE_ROWS, np.float32), np.empty(TILE_ROWS, np.float32)
    other_scores, counts = np.empty(TILE_ROWS * LANES, np.float32), np.empty(TILE_ROWS, np.int64)
    candidates = np.empty(TILE_ROWS * MAX_CANDIDATES, np.int32)
    for start in range(0, X.shape[0], RUN_ROWS):
        count = min(RUN_ROWS, X.shape[0] - start)
        for p in range(count):
            buffer.rows[p] = start + p
        quantized, slots = quantize_run(X, rows, quantizer, count, buffer)
        values, row_steps, errors, norms = quantized.values, quantized.steps, quantized.errors, quantized.norms
        kind, words = values.dtype.type(0), values.view(np.int32).reshape(-1)
        padded_width = words.shape[0] // values.shape[0]
        row_tile = np.empty(padded_width * TILE_ROWS, np.int32)
        for p in range(count, -(-count // TILE_ROWS) * TILE_ROWS):
            slots[p] = slots[0]
        for first in range(0, count, TILE_ROWS):
            load_tile(words, padded_width, slots, first, row_tile)
            if values.itemsize != 4:
                load_tile_scales(row_steps, errors, norms, centers.row_term, slots, first, scales)
            rank_centers(
                kind, row_tile, scales, width, tile_words, centers.n_in_tiles, sums, steps, offsets, best_scores,
                second_scores, best_centers, block_least,
            )  # fmt: skip
            for lane in range(TILE_ROWS):
                sizes[lane] = all_sizes[best_centers[lane]]
            # First the best two, and what is about as near, then all within the largest error bound of these.
            for _ in range(2):
                for lane in range(TILE_ROWS):
                    slot, second = slots[first + lane], np.float64(second_scores[lane])
                    error, norm = np.float64(errors[slot]), np.float64(norms[slot])
                    limit = second + 2.0 * _score_bound(error, norm, np.float64(sizes[lane]), second, centers)
                    limits[lane] = np.float32(limit) if limit < PADDING_SCORE else np.float32(-np.inf)
                list_candidates(
                    kind, words, padded_width, slots, first, scales, width, block_words, block_sums, block_steps,
                    block_offsets, block_least, limits, candidates, counts, least_others, other_scores,
                )  # fmt: skip
                for lane in range(TILE_ROWS):
                    counts[lane] = counts[lane] if counts[lane] <= MAX_CANDIDATES - LANES else 0
                    for q in range(lane * MAX_CANDIDATES, lane * MAX_CANDIDATES + counts[lane]):
                        sizes[lane] = max(sizes[lane], all_sizes[candidates[q]])
            for lane in range(min(TILE_ROWS, count - first)):
                i, n_candidates, begin = start + first + lane, counts[lane], lane * MAX_CANDIDATES
                label, second_label, first_squared, second_squared = -1, -1, np.inf, np.inf
                for q in range(n_candidates if n_candidates >= 2 else n_clusters):
                    j = int(candidates[begin + q]) if n_candidates >= 2 else q
                    squared = squared_distance(X, i, exact, j)
                    if squared < first_squared or label < 0:
                        label, second_label, first_squared, second_squared = j, label, squared, first_squared
                    elif squared < second_squared or second_label < 0:
                        second_label, second_squared = j, squared
                labels[i], distances[i] = label, first_squared
                second_labels[i], second_distances[i] = second_label, second_squared
