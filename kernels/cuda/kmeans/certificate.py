"""Error bound of scores that are sums of three bfloat16 products, and centers made ready for them.

    centers (n_clusters, n_features), shift, factor  ->  Centers: two bfloat16 parts, offsets, blurs
    n_features                                       ->  ErrorBound

A row y = (x - shift) factor and a center c in the same frame are each split into two bfloat16 numbers and a rest,
y = yh + yl + ry. The score of a center is s = |c|^2 / 2 - y.c, which ranks centers as squared distances do.
The kernel computes

    y.c  ~  yh.ch + yh.cl + yl.ch

and leaves out yl.cl, ry.c and y.rc, each at most 2^-16 |y| |c| (unit roundoff of bfloat16: 2^-8). Products of bfloat16
numbers are exact in float32; each of the 3 n_features additions is off by at most ACCUMULATION of what has been added.
With |y| |c| <= (|y|^2 + |c|^2) / 2 the error of a score is at most

    per_row |y|^2 + per_center |c|^2

so the label is proven where the second lowest of s_j - per_center |c_j|^2 lies above the lowest by more than
2 per_center |c_best|^2 + 2 per_row |y|^2. Proof of the general scheme: decisions/0005-screening.md.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = Any  # of the array module `xp`

OMITTED = 3.03 * 2.0**-16  # products that are left out, of |y| |c|; 3.03 covers the second-order terms
ACCUMULATION = 2.0**-22  # relative error of an addition on tensor cores, which may truncate: four float32 roundoffs
ROUNDOFF = 2.0**-24  # of float32
SLACK = 1.02  # for the rounding of the test itself, of |y|^2 and of the numbers of this file
FLOOR = 1e-30  # absolute, in the frame: below, float32 is denormal and relative bounds do not hold


class ErrorBound(NamedTuple):
    """Error of a score, of the squared lengths of the row and of the center."""

    per_row: float
    per_center: float


class Centers(NamedTuple):
    """Centers in a frame, ready for the kernel; padded with zeros, and with infinite offsets."""

    high: Array  # (n_padded, n_features_padded) uint16: the bits of bfloat16 numbers
    low: Array  # the same shape: what the high part leaves
    offsets: Array  # (n_padded,) float32: |c|^2 / 2 less the error bound of the center
    blurs: Array  # (n_padded,) float32: twice the error bound of the center


def error_bound(n_features: int) -> ErrorBound:
    """Return the error bound of scores of rows with so many features."""
    additions = (3 * n_features + 4) * ACCUMULATION
    product = OMITTED + 1.01 * additions + 2.0 * ROUNDOFF  # of |y| |c|; the last term: y itself is rounded once
    offset = 2.0 * ROUNDOFF + additions  # of |c|^2 / 2
    return ErrorBound(SLACK * product / 2, SLACK * (product + offset) / 2)


def prepare_centers(
    xp: Any, centers: Array, shift: Array, factor: float, n_padded: int, n_features_padded: int
) -> Centers:
    """Split centers (n_clusters, n_features) into bfloat16 parts, and compute their offsets and blurs in float64."""
    n_clusters, n_features = centers.shape
    framed = (centers.astype(np.float64) - shift) * factor
    sizes = (framed * framed).sum(axis=1)
    bound = error_bound(n_features).per_center
    offsets = xp.full(n_padded, np.inf, np.float32)
    offsets[:n_clusters] = (0.5 - bound) * sizes
    blurs = xp.zeros(n_padded, np.float32)
    blurs[:n_clusters] = 2.0 * bound * sizes
    high = xp.zeros((n_padded, n_features_padded), np.uint16)
    low = xp.zeros((n_padded, n_features_padded), np.uint16)
    rounded = framed.astype(np.float32)
    bits = round_to_bfloat16(rounded)
    high[:n_clusters, :n_features] = bits >> 16
    rest = (framed - bits.view(np.float32)).astype(np.float32)
    low[:n_clusters, :n_features] = round_to_bfloat16(rest) >> 16
    return Centers(high, low, offsets, blurs)


def round_to_bfloat16(values: Array) -> Array:
    """Return the bits of float32 values rounded to bfloat16, half to even, as uint32 whose lower half is 0."""
    bits = values.view(np.uint32)
    return (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
