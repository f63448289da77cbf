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
from engine.kernels.cpu.rank import NOTED, ROWS, candidates, load_codes, note_tile, rank
from engine.kernels.cpu.screen import Bound, Screen
from engine.kernels.cpu.simd import (
    LANES,
    as_numbers,
    differences,
    fma,
    gather,
    greatest,
    load,
    prefetch,
    root,
    splat,
    store,
    tagged,
    total,
)
from numpy.typing import NDArray

RUN = 4096  # rows screened at a time: their scores and labels stay in the L2 cache
SURE = np.float32(1.0 - 2.0**-18)  # float32 roundings on the way to a gap: 60 of 2^-24
AHEAD = 12  # open rows between asking for a row's values and using them
LINE_BYTES = 64  # of a cache line
TINY = 1e-30  # squared distances, where rows are about 1, that may have lost digits by underflow
SAFE = 2.0**-30  # a difference of squared distances, per unit of them, that no rounding in float64 can invert
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


@numba.njit(nogil=True, cache=True, forceinline=True)
def splat_bound(bound: Bound) -> Any:
    """Return the terms of a bound, each in every lane, in the order of Bound."""
    return (
        splat(bound.per_error), splat(bound.per_error_size), splat(bound.per_norm),
        splat(bound.constant), splat(bound.per_size), splat(bound.per_score),
    )  # fmt: skip


@numba.njit(nogil=True, cache=True, forceinline=True)
def proven(best: Any, next_best: Any, apart: Any, error: Any, norm: Any, size: Any, unit: Any, terms: Any) -> Any:
    """Return by how much a difference of scores can be off, and a lower bound of the gap.

    `best` and `next_best` are scores, `apart` their difference. With d the distance to the best centre and g a proven
    lower bound of the difference of scores, any other centre is at least sqrt(d^2 + 2 g) away: the gap is
    2 g / (sqrt(d^2 + 2 g) + d), least where d is largest.
    """
    zero, two = splat(np.float32(0.0)), splat(np.float32(2.0))
    sure, more, blur = splat(SURE), splat(np.float32(2.0) - SURE), splat(BLUR)
    per_error, per_error_size, per_norm, constant, per_size, per_score = terms
    bound = fma(error, fma(per_error_size, size, per_error), constant)
    bound = fma(norm, per_norm, fma(per_size, size, bound))
    largest = greatest(greatest(best, zero - best), greatest(next_best, zero - next_best))
    bound = fma(per_score, largest + largest, bound)
    gain = fma(apart, unit, zero - bound)
    distance = root(greatest(fma(norm, norm, two * fma(best, unit, bound)), zero)) * more
    other = root(greatest(fma(distance, distance, two * gain), zero)) * more
    return bound, (two * gain) / (other + distance) * sure - blur * (other + distance)


@numba.njit(nogil=True, cache=True)
def certify(errors: Float32s, norms: Float32s, scr: Screen, count: int, desk: Desk) -> None:
    """Write bounds and gaps of the first `count` rows from their scores."""
    unit, terms, keep, no_tag = splat(scr.unit), splat_bound(scr.bound), scr.keep, np.int32(0)
    zero, sure = splat(np.float32(0.0)), splat(SURE)
    ranks, names, places, sizes = desk.ranks, desk.names, desk.places, scr.sizes
    room = ranks.shape[1]
    for p in range(0, count, LANES):
        first = tagged(load(ranks, p), keep, no_tag)
        second = tagged(load(ranks, p + room), keep, no_tag)
        third = tagged(load(ranks, p + 2 * room), keep, no_tag)
        bound, gap = proven(
            as_numbers(first), as_numbers(second), as_numbers(second - first),
            gather(errors, places, p), gather(norms, places, p), gather(sizes, names, p), unit, terms,
        )  # fmt: skip
        store(desk.bounds, p, bound)
        store(desk.gaps, p, gap)
        store(desk.rests, p, fma(as_numbers(third - first), unit, zero - bound) * sure)


@numba.njit(nogil=True, cache=True, forceinline=True)
def _squared(X: Rows, i: int, centres: Rows, j: int, factor: Any) -> float:
    """Return the squared distance of row i and centre j in units of y, added in float32 in any order."""
    n_features, sums = X.shape[1], splat(np.float32(0.0))
    for t in range(0, n_features, LANES):
        apart = differences(X, i * n_features + t, centres, j * n_features + t, n_features - t, factor)
        sums = fma(apart, apart, sums)
    return np.float64(total(sums))


@numba.njit(nogil=True, cache=True, forceinline=True)
def _nearest_of(
    X: Rows, i: int, centres: Rows, factor: Any, names: Int32s, start: int, count: int, spread: float
) -> tuple[int, float]:
    """Return the nearest of the centres names[start : start + count], and by how much all others are farther away.

    Scores of centres that are not named exceed the best one by `spread` at least. A gap that is not positive says that
    the definition has to decide: of all centres where it is -infinity, else of those that are named.
    """
    label, first, second = names[start], np.inf, np.inf
    for q in range(start, start + count):
        squared = _squared(X, i, centres, names[q], factor)
        label = names[q] if squared < first else label
        second = min(second, max(squared, first))
        first = min(first, squared)
    if not spread > SAFE * first:  # also where distances overflow
        return label, -np.inf
    doubt = (X.shape[1] + 8) * 2.0**-24
    if not second - first > doubt * (first + second) + TINY:
        return label, 0.0
    nearest = np.sqrt(first)
    other = min(np.sqrt(second), np.sqrt(first + 2.0 * spread))
    return label, max(other * (1.0 - BLUR - doubt) - nearest * (1.0 + BLUR + doubt), 2.0**-126)


@numba.njit(nogil=True, cache=True)
def _defined_of(X: Rows, i: int, centres: Float64s, names: Int32s, start: int, count: int) -> int:
    """Return the nearest of the named centres by the definition."""
    label, least_one = -1, np.inf
    for q in range(start, start + count):
        squared = squared_distance(X, i, centres, names[q])
        if label < 0 or squared < least_one or (squared == least_one and names[q] < label):
            label, least_one = names[q], squared
    return label


@numba.njit(nogil=True, cache=True, forceinline=True)
def _opened(gaps: Float32s, count: int, opened: Int64s) -> int:
    """Write the positions of the rows whose gap is not positive; return how many."""
    n_opened = 0
    for p in range(count):
        opened[n_opened] = p
        n_opened += 0 if gaps[p] > 0 else 1
    return n_opened


@numba.njit(nogil=True, cache=True, forceinline=True)
def _fetch(X: Rows, i: int) -> None:
    """Ask for a row before it is needed: open rows lie far apart."""
    for t in range(0, X.shape[1], LINE_BYTES // X.itemsize):
        prefetch(X, i * X.shape[1] + t)


@numba.njit(nogil=True, cache=True)
def settle(X: Rows, used: Coded, scr: Screen, count: int, desk: Desk) -> tuple[int, int]:
    """Open every row of the desk whose gap is not positive; return how many, and for how many the definition spoke.

    Mostly two centres are left to measure. Rows with more of them come last: see _settle_more.
    """
    # Arrays leave their tuples outside of loops: where a tuple is passed on, numba counts references to all in it.
    # Numbers that are passed on are int64 from the start: numba compiles a callee for a literal apart.
    given, factor, opened, rows = scr.given, scr.factor, desk.open, desk.rows
    names, gaps, rests, bounds = desk.names, desk.gaps, desk.rests, desk.bounds
    n_clusters, pair, scratch = given.shape[0], np.empty(2, np.int32), np.empty(given.shape[0])
    n_opened, n_asked, n_more = _opened(gaps, count, opened), 0, np.int64(0)
    begin, two = np.int64(0), np.int64(2)
    for number in range(n_opened):
        p = opened[number]
        i = rows[p]
        _fetch(X, rows[opened[min(number + AHEAD, n_opened - 1)]])
        if bounds[p] < np.inf and not (rests[p] > 0 and names[1, p] < n_clusters):
            opened[n_more] = p
            n_more += 1
            continue
        pair[0], pair[1] = names[0, p], names[1, p]
        label, gap = pair[0], -np.inf
        if bounds[p] < np.inf:
            label, gap = _nearest_of(X, i, given, factor, pair, begin, two, np.float64(rests[p]))
        if not gap > 0:
            all_centres = gap < 0
            label = (
                defined_label(X[i], scr.exact, scratch)
                if all_centres
                else _defined_of(X, i, scr.rows, pair, begin, two)
            )
            n_asked += 1
        names[0, p], gaps[p] = label, gap
    return n_opened, n_asked + _settle_more(X, used, scr, n_more, desk, scratch)


@numba.njit(nogil=True, cache=True)
def _settle_more(X: Rows, used: Coded, scr: Screen, count: int, desk: Desk, scratch: Float64s) -> int:
    """Settle the first `count` rows of desk.open; return for how many the definition spoke.

    All centres are measured whose score is within twice the bound of the best one's: the others are then farther away
    than the first by the bound at least. Scores are computed once more, and those centres noted.
    """
    codes, offsets, far, kind, unit = used.codes, scr.offsets, scr.far, used.codes.dtype.type(0), np.float64(scr.unit)
    given, factor, keep, centres, opened, rows = scr.given, scr.factor, scr.keep, scr.words, desk.open, desk.rows
    names, gaps, ranks, bounds, places = desk.names, desk.gaps, desk.ranks, desk.bounds, desk.places
    words = codes.view(np.int32).reshape(-1)
    width = words.shape[0] // codes.shape[0]
    n_tiled = centres.shape[0] // width
    tile, at = np.empty(width * ROWS, np.int32), np.empty(ROWS, np.int64)
    limits, rests = np.empty(ROWS, offsets.dtype), np.empty(ROWS, offsets.dtype)
    noted, counts = np.empty(ROWS * NOTED, np.int32), np.empty(ROWS, np.int64)
    some, spare = np.empty(offsets.shape[0] + 1, np.int32), np.empty(LANES, offsets.dtype)
    n_asked, begin = 0, np.int64(0)
    for start in range(0, count, ROWS):
        n_rows = min(ROWS, count - start)
        for lane in range(ROWS):
            p = opened[start + min(lane, n_rows - 1)]
            best = np.float64(tagged(ranks[0, p], keep, np.int32(0)))
            at[lane] = places[p]
            limits[lane] = min(best + 2.0 * bounds[p] / unit, np.float64(far))
            _fetch(X, rows[p])
        load_codes(words, width, at, 0, tile)
        note_tile(kind, tile, width, centres, n_tiled, offsets, far, limits, noted, counts, rests)
        for lane in range(n_rows):
            p = opened[start + lane]
            i = rows[p]
            spread = (np.float64(rests[lane]) - np.float64(tagged(ranks[0, p], keep, np.int32(0)))) * unit - bounds[p]
            if counts[lane] <= NOTED:  # twice the same: to choose between the arrays would count references to them
                label, gap = _nearest_of(X, i, given, factor, noted, lane * NOTED, counts[lane], spread)
                if gap == 0.0:
                    label = _defined_of(X, i, scr.rows, noted, lane * NOTED, counts[lane])
            else:
                n_some = candidates(
                    kind, words, at[lane] * width, width, scr.lanes, offsets, far, limits[lane], some, spare
                )
                label, gap = _nearest_of(X, i, given, factor, some, begin, n_some, spread)
                if gap == 0.0:
                    label = _defined_of(X, i, scr.rows, some, begin, n_some)
            if gap < 0:
                label = defined_label(X[i], scr.exact, scratch)
            n_asked += 0 if gap > 0 else 1
            names[0, p], gaps[p] = label, gap
    return n_asked


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
