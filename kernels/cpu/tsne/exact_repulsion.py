"""Repulsion pair by pair, in float64: for few rows, and what the grid is tested against.

places xs, ys (n_rows,) float32  ->  forces (n_rows, 2), Z;  edges  ->  sum p log(1 + r^2)
"""

from __future__ import annotations

from typing import TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

from engine.kernels.cpu.tsne.affinities import Edges, end_of, value_of

Float32s: TypeAlias = NDArray[np.float32]


@numba.njit(nogil=True, cache=True, fastmath={"contract", "nsz", "reassoc"})
def _row(xs: Float32s, ys: Float32s, x: float, y: float) -> tuple[float, float, float]:
    total = force_x = force_y = 0.0
    for j in range(xs.shape[0]):
        dx, dy = x - np.float64(xs[j]), y - np.float64(ys[j])
        q = 1.0 / (1.0 + dx * dx + dy * dy)
        total += q
        force_x += q * q * dx
        force_y += q * q * dy
    return total, force_y, force_x


@numba.njit(nogil=True, cache=True)
def repel(xs: Float32s, ys: Float32s, start: int, stop: int, forces: Float32s) -> float:
    """Write the force of all rows on rows start … stop into forces (n_rows, 2); return their part of Z."""
    z = 0.0
    for i in range(start, stop):
        total, forces[i, 0], forces[i, 1] = _row(xs, ys, np.float64(xs[i]), np.float64(ys[i]))
        z += total - 1.0
    return z


@numba.njit(nogil=True, cache=True)
def edge_logarithms(xs: Float32s, ys: Float32s, start: int, stop: int, edges: Edges) -> float:
    """Return the sum of w log(1 + r^2) over the edges of rows start … stop."""
    total = 0.0
    for i in range(start, stop):
        for e in range(edges.offsets[i], edges.offsets[i + 1]):
            j = end_of(edges, e)
            dx, dy = np.float64(xs[i]) - xs[j], np.float64(ys[i]) - ys[j]
            total += value_of(edges.weights[e]) * np.log1p(dx * dx + dy * dy)
    return total
