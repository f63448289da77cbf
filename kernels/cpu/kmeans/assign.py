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
from engine.kernels.cpu.kmeans.certify import RUN_ROWS, Float64s, Int32s, RowBuffer, Rows, filter_rows
from engine.kernels.cpu.kmeans.quantize import QuantizedRows, RowQuantizer
from engine.kernels.cpu.kmeans.quantized_centers import PADDING_SCORE, QuantizedCenters
from engine.kernels.cpu.kmeans.refine import refine_open_rows
from engine.kernels.cpu.kmeans.tiled_scores import MAX_ROW_TERM, find_candidates
from engine.kernels.cpu.simd.vectors import LANES, set_tag


@numba.njit(nogil=True, cache=True)
def label_rows(
    X: Rows, rows: QuantizedRows, quantizer: RowQuantizer, centers: QuantizedCenters, buffer: RowBuffer, labels: Int32s
) -> None:
    """Write the label of every row."""
    for start in range(0, X.shape[0], RUN_ROWS):
        count = min(RUN_ROWS, X.shape[0] - start)
        for p in range(count):
            buffer.rows[p] = start + p
        quantized = filter_rows(X, rows, quantizer, centers, count, buffer)
        refine_open_rows(X, quantized, centers, count, buffer)
        for p in range(count):
            labels[start + p] = buffer.best_centers[0, p]


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
    scores: two centers are nearer than all others. Mostly these are the two best centers of the filter, because the
    third score is larger.
    """
    n_clusters, score_mask, no_tag = centers.exact.shape[0], centers.score_mask, np.int32(0)
    candidates, other_scores = np.empty(centers.offsets.shape[0] + 1, np.int32), np.empty(LANES, np.float32)
    width = centers.tile_words.shape[0] // centers.n_in_tiles
    for start in range(0, X.shape[0], RUN_ROWS):
        count = min(RUN_ROWS, X.shape[0] - start)
        for p in range(count):
            buffer.rows[p] = start + p
        quantized = filter_rows(X, rows, quantizer, centers, count, buffer)
        words = quantized.values.view(np.int32).reshape(-1)
        padded_width = words.shape[0] // quantized.values.shape[0]
        for p in range(count):
            i, slot, second_center = start + p, buffer.slots[p], buffer.best_centers[1, p]
            n_candidates = 0
            if second_center < n_clusters and buffer.bounds[p] < np.inf:
                error, norm = np.float64(quantized.errors[slot]), np.float64(quantized.norms[slot])
                second_best = np.float64(set_tag(buffer.best_scores[1, p], score_mask, no_tag))
                bound = _score_bound(error, norm, np.float64(centers.sizes[second_center]), second_best, centers)
                bound = max(bound, np.float64(buffer.bounds[p]))
                limit = np.float32(min(second_best + 2.0 * bound, np.float64(PADDING_SCORE)))
                if set_tag(buffer.best_scores[2, p], score_mask, no_tag) > limit:
                    best_center, n_candidates = buffer.best_centers[0, p], 2
                    candidates[0], candidates[1] = min(best_center, second_center), max(best_center, second_center)
                else:
                    row_term = error * centers.row_term.per_error + norm * centers.row_term.per_norm
                    n_candidates = find_candidates(
                        quantized.values.dtype.type(0), words, slot * padded_width, quantized.steps[slot],
                        np.float32(-min(row_term, np.float64(MAX_ROW_TERM))), width, centers.block_words, centers.sums,
                        centers.steps, centers.offsets, limit, candidates, other_scores,
                    )  # fmt: skip
            label, second_label, first_squared, second_squared = -1, -1, np.inf, np.inf
            for q in range(n_candidates if n_candidates >= 2 else n_clusters):
                j = candidates[q] if n_candidates >= 2 else q
                squared = squared_distance(X, i, centers.exact, j)
                if squared < first_squared or label < 0:
                    label, second_label, first_squared, second_squared = j, label, squared, first_squared
                elif squared < second_squared or second_label < 0:
                    second_label, second_squared = j, squared
            labels[i], distances[i] = label, first_squared
            second_labels[i], second_distances[i] = second_label, second_squared
