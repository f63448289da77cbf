"""Rank centers by matrix products, and prove which ranks rounding cannot have changed.

    X (n_rows, n_features), CenterArrays  ->  Ranking: the best centers of every row, and whether they are certain

Rows are scaled to y = (x - shift) factor, and centers likewise. They are ranked by L_j = ||c_j||^2 / 2 - y.c_j in the
precision of a level: float32, then float64. Any order of addition and fused multiply-adds are allowed, so any matrix
product may be used that rounds as its type says; TF32 does not (`rounds_as_float32`). With unit roundoff u and
e = 1.02 ((d + 8) u + 2 (d + 8) 2^-53), offsets are lowered by e ||c_j||^2; then center i is nearer than j, for the
definition too, if  L_j - L_i > 2 e ||c_i||^2 + e ||y||^2. The proof: decisions/0013-gpu-arrays.md.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from engine.kernels.cpu.kmeans.quantize import RowQuantizer

Array = Any  # of the array module `xp`

LEVELS = (np.float32, np.float64)  # coarse to fine
MAX_SQUARED_NORM = 2.0**80  # of ||y||^2 and ||c||^2: below it no product overflows; beyond it no rank is certain
UNDERFLOW = 2.0**-80  # per feature: a million times what products and values below 2^-126 can lose


class PrecisionLevel(NamedTuple):
    """Centers in one precision, with the error bound of their scores."""

    columns: Array  # (n_features, n_clusters)
    offsets: Array  # (n_clusters,): ||c||^2 / 2 - e ||c||^2
    center_error: Array  # (n_clusters,): 2 e ||c||^2, plus what underflow can lose
    row_error: float  # e, the factor of ||y||^2


class CenterArrays(NamedTuple):
    """Centers on the device, prepared for passes over rows."""

    host: np.ndarray[Any, Any]  # (n_clusters, n_features), as given
    quantizer: RowQuantizer
    shift: Array  # (n_features,) of the rows' dtype
    exact: Array  # (n_clusters, n_features) float64
    columns: Array  # (n_features, n_clusters) float64
    levels: tuple[PrecisionLevel, ...]  # coarse to fine; empty if scores could overflow


class Ranking(NamedTuple):
    """The nearest centers of rows at one level of precision."""

    best: Array  # (n_rows,): the nearest center
    second: Array  # (n_rows,): the second nearest
    certain: Array  # (n_rows,): whether no other center can be nearer than the best
    certain_two: Array  # (n_rows,): whether no other center can be among the two nearest


def prepare_centers(xp: Any, centers: np.ndarray[Any, Any], quantizer: RowQuantizer) -> CenterArrays:
    """Prepare centers (n_clusters, n_features), a NumPy array, for rows that this quantizer scales."""
    exact = centers.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = (exact - quantizer.shift) * float(quantizer.factor)
        sound = quantizer.sound and bool((np.square(scaled).sum(axis=1) <= MAX_SQUARED_NORM).all())
    levels = [_level(xp, scaled, dtype) for dtype in LEVELS] if sound else []
    return CenterArrays(
        centers,
        quantizer,
        xp.asarray(quantizer.shift),
        xp.asarray(exact),
        xp.asarray(np.ascontiguousarray(exact.T)),
        tuple(levels),
    )


def _level(xp: Any, scaled: np.ndarray[Any, Any], dtype: Any) -> PrecisionLevel:
    n_features = scaled.shape[1]
    error = 1.02 * (n_features + 8) * (float(np.finfo(dtype).epsneg) + 2.0**-52)
    rounded = scaled.astype(dtype)
    norms = np.square(rounded.astype(np.float64)).sum(axis=1)
    center_error = 2.0 * error * norms + n_features * UNDERFLOW
    return PrecisionLevel(
        xp.asarray(np.ascontiguousarray(rounded.T)),
        xp.asarray((0.5 * norms - error * norms).astype(dtype)),
        xp.asarray(center_error),
        error,
    )


def rank_centers(xp: Any, X: Array, centers: CenterArrays, level: PrecisionLevel, *, two: bool = False) -> Ranking:
    """Rank the centers for some rows; `two` asks for the second center, and whether the first two are certain."""
    dtype = level.columns.dtype
    rows, infinite = xp.arange(len(X)), dtype.type(np.inf)
    with np.errstate(over="ignore", invalid="ignore"):
        wide = X.astype(np.promote_types(X.dtype, dtype), copy=False)  # rounded to the level's precision last
        y = ((wide - centers.shift) * wide.dtype.type(centers.quantizer.factor)).astype(dtype, copy=False)
        norms = xp.square(y).sum(axis=1).astype(np.float64)
        scores = xp.matmul(y, level.columns)
        xp.subtract(level.offsets, scores, out=scores)
        best, best_score = _take_least(xp, scores, rows, infinite)
        error_one = level.center_error[best] + level.row_error * norms
        is_bounded = norms <= MAX_SQUARED_NORM  # false for NaN
        if not two:
            certain = is_bounded & (scores.min(axis=1).astype(np.float64) - best_score > error_one)
            return Ranking(best, best, certain, certain)
        second, second_score = _take_least(xp, scores, rows, infinite)
        third_score = scores.min(axis=1).astype(np.float64)
        certain = is_bounded & (second_score - best_score > error_one)
        error_two = level.center_error[second] + level.row_error * norms
        certain_two = is_bounded & (third_score - best_score > error_one) & (third_score - second_score > error_two)
        return Ranking(best, second, certain, certain_two)


def _take_least(xp: Any, scores: Array, rows: Array, infinite: Any) -> tuple[Array, Array]:
    """Return the center of every row's least score, and the score as float64; replace it by infinity."""
    center = scores.argmin(axis=1)
    least = scores[rows, center].astype(np.float64)
    scores[rows, center] = infinite
    return center, least


def rounds_as_float32(xp: Any) -> bool:
    """Return whether float32 matrix products are as exact as the proof requires: TF32 keeps 10 of 23 bits."""
    n = 256
    left = np.random.default_rng(0).uniform(0.5, 1.0, (n, n)).astype(np.float32)
    exact = left.astype(np.float64) @ left.T.astype(np.float64)
    product = xp.matmul(xp.asarray(left), xp.asarray(np.ascontiguousarray(left.T)))
    worst = float((abs(product.astype(np.float64) - xp.asarray(exact)) / xp.asarray(exact)).max())
    return worst <= n * 2.0**-24
