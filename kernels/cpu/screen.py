"""Rank all centres for a tile of rows, in registers: the products of K-Means.

    codes of rows, a Screen of the centres -> the three least scores of every row, and the centres of two of them

||y||^2 is the same for every centre, so centres are ranked by S_j = ||c_j||^2 / 2 - y.c_j. Rows lie in the lanes,
two vectors of them, and TILE centres at a time are broadcast: 2 x TILE accumulators, so every loaded word is used
often enough to keep both multipliers busy. A centre's number within its chunk rides in the low bits of its score;
so ranking takes one bit operation, three minima and two maxima a score, and no labels are moved.
What the scores prove is settled in assign.py. Bounds: decisions/0005-screening.md.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numba
import numpy as np
from engine.kernels.cpu.codes import BYTES, FLOATS, QUAD_BYTES, ZERO_BYTE, Float32s, Float64s, Frame, Rows
from engine.kernels.cpu.simd import (
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
    select,
    splat,
    store,
    tagged,
)
from numpy.typing import NDArray

VECTORS = 2  # vectors of rows in a tile
ROWS = VECTORS * LANES  # rows of a tile
TILE = 6  # centres multiplied at a time: 12 accumulators, 2 vectors of rows and a broadcast fill 15 registers
CHUNK = 21 * TILE  # centres whose numbers fit in 7 low bits
BLOCK = 4 * LANES  # centres scored at a time for a single row
FAR_INT = np.int32(2**30)  # the score of padding; true ones stay below half of it
FAR_FLOAT = np.float32(1e30)
UNDERFLOW = np.float32(1e-30)  # rows are about 1 in size: what underflows below this decides nothing
LEAST_STEP = 1e-12  # between codes of centres: rows are about 1
FARTHEST = 1e12  # centres beyond this (rows are about 1) are compared by the definition alone

Int32s: TypeAlias = NDArray[np.int32]
Int64s: TypeAlias = NDArray[np.int64]
Scores: TypeAlias = NDArray[Any]  # int32, or float32 at level FLOATS


class Bound(NamedTuple):
    """How far off the difference of the score of a winner j and of any other centre can be:

    errors (per_error + per_error_size sizes_j) + norms per_norm + constant + per_size sizes_j + per_score |scores|.
    """

    per_error: np.float32
    per_error_size: np.float32
    per_norm: np.float32
    constant: np.float32
    per_size: np.float32
    per_score: np.float32


class Screen(NamedTuple):
    """Centres made ready for ranking the codes of one frame."""

    exact: Float64s  # (n_features, n_clusters): what the definition sees
    rows: Float64s  # (n_clusters, n_features): the same, a centre a row
    words: Int32s  # flat [tile][word][TILE]: codes of -c, for rows in the lanes
    lanes: Int32s  # flat [block][word][BLOCK]: the same codes, for centres in the lanes
    offsets: Scores  # (padded clusters,): ||c||^2 / 2 in units of scores
    far: np.int32 | np.float32  # a score beyond all
    unit: np.float32  # what a score of 1 stands for
    keep: np.int32  # mask of a score's bits that are not the centre's number
    sizes: Float32s  # (padded clusters,): of each centre, what its bound grows with; infinite: never certified
    largest_size: np.float32  # of all centres
    bound: Bound
    factor: float  # units of y per unit of X


def screen(centres: Rows, frame: Frame, level: int) -> Screen:
    """Prepare centres (n_clusters, n_features) to rank rows coded in `frame`."""
    rows = centres.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        relative = (rows - frame.shift.astype(np.float64)) * float(frame.factor)
        norms = np.sqrt(np.square(relative).sum(axis=1))
    sound = bool(frame.sound and norms.max() < FARTHEST)
    if not sound:
        relative, norms = np.zeros_like(relative), np.zeros_like(norms)
    n_tiled = -(-len(rows) // TILE) * TILE
    tag_bits = (min(n_tiled, CHUNK) - 1).bit_length()
    if level == FLOATS:
        bounded = _float_codes(relative, norms, tag_bits)
    else:
        bounded = _integer_codes(relative, norms, tag_bits, frame, level)
    n_blocked = -(-n_tiled // BLOCK) * BLOCK
    far = FAR_FLOAT if level == FLOATS else FAR_INT
    offsets = np.full(n_blocked, far)
    offsets[: len(rows)] = bounded.offsets
    sizes = np.full(n_blocked, np.inf, np.float32)
    if sound:
        sizes[: len(rows)] = bounded.sizes
    return Screen(
        np.ascontiguousarray(rows.T),
        rows,
        _laid_out(bounded.codes, n_tiled, TILE),
        _laid_out(bounded.codes, n_blocked, BLOCK),
        offsets,
        far,
        np.float32(bounded.unit),
        np.int32(-(1 << tag_bits)),
        sizes,
        sizes[: len(rows)].max(),
        bounded.bound,
        float(frame.factor),
    )


class _Codes(NamedTuple):
    """Codes of -c, and what bounds their error: see Screen and Bound."""

    codes: NDArray[Any]
    offsets: NDArray[Any]
    unit: float
    sizes: Float64s
    bound: Bound


def _integer_codes(relative: Float64s, norms: Float64s, tag_bits: int, frame: Frame, level: int) -> _Codes:
    """Code centres as int8 or int16; the three sources of error are the rows' codes, the centres' codes, the tags."""
    step = max(float(np.abs(relative).max()) / float(frame.limit), LEAST_STEP)
    unit = step * float(np.float32(1.0) / frame.rate)
    codes: Float64s = np.rint(relative / step)
    missed = float(np.sqrt(np.square(relative - codes * step).sum(axis=1)).max())
    exact = 0.5 * np.square(norms) / unit
    offsets = np.rint(np.minimum(exact, 2.0**29)).astype(np.int32)
    if level == BYTES:
        offsets += (ZERO_BYTE * codes.sum(axis=1)).astype(np.int32)
    terms = (norms.max(), 1.0, 2.0 * missed + 1e-12, unit * (2.0**tag_bits + 1.0), 0.0, 0.0)
    bound = Bound(*(np.float32(1.0001 * term) for term in terms))
    sizes = np.where(exact < 2.0**29, norms, np.inf)
    return _Codes((-codes).astype(np.int8 if level == BYTES else np.int16), offsets, unit, sizes, bound)


def _float_codes(relative: Float64s, norms: Float64s, tag_bits: int) -> _Codes:
    """Take centres as they are, in float32; offsets are lowered so that a far centre blurs no other one."""
    error = _relative_error(relative.shape[1])
    squares = np.square(norms)
    terms = (error, 0.0, 0.0, UNDERFLOW, 2.0 * error, 2.0 ** (tag_bits - 23))
    bound = Bound(*(np.float32(1.0001 * term) for term in terms))
    offsets = (0.5 * squares - error * squares).astype(np.float32)
    return _Codes(-relative.astype(np.float32), offsets, 1.0, squares, bound)


def _relative_error(n_features: int) -> float:
    """Return e: a float32 score is off by at most e (||c||^2 + ||y||^2 / 2)."""
    operations = (n_features + 8) * 2.0**-24
    return 1.02 * operations / (1.0 - operations) ** 2 if operations < 0.25 else np.inf


def _laid_out(codes: NDArray[Any], n_padded: int, group: int) -> Int32s:
    """Lay codes out as [group of centres][word][centre in the group], padded with zeros."""
    quad = QUAD_BYTES // codes.itemsize
    padded = np.zeros((n_padded, -(-codes.shape[1] // quad) * quad), codes.dtype)
    padded[: codes.shape[0], : codes.shape[1]] = codes
    words = padded.view(np.int32)
    return np.ascontiguousarray(words.reshape(-1, group, words.shape[1]).transpose(0, 2, 1)).ravel()


@numba.njit(nogil=True, cache=True)
def load_codes(words: Int32s, width: int, rows: Int64s, start: int, tile: Int32s) -> None:
    """Transpose the codes (flat, `width` words a row) of rows[start : start + ROWS] into tile [word][ROWS]."""
    for vector in range(VECTORS):
        lane = vector * LANES
        for word in range(0, width, 4):
            gather_quads(words, rows, start + lane, width, word, ROWS, tile, word * ROWS + lane)


@numba.njit(nogil=True, cache=True, inline="always")
def _ranked(score: Any, keep: Any, number: Any, best: Any, second: Any, third: Any) -> Any:
    """Enter tagged scores into the three least."""
    score = tagged(score, keep, number)
    after = greatest(score, best)
    return least(score, best), least(after, second), least(greatest(after, second), third)


@numba.njit(nogil=True, cache=True, inline="always")
def _entered(score: Any, centre: Any, best: Any, second: Any, third: Any, leader: Any, runner_up: Any) -> Any:
    """Enter scores of named centres into the three least and the names of the first two."""
    first, closer = less(score, best), less(score, second)
    runner_up = select(first, leader, select(closer, centre, runner_up))
    after = greatest(score, best)
    best, second, third = least(score, best), least(after, second), least(greatest(after, second), third)
    return best, second, third, select(first, centre, leader), runner_up


@numba.njit(nogil=True, cache=True)
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
            tag = np.int32(j - first)
            b0, s0, t0 = _ranked(a00, keep, tag, b0, s0, t0)
            b1, s1, t1 = _ranked(a01, keep, tag, b1, s1, t1)
            b0, s0, t0 = _ranked(a10, keep, tag + np.int32(1), b0, s0, t0)
            b1, s1, t1 = _ranked(a11, keep, tag + np.int32(1), b1, s1, t1)
            b0, s0, t0 = _ranked(a20, keep, tag + np.int32(2), b0, s0, t0)
            b1, s1, t1 = _ranked(a21, keep, tag + np.int32(2), b1, s1, t1)
            b0, s0, t0 = _ranked(a30, keep, tag + np.int32(3), b0, s0, t0)
            b1, s1, t1 = _ranked(a31, keep, tag + np.int32(3), b1, s1, t1)
            b0, s0, t0 = _ranked(a40, keep, tag + np.int32(4), b0, s0, t0)
            b1, s1, t1 = _ranked(a41, keep, tag + np.int32(4), b1, s1, t1)
            b0, s0, t0 = _ranked(a50, keep, tag + np.int32(5), b0, s0, t0)
            b1, s1, t1 = _ranked(a51, keep, tag + np.int32(5), b1, s1, t1)
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


@numba.njit(nogil=True, cache=True)
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


@numba.njit(nogil=True, cache=True, inline="always")
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


@numba.njit(nogil=True, cache=True)
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
    rest, count = none, 0
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
    return count
