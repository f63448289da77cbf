"""One pass of Lloyd's algorithm over rows: label each row, and add it to its cluster while it is in cache.

    X (n_rows, n_features), weights (n_rows,) or (0,), a Screen, a grid
      -> labels (n_rows,) int32 in place, sums (n_clusters, n_features) and masses (n_clusters,) int64

Sums are integers: a row enters as round(w (x - shift) 2^e), so the order of addition cannot matter. Which shift and
exponent: engine/fixed_point.py. Empty clusters and the new centres are the caller's concern: see engine/lloyd.py.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numba
import numpy as np
from engine.kernels.cpu.assign import ROWS, Screen, certify, load_tile, rank_four, score_four, store
from numpy.typing import NDArray

Rows: TypeAlias = NDArray[np.floating[Any]]
Float64s: TypeAlias = NDArray[np.float64]
Int64s: TypeAlias = NDArray[np.int64]


@numba.njit(nogil=True, cache=True)
def lloyd_pass(
    X: Rows,
    weights: Float64s,
    scr: Screen,
    shift: Float64s,
    scale: Float64s,
    mass_scale: float,
    labels: NDArray[np.int32],
    sums: Int64s,
    masses: Int64s,
) -> tuple[int, int]:
    """Label rows and add them to sums and masses, unless sums has no rows.

    Return how many labels changed, and how many rows the definition had to label. `weights` of length 0 stands
    for ones; then masses are counts.
    """
    tile = np.zeros((scr.negated.shape[1], ROWS), np.float32)
    scores = np.empty((4, ROWS), np.float32)
    norms, best, second = np.empty(ROWS, np.float32), np.empty(ROWS, np.float32), np.empty(ROWS, np.float32)
    leader = np.empty(ROWS, np.int32)
    scratch = np.empty(scr.exact.shape[1])
    changed, opened = 0, 0
    for start in range(0, X.shape[0], ROWS):
        stop = min(start + ROWS, X.shape[0])
        load_tile(X, start, stop, scr.shift, scr.factor, tile, norms)
        best[:], second[:], leader[:] = np.inf, np.inf, 0
        for j in range(0, scr.negated.shape[0], 4):
            score_four(tile, scr.negated, scr.offset, j, scores)
            rank_four(scores, j, best, second, leader)
        opened += certify(X, start, stop, scr, norms, best, second, leader, scratch)
        changed += store(leader, labels[start:stop])
        if sums.shape[0]:
            add_rows(X, weights, shift, scale, mass_scale, labels, start, stop, sums, masses)
    return changed, opened


@numba.njit(nogil=True, cache=True)
def add_rows(
    X: Rows,
    weights: Float64s,
    shift: Float64s,
    scale: Float64s,
    mass_scale: float,
    labels: NDArray[np.int32],
    start: int,
    stop: int,
    sums: Int64s,
    masses: Int64s,
) -> None:
    """Add rows start…stop to the sums and masses of their clusters, in fixed point."""
    for i in range(start, stop):
        j = labels[i]
        if weights.shape[0]:
            masses[j] += np.int64(np.rint(weights[i] * mass_scale))
            for t in range(X.shape[1]):
                sums[j, t] += np.int64(np.rint((np.float64(X[i, t]) - shift[t]) * weights[i] * scale[t]))
        else:
            masses[j] += 1
            for t in range(X.shape[1]):
                sums[j, t] += np.int64(np.rint((np.float64(X[i, t]) - shift[t]) * scale[t]))


@numba.njit(nogil=True, cache=True)
def widen(X: Rows, weights: Float64s, low: Rows, high: Rows) -> None:
    """Lower low and raise high (n_features,) to the values of every row whose weight is not 0."""
    for i in range(X.shape[0]):
        if weights.shape[0] == 0 or weights[i] > 0:
            for t in range(X.shape[1]):
                low[t] = min(low[t], X[i, t])
                high[t] = max(high[t], X[i, t])


@numba.njit(nogil=True, cache=True)
def add_squares(
    X: Rows,
    weights: Float64s,
    shift: Float64s,
    scale: Float64s,
    square_scale: Float64s,
    sums: Int64s,
    squares: Int64s,
) -> None:
    """Add w (x - shift) and w (x - shift)^2 of every row to sums and squares (n_features,), in fixed point."""
    for i in range(X.shape[0]):
        weight = weights[i] if weights.shape[0] else 1.0
        for t in range(X.shape[1]):
            difference = np.float64(X[i, t]) - shift[t]
            sums[t] += np.int64(np.rint(difference * weight * scale[t]))
            squares[t] += np.int64(np.rint(difference * difference * weight * square_scale[t]))
