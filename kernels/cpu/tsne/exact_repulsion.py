"""Compute the repulsion of t-SNE over all pairs of rows, in float64: for few rows, and as the test of the grid.

embedding xs, ys (n_rows,) float32  ->  forces (n_rows, 2), Z;   edges  ->  sum w log(1 + r^2)
"""

from __future__ import annotations

from typing import TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

from engine.kernels.cpu.jit_options import INNER
from engine.kernels.cpu.simd.quantized import load_first
from engine.kernels.cpu.simd.vectors import (
    LANES,
    SUM_LANES,
    fma,
    fold,
    lane_indices,
    less,
    select,
    splat,
    widen,
)
from engine.kernels.cpu.tsne.affinities import Edges, decode_weight, edge_target

Float32s: TypeAlias = NDArray[np.float32]


@numba.njit(**INNER, forceinline=True)
def _push(xs, ys, j, x, y, total, force_x, force_y):  # type: ignore[no-untyped-def]
    """Return the sums of q = 1 / (1 + r^2) and of forces with LANES rows from j on added; where no row is, q is 0."""
    n = xs.shape[0] - j
    dx, dy = x - widen(load_first(xs, j, n)), y - widen(load_first(ys, j, n))
    q = splat(1.0) / fma(dx, dx, fma(dy, dy, splat(1.0)))
    q = select(less(lane_indices(), splat(np.int32(n))), q, splat(0.0))
    return total + q, fma(q * q, dx, force_x), fma(q * q, dy, force_y)


@numba.njit(**INNER)
def _repulsion_on_point(xs, ys, x, y):  # type: ignore[no-untyped-def]
    """Return the sum of q = 1 / (1 + r^2) of a point to all rows, and its force as (y, x).

    Row j is added to accumulator j % SUM_LANES, in vectors a to d.
    """
    x, y = splat(x), splat(y)
    aq = ax = ay = bq = bx = by = cq = cx = cy = dq = dx = dy = splat(0.0)
    for j in range(0, xs.shape[0], SUM_LANES):
        aq, ax, ay = _push(xs, ys, j, x, y, aq, ax, ay)
        if LANES <= 8 and j + LANES < xs.shape[0]:
            bq, bx, by = _push(xs, ys, j + LANES, x, y, bq, bx, by)
        if LANES <= 4 and j + 2 * LANES < xs.shape[0]:
            cq, cx, cy = _push(xs, ys, j + 2 * LANES, x, y, cq, cx, cy)
        if LANES <= 4 and j + 3 * LANES < xs.shape[0]:
            dq, dx, dy = _push(xs, ys, j + 3 * LANES, x, y, dq, dx, dy)
    return fold(aq, bq, cq, dq), fold(ay, by, cy, dy), fold(ax, bx, cx, dx)


@numba.njit(nogil=True, cache=True)
def compute_exact_repulsion(xs: Float32s, ys: Float32s, start: int, stop: int, forces: Float32s) -> float:
    """Write the repulsion on rows start … stop as (y, x) into forces (n_rows, 2); return their part of Z."""
    z = 0.0
    for i in range(start, stop):
        total, forces[i, 0], forces[i, 1] = _repulsion_on_point(xs, ys, np.float64(xs[i]), np.float64(ys[i]))
        z += total - 1.0
    return z


@numba.njit(nogil=True, cache=True)
def sum_log_distances(xs: Float32s, ys: Float32s, start: int, stop: int, edges: Edges) -> float:
    """Return the sum of w log(1 + r^2) over the edges of rows start … stop: a term of the KL divergence."""
    total = 0.0
    for i in range(start, stop):
        for e in range(edges.offsets[i], edges.offsets[i + 1]):
            j = edge_target(edges, e)
            dx, dy = np.float64(xs[i]) - xs[j], np.float64(ys[i]) - ys[j]
            total += decode_weight(edges.weights[e]) * np.log1p(dx * dx + dy * dy)
    return total
