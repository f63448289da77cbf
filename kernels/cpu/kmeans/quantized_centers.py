"""Quantize the centers, and bound the error of the scores that rank them.

    centers (n_clusters, n_features), a RowQuantizer, a level of precision -> QuantizedCenters

The score of center c_j for a row y is S_j = ||c_j||^2 / 2 - y.c_j: ||y||^2 is the same for every center and left out.
tiled_scores.py computes the scores; certify.py and refine.py say what they prove. Bounds: decisions/0005-screening.md.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from engine.kernels.cpu.kmeans.quantize import (
    FLOAT32,
    INT8,
    PADDING_BYTES,
    UINT8_ZERO,
    Float32s,
    Float64s,
    RowQuantizer,
    Rows,
)
from engine.kernels.cpu.simd.vectors import LANES

TILE_CENTERS = 6  # centers of a tile: 12 accumulators, 2 vectors of rows and a broadcast fill 15 registers
CHUNK_CENTERS = 21 * TILE_CENTERS  # centers of a chunk: their indices within it fit into the 7 low bits of a score
BLOCK_CENTERS = 4 * LANES  # centers of a block: scored at a time for a single row
PADDING_SCORE_INT = np.int32(2**30)  # the score of a padding center; true scores stay below half of it
PADDING_SCORE_FLOAT = np.float32(1e30)
UNDERFLOW = np.float32(1e-30)  # rows are about 1 in size: what underflows below this decides nothing
MIN_STEP = 1e-12  # of the quantization of centers; the values of rows are about 1
MAX_NORM = 1e12  # of a center, where the values of rows are about 1: beyond it labels come from the definition alone

Int32s: TypeAlias = NDArray[np.int32]
Int64s: TypeAlias = NDArray[np.int64]
Scores: TypeAlias = NDArray[Any]  # int32, or float32 at level FLOAT32


class ErrorBound(NamedTuple):
    """Coefficients of the error bound of a difference of scores: of the best center j and of any other one.

    The bound is errors (per_error + per_error_size sizes_j) + norms per_norm + constant + per_size sizes_j
    + per_score |scores|, with `errors` and `norms` of the row and `sizes` of QuantizedCenters.
    """

    per_error: np.float32
    per_error_size: np.float32
    per_norm: np.float32
    constant: np.float32
    per_size: np.float32
    per_score: np.float32


class QuantizedCenters(NamedTuple):
    """Centers, exact and quantized, in the layouts that the package docstring explains."""

    columns: Float64s  # (n_features, n_clusters): the exact centers, as the definition reads them
    exact: Float64s  # (n_clusters, n_features): the exact centers, one a row
    original: Rows  # (n_clusters, n_features): the centers in the rows' dtype
    tile_words: Int32s  # flat [tile][word][TILE_CENTERS]: quantized -c, for rows in the lanes
    block_words: Int32s  # flat [block][word][BLOCK_CENTERS]: quantized -c, for centers in the lanes
    center_words: Int32s  # flat [center][word]: quantized -c, to be gathered
    offsets: Scores  # (padded clusters,): ||c||^2 / 2, in units of scores
    padding_score: np.int32 | np.float32  # the score of padding centers, larger than all others
    score_unit: np.float32  # the difference of S that a score of 1 stands for
    score_mask: np.int32  # the bits of a tagged score that hold the score; the others hold the center's index
    sizes: Float32s  # (padded clusters,): the sizes_j of ErrorBound; infinite where nothing can be certified
    max_size: np.float32  # the largest of `sizes`
    error_bound: ErrorBound
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
    n_in_tiles = -(-len(exact) // TILE_CENTERS) * TILE_CENTERS
    tag_bits = (min(n_in_tiles, CHUNK_CENTERS) - 1).bit_length()
    if level == FLOAT32:
        quantized = _convert_to_floats(scaled, norms, tag_bits)
    else:
        quantized = _quantize_to_integers(scaled, norms, tag_bits, quantizer, level)
    n_in_blocks = -(-n_in_tiles // BLOCK_CENTERS) * BLOCK_CENTERS
    padding_score = PADDING_SCORE_FLOAT if level == FLOAT32 else PADDING_SCORE_INT
    offsets = np.full(n_in_blocks, padding_score)
    offsets[: len(exact)] = quantized.offsets
    sizes = np.full(n_in_blocks, np.inf, np.float32)
    if sound:
        sizes[: len(exact)] = quantized.sizes
    return QuantizedCenters(
        np.ascontiguousarray(exact.T),
        exact,
        np.ascontiguousarray(centers),
        _interleave(quantized.values, n_in_tiles, TILE_CENTERS),
        _interleave(quantized.values, n_in_blocks, BLOCK_CENTERS),
        _interleave(quantized.values, len(exact), 1),
        offsets,
        padding_score,
        np.float32(quantized.score_unit),
        np.int32(-(1 << tag_bits)),
        sizes,
        sizes[: len(exact)].max(),
        quantized.error_bound,
        quantizer.factor,
    )


class _QuantizedValues(NamedTuple):
    """Quantized values of -c, and their error bound: see QuantizedCenters and ErrorBound."""

    values: NDArray[Any]
    offsets: NDArray[Any]
    score_unit: float
    sizes: Float64s
    error_bound: ErrorBound


def _quantize_to_integers(
    scaled: Float64s, norms: Float64s, tag_bits: int, quantizer: RowQuantizer, level: int
) -> _QuantizedValues:
    """Quantize centers to int8 or int16.

    Scores then have three sources of error: the quantization of rows, that of centers, and the tags.
    """
    step = max(float(np.abs(scaled).max()) / float(quantizer.max_value), MIN_STEP)
    score_unit = step * float(np.float32(1.0) / quantizer.steps_per_unit)
    values: Float64s = np.rint(scaled / step)
    max_error = float(np.sqrt(np.square(scaled - values * step).sum(axis=1)).max())
    half_squares = 0.5 * np.square(norms) / score_unit
    offsets = np.rint(np.minimum(half_squares, 2.0**29)).astype(np.int32)
    if level == INT8:
        offsets += (UINT8_ZERO * values.sum(axis=1)).astype(np.int32)
    terms = (norms.max(), 1.0, 2.0 * max_error + 1e-12, score_unit * (2.0**tag_bits + 1.0), 0.0, 0.0)
    error_bound = ErrorBound(*(np.float32(1.0001 * term) for term in terms))
    sizes = np.where(half_squares < 2.0**29, norms, np.inf)
    return _QuantizedValues(
        (-values).astype(np.int8 if level == INT8 else np.int16), offsets, score_unit, sizes, error_bound
    )


def _convert_to_floats(scaled: Float64s, norms: Float64s, tag_bits: int) -> _QuantizedValues:
    """Round centers to float32.

    Their offsets are lowered by the error of their own scores, so that a far center does not widen the bound of others.
    """
    error = _relative_error(scaled.shape[1])
    squares = np.square(norms)
    terms = (error, 0.0, 0.0, UNDERFLOW, 2.0 * error, 2.0 ** (tag_bits - 23))
    error_bound = ErrorBound(*(np.float32(1.0001 * term) for term in terms))
    offsets = (0.5 * squares - error * squares).astype(np.float32)
    return _QuantizedValues(-scaled.astype(np.float32), offsets, 1.0, squares, error_bound)


def _relative_error(n_features: int) -> float:
    """Return e such that the error of a float32 score is at most e (||c||^2 + ||y||^2 / 2)."""
    operations = (n_features + 8) * 2.0**-24
    return 1.02 * operations / (1.0 - operations) ** 2 if operations < 0.25 else np.inf


def _interleave(values: NDArray[Any], n_padded: int, group: int) -> Int32s:
    """Return the values as words, in the layout [group of centers][word][center of the group], padded with zeros."""
    quad = PADDING_BYTES // values.itemsize
    padded = np.zeros((n_padded, -(-values.shape[1] // quad) * quad), values.dtype)
    padded[: values.shape[0], : values.shape[1]] = values
    words = padded.view(np.int32)
    return np.ascontiguousarray(words.reshape(-1, group, words.shape[1]).transpose(0, 2, 1)).ravel()
