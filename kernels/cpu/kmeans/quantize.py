"""Scalar quantization of rows to uint8 or int16, with an upper bound of every row's quantization error.

    X (n_rows, n_features) -> values (n_rows, padded) uint8 or int16, steps, errors, norms (n_rows,) float32

A row x is first scaled to y = (x - shift) * factor, whose values are about 1. Every row has a step of its own, with
which its largest value becomes max_value: q = round(y / step), and q * step approximates y. So rows far out, as heavy
tails have them, take no digits from the others. `errors` bounds ||y - q * step|| from above, rounding included, and
`norms` bounds both ||y|| and ||q * step||. So a poor choice of shift or factor costs time and never changes a label.
The proof: decisions/0058-heavy-tails.md. Centers are quantized in quantized_centers.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

from engine.kernels.cpu.jit_options import INNER
from engine.kernels.cpu.simd.quantized import (
    load_differences,
    load_first,
    propagate_nonfinite,
    rint,
    store_first,
    store_quantized,
)
from engine.kernels.cpu.simd.vectors import (
    HAS_INT8_DOT,
    HAS_INT16_DOT,
    LANES,
    broadcast,
    fma,
    invert_mask,
    less,
    load,
    maximum,
    minimum,
    reduce_max,
    reduce_sum,
    select,
    splat,
    sqrt,
    store,
)

Rows: TypeAlias = NDArray[np.floating[Any]]
Float32s: TypeAlias = NDArray[np.float32]
Float64s: TypeAlias = NDArray[np.float64]
Int64s: TypeAlias = NDArray[np.int64]
Allocate: TypeAlias = Callable[[tuple[int, ...], Any], NDArray[Any]]  # shape, dtype -> array, as numpy.empty

INT8, INT16, FLOAT32 = 0, 1, 2  # levels of precision, coarse to fine
PADDING_BYTES = 16  # rows are padded to multiples of it: their values are read 4 words of 4 bytes at a time
UINT8_ZERO = 128  # stored uint8 values have this added, so that a stored value of 128 means 0
FEW_FEATURES = 16  # 1M x 16, k = 20: 20 iterations take 15 % less in int16 from the start
MAX_INT8_FEATURES = 1 << 16  # sums of so many products of int8 stay below 2^31
QUANTIZE_ROWS = 1024  # rows ranged and quantized at a time: they stay in the L2 cache
INNER_QUANTILE = 0.999  # of the sample's values: it becomes a number between 0.5 and 1
# Largest values of rows, in units of y, for which steps are those of the row: beyond them floats overflow or underflow.
MIN_LARGEST, MAX_LARGEST = np.float32(1e-12), np.float32(1e15)
# Largest absolute exponent of the factor, a power of two: beyond it squares may overflow.
MAX_EXPONENT = {np.dtype(np.float32): 100, np.dtype(np.float64): 440}
ROUNDING_ERROR = np.float32(2.0**-21)  # of one value, relative: 8 float32 roundings of 2^-24 each
LOST_ERROR = np.float32(1e-15)  # of a row, in units of y: more than all its values whose squares underflow


class RowQuantizer(NamedTuple):
    """Parameters that scale rows of one dtype to values of about 1, and quantize those."""

    shift: Rows  # (n_features,), of the rows' dtype
    factor: np.floating[Any]  # a power of two, of the rows' dtype
    max_value: np.float32  # largest quantized value
    sound: bool  # whether squared distances as distance.py defines them can neither overflow nor underflow


class QuantizedRows(NamedTuple):
    """Quantized rows with their steps, and with bounds of their errors and norms.

    Where it holds no rows, rows are quantized on the fly, whenever they are filtered.
    """

    values: NDArray[Any]  # (n_rows, padded)
    steps: Float32s  # (n_rows,): not used at level FLOAT32
    errors: Float32s  # (n_rows,)
    norms: Float32s  # (n_rows,)


def allocate_quantized_rows(n_rows: int, n_features: int, level: int, allocate: Allocate = np.empty) -> QuantizedRows:
    """Allocate arrays for `n_rows` rows; for none at level FLOAT32, where they would be as large as the rows."""
    n_stored = 0 if level == FLOAT32 else n_rows
    values = allocate_values(n_stored, n_features, level, allocate)
    return QuantizedRows(values, *(allocate((n_stored,), np.float32) for _ in range(3)))


def coarsest_level(n_features: int) -> int:
    """Return the coarsest level of precision that saves time on this host.

    With few features, ranking takes most of the time, and int16 products cost little more than those of bytes.
    """
    if HAS_INT8_DOT and FEW_FEATURES < n_features <= MAX_INT8_FEATURES:
        return INT8
    return INT16 if HAS_INT16_DOT else FLOAT32


def fit_quantizer(sample: Rows, level: int) -> RowQuantizer:
    """Choose the parameters of quantization from a sample of rows (n_sampled, n_features)."""
    wide = sample.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        shift = wide.mean(axis=0)
        shift = np.where(np.isfinite(shift), shift, 0.0).astype(sample.dtype)
        size = np.abs(wide - shift)
        reach = float(np.quantile(size, INNER_QUANTILE)) or float(size.max()) or 1.0
    max_exponent = MAX_EXPONENT[sample.dtype]
    exponent = -int(np.frexp(reach)[1]) if np.isfinite(reach) else 0
    sound = bool(np.isfinite(reach)) and abs(exponent) <= max_exponent
    exponent = min(max(exponent, -max_exponent), max_exponent)
    max_value = np.float32(_max_value(sample.shape[1], level))
    return RowQuantizer(shift, sample.dtype.type(2.0**exponent), max_value, sound)


def _max_value(n_features: int, level: int) -> float:
    """Return the largest quantized value of rows and centers.

    With int16, sums of n_features products stay below 2^31 if the values of a center have a norm of at most half of
    max_value sqrt(n_features): see quantized_centers.py.
    """
    if level == INT8:
        return 127.0
    return float(int(min(2.0**14 - 1.0, (2.0**32 / n_features) ** 0.5)))


def allocate_values(n_rows: int, n_features: int, level: int, allocate: Allocate = np.empty) -> NDArray[Any]:
    """Allocate an array for quantized values, in the dtype of the level and padded to PADDING_BYTES a row."""
    dtype = np.dtype([np.uint8, np.int16, np.float32][level])
    quad = PADDING_BYTES // dtype.itemsize
    return allocate((n_rows, -(-n_features // quad) * quad), dtype)


@numba.njit(nogil=True, cache=True)
def quantize_rows(
    X: Rows,
    rows: Int64s,
    count: int,
    quantizer: RowQuantizer,
    values: NDArray[Any],
    steps: Float32s,
    errors: Float32s,
    norms: Float32s,
) -> None:
    """Quantize rows[:count]: write values, steps, errors and norms at indices 0…count, in the dtype of `values`.

    Arrays are C-contiguous. Features lie in the SIMD lanes; lanes beyond the last feature hold 0, the padding of a row.
    The padding is written here and not on allocation: the first write to a page of memory is slow, and here several
    threads share that work.

    At level FLOAT32 the values are y itself, and `errors` holds ||y||^2: see ErrorBound in quantized_centers.py. Rows
    that no step fits, because they are too large, have infinite errors and a step of 0: nothing is proven about them.
    """
    n_features, width, spread = X.shape[1], values.shape[1], _spread(X.shape[1])
    if values.itemsize != 4:
        _quantize_to_integers(X, rows, count, quantizer, values, steps, errors, norms)
        return
    for p in range(count):
        first, squares = rows[p] * n_features, splat(np.float32(0.0))
        for t in range(0, width, LANES):
            y = load_differences(X, first + t, quantizer.shift, t, n_features - t, quantizer.factor)
            squares = fma(y, y, squares)
            store_first(values, p * width + t, y, width - t)
        size = reduce_sum(squares)
        steps[p], errors[p], norms[p] = np.float32(1.0), size * spread, np.sqrt(size) * spread


@numba.njit(**INNER)
def _spread(n_features: int) -> np.float32:
    """Return what a sum of n_features squares, or its root, is multiplied by to be an upper bound in float32."""
    return np.float32(1.0) + np.float32(2 * n_features + 16) * np.float32(2.0**-24)


@numba.njit(**INNER)
def _quantize_to_integers(
    X: Rows,
    rows: Int64s,
    count: int,
    quantizer: RowQuantizer,
    values: NDArray[Any],
    steps: Float32s,
    errors: Float32s,
    norms: Float32s,
) -> None:
    """Quantize rows[:count] to uint8 or int16; divisions and roots are those of LANES rows at once."""
    n_features, width, spread = X.shape[1], values.shape[1], splat(_spread(X.shape[1]))
    zero = np.int32(UINT8_ZERO if values.itemsize == 1 else 0)
    high, low, zeros = splat(quantizer.max_value), splat(-quantizer.max_value), splat(np.float32(0.0))
    largest, per_unit, row_steps = np.zeros(LANES, np.float32), np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    squared_sizes, squared_errors = np.zeros(LANES, np.float32), np.zeros(LANES, np.float32)
    for start in range(0, count, LANES):
        n_rows = min(LANES, count - start)
        for lane in range(n_rows):
            first, sizes = rows[start + lane] * n_features, zeros
            for t in range(0, n_features, LANES):
                y = load_differences(X, first + t, quantizer.shift, t, n_features - t, quantizer.factor)
                sizes = maximum(sizes, maximum(y, zeros - y))
            largest[lane] = reduce_max(sizes)
        size = load(largest, 0)
        fits = invert_mask(less(splat(MAX_LARGEST), size))
        steps_per_unit = select(fits, high / maximum(size, splat(MIN_LARGEST)), zeros)
        step = select(fits, splat(np.float32(1.0)) / steps_per_unit, zeros)
        store(per_unit, 0, steps_per_unit)
        store(row_steps, 0, step)
        for lane in range(n_rows):
            first, squares, rests = rows[start + lane] * n_features, zeros, zeros
            units, minus_step = broadcast(per_unit, lane), splat(-row_steps[lane])
            for t in range(0, width, LANES):
                y = load_differences(X, first + t, quantizer.shift, t, n_features - t, quantizer.factor)
                squares = fma(y, y, squares)
                quantized = rint(minimum(maximum(y * units, low), high))
                rest = fma(quantized, minus_step, y)
                rests = fma(rest, rest, rests)
                store_quantized(values, (start + lane) * width + t, quantized, zero, width - t)
            squared_sizes[lane], squared_errors[lane] = reduce_sum(squares), reduce_sum(rests)
        norm = sqrt(load(squared_sizes, 0)) * spread
        error = sqrt(load(squared_errors, 0)) * spread + splat(ROUNDING_ERROR) * norm + splat(LOST_ERROR)
        store_first(steps, start, step, n_rows)
        store_first(errors, start, select(fits, error, splat(np.float32(np.inf))), n_rows)
        store_first(norms, start, norm + error, n_rows)


@numba.njit(nogil=True, cache=True)
def update_range(X: Rows, weights: Float64s, low: Rows, high: Rows) -> bool:
    """Widen the range low…high (n_features,) to hold all rows whose weight is not 0.

    Returns whether all values of X are finite, those of rows without weight included.
    """
    n_rows, n_features, weighted, finite = X.shape[0], X.shape[1], weights.shape[0] > 0, True
    poison_lanes = np.zeros(LANES, X.dtype)
    for t in range(0, n_features, LANES):
        n_left = n_features - t
        lowest, highest = load_first(low, t, n_left), load_first(high, t, n_left)
        poison = load_first(poison_lanes, 0, 0)
        for i in range(n_rows):
            x = load_first(X, i * n_features + t, n_left)
            poison = propagate_nonfinite(poison, x)
            if not weighted or weights[i] > 0:
                lowest, highest = minimum(x, lowest), maximum(highest, x)
        store_first(low, t, lowest, n_left)
        store_first(high, t, highest, n_left)
        store_first(poison_lanes, 0, poison, LANES)
        for lane in range(LANES):
            finite &= poison_lanes[lane] == 0
            poison_lanes[lane] = 0
    return finite


@numba.njit(nogil=True, cache=True)
def quantize_and_range(
    X: Rows, weights: Float64s, quantizer: RowQuantizer, rows: QuantizedRows, low: Rows, high: Rows
) -> bool:
    """Update the range of every feature and quantize every row, reading X once; return whether all is finite."""
    finite = True
    row_indices = np.empty(QUANTIZE_ROWS, np.int64)
    for p in range(QUANTIZE_ROWS):
        row_indices[p] = p
    for start in range(0, X.shape[0], QUANTIZE_ROWS):
        stop = min(start + QUANTIZE_ROWS, X.shape[0])
        finite &= update_range(X[start:stop], weights[start:stop], low, high)
        if rows.values.shape[0] > 0:
            quantize_rows(
                X[start:stop], row_indices, stop - start, quantizer,
                rows.values[start:stop], rows.steps[start:stop], rows.errors[start:stop], rows.norms[start:stop],
            )  # fmt: skip
    return finite
