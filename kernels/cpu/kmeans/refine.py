"""Settle the rows that the screen left open: measure their candidates, and let the definition decide what is close.

    a Desk of screened rows, X, a Screen  ->  the label and the least gap of every open row

All centres whose score lies within twice the bound of the best are compared by their distance in float32, and where
those are as close as their rounding, the definition in distance.py decides. So labels are those of the definition,
whatever the precision of the screen. Bounds: decisions/0005-screening.md.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from engine.kernels.cpu.distance import defined_label, squared_distance
from engine.kernels.cpu.jit_options import INNER
from engine.kernels.cpu.kmeans.filter import BLUR, Desk, Float32s, Float64s, Int32s, Int64s, Rows
from engine.kernels.cpu.kmeans.quantize import Coded
from engine.kernels.cpu.kmeans.quantized_centers import Screen
from engine.kernels.cpu.kmeans.tiled_scores import NOTED, ROWS, candidates, load_codes, note_tile
from engine.kernels.cpu.simd.quantized import differences
from engine.kernels.cpu.simd.vectors import LANES, fma, prefetch, splat, tagged, total

AHEAD = 12  # open rows between asking for a row's values and using them
LINE_BYTES = 64  # of a cache line
TINY = 1e-30  # squared distances, where rows are about 1, that may have lost digits by underflow
SAFE = 2.0**-30  # a difference of squared distances, per unit of them, that no rounding in float64 can invert


@numba.njit(**INNER, forceinline=True)
def _squared(X: Rows, i: int, centres: Rows, j: int, factor: Any) -> float:
    """Return the squared distance of row i and centre j in units of y, added in float32 in any order."""
    n_features, sums = X.shape[1], splat(np.float32(0.0))
    for t in range(0, n_features, LANES):
        apart = differences(X, i * n_features + t, centres, j * n_features + t, n_features - t, factor)
        sums = fma(apart, apart, sums)
    return np.float64(total(sums))


@numba.njit(**INNER, forceinline=True)
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


@numba.njit(**INNER)
def _defined_of(X: Rows, i: int, centres: Float64s, names: Int32s, start: int, count: int) -> int:
    """Return the nearest of the named centres by the definition."""
    label, least_one = -1, np.inf
    for q in range(start, start + count):
        squared = squared_distance(X, i, centres, names[q])
        if label < 0 or squared < least_one or (squared == least_one and names[q] < label):
            label, least_one = names[q], squared
    return label


@numba.njit(**INNER, forceinline=True)
def _opened(gaps: Float32s, count: int, opened: Int64s) -> int:
    """Write the positions of the rows whose gap is not positive; return how many."""
    n_opened = 0
    for p in range(count):
        opened[n_opened] = p
        n_opened += 0 if gaps[p] > 0 else 1
    return n_opened


@numba.njit(**INNER, forceinline=True)
def fetch(X: Rows, i: int) -> None:
    """Ask for a row before it is needed: open rows lie far apart."""
    for t in range(0, X.shape[1], LINE_BYTES // X.itemsize):
        prefetch(X, i * X.shape[1] + t)


@numba.njit(**INNER, inline="always")
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
        fetch(X, rows[opened[min(number + AHEAD, n_opened - 1)]])
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


@numba.njit(**INNER, inline="always")
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
            fetch(X, rows[p])
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
