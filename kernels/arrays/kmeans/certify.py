"""Rank centers by matrix products, and prove which ranks rounding cannot have changed.

    X (n_rows, n_features), CenterArrays  ->  Ranking: the nearest centers of every row, and whether they are certain

Rows are scaled to y = (x - shift) factor, and centers likewise. They are ranked by L_j = ||c_j||^2 / 2 - y.c_j in the
precision of a level: float32, then float64. Any order of addition and fused multiply-adds are allowed, so any matrix
product may be used that rounds as its type says; TF32 does not (`rounds_as`). With unit roundoff u and
e = 1.02 ((d + 8) u + 2 (d + 8) 2^-53), offsets are lowered by e ||c_j||^2; then center i is nearer than j, for the
definition too, if  L_j - L_i > 2 e ||c_i||^2 + e ||y||^2. The proof: decisions/0013-gpu-arrays.md.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from engine.kernels.arrays.distance import row_chunks
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

    nearest: tuple[Array, ...]  # the nearest center of every row, then the second nearest, each (n_rows,) int64
    certain: Array  # (n_rows,): whether no other center can be nearer than these


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


def rank_centers(
    xp: Any, X: Array, rows: Array | None, centers: CenterArrays, level: PrecisionLevel, chunk_values: int,
    n_nearest: int = 1,
) -> Ranking:  # fmt: skip
    """Find the `n_nearest` (1 or 2) nearest centers of some rows of X, or of all if `rows` is None.

    Scores are computed in chunks of at most about `chunk_values`, so that they stay in a GPU's cache; all that has one
    value a row is computed for all rows at once, because every array operation is a launch.
    """
    n_rows, (n_clusters, n_features) = len(X) if rows is None else len(rows), centers.exact.shape
    dtype = level.columns.dtype
    best = [xp.empty(n_rows, np.int64) for _ in range(n_nearest)]
    least = [xp.empty(n_rows, dtype) for _ in range(n_nearest + 1)]
    norms = xp.empty(n_rows, dtype)
    chunks = row_chunks(n_rows, max(n_clusters, n_features), chunk_values)
    first_scores = xp.arange(chunks[0].stop if chunks else 0) * n_clusters  # where each row's scores begin
    with np.errstate(over="ignore", invalid="ignore"):
        for chunk in chunks:
            scores = _score_rows(xp, X[chunk] if rows is None else X[rows[chunk]], centers, level, norms[chunk])
            for i in range(n_nearest):
                scores.argmin(axis=1, out=best[i][chunk])
                scores.min(axis=1, out=least[i][chunk])
                scores.reshape(-1)[first_scores[: len(scores)] + best[i][chunk]] = dtype.type(np.inf)
            scores.min(axis=1, out=least[n_nearest][chunk])
        row_error = norms.astype(np.float64)
        row_error *= level.row_error
        certain = norms <= MAX_SQUARED_NORM  # false for NaN
        for i in range(n_nearest):
            for other in least[i + 1 :: n_nearest - i]:  # the next one, and the least of all others
                gap = other.astype(np.float64)
                gap -= least[i]
                certain &= gap > level.center_error[best[i]] + row_error
    return Ranking(tuple(best), certain)


def _score_rows(xp: Any, X: Array, centers: CenterArrays, level: PrecisionLevel, norms: Array) -> Array:
    """Return the scores (n_rows, n_clusters) of a chunk, and write the rows' squared norms."""
    dtype = level.columns.dtype
    y = xp.subtract(X, centers.shift, dtype=np.promote_types(X.dtype, dtype))  # rounded to the level's precision last
    y *= y.dtype.type(centers.quantizer.factor)
    y = y.astype(dtype, copy=False)
    xp.square(y).sum(axis=1, out=norms)
    scores = xp.matmul(y, level.columns)
    return xp.subtract(level.offsets, scores, out=scores)


def rounds_as(xp: Any, dtype: Any) -> bool:
    """Return whether matrix products of a type, float32 or float64, are as exact as the proof requires.

    TF32 keeps 10 of 23 bits, and emulation by integers may keep fewer than 52. Some products are compared with exact
    ones, of few terms, where little is lost by IEEE arithmetic, and of many. A library may choose an emulation by the
    size of the result, so all of it is computed.
    """
    random = np.random.default_rng(0)
    for n_terms in (2, 256):
        left, right = (random.uniform(0.5, 1.0, shape).astype(dtype) for shape in ((256, n_terms), (n_terms, 256)))
        product = xp.matmul(xp.asarray(left), xp.asarray(right))
        found = _as_integers((product.get() if hasattr(product, "get") else product)[:16, :16])
        exact = _as_integers(left[:16]) @ _as_integers(right[:, :16])
        allowed = (n_terms + 4) * float(np.finfo(dtype).epsneg)
        if (abs(found * 2**53 - exact) > allowed * exact).any():
            return False
    return True


def _as_integers(values: np.ndarray[Any, Any]) -> Any:
    """Return values of at least 0.5 times 2^53 as integers of Python, in an array of objects: no bit is lost."""
    return np.array([int(value) for value in np.ldexp(values.astype(np.float64), 53).flat], object).reshape(
        values.shape
    )
