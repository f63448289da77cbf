"""One step of gradient descent of t-SNE: attraction along edges, the gradient, and the update of the embedding.

    embedding xs, ys (n_rows,) and as pairs, edges of a symmetric P, repulsion, Z  ->  new embedding, velocity, gains

A row has two lists of edges: to its neighbors, and from rows that count it as a neighbor. If the order of the rows
keeps neighbors together, their positions are in cache: that is worth a factor of two. The edges are processed LANES at
a time, and added up in an order that does not depend on LANES. The update rule is that of openTSNE: gains per
coordinate, momentum, and a limit on the norm of a step.
"""

from __future__ import annotations

from typing import TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

from engine.kernels.cpu.simd.vectors import (
    LANES,
    SUM_LANES,
    fma,
    fold,
    gather_pairs,
    lane_indices,
    less,
    load_widened,
    reinterpret_as_floats,
    select,
    splat,
    store,
)
from engine.kernels.cpu.tsne.affinities import DROPPED_BITS, MIN_WEIGHT_BITS, Edges

Float32s: TypeAlias = NDArray[np.float32]

MIN_GAIN = np.float32(0.01)
MAX_STEP_NORM = np.float32(5.0)  # units of the embedding that a row may move in one step


@numba.njit(nogil=True, cache=True)
def add_attraction(embedding: Float32s, start: int, stop: int, edges: Edges, out: Float32s) -> None:
    """Add sum w (y_i - y_j) / (1 + r^2) over the edges of rows start … stop to out (stop - start, 2), as (y, x).

    `embedding` holds pairs (x, y), flat, so that a pair is one load; there is one for every target that two bytes can
    name. Edges are sorted, so most vectors of targets have their third byte in common. Edge e of a row is added to
    accumulator e % SUM_LANES: the lanes of one vector, or of several, one after the other.
    """
    one, zero, lane = splat(np.float32(1.0)), splat(np.float32(0.0)), lane_indices()
    shift, least, byte = splat(np.int32(1 << DROPPED_BITS)), splat(np.int32(MIN_WEIGHT_BITS)), splat(np.int32(1 << 16))
    targets, narrow = np.empty(LANES, np.int32), edges.high.shape[0] == 0
    sums_x, sums_y = np.empty(SUM_LANES, np.float32), np.empty(SUM_LANES, np.float32)
    for i in range(start, stop):
        x, y = splat(embedding[2 * i]), splat(embedding[2 * i + 1])
        row_end = edges.offsets[i + 1]
        for first in range(0, SUM_LANES, LANES):
            pull_x, pull_y = zero, zero
            for e in range(edges.offsets[i] + first, row_end, SUM_LANES):
                high = 0 if narrow else np.int64(edges.high[e])
                if narrow or high == edges.high[min(e + LANES, row_end) - 1]:
                    target_x, target_y = gather_pairs(embedding, high << 17, edges.low, e)
                else:
                    store(targets, 0, load_widened(edges.low, e) + load_widened(edges.high, e) * byte)
                    target_x, target_y = gather_pairs(embedding, 0, targets, 0)
                dx, dy = x - target_x, y - target_y
                weight = reinterpret_as_floats(load_widened(edges.weights, e) * shift + least)
                weight = select(less(lane, splat(np.int32(row_end - e))), weight, zero)
                w = weight / fma(dx, dx, fma(dy, dy, one))
                pull_x, pull_y = fma(w, dx, pull_x), fma(w, dy, pull_y)
            store(sums_x, first, pull_x)
            store(sums_y, first, pull_y)
        out[i - start, 0] += fold(sums_y)
        out[i - start, 1] += fold(sums_x)


@numba.njit(nogil=True, cache=True)
def combine_gradient(gradient: Float32s, forces: Float32s, attraction: float, z: float) -> None:
    """Turn attraction sums, in place, into a quarter of the gradient: attraction x sums - repulsion / Z."""
    factor, inverse = np.float32(attraction), np.float32(1.0 / z)
    for i in range(gradient.shape[0]):
        for t in range(2):
            gradient[i, t] = factor * gradient[i, t] - inverse * forces[i, t]


@numba.njit(nogil=True, cache=True, inline="always")
def _update_velocity(gradient, momentum, rate, velocity, gain):  # type: ignore[no-untyped-def]
    """Return the new velocity and gain of one coordinate."""
    same = (velocity > 0.0) == (gradient > 0.0) and (velocity < 0.0) == (gradient < 0.0)
    gain = gain * np.float32(0.8) + MIN_GAIN if same else gain + np.float32(0.2)
    return momentum * velocity - rate * gain * gradient, gain


@numba.njit(nogil=True, cache=True)
def update_embedding(
    xs: Float32s, ys: Float32s, start: int, stop: int, gradient: Float32s, momentum: float, rate: float,
    velocity: Float32s, gains: Float32s, embedding: Float32s,
) -> float:  # fmt: skip
    """Update xs and ys of rows start … stop by a step against their gradient (stop - start, 2); return its norm^2.

    The new positions are also written to `embedding`, flat pairs (x, y) that no thread reads during this step.
    """
    square = 0.0
    for i in range(start, stop):
        gy, gx = gradient[i - start, 0], gradient[i - start, 1]
        square += np.float64(gy) * gy + np.float64(gx) * gx
        vy, gains[i, 0] = _update_velocity(gy, np.float32(momentum), np.float32(rate), velocity[i, 0], gains[i, 0])
        vx, gains[i, 1] = _update_velocity(gx, np.float32(momentum), np.float32(rate), velocity[i, 1], gains[i, 1])
        length = np.sqrt(vy * vy + vx * vx)
        if length > MAX_STEP_NORM:
            vy, vx = vy * (MAX_STEP_NORM / length), vx * (MAX_STEP_NORM / length)
        velocity[i, 0], velocity[i, 1] = vy, vx
        ys[i] += vy
        xs[i] += vx
        embedding[2 * i], embedding[2 * i + 1] = xs[i], ys[i]
    return square
