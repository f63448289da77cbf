"""Make centres ready to be ranked for coded rows, and say by how much their scores can be off.

    centres (n_clusters, n_features), a Frame, a level of precision -> Screen

||y||^2 is the same for every centre, so centres are ranked by S_j = ||c_j||^2 / 2 - y.c_j: tiled_scores.py does. What
the scores prove: filter.py and refine.py. Bounds: decisions/0005-screening.md.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from engine.kernels.cpu.kmeans.quantize import BYTES, FLOATS, QUAD_BYTES, ZERO_BYTE, Float32s, Float64s, Frame, Rows
from engine.kernels.cpu.simd.vectors import LANES

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
    given: Rows  # (n_clusters, n_features): the same, in the rows' dtype
    words: Int32s  # flat [tile][word][TILE]: codes of -c, for rows in the lanes
    lanes: Int32s  # flat [block][word][BLOCK]: the same codes, for centres in the lanes
    own: Int32s  # flat [centre][word]: the same codes, to be gathered
    offsets: Scores  # (padded clusters,): ||c||^2 / 2 in units of scores
    far: np.int32 | np.float32  # a score beyond all
    unit: np.float32  # what a score of 1 stands for
    keep: np.int32  # mask of a score's bits that are not the centre's number
    sizes: Float32s  # (padded clusters,): of each centre, what its bound grows with; infinite: never certified
    largest_size: np.float32  # of all centres
    bound: Bound
    factor: np.floating[Any]  # units of y per unit of X, of the rows' dtype


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
        np.ascontiguousarray(centres),
        _laid_out(bounded.codes, n_tiled, TILE),
        _laid_out(bounded.codes, n_blocked, BLOCK),
        _laid_out(bounded.codes, len(rows), 1),
        offsets,
        far,
        np.float32(bounded.unit),
        np.int32(-(1 << tag_bits)),
        sizes,
        sizes[: len(rows)].max(),
        bounded.bound,
        frame.factor,
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
