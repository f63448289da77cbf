"""From neighbours to probabilities: the perplexity of every row, and both directions of every edge.

    squared distances (n_rows, k)  ->  p(j|i) (n_rows, k)  ->  Edges: p(j|i) + p(i|j) in both directions

A row's precision beta is such that the entropy of p(j|i) = exp(-beta d_ij) / sum is the logarithm of the perplexity;
it is found by Newton's method on log beta inside a bracket, in float64. Source: van der Maaten & Hinton, "Visualizing
data using t-SNE", JMLR 2008.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

STEPS = 100  # Newton needs 4 to 8; bisection from any start needs less than 100
TOLERANCE = 1e-9  # of the entropy
START = 0.2  # of log beta - log(neighbours / perplexity), in units of 1 / mean distance: where it mostly ends
NARROW, MOST_ROWS = 1 << 16, 1 << 24  # rows whose numbers fit in two bytes, and in three
DROPPED = 12  # low bits of a float32 that a code has not
LEAST_BITS = (127 - 30) << 23  # bits of the float32 whose code is 0: 2^-30; the greatest is just below 4
INVERSE_FACTORIALS = tuple(1.0 / math.factorial(n) for n in range(12, -1, -1))

Bools: TypeAlias = NDArray[np.bool_]
Bytes: TypeAlias = NDArray[np.uint8]
Codes: TypeAlias = NDArray[np.uint16]
Float32s: TypeAlias = NDArray[np.float32]
Float64s: TypeAlias = NDArray[np.float64]
Int32s: TypeAlias = NDArray[np.int32]
Int64s: TypeAlias = NDArray[np.int64]


class Edges(NamedTuple):
    """Edges of rows by their start: row i's are offsets[i] … offsets[i + 1], then LANES that no row has.

    An edge takes 4 bytes among NARROW rows, else 5: the row it ends at, and the code of its weight p(j|i) + p(i|j).
    """

    offsets: Int64s
    low: NDArray[np.uint16]  # bits of the end, …
    high: Bytes  # … and those beyond 16; of length 0 where there are none
    weights: Codes


@numba.njit(nogil=True, cache=True, inline="always")
def end_of(edges: Edges, e: int) -> int:
    """Return the row that edge e ends at."""
    end = np.int64(edges.low[e])
    return end | (np.int64(edges.high[e]) << 16) if edges.high.shape[0] else end  # type: ignore[return-value]


@numba.njit(nogil=True, cache=True, inline="always")
def _put(edges: Edges, e: int, end: int, code: int) -> None:
    edges.low[e], edges.weights[e] = end & 0xFFFF, code
    if edges.high.shape[0]:
        edges.high[e] = end >> 16


@numba.njit(nogil=True, cache=True, fastmath={"contract", "nsz", "reassoc"})
def _sums(distances, beta, weights):  # type: ignore[no-untyped-def]
    """Write w = exp(-beta d) and return the sums of w, w d and w d^2.

    exp(-x) is the 1024th power of a polynomial in x / 1024, off by 1e-10 at most: the compiler puts that into SIMD
    lanes, where the C library's exp is called for one value after the other.
    """
    total = first = second = 0.0
    for j in range(distances.shape[0]):
        y = min(beta * distances[j], 700.0) * (-1.0 / 1024.0)
        w = 1.0 / 6227020800.0
        for inverse in numba.literal_unroll(INVERSE_FACTORIALS):
            w = w * y + inverse
        w = w * w
        w = w * w
        w = w * w
        w = w * w
        w = w * w
        w = w * w
        w = w * w
        w = w * w
        w = w * w
        w = w * w
        weights[j] = w
        total += w
        first += w * distances[j]
        second += w * distances[j] * distances[j]
    return total, first, second


@numba.njit(nogil=True, cache=True)
def calibrate(squared: Float64s, perplexity: float, out: Float32s) -> None:
    """Write p(j|i) of rows whose squared distances (n_rows, k) ascend.

    Where more than `perplexity` neighbours lie equally near, no beta is large enough: those share the probability.
    """
    target, start = np.log(perplexity), START + np.log(squared.shape[1] / perplexity)
    weights, distances = np.empty(squared.shape[1]), np.empty(squared.shape[1])
    for i in range(squared.shape[0]):
        scale = 0.0
        for j in range(squared.shape[1]):
            scale += squared[i, j] - squared[i, 0]
        scale /= squared.shape[1]
        if not scale > 0.0:  # all are equally near
            out[i, :] = 1.0 / squared.shape[1]
            continue
        for j in range(squared.shape[1]):
            distances[j] = (squared[i, j] - squared[i, 0]) / scale
        logarithm, low, high = start, -np.inf, np.inf  # of beta in units of 1 / scale
        for _ in range(STEPS):
            beta = np.exp(logarithm)
            total, first, second = _sums(distances, beta, weights)
            mean = first / total
            excess = beta * mean + np.log(total) - target
            if abs(excess) < TOLERANCE or logarithm > 600.0:
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
        for j in range(squared.shape[1]):
            out[i, j] = weights[j] / total


@numba.njit(nogil=True, cache=True)
def put_edges(neighbours: Int32s, codes: Codes, first: int, edges: Edges) -> None:
    """Write the edges of rows `first` and on, sorted by neighbour, to be found by halving."""
    for i in range(neighbours.shape[0]):
        order = np.argsort(neighbours[i])
        at = edges.offsets[first + i]
        for e in range(order.shape[0]):
            _put(edges, at + e, neighbours[i, order[e]], codes[i, order[e]])


def coded(weights: Float32s) -> Codes:
    """Return weights from 0 to 2 in 16 bits: rounded to 12 digits, of floats from 2^-30 on, and 0 as that."""
    rounded = (weights.view(np.int32) + np.int32((1 << DROPPED >> 1) - LEAST_BITS)) >> np.int32(DROPPED)
    codes: Codes = np.clip(rounded, 0, 65535).astype(np.uint16)
    return codes


def decoded(codes: Codes) -> Float32s:
    """Return what codes stand for."""
    return ((codes.astype(np.int32) << np.int32(DROPPED)) + np.int32(LEAST_BITS)).view(np.float32)


@numba.njit(nogil=True, cache=True)
def value_of(code: int) -> float:
    """Return what one code stands for."""
    return float(np.ldexp(1.0 + (code & 2047) / 2048.0, (code >> 11) - 30))


@numba.njit(nogil=True, cache=True)
def _both(first: int, second: int) -> int:
    """Return the code of the sum of what two codes stand for."""
    digits, exponent = math.frexp(value_of(first) + value_of(second))
    return min(int((exponent + 29) * 2048 + np.rint((2.0 * digits - 1.0) * 2048.0)), 65535)


@numba.njit(nogil=True, cache=True)
def _place(edges: Edges, row: int, wanted: int) -> int:
    """Return which edge of a row, sorted, ends at `wanted`, or -1."""
    low, high = edges.offsets[row], edges.offsets[row + 1]
    last = high
    while low < high:
        middle = (low + high) >> 1
        if end_of(edges, middle) < wanted:
            low = middle + 1
        else:
            high = middle
    return low if low < last and end_of(edges, low) == wanted else -1


@numba.njit(nogil=True, cache=True)
def join_mutual(edges: Edges, start: int, stop: int, one_way: Bools) -> None:
    """Add both directions of every edge of rows start … stop that has two, and mark those that have one.

    Rows may be taken by several threads: both weights of an edge are read and written by the row of the lower number.
    """
    for i in range(start, stop):
        for e in range(edges.offsets[i], edges.offsets[i + 1]):
            j = end_of(edges, e)
            back = _place(edges, j, i)
            one_way[e] = back < 0
            if back >= 0 and i < j:
                edges.weights[e] = edges.weights[back] = _both(edges.weights[e], edges.weights[back])


@numba.njit(nogil=True, cache=True)
def count_ends(edges: Edges, one_way: Bools, counts: Int64s) -> None:
    """Count the marked edges that end at every row."""
    for e in range(one_way.shape[0]):
        if one_way[e]:
            counts[end_of(edges, e)] += 1


@numba.njit(nogil=True, cache=True)
def reverse_edges(edges: Edges, one_way: Bools, at: Int64s, far: Edges) -> None:
    """Write the marked edges at their end j, from at[j] on, which moves along."""
    for i in range(edges.offsets.shape[0] - 1):
        for e in range(edges.offsets[i], edges.offsets[i + 1]):
            if one_way[e]:
                j = end_of(edges, e)
                _put(far, at[j], i, edges.weights[e])
                at[j] += 1
