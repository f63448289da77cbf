"""Compute fast Fourier transforms of LANES sequences of one length at a time, one sequence in each SIMD lane.

    x (n, 2, LANES) float32: real and imaginary parts  ->  sum over j of x[j] exp(-2 pi i j k / n), in the same layout

Stockham's autosort algorithm with radices 2, 3, 4 and 5: every pass reads one buffer and writes the other, in an order
that needs no digit reversal. SciPy transforms one sequence after the other, with the SIMD that every host has: 4.1 us
for 1,200 complex points, here 1.24 us (one Emerald Rapids core; 2.35 us if vectors cross cache lines). With real and
imaginary parts swapped, the same function computes the inverse transform times n.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

from engine.kernels.cpu.simd.vectors import LANES, broadcast, fma, load, splat, store

WIDTH = 2 * LANES  # floats of one element: real and imaginary parts of LANES sequences

Float32s: TypeAlias = NDArray[np.float32]
Int64s: TypeAlias = NDArray[np.int64]


def radix_factors(n: int) -> Int64s:
    """Return the radices of the passes of a transform of length n, a product of 2, 3 and 5."""
    factors = []
    for radix in (5, 3, 4, 2):
        while n % radix == 0:
            factors.append(radix)
            n //= radix
    if n != 1:
        raise ValueError("the length of a transform has prime factors beyond 5.")
    return np.array(factors, np.int64)


def next_fast_length(n: int) -> int:
    """Return the least even length of at least n that is a product of 2, 3 and 5 (as scipy.fft.next_fast_len)."""
    n += n % 2
    while True:
        rest = n
        for radix in (2, 3, 5):
            while rest % radix == 0:
                rest //= radix
        if rest == 1:
            return n
        n += 2


def roots_of_unity(n: int) -> Float32s:
    """Return the twiddle factors exp(-2 pi i t / n), t = 0 … n - 1, real and imaginary parts in turn."""
    # NumPy's sine and cosine have other bits on CPUs with AVX-512; those of the C library are the same.
    angles = [2.0 * math.pi / n * t for t in range(n)]
    return np.array([[math.cos(angle), -math.sin(angle)] for angle in angles], np.float32).ravel()


@numba.njit(nogil=True, cache=True, inline="always")
def _multiply_by_root(re, im, roots, t):  # type: ignore[no-untyped-def]
    """Return a complex number times twiddle factor t."""
    c, s = broadcast(roots, 2 * t), broadcast(roots, 2 * t + 1)
    return re * c - im * s, fma(re, s, im * c)


@numba.njit(nogil=True, cache=True)
def _radix2_pass(x, y, m, s, roots):  # type: ignore[no-untyped-def]
    for p in range(m):
        for q in range(s):
            i, o = (q + s * p) * WIDTH, (q + 2 * s * p) * WIDTH
            ar, ai, br, bi = (
                load(x, i),
                load(x, i + LANES),
                load(x, i + s * m * WIDTH),
                load(x, i + s * m * WIDTH + LANES),
            )
            store(y, o, ar + br), store(y, o + LANES, ai + bi)
            r, j = _multiply_by_root(ar - br, ai - bi, roots, p * s)
            store(y, o + s * WIDTH, r), store(y, o + s * WIDTH + LANES, j)


@numba.njit(nogil=True, cache=True)
def _radix3_pass(x, y, m, s, roots):  # type: ignore[no-untyped-def]
    half, root = splat(np.float32(-0.5)), splat(np.float32(-np.sqrt(0.75)))
    apart, step = s * m * WIDTH, s * WIDTH
    for p in range(m):
        for q in range(s):
            i, o = (q + s * p) * WIDTH, (q + 3 * s * p) * WIDTH
            ar, ai = load(x, i), load(x, i + LANES)
            br, bi = load(x, i + apart), load(x, i + apart + LANES)
            cr, ci = load(x, i + 2 * apart), load(x, i + 2 * apart + LANES)
            sr, si, dr, di = br + cr, bi + ci, root * (br - cr), root * (bi - ci)
            store(y, o, ar + sr), store(y, o + LANES, ai + si)
            mr, mi = fma(half, sr, ar), fma(half, si, ai)
            r, j = _multiply_by_root(mr - di, mi + dr, roots, p * s)
            store(y, o + step, r), store(y, o + step + LANES, j)
            r, j = _multiply_by_root(mr + di, mi - dr, roots, 2 * p * s)
            store(y, o + 2 * step, r), store(y, o + 2 * step + LANES, j)


@numba.njit(nogil=True, cache=True)
def _radix4_pass(x, y, m, s, roots):  # type: ignore[no-untyped-def]
    apart, step = s * m * WIDTH, s * WIDTH
    for p in range(m):
        for q in range(s):
            i, o = (q + s * p) * WIDTH, (q + 4 * s * p) * WIDTH
            ar, ai = load(x, i), load(x, i + LANES)
            br, bi = load(x, i + apart), load(x, i + apart + LANES)
            cr, ci = load(x, i + 2 * apart), load(x, i + 2 * apart + LANES)
            dr, di = load(x, i + 3 * apart), load(x, i + 3 * apart + LANES)
            pr, pi, mr, mi = ar + cr, ai + ci, ar - cr, ai - ci
            qr, qi, nr, ni = br + dr, bi + di, br - dr, bi - di
            store(y, o, pr + qr), store(y, o + LANES, pi + qi)
            r, j = _multiply_by_root(mr + ni, mi - nr, roots, p * s)
            store(y, o + step, r), store(y, o + step + LANES, j)
            r, j = _multiply_by_root(pr - qr, pi - qi, roots, 2 * p * s)
            store(y, o + 2 * step, r), store(y, o + 2 * step + LANES, j)
            r, j = _multiply_by_root(mr - ni, mi + nr, roots, 3 * p * s)
            store(y, o + 3 * step, r), store(y, o + 3 * step + LANES, j)


@numba.njit(nogil=True, cache=True)
def _radix5_pass(x, y, m, s, roots):  # type: ignore[no-untyped-def]
    c1, c2 = splat(np.float32(np.cos(0.4 * np.pi))), splat(np.float32(np.cos(0.8 * np.pi)))
    s1, s2 = splat(np.float32(-np.sin(0.4 * np.pi))), splat(np.float32(-np.sin(0.8 * np.pi)))
    apart, step = s * m * WIDTH, s * WIDTH
    for p in range(m):
        for q in range(s):
            i, o = (q + s * p) * WIDTH, (q + 5 * s * p) * WIDTH
            ar, ai = load(x, i), load(x, i + LANES)
            br, bi = load(x, i + apart), load(x, i + apart + LANES)
            cr, ci = load(x, i + 2 * apart), load(x, i + 2 * apart + LANES)
            dr, di = load(x, i + 3 * apart), load(x, i + 3 * apart + LANES)
            er, ei = load(x, i + 4 * apart), load(x, i + 4 * apart + LANES)
            br, bi, er, ei = br + er, bi + ei, br - er, bi - ei
            cr, ci, dr, di = cr + dr, ci + di, cr - dr, ci - di
            store(y, o, ar + br + cr), store(y, o + LANES, ai + bi + ci)
            mr, mi = fma(c1, br, fma(c2, cr, ar)), fma(c1, bi, fma(c2, ci, ai))
            nr, ni = fma(s1, er, s2 * dr), fma(s1, ei, s2 * di)
            r, j = _multiply_by_root(mr - ni, mi + nr, roots, p * s)
            store(y, o + step, r), store(y, o + step + LANES, j)
            r, j = _multiply_by_root(mr + ni, mi - nr, roots, 4 * p * s)
            store(y, o + 4 * step, r), store(y, o + 4 * step + LANES, j)
            mr, mi = fma(c2, br, fma(c1, cr, ar)), fma(c2, bi, fma(c1, ci, ai))
            nr, ni = s2 * er - s1 * dr, s2 * ei - s1 * di
            r, j = _multiply_by_root(mr - ni, mi + nr, roots, 2 * p * s)
            store(y, o + 2 * step, r), store(y, o + 2 * step + LANES, j)
            r, j = _multiply_by_root(mr + ni, mi - nr, roots, 3 * p * s)
            store(y, o + 3 * step, r), store(y, o + 3 * step + LANES, j)


@numba.njit(nogil=True, cache=True)
def compute_fft(x: Float32s, spare: Float32s, factors: Int64s, roots: Float32s) -> Float32s:
    """Transform x (n * WIDTH,), and return the result: it lies in x or in `spare`, of the same size."""
    m, s = roots.shape[0] // 2, 1
    for radix in factors:
        m //= radix
        if radix == 2:
            _radix2_pass(x, spare, m, s, roots)
        elif radix == 3:
            _radix3_pass(x, spare, m, s, roots)
        elif radix == 4:
            _radix4_pass(x, spare, m, s, roots)
        else:
            _radix5_pass(x, spare, m, s, roots)
        s *= radix
        x, spare = spare, x
    return x
