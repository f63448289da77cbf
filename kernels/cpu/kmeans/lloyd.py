"""One pass of Lloyd's algorithm over rows: label those that may have moved, and move them between the sums.

    X (n_rows, n_features), Coded rows, a Screen, drifts (n_clusters,) of the centres
      -> labels, slack (n_rows,) in place; what is added to sums (n_clusters, n_features) and masses int64

A row keeps its label, unread, while the centres have moved less than its gap. The drift of a cluster is how far its
centre and the fastest other one have moved since the start, together; slack holds a row's gap plus the drift when it
was measured, so no pass has to rewrite it: it may be skipped while slack is above the drift. Sums are integers: a row
enters as round(w (x - shift) 2^e), so neither order nor history can matter. Proofs: decisions/0002 and 0005. Which
shift and exponent: engine/kmeans/fixed_point.py. Empty clusters and new centres are the caller's concern:
engine/kmeans/lloyd.py.
"""

from __future__ import annotations

import numba
import numpy as np

from engine.kernels.cpu.jit_options import INNER
from engine.kernels.cpu.kmeans.fast_centers import chosen_centres, glance
from engine.kernels.cpu.kmeans.filter import RUN, Desk, Float32s, Float64s, Int32s, Int64s, Rows, screen_rows
from engine.kernels.cpu.kmeans.quantize import Coded, Frame
from engine.kernels.cpu.kmeans.quantized_centers import Screen
from engine.kernels.cpu.kmeans.refine import AHEAD, fetch, settle
from engine.kernels.cpu.simd.fixed_point import add_terms, fixed_terms, take_terms
from engine.kernels.cpu.simd.vectors import (
    LANES,
    gather,
    lane_count,
    lane_numbers,
    less,
    load,
    negated,
    splat,
    store_chosen,
)


@numba.njit(nogil=True, cache=True)
def lloyd_pass(
    X: Rows,
    weights: Float64s,
    coded: Coded,
    frame: Frame,
    scr: Screen,
    least_drift: Float32s,
    most_drift: Float32s,
    fast: Int32s,
    shift: Float64s,
    scale: Float64s,
    mass_scale: float,
    labels: Int32s,
    slack: Float32s,
    sums: Int64s,
    masses: Int64s,
    desk: Desk,
) -> tuple[int, int, int, int]:
    """Label rows, and add what changed to sums and masses. A label of -1 is a row that is in no cluster yet.

    Drifts are in units of the frame, rounded down where they are added to slack and up where they are compared. They
    leave out what the centres `fast` did last: to these, every row is compared.
    Return how many labels changed, and how many rows were screened, opened, and labelled by the definition.
    `weights` of length 0 stands for ones; then masses are counts.
    """
    changed, screened, opened, asked = 0, 0, 0, 0
    centres, offsets = chosen_centres(scr, scr.own.shape[0] // scr.rows.shape[0], fast)
    for start in range(0, X.shape[0], RUN):
        stop = min(start + RUN, X.shape[0])
        count = _parted(labels, slack, most_drift, start, stop, desk)
        n_others = stop - start - count
        if n_others > 0 and fast.shape[0] > 0:
            count = glance(
                X, coded, frame, scr, centres, offsets, least_drift, labels, slack, n_others, count, desk
            )  # fmt: skip
        if count == 0:
            continue
        used = screen_rows(X, coded, frame, scr, count, desk)
        n_opened, n_asked = settle(X, used, scr, count, desk)
        screened, opened, asked = screened + count, opened + n_opened, asked + n_asked
        n_moved = np.int64(0)  # not a literal: numba would compile move_rows for that one as well
        for p in range(count):
            i, label = desk.rows[p], desk.names[0, p]
            slack[i] = desk.gaps[p] + least_drift[label]
            desk.places[n_moved] = i  # moved rows take the place of those that are done with
            desk.names[0, n_moved], desk.names[1, n_moved] = label, labels[i]
            n_moved += 1 if labels[i] != label else 0
            labels[i] = label
        changed += int(n_moved)
        move_rows(X, weights, shift, scale, mass_scale, desk.places, n_moved, desk.names, sums, masses)
    return changed, screened, opened, asked


@numba.njit(**INNER)
def _parted(labels: Int32s, slack: Float32s, most_drift: Float32s, start: int, stop: int, desk: Desk) -> int:
    """Write the rows that may have moved to desk.rows, the others to desk.open; return how many may have.

    All rows of a run get their first labels in one pass: so none of them has one where the first has none.
    """
    waiting, others, numbers, room = desk.rows, desk.open, desk.names, desk.names.shape[1]
    n_waiting, n_others, p = 0, 0, 0
    whole = (stop - start) // LANES * LANES if labels[start] >= 0 else 0
    while p < whole:
        skipped = less(gather(most_drift, labels, start + p), load(slack, start + p))
        here = splat(np.int32(p)) + lane_numbers()
        store_chosen(numbers, n_waiting, here, negated(skipped))
        store_chosen(numbers, room + n_others, here, skipped)
        n_skipped = lane_count(skipped)
        n_waiting, n_others, p = n_waiting + LANES - n_skipped, n_others + n_skipped, p + LANES
    for q in range(n_waiting):
        waiting[q] = start + numbers[0, q]
    for q in range(n_others):
        others[q] = start + numbers[1, q]
    for i in range(start + p, stop):
        waits = labels[i] < 0 or not slack[i] > most_drift[labels[i]]
        waiting[n_waiting], others[n_others] = i, i
        n_waiting += 1 if waits else 0
        n_others += 0 if waits else 1
    return n_waiting


@numba.njit(**INNER)
def move_rows(
    X: Rows,
    weights: Float64s,
    shift: Float64s,
    scale: Float64s,
    mass_scale: float,
    rows: Int64s,
    count: int,
    names: Int32s,
    sums: Int64s,
    masses: Int64s,
) -> None:
    """Add rows[:count] to the clusters names[0], and take them out of the clusters names[1], unless those are -1."""
    n_features, weighted = X.shape[1], weights.shape[0] > 0
    for p in range(count):
        i, new, old = rows[p], np.int64(names[0, p]), np.int64(names[1, p])
        fetch(X, rows[min(p + AHEAD, count - 1)])
        weight, mass = 1.0, np.int64(1)
        if weighted:
            weight = weights[i]
            mass = np.int64(np.rint(weight * mass_scale))
        masses[new] += mass
        if old >= 0:
            masses[old] -= mass
        for t in range(0, n_features, LANES):
            rest = n_features - t
            terms = fixed_terms(X, i * n_features + t, shift, scale, t, weight, rest)
            add_terms(sums, new * n_features + t, terms, rest)
            if old >= 0:
                take_terms(sums, old * n_features + t, terms, rest)


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
