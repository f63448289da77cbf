"""Label rows: screen centres in small numbers, prove what they prove, and settle the rest in float64.

    X, Coded rows, a Screen -> labels (n_rows,) int32, and by how much each row is nearer to its centre than to others

For every row the screen gives the best and the second best score. If they differ by more than the proven bound, the
label is certain, and so is a least gap between the distances to the two centres. Every other row is opened: all
centres whose score lies within twice the bound of the best are compared by their float64 distance, and where
even those are as close as their rounding, the definition in distance.py decides. So labels are those of the definition,
whatever the precision of the screen. Bounds: decisions/0005-screening.md. Passes over iterations: lloyd.py.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numba
import numpy as np
from engine.kernels.cpu.codes import BYTES, FLOATS, SHORTS, Coded, Frame, empty_codes, encode
from engine.kernels.cpu.distance import defined_label, squared_distance
from engine.kernels.cpu.screen import ROWS, Screen, candidates, rank
from engine.kernels.cpu.simd import (
    LANES,
    as_numbers,
    fma,
    gather,
    greatest,
    load,
    root,
    splat,
    store,
    tagged,
)
from numpy.typing import NDArray

RUN = 4096  # rows screened at a time: their scores and labels stay in the L2 cache
SURE = np.float32(1.0 - 2.0**-18)  # float32 roundings on the way to a gap: 60 of 2^-24
BLUR = np.float32(2.0**-20)  # far more than the definition's own rounding of a gap, per unit of the distances

Rows: TypeAlias = NDArray[np.floating[Any]]
Float32s: TypeAlias = NDArray[np.float32]
Float64s: TypeAlias = NDArray[np.float64]
Int32s: TypeAlias = NDArray[np.int32]
Int64s: TypeAlias = NDArray[np.int64]


class Desk(NamedTuple):
    """Room for RUN rows that are looked at, and what is found about them."""

    rows: Int64s  # their numbers
    places: Int64s  # where their codes are
    open: Int64s  # which of them, by their position here, the screen left open
    coded: Coded
    ranks: NDArray[Any]  # (3, room): their least scores, tagged
    names: Int32s  # (2, room): the centres of the first two; once settled, the first is the label
    bounds: Float32s  # how far off differences of scores can be
    gaps: Float32s  # least distance to another centre minus distance to the own one; not positive: not certain
    rests: Float32s  # by how much all but the first two centres have worse scores than the first, at least


@numba.njit(nogil=True, cache=True)
def screen_rows(X: Rows, coded: Coded, frame: Frame, scr: Screen, count: int, desk: Desk) -> Coded:
    """Screen desk.rows[:count]: write labels, gaps and bounds. Return the codes used, at desk.places."""
    if coded.codes.shape[0] > 0:
        used = coded
        for p in range(count):
            desk.places[p] = desk.rows[p]
    else:
        used = desk.coded
        encode(X, desk.rows, count, frame, used.codes, used.errors, used.norms)
        for p in range(count):
            desk.places[p] = p
    rank(used.codes, desk.places, count, scr, desk.ranks, desk.names)
    certify(used.errors, used.norms, scr, count, desk)
    return used


@numba.njit(nogil=True, cache=True)
def certify(errors: Float32s, norms: Float32s, scr: Screen, count: int, desk: Desk) -> None:
    """Write bounds and gaps of the first `count` rows from their scores.

    With d the distance to the best centre and g a proven lower bound of the difference of scores, any other centre is
    at least sqrt(d^2 + 2 g) away: the gap is 2 g / (sqrt(d^2 + 2 g) + d), least where d is largest.
    """
    zero, two = splat(np.float32(0.0)), splat(np.float32(2.0))
    unit = splat(scr.unit)
    per_error, per_error_size = splat(scr.bound.per_error), splat(scr.bound.per_error_size)
    per_norm, per_size = splat(scr.bound.per_norm), splat(scr.bound.per_size)
    constant, per_score = splat(scr.bound.constant), splat(scr.bound.per_score)
    sure, more, blur = splat(SURE), splat(np.float32(2.0) - SURE), splat(BLUR)
    no_tag = np.int32(0)
    room = desk.ranks.shape[1]
    for p in range(0, count, LANES):
        first = tagged(load(desk.ranks, p), scr.keep, no_tag)
        second = tagged(load(desk.ranks, p + room), scr.keep, no_tag)
        third = tagged(load(desk.ranks, p + 2 * room), scr.keep, no_tag)
        best, next_best = as_numbers(first), as_numbers(second)
        size = gather(scr.sizes, desk.names, p)
        norm = gather(norms, desk.places, p)
        bound = fma(gather(errors, desk.places, p), fma(per_error_size, size, per_error), constant)
        bound = fma(norm, per_norm, fma(per_size, size, bound))
        largest = greatest(greatest(best, zero - best), greatest(next_best, zero - next_best))
        bound = fma(per_score, largest + largest, bound)
        gain = fma(as_numbers(second - first), unit, zero - bound)
        distance = root(greatest(fma(norm, norm, two * fma(best, unit, bound)), zero)) * more
        other = root(greatest(fma(distance, distance, two * gain), zero)) * more
        store(desk.bounds, p, bound)
        store(desk.gaps, p, (two * gain) / (other + distance) * sure - blur * (other + distance))
        store(desk.rests, p, fma(as_numbers(third - first), unit, zero - bound) * sure)


@numba.njit(nogil=True, cache=True, fastmath={"contract", "nsz", "reassoc"})
def _close(X: Rows, i: int, centres: Float64s, j: int) -> float:
    """Return the squared distance of row i and centre j in float64, added in any order."""
    total = 0.0
    for t in range(X.shape[1]):
        difference = np.float64(X[i, t]) - centres[j, t]
        total += difference * difference
    return total


@numba.njit(nogil=True, cache=True)
def _nearest_of(X: Rows, i: int, centres: Float64s, names: Int32s, count: int) -> tuple[int, float, float]:
    """Return the nearest of the named centres, and the two least squared distances."""
    label, first, second = names[0], np.inf, np.inf
    for name in names[:count]:
        squared = _close(X, i, centres, name)
        label = name if squared < first else label
        second = min(second, max(squared, first))
        first = min(first, squared)
    return label, first, second


@numba.njit(nogil=True, cache=True)
def settle(X: Rows, used: Coded, scr: Screen, count: int, desk: Desk) -> tuple[int, int]:
    """Open every row of the desk whose gap is not positive; return how many, and for how many the definition spoke.

    Mostly two centres are left to measure. Else all those are whose score is within twice the bound of the first one's:
    the others are then farther away than the first by the bound at least.
    """
    codes, centres, lanes, offsets, exact, far = used.codes, scr.rows, scr.lanes, scr.offsets, scr.exact, scr.far
    words = codes.view(np.int32).reshape(-1)
    width = words.shape[0] // codes.shape[0]
    names, gaps, unit, factor, keep = desk.names, desk.gaps, np.float64(scr.unit), scr.factor, scr.keep
    some, rests = np.empty(offsets.shape[0] + 1, np.int32), np.empty(LANES, offsets.dtype)
    scratch = np.empty(centres.shape[0])
    rounding = (X.shape[1] + 8) * 2.0**-52
    n_opened, n_asked = 0, 0
    for p in range(count):
        desk.open[n_opened] = p
        n_opened += 0 if gaps[p] > 0 else 1
    for p in desk.open[:n_opened]:
        i, place, leader, label, bound = desk.rows[p], desk.places[p], names[0, p], names[1, p], desk.bounds[p]
        spread = np.float64(desk.rests[p])
        first, second = np.inf, np.inf
        if spread > 0 and label < centres.shape[0]:
            one, other_one = _close(X, i, centres, leader), _close(X, i, centres, label)
            label = leader if one < other_one else label
            first, second = min(one, other_one), max(one, other_one)
        elif bound < np.inf:
            best = np.float64(tagged(desk.ranks[0, p], keep, np.int32(0)))
            limit = offsets.dtype.type(min(best + 2.0 * bound / unit, np.float64(far)))
            n_some = candidates(
                codes.dtype.type(0), words, place * width, width, lanes, offsets, far, limit, some, rests
            )
            label, first, second = _nearest_of(X, i, centres, some, n_some)
            least_rest = rests[0]
            for lane in range(1, LANES):
                least_rest = min(least_rest, rests[lane])
            spread = (np.float64(least_rest) - best) * unit - bound
        if second - first > rounding * (first + second):
            nearest = np.sqrt(first) * factor
            other = min(np.sqrt(second) * factor, np.sqrt(nearest * nearest + 2.0 * max(spread, 0.0)))
            gap = other * (1.0 - BLUR) - nearest * (1.0 + BLUR)
        else:  # also where distances overflow or underflow
            label, gap = defined_label(X[i], exact, scratch), -np.inf
            n_asked += 1
        names[0, p] = label
        gaps[p] = gap
    return n_opened, n_asked


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


def desk_for(scr: Screen, coded: Coded, n_features: int) -> Desk:
    """Allocate room for RUN rows, and for their codes if `coded` has none."""
    room = RUN + ROWS
    made = RUN if len(coded.codes) == 0 else 0
    level = {1: BYTES, 2: SHORTS, 4: FLOATS}[coded.codes.itemsize]
    own = Coded(empty_codes(made, n_features, level), np.empty(made, np.float32), np.empty(made, np.float32))
    return Desk(
        np.zeros(room, np.int64),
        np.zeros(room, np.int64),
        np.zeros(room, np.int64),
        own,
        np.empty((3, room), scr.offsets.dtype),
        np.empty((2, room), np.int32),
        *(np.empty(room, np.float32) for _ in range(3)),
    )
