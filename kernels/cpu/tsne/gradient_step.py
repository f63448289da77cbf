"""One step of gradient descent on a map: attraction along edges, and the move of every row.

    places (n_rows,) as xs, ys and as pairs, edges of a symmetric P, repulsion, Z  ->  new places, momentum, gains

A row's edges are two runs: the rows it counts as neighbours, and those that count it as theirs. Rows in a
neighbour-preserving order find the places of their neighbours in cache: that is worth a factor of two. As many edges
as a vector has lanes are computed at a time. The rule of descent is openTSNE's: gains per coordinate, momentum,
steps clipped.
"""

from __future__ import annotations

from typing import TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

from engine.kernels.cpu.simd.vectors import (
    LANES,
    fma,
    gather_pairs,
    lane_numbers,
    less,
    load_narrow,
    select,
    splat,
    store,
    total,
    with_bits,
)
from engine.kernels.cpu.tsne.affinities import DROPPED, LEAST_BITS, Edges

Float32s: TypeAlias = NDArray[np.float32]

LEAST_GAIN = np.float32(0.01)
LONGEST_STEP = np.float32(5.0)  # units of the map a row may move at once


@numba.njit(nogil=True, cache=True)
def attract(places: Float32s, start: int, stop: int, edges: Edges, out: Float32s) -> None:
    """Add sum w (y_i - y_j) / (1 + r^2) over the edges of rows start … stop to out (stop - start, 2), as (y, x).

    `places` are pairs (x, y), flat: a pair is one load; there is one for every end that two bytes can name. Edges are
    sorted, so most vectors of ends have their third byte in common.
    """
    one, zero, lane = splat(np.float32(1.0)), splat(np.float32(0.0)), lane_numbers()
    shift, least, byte = splat(np.int32(1 << DROPPED)), splat(np.int32(LEAST_BITS)), splat(np.int32(1 << 16))
    ends, narrow = np.empty(LANES, np.int32), edges.high.shape[0] == 0
    for i in range(start, stop):
        x, y, pull_x, pull_y = splat(places[2 * i]), splat(places[2 * i + 1]), zero, zero
        beyond = edges.offsets[i + 1]
        for e in range(edges.offsets[i], beyond, LANES):
            high = 0 if narrow else np.int64(edges.high[e])
            if narrow or high == edges.high[min(e + LANES, beyond) - 1]:
                other_x, other_y = gather_pairs(places, high << 17, edges.low, e)
            else:
                store(ends, 0, load_narrow(edges.low, e) + load_narrow(edges.high, e) * byte)
                other_x, other_y = gather_pairs(places, 0, ends, 0)
            dx, dy = x - other_x, y - other_y
            weight = with_bits(load_narrow(edges.weights, e) * shift + least)
            weight = select(less(lane, splat(np.int32(beyond - e))), weight, zero)
            w = weight / fma(dx, dx, fma(dy, dy, one))
            pull_x, pull_y = fma(w, dx, pull_x), fma(w, dy, pull_y)
        out[i - start, 0] += total(pull_y)
        out[i - start, 1] += total(pull_x)


@numba.njit(nogil=True, cache=True)
def combine(gradient: Float32s, forces: Float32s, attraction: float, z: float) -> None:
    """Turn pulls, in place, into a quarter of the gradient: attraction x pull - repulsion / Z."""
    factor, inverse = np.float32(attraction), np.float32(1.0 / z)
    for i in range(gradient.shape[0]):
        for t in range(2):
            gradient[i, t] = factor * gradient[i, t] - inverse * forces[i, t]


@numba.njit(nogil=True, cache=True, inline="always")
def _moved(gradient, momentum, rate, velocity, gain):  # type: ignore[no-untyped-def]
    """Return the new velocity and gain of one coordinate."""
    same = (velocity > 0.0) == (gradient > 0.0) and (velocity < 0.0) == (gradient < 0.0)
    gain = gain * np.float32(0.8) + LEAST_GAIN if same else gain + np.float32(0.2)
    return momentum * velocity - rate * gain * gradient, gain


@numba.njit(nogil=True, cache=True)
def descend(
    xs: Float32s, ys: Float32s, start: int, stop: int, gradient: Float32s, momentum: float, rate: float,
    velocity: Float32s, gains: Float32s, places: Float32s,
) -> float:  # fmt: skip
    """Move rows start … stop, in place, against their gradient (stop - start, 2); return its squared norm.

    Where they are now is also written to `places`, pairs (x, y) that others do not read in this step.
    """
    square = 0.0
    for i in range(start, stop):
        gy, gx = gradient[i - start, 0], gradient[i - start, 1]
        square += np.float64(gy) * gy + np.float64(gx) * gx
        vy, gains[i, 0] = _moved(gy, np.float32(momentum), np.float32(rate), velocity[i, 0], gains[i, 0])
        vx, gains[i, 1] = _moved(gx, np.float32(momentum), np.float32(rate), velocity[i, 1], gains[i, 1])
        length = np.sqrt(vy * vy + vx * vx)
        if length > LONGEST_STEP:
            vy, vx = vy * (LONGEST_STEP / length), vx * (LONGEST_STEP / length)
        velocity[i, 0], velocity[i, 1] = vy, vx
        ys[i] += vy
        xs[i] += vx
        places[2 * i], places[2 * i + 1] = xs[i], ys[i]
    return square
