"""Rank centres by products of matrices, and prove which rankings rounding cannot have changed.

    X (n_rows, n_features), Centres  ->  the best centres of every row, and whether they are certain

Rows are taken as y = (x - shift) factor, centres alike, and ranked by L_j = ||c_j||^2 / 2 - y.c_j in the precision of
a level: float32, then float64. Any order of addition and fused multiply-adds are allowed, so any product of matrices
may be used that rounds as its type says; TF32 does not (`rounds_as_float32`). With unit roundoff u and
e = 1.02 ((d + 8) u + 2 (d + 8) 2^-53), offsets are lowered by e ||c_j||^2; then centre i is nearer than j, for the
definition too, if  L_j - L_i > 2 e ||c_i||^2 + e ||y||^2. The proof: decisions/0013-gpu-arrays.md.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from engine.kernels.cpu.kmeans.quantize import Frame

Array = Any  # of the array module `xp`

LEVELS = (np.float32, np.float64)
LARGEST_SIZE = 2.0**80  # of ||y||^2 and ||c||^2; beyond it nothing is certified, and no product can overflow
UNDERFLOW = 2.0**-80  # per feature: what products and values below 2^-126 can lose, a million times over


class Level(NamedTuple):
    """Centres in one precision."""

    columns: Array  # (n_features, n_clusters)
    offsets: Array  # (n_clusters,): ||c||^2 / 2 - e ||c||^2
    blur: Array  # (n_clusters,): 2 e ||c||^2, and what underflow can lose
    per_size: float  # e: times ||y||^2


class Centres(NamedTuple):
    """Centres as all passes over rows want them."""

    given: np.ndarray[Any, Any]  # (n_clusters, n_features), as they came
    frame: Frame
    shift: Array  # (n_features,) of the rows' dtype
    exact: Array  # (n_clusters, n_features) float64
    columns: Array  # (n_features, n_clusters) float64
    levels: tuple[Level, ...]  # coarse to fine; none where the frame is not sound


class Ranked(NamedTuple):
    """What a level says about rows."""

    best: Array  # (n_rows,): the first centre
    runner_up: Array  # (n_rows,): the second
    certain: Array  # (n_rows,): whether no other centre can be nearer than the first
    certain_two: Array  # (n_rows,): whether none but these two can be among the two nearest


def ready(xp: Any, centres: np.ndarray[Any, Any], frame: Frame) -> Centres:
    """Make centres (n_clusters, n_features), an array of NumPy, ready for rows in this frame."""
    exact = centres.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        framed = (exact - frame.shift) * float(frame.factor)
        sound = frame.sound and bool((np.square(framed).sum(axis=1) <= LARGEST_SIZE).all())
    levels = [_level(xp, framed, dtype) for dtype in LEVELS] if sound else []
    return Centres(
        centres,
        frame,
        xp.asarray(frame.shift),
        xp.asarray(exact),
        xp.asarray(np.ascontiguousarray(exact.T)),
        tuple(levels),
    )


def _level(xp: Any, framed: np.ndarray[Any, Any], dtype: Any) -> Level:
    n_features = framed.shape[1]
    error = 1.02 * (n_features + 8) * (float(np.finfo(dtype).epsneg) + 2.0**-52)
    rounded = framed.astype(dtype)
    sizes = np.square(rounded.astype(np.float64)).sum(axis=1)
    blur = 2.0 * error * sizes + n_features * UNDERFLOW
    return Level(
        xp.asarray(np.ascontiguousarray(rounded.T)),
        xp.asarray((0.5 * sizes - error * sizes).astype(dtype)),
        xp.asarray(blur),
        error,
    )


def rank(xp: Any, X: Array, centres: Centres, level: Level, *, two: bool = False) -> Ranked:
    """Rank the centres for some rows; `two` asks for the second centre, and whether the first two are certain."""
    dtype = level.columns.dtype
    rows, infinite = xp.arange(len(X)), dtype.type(np.inf)
    with np.errstate(over="ignore", invalid="ignore"):
        wide = X.astype(np.promote_types(X.dtype, dtype), copy=False)  # rounded to the level's precision last
        y = ((wide - centres.shift) * wide.dtype.type(centres.frame.factor)).astype(dtype, copy=False)
        size = xp.square(y).sum(axis=1).astype(np.float64)
        scores = xp.matmul(y, level.columns)
        xp.subtract(level.offsets, scores, out=scores)
        best, first = _take_least(xp, scores, rows, infinite)
        needed = level.blur[best] + level.per_size * size
        small = size <= LARGEST_SIZE  # which NaN is not
        if not two:
            certain = small & (scores.min(axis=1).astype(np.float64) - first > needed)
            return Ranked(best, best, certain, certain)
        runner_up, second = _take_least(xp, scores, rows, infinite)
        third = scores.min(axis=1).astype(np.float64)
        certain = small & (second - first > needed)
        needed_two = level.blur[runner_up] + level.per_size * size
        return Ranked(best, runner_up, certain, small & (third - first > needed) & (third - second > needed_two))


def _take_least(xp: Any, scores: Array, rows: Array, infinite: Any) -> tuple[Array, Array]:
    """Return where every row's least score is, and the score as float64; put infinity in its place."""
    place = scores.argmin(axis=1)
    least = scores[rows, place].astype(np.float64)
    scores[rows, place] = infinite
    return place, least


def rounds_as_float32(xp: Any) -> bool:
    """Tell whether products of float32 matrices are as exact as the proof wants: TF32 has 10 bits of 23."""
    n = 256
    left = np.random.default_rng(0).uniform(0.5, 1.0, (n, n)).astype(np.float32)
    exact = left.astype(np.float64) @ left.T.astype(np.float64)
    product = xp.matmul(xp.asarray(left), xp.asarray(np.ascontiguousarray(left.T)))
    worst = float((abs(product.astype(np.float64) - xp.asarray(exact)) / xp.asarray(exact)).max())
    return worst <= n * 2.0**-24
