"""Label rows: the nearest centre of every row, or the nearest two.

    X, Coded rows, a Screen  ->  labels (n_rows,) int32, those of the definition in distance.py

Centres are ranked in small numbers (tiled_scores.py), what that proves is certain (filter.py), and the rest is measured
(refine.py). Passes over iterations: lloyd.py.
"""

from __future__ import annotations

import numba
import numpy as np

from engine.kernels.cpu.distance import squared_distance
from engine.kernels.cpu.kmeans.filter import RUN, Desk, Float64s, Int32s, Rows, screen_rows
from engine.kernels.cpu.kmeans.quantize import Coded, Frame
from engine.kernels.cpu.kmeans.quantized_centers import Screen
from engine.kernels.cpu.kmeans.refine import settle
from engine.kernels.cpu.kmeans.tiled_scores import candidates
from engine.kernels.cpu.simd.vectors import LANES, tagged


@numba.njit(nogil=True, cache=True)
def label_rows(X: Rows, coded: Coded, frame: Frame, scr: Screen, desk: Desk, labels: Int32s) -> None:
    """Write the label of every row."""
    for start in range(0, X.shape[0], RUN):
        count = min(RUN, X.shape[0] - start)
        for p in range(count):
            desk.rows[p] = start + p
        used = screen_rows(X, coded, frame, scr, count, desk)
        settle(X, used, scr, count, desk)
        for p in range(count):
            labels[start + p] = desk.names[0, p]


@numba.njit(nogil=True, cache=True)
def label_two(
    X: Rows,
    coded: Coded,
    frame: Frame,
    scr: Screen,
    desk: Desk,
    labels: Int32s,
    nearest: Float64s,
    runners_up: Int32s,
    second: Float64s,
) -> None:
    """Write the two nearest centres of every row and the squared distances to them; one centre: -1 and infinity.

    Ties go to the lower label. Only those centres can be among the two whose score exceeds the second least one by no
    more than the bound of any two centres: mostly the first two of the screen, where the third has a worse score.
    """
    n_clusters, largest, terms = scr.rows.shape[0], scr.largest_size, scr.bound
    some, rests = np.empty(scr.offsets.shape[0] + 1, np.int32), np.empty(LANES, scr.offsets.dtype)
    for start in range(0, X.shape[0], RUN):
        count = min(RUN, X.shape[0] - start)
        for p in range(count):
            desk.rows[p] = start + p
        used = screen_rows(X, coded, frame, scr, count, desk)
        words = used.codes.view(np.int32).reshape(-1)
        width = words.shape[0] // used.codes.shape[0]
        for p in range(count):
            i, place, runner_up = start + p, desk.places[p], desk.names[1, p]
            n_some = 0
            if runner_up < n_clusters and desk.bounds[p] < np.inf:
                bound = used.errors[place] * (terms.per_error + terms.per_error_size * largest)
                bound += used.norms[place] * terms.per_norm + terms.constant + terms.per_size * largest
                second_best = np.float64(tagged(desk.ranks[1, p], scr.keep, np.int32(0)))
                bound += 4.0 * terms.per_score * abs(second_best)
                limit = scr.offsets.dtype.type(min(second_best + 2.0 * bound / scr.unit, np.float64(scr.far)))
                if tagged(desk.ranks[2, p], scr.keep, np.int32(0)) > limit:
                    n_some, some[0], some[1] = 2, min(desk.names[0, p], runner_up), max(desk.names[0, p], runner_up)
                else:
                    n_some = candidates(
                        used.codes.dtype.type(0), words, place * width, width, scr.lanes, scr.offsets, scr.far, limit,
                        some, rests,
                    )  # fmt: skip
            first_label, next_label, first, other = -1, -1, np.inf, np.inf
            for q in range(n_some if n_some >= 2 else n_clusters):
                j = some[q] if n_some >= 2 else q
                squared = squared_distance(X, i, scr.rows, j)
                if squared < first or first_label < 0:
                    first_label, next_label, first, other = j, first_label, squared, first
                elif squared < other or next_label < 0:
                    next_label, other = j, squared
            labels[i], nearest[i], runners_up[i], second[i] = first_label, first, next_label, other
