"""Compute the repulsion of t-SNE over all pairs of rows, in float64: for few rows, and as the test of the grid.

embedding xs, ys (n_rows,) float32  ->  forces (n_rows, 2), Z;   edges  ->  sum w log(1 + r^2)
"""

from __future__ import annotations

from typing import TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

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
    store,
    widen,
)
from engine.kernels.cpu.tsne.affinities import Edges, decode_weight, edge_target

Float32s: TypeAlias = NDArray[np.float32]


@numba.njit(nogil=True, cache=True)
def compute_exact_repulsion(xs: Float32s, ys: Float32s, start: int, stop: int, forces: Float32s) -> float:
    """Write the repulsion on rows start … stop as (y, x) into forces (n_rows, 2); return their part of Z.

    Row j is added to accumulator j % SUM_LANES of the sum of q = 1 / (1 + r^2), and of the force.
    """
    z = 0.0
    sums, sums_y, sums_x = np.empty(SUM_LANES), np.empty(SUM_LANES), np.empty(SUM_LANES)
    for i in range(start, stop):
        x, y = splat(np.float64(xs[i])), splat(np.float64(ys[i]))
        for first in range(0, SUM_LANES, LANES):
            total = force_y = force_x = splat(0.0)
            for j in range(first, xs.shape[0], SUM_LANES):
                n = xs.shape[0] - j
                dx, dy = x - widen(load_first(xs, j, n)), y - widen(load_first(ys, j, n))
                q = splat(1.0) / fma(dx, dx, fma(dy, dy, splat(1.0)))
                q = select(less(lane_indices(), splat(np.int32(n))), q, splat(0.0))
                total, force_y, force_x = total + q, fma(q * q, dy, force_y), fma(q * q, dx, force_x)
            store(sums, first, total)
            store(sums_y, first, force_y)
            store(sums_x, first, force_x)
        forces[i, 0], forces[i, 1] = fold(sums_y), fold(sums_x)
        z += fold(sums) - 1.0
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
