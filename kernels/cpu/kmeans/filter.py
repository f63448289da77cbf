"""Screen rows, and certify what the screen proves about them.

    X, Coded rows, a Screen  ->  Desk: best centres, how far off scores can be, least gaps to the other centres

For every row the screen gives the best and the second best score. If they differ by more than the proven bound, the
label is certain, and so is a least gap between the distances to the two centres. What is left open is settled in
refine.py. Bounds: decisions/0005-screening.md.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

from engine.kernels.cpu.jit_options import INNER
from engine.kernels.cpu.kmeans.quantize import BYTES, FLOATS, SHORTS, Coded, Frame, empty_codes, encode
from engine.kernels.cpu.kmeans.quantized_centers import Bound, Screen
from engine.kernels.cpu.kmeans.tiled_scores import ROWS, rank
from engine.kernels.cpu.simd.vectors import LANES, as_numbers, fma, gather, greatest, load, root, splat, store, tagged

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


@numba.njit(**INNER, inline="always")
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


@numba.njit(**INNER, forceinline=True)
def splat_bound(bound: Bound) -> Any:
    """Return the terms of a bound, each in every lane, in the order of Bound."""
    return (
        splat(bound.per_error), splat(bound.per_error_size), splat(bound.per_norm),
        splat(bound.constant), splat(bound.per_size), splat(bound.per_score),
    )  # fmt: skip


@numba.njit(**INNER, forceinline=True)
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


@numba.njit(**INNER)
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
