"""One pass of Lloyd's algorithm: label the rows that may have moved, and update the sums of their clusters.

    X (n_rows, n_features), QuantizedRows, QuantizedCenters, skip thresholds (n_clusters,)
      -> labels, gap_bound (n_rows,) in place; changes of sums (n_clusters, n_features) and masses (n_clusters,), int64

A row keeps its label, unread, while the centers have moved less than the gap between its distances to the two nearest,
as in Hamerly's algorithm. The threshold of a cluster is the distance that its center and the fastest other one have
moved since the run began, together. gap_bound holds a lower bound of the gap plus the threshold at the time, so no pass
has to rewrite it: a row is skipped while its gap bound exceeds the threshold. Sums are integers: a row enters as
round(w (x - shift) 2^e), so neither order nor history can matter. Proofs: decisions/0002-labels-and-sums.md and
decisions/0005-screening.md. The choice of shift and exponent: engine/kmeans/fixed_point.py. Empty clusters and new
centers are the caller's concern: engine/kmeans/lloyd.py.
"""

from __future__ import annotations

import numba
import numpy as np

from engine.kernels.cpu.jit_options import INNER
from engine.kernels.cpu.kmeans.certify import (
    RUN_ROWS,
    Float32s,
    Float64s,
    Int32s,
    Int64s,
    RowBuffer,
    Rows,
    filter_rows,
    quantize_run,
)
from engine.kernels.cpu.kmeans.fast_centers import compare_fast_centers, select_centers
from engine.kernels.cpu.kmeans.quantize import QuantizedRows, RowQuantizer
from engine.kernels.cpu.kmeans.quantized_centers import QuantizedCenters
from engine.kernels.cpu.kmeans.refine import PREFETCH_ROWS, prefetch_row, refine_open_rows
from engine.kernels.cpu.simd.fixed_point import add_terms, fixed_point_terms, subtract_terms
from engine.kernels.cpu.simd.vectors import (
    LANES,
    compress_store,
    count_lanes,
    gather,
    invert_mask,
    lane_indices,
    less,
    load,
    splat,
)


@numba.njit(nogil=True, cache=True)
def lloyd_pass(
    X: Rows,
    weights: Float64s,
    rows: QuantizedRows,
    quantizer: RowQuantizer,
    centers: QuantizedCenters,
    lower_thresholds: Float32s,
    upper_thresholds: Float32s,
    fast_centers: Int32s,
    shift: Float64s,
    scale: Float64s,
    mass_scale: float,
    labels: Int32s,
    gap_bound: Float32s,
    sums: Int64s,
    masses: Int64s,
    buffer: RowBuffer,
) -> tuple[int, int, int, int]:
    """Label a block of rows, and add the changes to sums and masses. A label of -1 is a row that is in no cluster yet.

    Thresholds are in units of quantizer.factor: the lower ones, rounded down, are added to gaps, and gap bounds are
    compared with the upper ones, rounded up. Both leave out the last steps of `fast_centers`, because every row is
    compared with those. `weights` of length 0 stands for ones; masses are counts then.
    Returns the numbers of labels changed, of rows filtered, of open rows, and of rows labelled by the definition.
    """
    n_changed, n_screened, n_opened, n_defined = 0, 0, 0, 0
    fast = select_centers(centers, fast_centers)
    for start in range(0, X.shape[0], RUN_ROWS):
        stop = min(start + RUN_ROWS, X.shape[0])
        count = _partition_rows(labels, gap_bound, upper_thresholds, start, stop, buffer)
        n_skipped = stop - start - count
        if n_skipped > 0 and fast_centers.shape[0] > 0:
            count = compare_fast_centers(
                X, rows, quantizer, centers, fast, lower_thresholds, labels, gap_bound, n_skipped, count, buffer
            )  # fmt: skip
        if count == 0:
            continue
        quantized, slots = quantize_run(X, rows, quantizer, count, buffer)
        n_run_opened = filter_rows(quantized, slots, centers, count, buffer)
        n_defined += refine_open_rows(X, centers, n_run_opened, buffer)
        n_screened, n_opened = n_screened + count, n_opened + n_run_opened
        n_moved = np.int64(0)  # not a literal: numba would compile update_sums for it as well
        for p in range(count):
            i, label = buffer.rows[p], buffer.labels[p]
            gap_bound[i] = buffer.gaps[p] + lower_thresholds[label]
            if labels[i] != label:  # the buffer is reused: rows that moved overwrite those that are finished
                buffer.rows[n_moved], buffer.labels[n_moved], buffer.old_labels[n_moved] = i, label, labels[i]
                labels[i] = label
                n_moved += 1
        n_changed += int(n_moved)
        update_sums(
            X, weights, shift, scale, mass_scale, buffer.rows, n_moved, buffer.labels, buffer.old_labels, sums, masses
        )
    return n_changed, n_screened, n_opened, n_defined


@numba.njit(**INNER)
def _partition_rows(
    labels: Int32s, gap_bound: Float32s, upper_thresholds: Float32s, start: int, stop: int, buffer: RowBuffer
) -> int:
    """Write the active rows, which may have moved, to buffer.rows, and the others to buffer.open; return their number.

    All rows of a run get their first labels in the same pass. So if the first row has no label, none has.
    """
    active, skipped = buffer.rows, buffer.open
    active_positions, skipped_positions = buffer.labels, buffer.old_labels
    n_active, n_skipped, p = 0, 0, 0
    n_in_vectors = (stop - start) // LANES * LANES if labels[start] >= 0 else 0
    while p < n_in_vectors:
        skipped_lanes = less(gather(upper_thresholds, labels, start + p), load(gap_bound, start + p))
        positions = splat(np.int32(p)) + lane_indices()
        compress_store(active_positions, n_active, positions, invert_mask(skipped_lanes))
        compress_store(skipped_positions, n_skipped, positions, skipped_lanes)
        n_lanes = count_lanes(skipped_lanes)
        n_active, n_skipped, p = n_active + LANES - n_lanes, n_skipped + n_lanes, p + LANES
    for q in range(n_active):
        active[q] = start + active_positions[q]
    for q in range(n_skipped):
        skipped[q] = start + skipped_positions[q]
    for i in range(start + p, stop):
        is_active = labels[i] < 0 or not gap_bound[i] > upper_thresholds[labels[i]]
        active[n_active], skipped[n_skipped] = i, i
        n_active += 1 if is_active else 0
        n_skipped += 0 if is_active else 1
    return n_active


@numba.njit(**INNER)
def update_sums(
    X: Rows,
    weights: Float64s,
    shift: Float64s,
    scale: Float64s,
    mass_scale: float,
    rows: Int64s,
    count: int,
    labels: Int32s,
    old_labels: Int32s,
    sums: Int64s,
    masses: Int64s,
) -> None:
    """Add rows[:count] to the sums of the clusters `labels`, and take them from those of `old_labels` unless -1."""
    n_features, weighted = X.shape[1], weights.shape[0] > 0
    for p in range(count):
        i, new_label, old_label = rows[p], np.int64(labels[p]), np.int64(old_labels[p])
        prefetch_row(X, rows[min(p + PREFETCH_ROWS, count - 1)])
        weight, mass = 1.0, np.int64(1)
        if weighted:
            weight = weights[i]
            mass = np.int64(np.rint(weight * mass_scale))
        masses[new_label] += mass
        if old_label >= 0:
            masses[old_label] -= mass
        for t in range(0, n_features, LANES):
            n_left = n_features - t
            terms = fixed_point_terms(X, i * n_features + t, shift, scale, t, weight, n_left)
            add_terms(sums, new_label * n_features + t, terms, n_left)
            if old_label >= 0:
                subtract_terms(sums, old_label * n_features + t, terms, n_left)


@numba.njit(nogil=True, cache=True)
def add_squares(
    X: Rows,
    weights: Float64s,
    shift: Float64s,
    scale: Float64s,
    square_scale: Float64s,
    sums: Int64s,
    squares: Int64s,
) -> None:
    """Add w (x - shift) and w (x - shift)^2 of every row to sums and squares (n_features,), in fixed point."""
    for i in range(X.shape[0]):
        weight = weights[i] if weights.shape[0] else 1.0
        for t in range(X.shape[1]):
            difference = np.float64(X[i, t]) - shift[t]
            sums[t] += np.int64(np.rint(difference * weight * scale[t]))
            squares[t] += np.int64(np.rint(difference * difference * weight * square_scale[t]))
