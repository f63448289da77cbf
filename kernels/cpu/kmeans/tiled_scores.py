"""Rank all centres for a tile of rows, in registers: the products of K-Means.

    codes of rows, a Screen of the centres -> the three least scores of every row, and the centres of two of them
                                              or, for a limit a row, all centres whose score is below it

Rows lie in the lanes, two vectors of them, and TILE centres at a time are broadcast: 2 x TILE accumulators, so every
loaded word is used often enough to keep both multipliers busy. A centre's number within its chunk rides in the low
bits of its score; so ranking takes one bit operation, three minima and two maxima a score, and no labels are moved.
What a score is: quantized_centers.py. What it proves: filter.py and refine.py.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from engine.kernels.cpu.jit_options import INNER
from engine.kernels.cpu.kmeans.quantized_centers import BLOCK, CHUNK, TILE, Int32s, Int64s, Scores, Screen
from engine.kernels.cpu.simd.vectors import (
    LANES,
    accumulate,
    bits,
    broadcast,
    gather_quads,
    greatest,
    lane_bits,
    least,
    less,
    load,
    lowest_bit,
    select,
    splat,
    store,
    tagged,
)

VECTORS = 2  # vectors of rows in a tile
ROWS = VECTORS * LANES  # rows of a tile
NOTED = 48  # at most so many centres are noted for a row: one with more is looked at by itself


@numba.njit(**INNER)
def load_codes(words: Int32s, width: int, rows: Int64s, start: int, tile: Int32s) -> None:
    """Transpose the codes (flat, `width` words a row) of rows[start : start + ROWS] into tile [word][ROWS]."""
    for vector in range(VECTORS):
        lane = vector * LANES
        for word in range(0, width, 4):
            gather_quads(words, rows, start + lane, width, word, ROWS, tile, word * ROWS + lane)


@numba.njit(**INNER, forceinline=True)
def tile_scores(kind: Any, tile: Int32s, width: int, centres: Int32s, offsets: Scores, j: int) -> Any:
    """Return the scores of the rows of a tile and of TILE centres from j on: two vectors a centre, in order."""
    a00 = broadcast(offsets, j)
    a10 = broadcast(offsets, j + 1)
    a20 = broadcast(offsets, j + 2)
    a30 = broadcast(offsets, j + 3)
    a40 = broadcast(offsets, j + 4)
    a50 = broadcast(offsets, j + 5)
    a01, a11, a21, a31, a41, a51 = a00, a10, a20, a30, a40, a50
    at = j * width
    for word in range(width):
        x0, x1 = load(tile, word * ROWS), load(tile, word * ROWS + LANES)
        c = broadcast(centres, at)
        a00, a01 = accumulate(kind, a00, x0, c), accumulate(kind, a01, x1, c)
        c = broadcast(centres, at + 1)
        a10, a11 = accumulate(kind, a10, x0, c), accumulate(kind, a11, x1, c)
        c = broadcast(centres, at + 2)
        a20, a21 = accumulate(kind, a20, x0, c), accumulate(kind, a21, x1, c)
        c = broadcast(centres, at + 3)
        a30, a31 = accumulate(kind, a30, x0, c), accumulate(kind, a31, x1, c)
        c = broadcast(centres, at + 4)
        a40, a41 = accumulate(kind, a40, x0, c), accumulate(kind, a41, x1, c)
        c = broadcast(centres, at + 5)
        a50, a51 = accumulate(kind, a50, x0, c), accumulate(kind, a51, x1, c)
        at += TILE
    return a00, a01, a10, a11, a20, a21, a30, a31, a40, a41, a50, a51


@numba.njit(**INNER, forceinline=True)
def _ranked(score: Any, keep: Any, number: Any, best: Any, second: Any, third: Any) -> Any:
    """Enter tagged scores into the three least."""
    score = tagged(score, keep, number)
    after = greatest(score, best)
    return least(score, best), least(after, second), least(greatest(after, second), third)


@numba.njit(**INNER, forceinline=True)
def _entered(score: Any, centre: Any, best: Any, second: Any, third: Any, leader: Any, runner_up: Any) -> Any:
    """Enter scores of named centres into the three least and the names of the first two."""
    first, closer = less(score, best), less(score, second)
    runner_up = select(first, leader, select(closer, centre, runner_up))
    after = greatest(score, best)
    best, second, third = least(score, best), least(after, second), least(greatest(after, second), third)
    return best, second, third, select(first, centre, leader), runner_up


@numba.njit(**INNER)
def rank_tile(
    kind: Any,
    tile: Int32s,
    width: int,
    centres: Int32s,
    n_tiled: int,
    offsets: Scores,
    far: Any,
    keep: Any,
    lane: int,
    ranks: Scores,
    names: Int32s,
) -> None:
    """Rank the rows of one tile, as `rank` does; what is written goes to row `lane` and on."""
    best0, second0, third0 = splat(far), splat(far), splat(far)
    best1, second1, third1 = best0, second0, third0
    leader0, runner0 = splat(np.int32(0)), splat(np.int32(0))
    leader1, runner1 = leader0, runner0
    for first in range(0, n_tiled, CHUNK):
        b0, s0, t0 = splat(far), splat(far), splat(far)
        b1, s1, t1 = b0, s0, t0
        for j in range(first, min(first + CHUNK, n_tiled), TILE):
            a00, a01, a10, a11, a20, a21, a30, a31, a40, a41, a50, a51 = tile_scores(
                kind, tile, width, centres, offsets, j
            )
            tag = j - first
            b0, s0, t0 = _ranked(a00, keep, tag, b0, s0, t0)
            b1, s1, t1 = _ranked(a01, keep, tag, b1, s1, t1)
            b0, s0, t0 = _ranked(a10, keep, tag + 1, b0, s0, t0)
            b1, s1, t1 = _ranked(a11, keep, tag + 1, b1, s1, t1)
            b0, s0, t0 = _ranked(a20, keep, tag + 2, b0, s0, t0)
            b1, s1, t1 = _ranked(a21, keep, tag + 2, b1, s1, t1)
            b0, s0, t0 = _ranked(a30, keep, tag + 3, b0, s0, t0)
            b1, s1, t1 = _ranked(a31, keep, tag + 3, b1, s1, t1)
            b0, s0, t0 = _ranked(a40, keep, tag + 4, b0, s0, t0)
            b1, s1, t1 = _ranked(a41, keep, tag + 4, b1, s1, t1)
            b0, s0, t0 = _ranked(a50, keep, tag + 5, b0, s0, t0)
            b1, s1, t1 = _ranked(a51, keep, tag + 5, b1, s1, t1)
        base = splat(np.int32(first))
        name = tagged(bits(b0), ~keep, np.int32(0)) + base
        best0, second0, third0, leader0, runner0 = _entered(b0, name, best0, second0, third0, leader0, runner0)
        name = tagged(bits(s0), ~keep, np.int32(0)) + base
        best0, second0, third0, leader0, runner0 = _entered(s0, name, best0, second0, third0, leader0, runner0)
        name = tagged(bits(b1), ~keep, np.int32(0)) + base
        best1, second1, third1, leader1, runner1 = _entered(b1, name, best1, second1, third1, leader1, runner1)
        name = tagged(bits(s1), ~keep, np.int32(0)) + base
        best1, second1, third1, leader1, runner1 = _entered(s1, name, best1, second1, third1, leader1, runner1)
        third0, third1 = least(t0, third0), least(t1, third1)
    room = ranks.shape[1]
    store(ranks, lane, best0)
    store(ranks, lane + LANES, best1)
    store(ranks, room + lane, second0)
    store(ranks, room + lane + LANES, second1)
    store(ranks, 2 * room + lane, third0)
    store(ranks, 2 * room + lane + LANES, third1)
    store(names, lane, leader0)
    store(names, lane + LANES, leader1)
    store(names, room + lane, runner0)
    store(names, room + lane + LANES, runner1)


@numba.njit(**INNER)
def rank(codes: NDArray[Any], rows: Int64s, count: int, scr: Screen, ranks: Scores, names: Int32s) -> None:
    """Write for each of rows[:count] the three least scores, tagged, and the centres of the first two.

    `ranks` (3, room), `names` (2, room) and `rows` have room for whole tiles.
    """
    words = codes.view(np.int32).reshape(-1)
    width = words.shape[0] // codes.shape[0]
    n_tiled = scr.words.shape[0] // width
    tile = np.empty(width * ROWS, np.int32)
    for lane in range(count, -(-count // ROWS) * ROWS):
        rows[lane] = rows[0]  # the last tile repeats a row where it is not full
    for start in range(0, count, ROWS):
        load_codes(words, width, rows, start, tile)
        rank_tile(
            codes.dtype.type(0), tile, width, scr.words, n_tiled, scr.offsets, scr.far, scr.keep, start, ranks, names
        )


@numba.njit(**INNER, forceinline=True)
def _note(score: Any, limit: Any, far: Any, rest: Any, j: int, lane: int, names: Int32s, counts: Int64s) -> Any:
    """Append centre j to the rows whose score is below their limit; return the least of the other scores."""
    below = less(score, limit)
    lanes = lane_bits(below)
    while lanes != 0:
        row = lane + lowest_bit(lanes)
        names[row * NOTED + min(counts[row], NOTED - 1)] = j
        counts[row] += 1
        lanes &= lanes - np.uint32(1)
    return least(rest, select(below, far, score))


@numba.njit(**INNER)
def note_tile(
    kind: Any,
    tile: Int32s,
    width: int,
    centres: Int32s,
    n_tiled: int,
    offsets: Scores,
    far: Any,
    limits: Scores,
    names: Int32s,
    counts: Int64s,
    rests: Scores,
) -> None:
    """Write for each row of one tile the centres whose score is below its limit, and the least score of the others.

    `names` (flat) has NOTED places a row; where a count says more, those of the others are lost. Scores have no tags.
    """
    none, low, high = splat(far), np.int64(0), np.int64(LANES)  # not literals: _note would be compiled for each
    limit0, limit1 = load(limits, 0), load(limits, LANES)
    rest0, rest1 = none, none
    for row in range(ROWS):
        counts[row] = 0
    for j in range(0, n_tiled, TILE):
        a00, a01, a10, a11, a20, a21, a30, a31, a40, a41, a50, a51 = tile_scores(kind, tile, width, centres, offsets, j)
        rest0 = _note(a00, limit0, none, rest0, j, low, names, counts)
        rest1 = _note(a01, limit1, none, rest1, j, high, names, counts)
        rest0 = _note(a10, limit0, none, rest0, j + 1, low, names, counts)
        rest1 = _note(a11, limit1, none, rest1, j + 1, high, names, counts)
        rest0 = _note(a20, limit0, none, rest0, j + 2, low, names, counts)
        rest1 = _note(a21, limit1, none, rest1, j + 2, high, names, counts)
        rest0 = _note(a30, limit0, none, rest0, j + 3, low, names, counts)
        rest1 = _note(a31, limit1, none, rest1, j + 3, high, names, counts)
        rest0 = _note(a40, limit0, none, rest0, j + 4, low, names, counts)
        rest1 = _note(a41, limit1, none, rest1, j + 4, high, names, counts)
        rest0 = _note(a50, limit0, none, rest0, j + 5, low, names, counts)
        rest1 = _note(a51, limit1, none, rest1, j + 5, high, names, counts)
    store(rests, 0, rest0)
    store(rests, LANES, rest1)


@numba.njit(**INNER, forceinline=True)
def _noted(score: Any, limit: Any, far: Any, first: int, rest: Any, names: Int32s, count: int) -> tuple[Any, int]:
    """Append the numbers of the lanes with a score below the limit; return the least of the other scores, and count."""
    below = less(score, limit)
    lanes = lane_bits(below)
    number = first
    while lanes != 0:
        names[count] = number
        count += lanes & np.uint32(1)
        lanes >>= np.uint32(1)
        number += 1
    return least(rest, select(below, far, score)), count


@numba.njit(**INNER)
def candidates(
    kind: Any,
    words: Int32s,
    start: int,
    width: int,
    scr_lanes: Int32s,
    offsets: Scores,
    far: Any,
    limit: Any,
    names: Int32s,
    rests: Scores,
) -> int:
    """Write the centres whose score is below `limit` for the row whose codes begin at words[start]; return how many.

    Centres lie in the lanes, scores have no tags. `names` has room for one more than all centres; `rests` (LANES,) gets
    numbers of which the least is the least score of all other centres.
    """
    bar, none = splat(limit), splat(far)
    rest, count = none, np.int64(0)
    for block in range(0, offsets.shape[0], BLOCK):
        a0, a1 = load(offsets, block), load(offsets, block + LANES)
        a2, a3 = load(offsets, block + 2 * LANES), load(offsets, block + 3 * LANES)
        at = block * width
        for word in range(width):
            x = broadcast(words, start + word)
            a0 = accumulate(kind, a0, x, load(scr_lanes, at))
            a1 = accumulate(kind, a1, x, load(scr_lanes, at + LANES))
            a2 = accumulate(kind, a2, x, load(scr_lanes, at + 2 * LANES))
            a3 = accumulate(kind, a3, x, load(scr_lanes, at + 3 * LANES))
            at += BLOCK
        rest, count = _noted(a0, bar, none, block, rest, names, count)
        rest, count = _noted(a1, bar, none, block + LANES, rest, names, count)
        rest, count = _noted(a2, bar, none, block + 2 * LANES, rest, names, count)
        rest, count = _noted(a3, bar, none, block + 3 * LANES, rest, names, count)
    store(rests, 0, rest)
    return int(count)
