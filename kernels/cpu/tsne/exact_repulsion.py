"""Compute the repulsion of t-SNE over all pairs of rows, in float64: for few rows, and as the test of the grid.

embedding xs, ys (n_rows,) float32  ->  forces (n_rows, 2), Z;   edges  ->  sum w log(1 + r^2)
"""

from __future__ import annotations

from typing import TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

from engine.kernels.cpu.tsne.affinities import Edges, decode_weight, edge_target

Float32s: TypeAlias = NDArray[np.float32]


@numba.njit(nogil=True, cache=True, fastmath={"contract", "nsz", "reassoc"})
def _repulsion_on_point(xs: Float32s, ys: Float32s, x: float, y: float) -> tuple[float, float, float]:
    """Return the sum of q = 1 / (1 + r^2) of a point to all rows, and its force as (y, x)."""
    total = force_x = force_y = 0.0
    for j in range(xs.shape[0]):
        dx, dy = x - np.float64(xs[j]), y - np.float64(ys[j])
        q = 1.0 / (1.0 + dx * dx + dy * dy)
        total += q
        force_x += q * q * dx
        force_y += q * q * dy
    return total, force_y, force_x


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
