"""Quantize the centers, and bound the error of the scores that rank them.

    centers (n_clusters, n_features), a RowQuantizer, a level of precision -> QuantizedCenters

The score of center c_j for a row y is a lower bound of S_j = ||c_j||^2 / 2 - y.c_j: ||y||^2 is the same for every
center and left out. From quantized values q of the row and p_j of the center, with their steps, it is

    offset_j + step_j (row_step (q . -p_j) - row_term)

where step_j row_term is what the quantization of both can make the product too large. Only the score of the best center
is then compared with a bound, that of its own error: a far center widens nobody else's. At level FLOAT32 scores are
plain sums of products, and offsets are lowered instead.
tiled_scores.py computes the scores; certify.py and refine.py say what they prove.
Bounds: decisions/0058-heavy-tails.md.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

from engine.kernels.cpu.jit_options import INNER
from engine.kernels.cpu.kmeans.quantize import (
    FLOAT32,
    PADDING_BYTES,
    UINT8_ZERO,
    Float32s,
    Float64s,
    RowQuantizer,
    Rows,
)
from engine.kernels.cpu.simd.vectors import LANES

TILE_CENTERS = 6  # centers of a tile: 12 accumulators, 2 vectors of rows and a broadcast fill 15 registers
BLOCK_CENTERS = 2 * TILE_CENTERS  # centers of a block: they lie in the lanes of BLOCK_VECTORS vectors, for one row
BLOCK_VECTORS = -(-BLOCK_CENTERS // LANES)
BLOCK_LANES = BLOCK_VECTORS * LANES  # centers of a block and padding
PADDING_SCORE = np.float32(1e30)  # the score of a padding center, larger than all others
UNDERFLOW = np.float32(1e-30)  # rows are about 1 in size: what underflows below this decides nothing
MIN_STEP = 1e-12  # of the quantization of centers; the values of rows are about 1
COMPARISON_ROUNDING = 2.0**-22  # of a difference of two scores, relative to them: more than its roundings, 2^-24 each
STEP_ROUNDING = 2.0**-20  # relative to norms of row and center: more than the float32 roundings of a score, 2^-24 each
SLACK = 1.0001  # of coefficients that are rounded to float32, and multiplied in it
MAX_NORM = 1e12  # of a center, where the values of rows are about 1: beyond it labels come from the definition alone

Int32s: TypeAlias = NDArray[np.int32]
Int64s: TypeAlias = NDArray[np.int64]
Sums: TypeAlias = NDArray[Any]  # int32, or float32 at level FLOAT32


class ErrorBound(NamedTuple):
    """Coefficients of the bound of a score's error: the exact score of center j is at most that much larger.

    The bound is errors (per_error + per_error_size sizes_j) + constant + (norms per_norm_size + per_size) sizes_j
    + per_score |scores|, with `errors` and `norms` of the row and `sizes` of QuantizedCenters.
    """

    per_error: np.float32
    per_error_size: np.float32
    per_norm_size: np.float32
    constant: np.float32
    per_size: np.float32
    per_score: np.float32


class RowTerm(NamedTuple):
    """Coefficients of the row_term by which scores are lowered: errors per_error + norms per_norm, of the row."""

    per_error: np.float32
    per_norm: np.float32


class QuantizedCenters(NamedTuple):
    """Centers, exact and quantized, in the layouts that the package docstring explains."""

    columns: Float64s  # (n_features, n_clusters): the exact centers, as the definition reads them
    exact: Float64s  # (n_clusters, n_features): the exact centers, one a row
    original: Rows  # (n_clusters, n_features): the centers in the rows' dtype
    n_in_tiles: int  # centers in whole tiles; the padded clusters below are whole blocks
    tile_words: Int32s  # flat [tile][word][TILE_CENTERS]: quantized -c, for rows in the lanes
    center_words: Int32s  # flat [center][word], padded as rows are: quantized -c, to be gathered
    sums: Sums  # (padded clusters,): where sums of products begin
    steps: Float32s  # (padded clusters,): the quantization steps; 0 where scores are padding
    offsets: Float32s  # (padded clusters,): ||c||^2 / 2, rounded down
    block_words: Int32s  # flat [block][vector][word][LANES]: quantized -c, for centers in the lanes
    block_sums: Sums  # flat [block][BLOCK_LANES]: sums, steps and offsets for centers in the lanes
    block_steps: Float32s
    block_offsets: Float32s
    sizes: Float32s  # (padded clusters,): the sizes_j of ErrorBound; infinite where nothing can be certified
    error_bound: ErrorBound
    row_term: RowTerm
    factor: np.floating[Any]  # units of y per unit of X, of the rows' dtype


def quantize_centers(centers: Rows, quantizer: RowQuantizer, level: int) -> QuantizedCenters:
    """Quantize centers (n_clusters, n_features), to rank them for rows that `quantizer` has quantized."""
    n_clusters, n_features = centers.shape
    n_blocks, error = -(-n_clusters // BLOCK_CENTERS), _relative_error(n_features)
    dtype: Any = (np.int8, np.int16, np.float32)[level]
    of_sums: Any = np.float32 if level == FLOAT32 else np.int32
    values = np.zeros((n_blocks * BLOCK_CENTERS, _padded_width(n_features, PADDING_BYTES, dtype)), dtype)
    width = _padded_width(n_features, 4, dtype) * values.itemsize // 4  # words of a center in tiles and blocks
    columns, exact = np.empty((n_features, n_clusters)), np.empty((n_clusters, n_features))
    sums, steps, offsets, sizes = (
        np.empty(len(values), of_type) for of_type in (of_sums, np.float32, np.float32, np.float32)
    )
    block_sums, block_steps, block_offsets = (
        np.empty(n_blocks * BLOCK_LANES, of_type) for of_type in (of_sums, np.float32, np.float32)
    )
    tile_words, block_words = (
        np.empty(len(values) * width, np.int32),
        np.empty(n_blocks * BLOCK_LANES * width, np.int32),
    )
    reach, per_norm = _quantize(
        centers, quantizer.shift, float(quantizer.factor), float(quantizer.max_value), quantizer.sound, error,
        columns, exact, values, sums, steps, offsets, sizes,
        tile_words, block_words, block_sums, block_steps, block_offsets,
    )  # fmt: skip
    if level == FLOAT32:
        bound = (error, 0.0, 0.0, UNDERFLOW, 2.0 * error, COMPARISON_ROUNDING)
    else:
        bound = (0.0, 2.0, 2.0 * per_norm, UNDERFLOW, 0.0, STEP_ROUNDING)
    return QuantizedCenters(
        columns,
        exact,
        np.ascontiguousarray(centers),
        -(-n_clusters // TILE_CENTERS) * TILE_CENTERS,
        tile_words,
        values[:n_clusters].view(np.int32).ravel(),
        sums,
        steps,
        offsets,
        block_words,
        block_sums,
        block_steps,
        block_offsets,
        sizes,
        ErrorBound(*(np.float32(SLACK * term) for term in bound)),
        RowTerm(np.float32(SLACK * reach), np.float32(SLACK * reach * per_norm)),
        quantizer.factor,
    )


def _padded_width(n_features: int, n_bytes: int, dtype: Any) -> int:
    """Return the number of values of a row that is padded to a multiple of `n_bytes`."""
    multiple = n_bytes // int(np.dtype(dtype).itemsize)
    return -(-n_features // multiple) * multiple


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _quantize(
    centers: Rows, shift: Rows, factor: float, max_value: float, sound: bool, error: float, columns: Float64s,
    exact: Float64s, values: NDArray[Any], sums: Sums, steps: Float32s, offsets: Float32s, sizes: Float32s,
    tile_words: Int32s, block_words: Int32s, block_sums: Sums, block_steps: Float32s, block_offsets: Float32s,
) -> tuple[float, float]:  # fmt: skip
    """Write all arrays of QuantizedCenters but center_words, which are words of `values`; return reach and per_norm.

    In one kernel, because the passes over a few thousand rows take less time than NumPy takes for a few centers.
    """
    n_clusters, n_features = centers.shape
    scaled, norms = np.empty((n_clusters, n_features)), np.empty(n_clusters)
    for j in range(n_clusters):
        square = 0.0
        for t in range(n_features):
            exact[j, t] = columns[t, j] = centers[j, t]
            scaled[j, t] = (exact[j, t] - np.float64(shift[t])) * factor
            square += scaled[j, t] * scaled[j, t]
        norms[j] = math.sqrt(square)
        sound = sound and norms[j] < MAX_NORM
    if not sound:
        scaled[:], norms[:] = 0.0, 0.0
    no_sum = sums.dtype.type(PADDING_SCORE if values.itemsize == 4 else 0.0)
    sums[:] = no_sum
    steps[:], offsets[:], sizes[:] = 0.0, PADDING_SCORE, np.inf
    reach, per_norm = 0.0, 0.0
    if values.itemsize == 4:
        _convert_to_floats(scaled, norms, error, values, sums, steps, offsets, sizes)
    else:
        reach, per_norm = _quantize_to_integers(scaled, norms, max_value, values, sums, steps, offsets, sizes)
    if not sound:
        sizes[:] = np.inf
    _lay_out(
        values.view(np.int32),
        no_sum,
        sums,
        steps,
        offsets,
        tile_words,
        block_words,
        block_sums,
        block_steps,
        block_offsets,
    )
    return reach, per_norm


@numba.njit(**INNER)
def _quantize_to_integers(
    scaled: Float64s, norms: Float64s, max_value: float, values: NDArray[Any], sums: Sums, steps: Float32s,
    offsets: Float32s, sizes: Float32s,
) -> tuple[float, float]:  # fmt: skip
    """Quantize centers to int8 or int16, every center with a step of its own.

    A step is at least 1 / `reach` of the norm, so steps bound norms, and one number a center serves for both. Most
    centers have the step that this asks for; the largest value of the others needs a larger one.
    """
    n_clusters, n_features = scaled.shape
    largest, spread, n_spread = np.zeros(n_clusters), np.empty(n_clusters), 0
    for j in range(n_clusters):
        for t in range(n_features):
            largest[j] = max(largest[j], abs(scaled[j, t]))
        norms[j] = max(norms[j], largest[j])  # where squares underflow
        if largest[j] > 0.0:
            spread[n_spread] = norms[j] / largest[j]
            n_spread += 1
    reach = max_value * (np.median(spread[:n_spread]) if n_spread > 0 else 1.0)
    if (
        values.itemsize == 2
    ):  # no sum of products is to reach 2^31: norms of rows are at most max_value sqrt(n_features)
        root = math.sqrt(n_features)
        reach = min(reach, (2.0**31 - 1.0) / (max_value * root) - 0.5 * root - 1.0)
    error_share = 0.0
    for j in range(n_clusters):
        least_step = np.float32(max(norms[j] / reach, largest[j] / max_value, MIN_STEP))
        steps[j] = np.nextafter(least_step, np.float32(np.inf))
        step, total, square = np.float64(steps[j]), 0.0, 0.0
        for t in range(n_features):
            value = np.rint(scaled[j, t] / step)
            values[j, t] = -value
            total += value
            lost = scaled[j, t] - value * step
            square += lost * lost
        error_share = max(error_share, math.sqrt(square) / (reach * step))
        sums[j] = UINT8_ZERO * total if values.itemsize == 1 else 0.0  # rows of bytes are stored with UINT8_ZERO added
        offsets[j] = 0.5 * norms[j] * norms[j] * (1.0 - STEP_ROUNDING)
        sizes[j] = reach * SLACK * step
    return reach, error_share + STEP_ROUNDING


@numba.njit(**INNER)
def _convert_to_floats(
    scaled: Float64s, norms: Float64s, error: float, values: NDArray[Any], sums: Sums, steps: Float32s,
    offsets: Float32s, sizes: Float32s,
) -> None:  # fmt: skip
    """Round centers to float32.

    Their offsets are lowered by the error of their own scores, so that a far center does not widen the bound of others.
    """
    for j in range(scaled.shape[0]):
        square = norms[j] * norms[j]
        for t in range(scaled.shape[1]):
            values[j, t] = -scaled[j, t]
        steps[j], sizes[j], offsets[j] = 1.0, square, 0.5 * square - error * square
        sums[j] = offsets[j]


@numba.njit(**INNER)
def _lay_out(
    words: Int32s, no_sum: Any, sums: Sums, steps: Float32s, offsets: Float32s, tile_words: Int32s, block_words: Int32s,
    block_sums: Sums, block_steps: Float32s, block_offsets: Float32s,
) -> None:  # fmt: skip
    """Write words (padded clusters, words) and what belongs to them in the layouts of tiles and of blocks."""
    n_centers = words.shape[0]
    width = tile_words.shape[0] // n_centers
    for j in range(n_centers):
        first = j // TILE_CENTERS * width * TILE_CENTERS + j % TILE_CENTERS
        for word in range(width):
            tile_words[first + word * TILE_CENTERS] = words[j, word]
    for lane in range(block_sums.shape[0]):
        block, place = lane // BLOCK_LANES, lane % BLOCK_LANES
        first = lane // LANES * width * LANES + lane % LANES
        if place < BLOCK_CENTERS:
            j = block * BLOCK_CENTERS + place
            block_sums[lane], block_steps[lane], block_offsets[lane] = sums[j], steps[j], offsets[j]
            for word in range(width):
                block_words[first + word * LANES] = words[j, word]
        else:
            block_sums[lane] = no_sum
            block_steps[lane], block_offsets[lane] = 0.0, PADDING_SCORE
            for word in range(width):
                block_words[first + word * LANES] = 0


def _relative_error(n_features: int) -> float:
    """Return e such that the error of a float32 score is at most e (||c||^2 + ||y||^2 / 2)."""
    operations = (n_features + 8) * 2.0**-24
    return 1.02 * operations / (1.0 - operations) ** 2 if operations < 0.25 else np.inf
