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

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from engine.kernels.cpu.kmeans.quantize import (
    FLOAT32,
    INT8,
    INT16,
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
    exact = centers.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = (exact - quantizer.shift.astype(np.float64)) * float(quantizer.factor)
        norms = np.sqrt(np.square(scaled).sum(axis=1))
    sound = bool(quantizer.sound and norms.max() < MAX_NORM)
    if not sound:
        scaled, norms = np.zeros_like(scaled), np.zeros_like(norms)
    if level == FLOAT32:
        quantized = _convert_to_floats(scaled, norms)
    else:
        quantized = _quantize_to_integers(scaled, norms, float(quantizer.max_value), level)
    n_in_blocks = -(-len(exact) // BLOCK_CENTERS) * BLOCK_CENTERS

    def padded(values: NDArray[Any], filler: Any) -> Any:
        missing = np.full((n_in_blocks - len(values), *values.shape[1:]), filler, values.dtype)
        return np.concatenate([values, missing])

    def in_lanes(values: NDArray[Any], filler: Any) -> Any:
        blocks = values.reshape(-1, BLOCK_CENTERS, *values.shape[1:])
        missing = np.full((len(blocks), BLOCK_LANES - BLOCK_CENTERS, *values.shape[1:]), filler, values.dtype)
        return np.concatenate([blocks, missing], axis=1).reshape(-1, *values.shape[1:])

    no_sum = PADDING_SCORE if level == FLOAT32 else 0
    values, sums = padded(quantized.values, 0), padded(quantized.sums, no_sum)
    steps, offsets = padded(quantized.steps, 0.0), padded(quantized.offsets, PADDING_SCORE)
    quad = PADDING_BYTES // values.itemsize
    return QuantizedCenters(
        np.ascontiguousarray(exact.T),
        exact,
        np.ascontiguousarray(centers),
        -(-len(exact) // TILE_CENTERS) * TILE_CENTERS,
        _interleave(values, TILE_CENTERS, quad // 4),
        _interleave(quantized.values, 1, quad),
        sums,
        steps,
        offsets,
        _interleave(in_lanes(values, 0), LANES, quad // 4),
        in_lanes(sums, no_sum),
        in_lanes(steps, 0.0),
        in_lanes(offsets, PADDING_SCORE),
        padded(quantized.sizes if sound else np.full(len(exact), np.inf, np.float32), np.inf),
        quantized.error_bound,
        quantized.row_term,
        quantizer.factor,
    )


class _QuantizedValues(NamedTuple):
    """Quantized values of -c, and what makes scores of them: see QuantizedCenters."""

    values: NDArray[Any]
    sums: Sums
    steps: Float32s
    offsets: Float32s
    sizes: Float32s
    error_bound: ErrorBound
    row_term: RowTerm


def _quantize_to_integers(scaled: Float64s, norms: Float64s, max_value: float, level: int) -> _QuantizedValues:
    """Quantize centers to int8 or int16, every center with a step of its own.

    A step is at least 1 / `reach` of the norm, so steps bound norms, and one number a center serves for both. Most
    centers have the step that this asks for; the largest value of the others needs a larger one.
    """
    n_features = scaled.shape[1]
    largest = np.abs(scaled).max(axis=1)
    norms = np.maximum(norms, largest)  # where squares underflow
    spread = norms[largest > 0] / largest[largest > 0]
    reach = max_value * (float(np.median(spread)) if len(spread) else 1.0)
    if level == INT16:  # no sum of products is to reach 2^31: norms of rows are at most max_value sqrt(n_features)
        reach = min(reach, (2.0**31 - 1.0) / (max_value * n_features**0.5) - 0.5 * n_features**0.5 - 1.0)
    steps = np.nextafter(
        np.maximum(np.maximum(norms / reach, largest / max_value), MIN_STEP).astype(np.float32), np.float32(np.inf)
    )
    exact_steps = steps.astype(np.float64)
    values: Float64s = np.rint(scaled / exact_steps[:, None])
    center_errors = np.sqrt(np.square(scaled - values * exact_steps[:, None]).sum(axis=1))
    error_share = float((center_errors / (reach * exact_steps)).max())
    per_norm = error_share + STEP_ROUNDING
    terms = (0.0, 2.0, 2.0 * per_norm, UNDERFLOW, 0.0, STEP_ROUNDING)
    sums = np.zeros(len(scaled), np.int32)
    if level == INT8:  # rows are stored with UINT8_ZERO added
        sums += (UINT8_ZERO * values.sum(axis=1)).astype(np.int32)
    return _QuantizedValues(
        (-values).astype(np.int8 if level == INT8 else np.int16),
        sums,
        steps,
        (0.5 * np.square(norms) * (1.0 - STEP_ROUNDING)).astype(np.float32),
        (reach * SLACK * exact_steps).astype(np.float32),
        ErrorBound(*(np.float32(SLACK * term) for term in terms)),
        RowTerm(np.float32(SLACK * reach), np.float32(SLACK * reach * per_norm)),
    )


def _convert_to_floats(scaled: Float64s, norms: Float64s) -> _QuantizedValues:
    """Round centers to float32.

    Their offsets are lowered by the error of their own scores, so that a far center does not widen the bound of others.
    """
    error = _relative_error(scaled.shape[1])
    squares = np.square(norms)
    terms = (error, 0.0, 0.0, UNDERFLOW, 2.0 * error, COMPARISON_ROUNDING)
    offsets = (0.5 * squares - error * squares).astype(np.float32)
    return _QuantizedValues(
        -scaled.astype(np.float32),
        offsets,
        np.ones(len(scaled), np.float32),
        offsets,
        squares.astype(np.float32),
        ErrorBound(*(np.float32(SLACK * term) for term in terms)),
        RowTerm(np.float32(0.0), np.float32(0.0)),
    )


def _relative_error(n_features: int) -> float:
    """Return e such that the error of a float32 score is at most e (||c||^2 + ||y||^2 / 2)."""
    operations = (n_features + 8) * 2.0**-24
    return 1.02 * operations / (1.0 - operations) ** 2 if operations < 0.25 else np.inf


def _interleave(values: NDArray[Any], group: int, multiple: int) -> Int32s:
    """Return the values as words, in the layout [group of centers][word][center of the group].

    Rows are padded with zeros to a multiple of `multiple` values. There are whole groups.
    """
    padded = np.zeros((len(values), -(-values.shape[1] // multiple) * multiple), values.dtype)
    padded[:, : values.shape[1]] = values
    words = padded.view(np.int32)
    return np.ascontiguousarray(words.reshape(-1, group, words.shape[1]).transpose(0, 2, 1)).ravel()
