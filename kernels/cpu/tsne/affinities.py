"""Compute the affinities of t-SNE: calibrate every row to a perplexity, and symmetrize p(j|i) on sparse edges.

    squared distances (n_rows, k)  ->  p(j|i) (n_rows, k)  ->  Edges: p(j|i) + p(i|j) in both directions

The precision beta of a row is chosen so that the entropy of p(j|i) = exp(-beta d_ij) / sum is the logarithm of the
perplexity. Newton's method finds log beta inside a bracket, in float64. Source: van der Maaten & Hinton, "Visualizing
data using t-SNE", JMLR 2008.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

from engine.kernels.cpu.jit_options import INNER
from engine.kernels.cpu.simd.vectors import (
    LANES,
    SUM_LANES,
    fma,
    fold,
    lane_indices,
    less,
    load,
    minimum,
    select,
    splat,
    store,
)

MAX_NEWTON_STEPS = 100  # Newton's method needs 4 to 8; bisection from any start needs fewer than 100
ENTROPY_TOLERANCE = 1e-9  # nats
# First guess of log beta - log(n_neighbors / perplexity), beta in units of 1 / mean distance: near most solutions.
INITIAL_LOG_BETA = 0.2
UINT16_ROWS, MAX_ROWS = 1 << 16, 1 << 24  # numbers of rows whose indices fit in two bytes, and in three
DROPPED_BITS = 12  # low bits of a float32 that a weight's code leaves out
MIN_WEIGHT_BITS = (127 - 30) << 23  # bits of the float32 whose code is 0: 2^-30; the greatest weight is just below 4
INVERSE_FACTORIALS = tuple(1.0 / math.factorial(n) for n in range(12, -1, -1))

Bools: TypeAlias = NDArray[np.bool_]
Bytes: TypeAlias = NDArray[np.uint8]
Codes: TypeAlias = NDArray[np.uint16]
Float32s: TypeAlias = NDArray[np.float32]
Float64s: TypeAlias = NDArray[np.float64]
Int32s: TypeAlias = NDArray[np.int32]
Int64s: TypeAlias = NDArray[np.int64]


class Edges(NamedTuple):
    """Directed edges in CSR form: row i has the edges offsets[i] … offsets[i + 1]; SUM_LANES unused ones follow all.

    An edge is the index of its target row and the code of its weight p(j|i) + p(i|j): 4 bytes where there are at most
    UINT16_ROWS rows, else 5.
    """

    offsets: Int64s
    low: NDArray[np.uint16]  # lowest 16 bits of the target
    high: Bytes  # bits 16 to 23 of the target; of length 0 where 16 bits hold every row
    weights: Codes  # see encode_weights


@numba.njit(nogil=True, cache=True, inline="always")
def edge_target(edges: Edges, e: int) -> int:
    """Return the target row of edge e."""
    target = np.int64(edges.low[e])
    return target | (np.int64(edges.high[e]) << 16) if edges.high.shape[0] else target  # type: ignore[return-value]


@numba.njit(nogil=True, cache=True, inline="always")
def _write_edge(edges: Edges, e: int, target: int, code: int) -> None:
    edges.low[e], edges.weights[e] = target & 0xFFFF, code
    if edges.high.shape[0]:
        edges.high[e] = target >> 16


@numba.njit(**INNER)
def _gaussian_sums(distances, beta, weights, n, sums):  # type: ignore[no-untyped-def]
    """Write w = exp(-beta d) of n distances, and return the sums of w, w d and w d^2.

    exp(-x) is the 1024th power of a polynomial in x / 1024, off by 1e-10 at most. Both arrays have a multiple of
    SUM_LANES items, and w is 0 from n on. Item j is added to accumulator j % SUM_LANES of each sum; `sums` is
    three arrays for these.
    """
    totals, firsts, seconds = sums
    for lanes in range(0, SUM_LANES, LANES):
        total = first = second = splat(0.0)
        for j in range(lanes, distances.shape[0], SUM_LANES):
            d = load(distances, j)
            y = minimum(splat(beta) * d, splat(700.0)) * splat(-1.0 / 1024.0)
            w = splat(1.0 / 6227020800.0)
            for inverse in numba.literal_unroll(INVERSE_FACTORIALS):
                w = fma(w, y, splat(inverse))
            for _ in range(10):
                w = w * w
            w = select(less(lane_indices(), splat(np.int32(n - j))), w, splat(0.0))
            store(weights, j, w)
            total, first, second = total + w, fma(w, d, first), fma(w * d, d, second)
        store(totals, lanes, total)
        store(firsts, lanes, first)
        store(seconds, lanes, second)
    return fold(totals), fold(firsts), fold(seconds)


@numba.njit(nogil=True, cache=True)
def calibrate_perplexity(squared: Float64s, perplexity: float, out: Float32s) -> None:
    """Write p(j|i) of the requested perplexity for rows whose squared distances (n_rows, k) ascend.

    Where more than `perplexity` nearest neighbors are equally near, no beta is large enough: they share the
    probability.
    """
    target, start = np.log(perplexity), INITIAL_LOG_BETA + np.log(squared.shape[1] / perplexity)
    n = squared.shape[1]
    padded = -(-n // SUM_LANES) * SUM_LANES
    weights, distances = np.zeros(padded), np.zeros(padded)
    sums = (np.empty(SUM_LANES), np.empty(SUM_LANES), np.empty(SUM_LANES))
    for i in range(squared.shape[0]):
        scale = 0.0
        for j in range(n):
            scale += squared[i, j] - squared[i, 0]
        scale /= n
        if not scale > 0.0:  # all neighbors are equally near
            out[i, :] = 1.0 / n
            continue
        for j in range(n):
            distances[j] = (squared[i, j] - squared[i, 0]) / scale
        logarithm, low, high = start, -np.inf, np.inf  # log beta and its bracket, beta in units of 1 / scale
        for _ in range(MAX_NEWTON_STEPS):
            beta = np.exp(logarithm)
            total, first, second = _gaussian_sums(distances, beta, weights, n, sums)
            mean = first / total
            excess = beta * mean + np.log(total) - target
            if abs(excess) < ENTROPY_TOLERANCE or logarithm > 600.0:
                break
            if excess > 0.0:
                low = logarithm
            else:
                high = logarithm
            slope = -beta * beta * (second / total - mean * mean)
            step = logarithm - excess / slope if slope < 0.0 else np.inf
            if not low < step < high or abs(step - logarithm) > 3.0:
                bound = low if excess <= 0.0 else high
                step = 0.5 * (logarithm + bound) if np.isfinite(bound) else logarithm + (3.0 if excess > 0.0 else -3.0)
            logarithm = step
        for j in range(n):
            out[i, j] = weights[j] / total


@numba.njit(nogil=True, cache=True)
def write_edges(neighbors: Int32s, codes: Codes, first: int, edges: Edges) -> None:
    """Write the edges from rows `first`, `first` + 1, … to their neighbors, sorted by target for binary search."""
    for i in range(neighbors.shape[0]):
        order = np.argsort(neighbors[i])
        offset = edges.offsets[first + i]
        for e in range(order.shape[0]):
            _write_edge(edges, offset + e, neighbors[i, order[e]], codes[i, order[e]])


def encode_weights(weights: Float32s) -> Codes:
    """Encode weights from 0 to 2 as 16-bit floats of 12 significant bits; those below 2^-30 become 2^-30."""
    rounded = (weights.view(np.int32) + np.int32((1 << DROPPED_BITS >> 1) - MIN_WEIGHT_BITS)) >> np.int32(DROPPED_BITS)
    codes: Codes = np.clip(rounded, 0, 65535).astype(np.uint16)
    return codes


def decode_weights(codes: Codes) -> Float32s:
    """Return the weights that codes stand for."""
    return ((codes.astype(np.int32) << np.int32(DROPPED_BITS)) + np.int32(MIN_WEIGHT_BITS)).view(np.float32)


@numba.njit(nogil=True, cache=True)
def decode_weight(code: int) -> float:
    """Return the weight that a code stands for."""
    return float(np.ldexp(1.0 + (code & 2047) / 2048.0, (code >> 11) - 30))


@numba.njit(nogil=True, cache=True)
def _add_weight_codes(first: int, second: int) -> int:
    """Return the code of the sum of two encoded weights."""
    digits, exponent = math.frexp(decode_weight(first) + decode_weight(second))
    return min(int((exponent + 29) * 2048 + np.rint((2.0 * digits - 1.0) * 2048.0)), 65535)


@numba.njit(nogil=True, cache=True)
def _find_edge(edges: Edges, row: int, target: int) -> int:
    """Return the index of a row's edge to `target`, by binary search, or -1 if it has none."""
    low, high = edges.offsets[row], edges.offsets[row + 1]
    last = high
    while low < high:
        middle = (low + high) >> 1
        if edge_target(edges, middle) < target:
            low = middle + 1
        else:
            high = middle
    return low if low < last and edge_target(edges, low) == target else -1


@numba.njit(nogil=True, cache=True)
def symmetrize_mutual_edges(edges: Edges, start: int, stop: int, one_way: Bools) -> None:
    """Symmetrize the edges of rows start … stop: sum both directions where both exist, mark the edges that have one.

    Several threads may share the rows: both weights of a pair are read and written for the row of the lower index.
    """
    for i in range(start, stop):
        for e in range(edges.offsets[i], edges.offsets[i + 1]):
            j = edge_target(edges, e)
            back = _find_edge(edges, j, i)
            one_way[e] = back < 0
            if back >= 0 and i < j:
                edges.weights[e] = edges.weights[back] = _add_weight_codes(edges.weights[e], edges.weights[back])


@numba.njit(nogil=True, cache=True)
def count_incoming_edges(edges: Edges, one_way: Bools, counts: Int64s) -> None:
    """Count the marked edges that lead to every row."""
    for e in range(one_way.shape[0]):
        if one_way[e]:
            counts[edge_target(edges, e)] += 1


@numba.njit(nogil=True, cache=True)
def reverse_edges(edges: Edges, one_way: Bools, positions: Int64s, reversed_edges: Edges) -> None:
    """Write the reverse of every marked edge: its target j gets it at positions[j], which then moves on by one."""
    for i in range(edges.offsets.shape[0] - 1):
        for e in range(edges.offsets[i], edges.offsets[i + 1]):
            if one_way[e]:
                j = edge_target(edges, e)
                _write_edge(reversed_edges, positions[j], i, edges.weights[e])
                positions[j] += 1
