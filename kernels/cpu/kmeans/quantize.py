"""Rows as small integers: what the screen multiplies instead of floats.

    X (n_rows, n_features) -> codes (n_rows, padded) uint8 or int16, errors, norms (n_rows,) float32

A row is taken as y = (x - shift) * factor, about 1 in size; its code is round(y * rate), clipped to ±limit, and
stands for code / rate. errors bounds ||y - code / rate|| from above, clipping and rounding included, and norms bounds
both ||y|| and ||code / rate||. So a poor choice of shift, factor or rate costs time and never a label.
The proof: decisions/0005-screening.md. How codes are compared is in quantized_centers.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

from engine.kernels.cpu.simd.quantized import differences, nearest, poisoned, store_codes, store_values, values
from engine.kernels.cpu.simd.vectors import HAS_BYTE_DOTS, HAS_SHORT_DOTS, LANES, fma, greatest, least, splat, total

Rows: TypeAlias = NDArray[np.floating[Any]]
Float32s: TypeAlias = NDArray[np.float32]
Float64s: TypeAlias = NDArray[np.float64]
Int64s: TypeAlias = NDArray[np.int64]
Empty: TypeAlias = Callable[[tuple[int, ...], Any], NDArray[Any]]  # makes room: shape, dtype -> array

BYTES, SHORTS, FLOATS = 0, 1, 2  # levels of precision, coarse to fine
QUAD_BYTES = 16  # codes are read 4 words at a time, so rows are padded to that
ROOM_OF_SHORTS = 4.0  # int16 has digits to spare: it holds values so many times larger without clipping
ZERO_BYTE = 128  # uint8 codes are stored with this added
FEW_FEATURES = 16  # 1M x 16, k = 20: 20 iterations take 15 % less in int16 from the start
RUN = 1024  # rows surveyed and encoded at a time: they stay in the L2 cache
INNER_QUANTILE = 0.999  # share of the values that codes hold without clipping
MAX_EXPONENT = {np.dtype(np.float32): 100, np.dtype(np.float64): 440}  # of the factor; beyond it squares may overflow
SLACK = np.float32(2.0**-21)  # float32 roundings of one value on its way through: 8 of 2^-24


class Frame(NamedTuple):
    """How rows of one dtype are brought to about 1, and into codes."""

    shift: Rows  # (n_features,), of the rows' dtype
    factor: np.floating[Any]  # a power of two, of the rows' dtype
    rate: np.float32  # codes per unit of y
    limit: np.float32  # largest code
    sound: bool  # whether the definition itself can neither overflow nor underflow


class Coded(NamedTuple):
    """Rows made ready for screening. With no rows in it, they are encoded whenever they are looked at."""

    codes: NDArray[Any]  # (n_rows, padded)
    errors: Float32s  # (n_rows,)
    norms: Float32s  # (n_rows,)


def empty_coded(n_rows: int, n_features: int, level: int, empty: Empty = np.empty) -> Coded:
    """Return room for `n_rows` rows; at level FLOATS, where codes would be as large as rows, for none."""
    room = 0 if level == FLOATS else n_rows
    codes = empty_codes(room, n_features, level, empty)
    return Coded(codes, empty((room,), np.float32), empty((room,), np.float32))


def lowest_level(n_features: int) -> int:
    """Return the coarsest precision that pays on this host.

    With few features ranking takes most of the time, and products in int16 cost little more than those in bytes.
    """
    if HAS_BYTE_DOTS and n_features > FEW_FEATURES:
        return BYTES
    return SHORTS if HAS_SHORT_DOTS else FLOATS


def frame_of(sample: Rows, level: int) -> Frame:
    """Choose a frame from some rows (n_sampled, n_features)."""
    wide = sample.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        shift = wide.mean(axis=0)
        shift = np.where(np.isfinite(shift), shift, 0.0).astype(sample.dtype)
        size = np.abs(wide - shift)
        reach = float(np.quantile(size, INNER_QUANTILE)) or float(size.max()) or 1.0
    limits = MAX_EXPONENT[sample.dtype]
    exponent = -int(np.frexp(reach)[1]) if np.isfinite(reach) else 0
    sound = bool(np.isfinite(reach)) and abs(exponent) <= limits
    exponent = min(max(exponent, -limits), limits)
    limit = _largest_code(sample.shape[1], level)
    room = 1.0 if level == BYTES else ROOM_OF_SHORTS
    rate = limit / room / min(max(float(np.ldexp(reach, exponent)), 0.25), 1.0)
    return Frame(shift, sample.dtype.type(2.0**exponent), np.float32(rate), np.float32(limit), sound)


def _largest_code(n_features: int, level: int) -> float:
    """Return the largest code: with int16, sums of n_features products must stay below 2^30."""
    if level == BYTES:
        return 127.0
    return float(int(min(2.0**13, (2.0**29 / n_features) ** 0.5)))


def empty_codes(n_rows: int, n_features: int, level: int, empty: Empty = np.empty) -> NDArray[Any]:
    """Return room for the codes of rows."""
    dtype = np.dtype([np.uint8, np.int16, np.float32][level])
    quad = QUAD_BYTES // dtype.itemsize
    return empty((n_rows, -(-n_features // quad) * quad), dtype)


@numba.njit(nogil=True, cache=True)
def encode(
    X: Rows, rows: Int64s, count: int, frame: Frame, codes: NDArray[Any], errors: Float32s, norms: Float32s
) -> None:
    """Write codes, errors and norms of rows[:count] to 0…count, at the level that the dtype of codes says.

    Arrays are C-contiguous. Features lie in the SIMD lanes; those beyond hold 0, which rows are padded with. That is
    written here and not when room is made: fresh pages make who touches them first wait, and threads do so together.

    At level FLOATS a code is y itself in float32, and errors holds ||y||^2: see Bound in quantized_centers.py.
    """
    n_features, width = X.shape[1], codes.shape[1]
    spread = np.float32(1.0) + np.float32(2 * n_features + 16) * np.float32(2.0**-24)
    zero = np.int32(ZERO_BYTE if codes.itemsize == 1 else 0)
    rate, step = splat(frame.rate), splat(-(np.float32(1.0) / frame.rate))
    high, low = splat(frame.limit), splat(-frame.limit)
    for p in range(count):
        first = rows[p] * n_features
        sizes, misses = splat(np.float32(0.0)), splat(np.float32(0.0))
        for t in range(0, width, LANES):
            y = differences(X, first + t, frame.shift, t, n_features - t, frame.factor)
            sizes = fma(y, y, sizes)
            if codes.itemsize == 4:
                store_values(codes, p * width + t, y, width - t)
            else:
                code = nearest(least(greatest(y * rate, low), high))
                rest = fma(code, step, y)
                misses = fma(rest, rest, misses)
                store_codes(codes, p * width + t, code, zero, width - t)
        size = total(sizes)
        if codes.itemsize == 4:
            errors[p] = size * spread
            norms[p] = np.sqrt(size) * spread
        else:
            size = np.sqrt(size) * spread
            missed = np.sqrt(total(misses)) * spread + SLACK * size
            errors[p] = missed
            norms[p] = size + missed


@numba.njit(nogil=True, cache=True)
def widen(X: Rows, weights: Float64s, low: Rows, high: Rows) -> bool:
    """Lower low and raise high (n_features,) to the values of rows of some weight; return whether all is finite."""
    n_rows, n_features, weighted, finite = X.shape[0], X.shape[1], weights.shape[0] > 0, True
    spoiled = np.zeros(LANES, X.dtype)
    for t in range(0, n_features, LANES):
        some = n_features - t
        lowest, highest = values(low, t, some), values(high, t, some)
        poison = values(spoiled, 0, 0)
        for i in range(n_rows):
            x = values(X, i * n_features + t, some)
            poison = poisoned(poison, x)
            if not weighted or weights[i] > 0:
                lowest, highest = least(x, lowest), greatest(highest, x)
        store_values(low, t, lowest, some)
        store_values(high, t, highest, some)
        store_values(spoiled, 0, poison, LANES)
        for lane in range(LANES):
            finite &= spoiled[lane] == 0
            spoiled[lane] = 0
    return finite


@numba.njit(nogil=True, cache=True)
def survey(X: Rows, weights: Float64s, frame: Frame, coded: Coded, low: Rows, high: Rows) -> bool:
    """Widen low and high, and encode every row, in one reading of X; return whether all is finite."""
    finite = True
    numbers = np.empty(RUN, np.int64)
    for p in range(RUN):
        numbers[p] = p
    for start in range(0, X.shape[0], RUN):
        stop = min(start + RUN, X.shape[0])
        finite &= widen(X[start:stop], weights[start:stop], low, high)
        if coded.codes.shape[0] > 0:
            encode(
                X[start:stop], numbers, stop - start, frame,
                coded.codes[start:stop], coded.errors[start:stop], coded.norms[start:stop],
            )  # fmt: skip
    return finite
