"""Compute the repulsion of t-SNE on a grid by FFT: spread charges, convolve them, interpolate forces (particle-mesh).

    embedding xs, ys (n_rows,) float32  ->  charges (nodes_y, nodes_x);   charges, spectrum  ->  potential, forces, Z

A row's charge of 1 is spread over SPLINE_ORDER nodes in each direction by B-splines. The force (x, y) / (1 + r^2)^2 is
the gradient of -1 / 2(1 + r^2), so the slopes of one potential, read back with the splines' derivatives, are both
components, nothing cancels, and Z = sum 1 / (1 + r^2) is a sum over the spectrum (Parseval). The spectrum is the one of
least squared error over all positions in a cell, the optimal influence function of Hockney & Eastwood, "Computer
Simulation Using Particles", 1988: it divides out the splines and weighs the images that spreading folds into the band
(aliasing). Rows come sorted by the grid row they are in, so a band of grid rows is written by one thread, and every
node adds its charges in the order of the rows.
"""

from __future__ import annotations

from typing import TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

from engine.kernels.cpu.jit_options import INNER
from engine.kernels.cpu.simd.vectors import LANES, fma
from engine.kernels.cpu.tsne.fft import WIDTH, compute_fft

GRID_SPACING = 0.29  # of nodes, in units of the embedding, where the kernel is 1 / (1 + r^2): see decisions/0006
SPLINE_ORDER = 6  # nodes in each direction that a row's charge is spread over
MAX_SELF_FORCE = 7.948e-4  # of a row's charge on itself, at most: follows from GRID_SPACING and SPLINE_ORDER

Float32s: TypeAlias = NDArray[np.float32]
Float64s: TypeAlias = NDArray[np.float64]
Int64s: TypeAlias = NDArray[np.int64]
Int32s: TypeAlias = NDArray[np.int32]


@numba.njit(**INNER, forceinline=True)
def _slot(row):  # type: ignore[no-untyped-def]
    """Return where a band keeps a grid row: rows 2 i and 2 i + 1 are the real and the imaginary parts of lane i.

    Rows that share a sequence share its rounding, so which they are must not depend on the number of lanes.
    """
    return np.uint64((row >> 1) + (row & 1) * LANES)


@numba.njit(nogil=True, cache=True)
def sort_by_grid_row(ys: Float32s, origin: float, starts: Int32s, order: Int32s) -> None:
    """Write the rows sorted by the grid row they are in, ties by index, and where each grid row starts."""
    factor, first = np.float32(1.0 / GRID_SPACING), np.float32(origin)
    starts[:] = 0
    for i in range(ys.shape[0]):
        starts[np.int64(ys[i] * factor - first) + 1] += 1
    for j in range(1, starts.shape[0]):
        starts[j] += starts[j - 1]
    for i in range(ys.shape[0]):
        row = np.int64(ys[i] * factor - first)
        order[starts[row]] = i
        starts[row] += 1
    for j in range(starts.shape[0] - 1, 0, -1):
        starts[j] = starts[j - 1]
    starts[0] = 0


@numba.njit(nogil=True, cache=True, inline="always")
def _spline_weights_order_5(u: np.float32) -> tuple[np.float32, ...]:
    """Return the B-spline weights of order 5, one less than SPLINE_ORDER, of the five nodes around a position."""
    v, half, third, fourth = np.float32(1.0) - u, np.float32(0.5), np.float32(1.0 / 3.0), np.float32(0.25)
    u1, u2, u3 = u + np.float32(1.0), u + np.float32(2.0), u + np.float32(3.0)
    v1, v2, v3 = v + np.float32(1.0), v + np.float32(2.0), v + np.float32(3.0)
    a0, a1, a2 = half * v * v, half * fma(u1, v, v1 * u), half * u * u
    b0, b1, b2, b3 = third * v * a0, third * fma(u2, a0, v1 * a1), third * fma(u1, a1, v2 * a2), third * u * a2
    c0, c1, c2 = fourth * v * b0, fourth * fma(u3, b0, v1 * b1), fourth * fma(u2, b1, v2 * b2)
    return c0, c1, c2, fourth * fma(u1, b2, v3 * b3), fourth * u * b3


@numba.njit(nogil=True, cache=True, inline="always")
def spline_weights(u: np.float32) -> tuple[np.float32, ...]:
    """Return the B-spline weights of the six nodes around a position u in [0, 1) beyond the third of them."""
    c0, c1, c2, c3, c4 = _spline_weights_order_5(u)
    v, fifth = np.float32(1.0) - u, np.float32(0.2)
    u1, u2, u3, u4 = u + np.float32(1.0), u + np.float32(2.0), u + np.float32(3.0), u + np.float32(4.0)
    v1, v2, v3, v4 = v + np.float32(1.0), v + np.float32(2.0), v + np.float32(3.0), v + np.float32(4.0)
    d0, d1, d2 = fifth * v * c0, fifth * fma(u4, c0, v1 * c1), fifth * fma(u3, c1, v2 * c2)
    return d0, d1, d2, fifth * fma(u2, c2, v3 * c3), fifth * fma(u1, c3, v4 * c4), fifth * u * c4


@numba.njit(nogil=True, cache=True, inline="always")
def spline_derivatives(u: np.float32) -> tuple[np.float32, ...]:
    """Return the derivatives of the weights with respect to the position, per node spacing."""
    c0, c1, c2, c3, c4 = _spline_weights_order_5(u)
    return -c0, c0 - c1, c1 - c2, c2 - c3, c3 - c4, c4


@numba.njit(nogil=True, cache=True, inline="always")
def add_to_nodes(charges: Float32s, at: int, y: float, weights: tuple[float, ...]) -> None:
    """Add y times the six weights to the nodes of a grid row, which are stored WIDTH apart."""
    charges[at] = fma(y, weights[0], charges[at])
    charges[at + WIDTH] = fma(y, weights[1], charges[at + WIDTH])
    charges[at + 2 * WIDTH] = fma(y, weights[2], charges[at + 2 * WIDTH])
    charges[at + 3 * WIDTH] = fma(y, weights[3], charges[at + 3 * WIDTH])
    charges[at + 4 * WIDTH] = fma(y, weights[4], charges[at + 4 * WIDTH])
    charges[at + 5 * WIDTH] = fma(y, weights[5], charges[at + 5 * WIDTH])


@numba.njit(nogil=True, cache=True)
def spread_charges(
    xs: Float32s, ys: Float32s, order: Int32s, starts: Int32s, origin: tuple[float, float],
    first: int, charges: Float32s,
) -> None:  # fmt: skip
    """Add the charges of all rows to the WIDTH grid rows from `first` on, in `charges` (columns * WIDTH,)."""
    factor = np.float32(1.0 / GRID_SPACING)
    y0, x0 = np.float32(origin[0]), np.float32(origin[1])
    for row in range(max(first - SPLINE_ORDER + 1, 0), min(first + WIDTH, starts.shape[0] - 1)):
        for position in range(starts[row], starts[row + 1]):
            i = order[position]
            x, y = xs[i] * factor - x0, ys[i] * factor - y0
            column = np.uint64(x)
            across = spline_weights(x - np.float32(column))
            down = spline_weights(y - np.float32(row))
            for a in numba.literal_unroll((0, 1, 2, 3, 4, 5)):
                if first <= row + a < first + WIDTH:
                    add_to_nodes(charges, column * np.uint64(WIDTH) + _slot(row + a - first), down[a], across)


@numba.njit(nogil=True, cache=True)
def forward_transform(
    xs: Float32s, ys: Float32s, order: Int32s, starts: Int32s, origin: tuple[float, float], bands: tuple[int, int],
    factors: Int64s, roots: Float32s, down: Float32s, work: Float32s,
) -> None:  # fmt: skip
    """Spread charges over bands of WIDTH grid rows and transform the bands along x: the forward FFT.

    Two grid rows are the real and the imaginary parts of one sequence: see _slot. Of their spectra, (blocks of LANES
    waves, grid rows, 2, LANES), the waves up to n / 2 are kept: the others are their conjugates.
    """
    n = roots.shape[0] // 2
    charges, spare = work[0], work[1]
    half = np.float32(0.5)
    for band in range(bands[0], bands[1]):
        first = band * WIDTH
        charges[: n * WIDTH] = 0.0
        spread_charges(xs, ys, order, starts, origin, first, charges)
        transformed = compute_fft(charges, spare, factors, roots)
        for block in range(down.shape[0]):
            for lane in range(LANES):
                top, below = down[block, first + 2 * lane], down[block, first + 2 * lane + 1]
                for c in range(LANES):
                    wave = block * LANES + c
                    at, mirror = wave * WIDTH + lane, ((n - wave) % n) * WIDTH + lane
                    top[c] = half * (transformed[at] + transformed[mirror])
                    top[LANES + c] = half * (transformed[at + LANES] - transformed[mirror + LANES])
                    below[c] = half * (transformed[at + LANES] + transformed[mirror + LANES])
                    below[LANES + c] = half * (transformed[mirror] - transformed[at])


@numba.njit(nogil=True, cache=True)
def convolve(
    down: Float32s, spectrum: Float32s, blocks: tuple[int, int], factors: Int64s, roots: Float32s,
    across: Float32s, sums: Float64s, work: Float32s,
) -> None:  # fmt: skip
    """Transform blocks of LANES waves along y, multiply them by the kernel's spectrum, and transform them back along y.

    Writes each wave's sum of |charge|^2 x spectrum, and the potential: two grid rows, which are real, are the real and
    the imaginary parts of one sequence, (bands of WIDTH grid rows, waves, 2, LANES). Imaginary parts come first, as the
    inverse FFT needs them.
    """
    n, n_waves = roots.shape[0] // 2, across.shape[1]
    for block in range(blocks[0], blocks[1]):
        start, spare = work[0], work[1]
        start[: down.shape[1] * WIDTH] = down[block].ravel()
        start[down.shape[1] * WIDTH : n * WIDTH] = 0.0
        charges = compute_fft(start, spare, factors, roots)
        scratch = spare if len(factors) % 2 == 0 else start
        multiply_by_spectrum(charges, spectrum[block], sums[block * LANES : (block + 1) * LANES])
        transformed = compute_fft(charges, scratch, factors, roots)
        for band in range(across.shape[0]):
            for c in range(min(LANES, n_waves // 2 + 1 - block * LANES)):
                wave = block * LANES + c
                at, mirror = across[band, wave], across[band, (n_waves - wave) % n_waves]
                first = band * WIDTH * WIDTH + c
                # Waves 0 and n / 2 are their own mirrors and keep what is written last.
                for lane in range(LANES):
                    top, below = first + 2 * lane * WIDTH, first + (2 * lane + 1) * WIDTH
                    a_im, a_re = transformed[top], transformed[top + LANES]
                    b_im, b_re = transformed[below], transformed[below + LANES]
                    mirror[lane], mirror[LANES + lane] = b_re - a_im, a_re + b_im
                    at[lane], at[LANES + lane] = a_im + b_re, a_re - b_im


@numba.njit(nogil=True, cache=True)
def inverse_transform(
    across: Float32s, bands: tuple[int, int], factors: Int64s, roots: Float32s, potential: Float32s, work: Float32s
) -> None:
    """Transform bands of WIDTH grid rows back along x into the potential (grid rows, grid columns): the inverse FFT."""
    for band in range(bands[0], bands[1]):
        transformed = compute_fft(across[band].ravel(), work[0], factors, roots)
        for r in range(min(WIDTH, potential.shape[0] - band * WIDTH)):
            row = potential[band * WIDTH + r]
            source = (np.int64(_slot(r)) + LANES) % WIDTH  # imaginary parts come first
            for column in range(potential.shape[1]):
                row[column] = transformed[column * WIDTH + source]


@numba.njit(nogil=True, cache=True, inline="always")
def _interpolate_row(potential, row, column, weights, slopes):  # type: ignore[no-untyped-def]
    """Return the interpolated potential and its derivative along x in one grid row, from six columns on."""
    value, slope = weights[0] * potential[row, column], slopes[0] * potential[row, column]
    for b in range(1, SPLINE_ORDER):
        value = fma(weights[b], potential[row, column + b], value)
        slope = fma(slopes[b], potential[row, column + b], slope)
    return value, slope


@numba.njit(nogil=True, cache=True, inline="always")
def interpolate_force(potential, y, x):  # type: ignore[no-untyped-def]
    """Return the force (y, x): the gradient of the potential at a position in nodes from its corner."""
    column, row = np.uint64(x), np.uint64(y)
    u, v = x - np.float32(column), y - np.float32(row)
    across, slopes_across = spline_weights(u), spline_derivatives(u)
    down, slopes_down = spline_weights(v), spline_derivatives(v)
    force_y = force_x = np.float32(0.0)
    for a in range(SPLINE_ORDER):
        value, slope = _interpolate_row(potential, row + np.uint64(a), column, across, slopes_across)
        force_y = fma(slopes_down[a], value, force_y)
        force_x = fma(down[a], slope, force_x)
    return force_y, force_x


@numba.njit(nogil=True, cache=True, inline="always")
def _self_force(x: np.float32) -> np.float32:
    """Return the force of a row's charge on itself along one axis: a sine of its position, as polynomial."""
    t = x - np.float32(np.uint64(x)) - np.float32(0.5)
    square = t * t
    cubic = fma(square, fma(np.float32(56.1), square, np.float32(-64.3)), np.float32(25.133))
    force: np.float32 = np.float32(-MAX_SELF_FORCE) * t * (cubic * (np.float32(0.25) - square))
    return force


@numba.njit(nogil=True, cache=True)
def interpolate_forces(
    xs: Float32s, ys: Float32s, start: int, stop: int, origin: tuple[float, float], potential: Float32s,
    forces: Float32s,
) -> None:  # fmt: skip
    """Write the forces on rows start … stop into forces (stop - start, 2), as (y, x), without those on themselves."""
    factor = np.float32(1.0 / GRID_SPACING)
    y0, x0 = np.float32(origin[0]), np.float32(origin[1])
    for i in range(start, stop):
        y, x = ys[i] * factor - y0, xs[i] * factor - x0
        force_y, force_x = interpolate_force(potential, y, x)
        forces[i - start, 0], forces[i - start, 1] = force_y - _self_force(y), force_x - _self_force(x)


@numba.njit(nogil=True, cache=True)
def compute_influence_function(
    sampled: Float64s, wave_y: Float64s, wave_x: Float64s, splines_y: Float64s, splines_x: Float64s,
    spectrum: Float32s,
) -> None:  # fmt: skip
    """Write waves of the optimal influence function, the spectrum of the kernel on the grid, (n_y / 2 + 1, LANES).

    It minimizes the squared error of forces that are derivatives of the potential (Ballenegger, Cerda & Holm, 2012).
    `sampled` is the transform of 1 / (1 + r^2) on the grid, wave_* are wave numbers, and splines_* (3, n) the squared
    transforms of the splines at the images -1, 0, 1. Sampling folds images of the kernel into the band. They are known:
    its transform is 2 pi K0(k), beyond the band by its asymptotic series.
    """
    step = 2.0 * np.pi / GRID_SPACING
    area = GRID_SPACING * GRID_SPACING
    for j in range(wave_y.shape[0]):
        for i in range(wave_x.shape[0]):
            value_at_wave = sampled[j, i] * area
            wave_square = wave_y[j] * wave_y[j] + wave_x[i] * wave_x[i]
            potential = squares = 0.0
            for a in range(3):
                for b in range(3):
                    if a == 1 and b == 1:
                        continue
                    qy, qx = wave_y[j] + (a - 1) * step, wave_x[i] + (b - 1) * step
                    square, weight = qy * qy + qx * qx, splines_y[a, j] * splines_x[b, i]
                    squares += square * weight
                    k = np.sqrt(square)
                    if k > 25.0:  # the kernel's transform is below 1e-10
                        continue
                    z = 1.0 / k
                    series = 1.0 + z * (-0.125 + z * (0.0703125 - z * 0.0732421875))
                    image = 2.0 * np.pi * np.sqrt(0.5 * np.pi * z) * np.exp(-k) * series
                    value_at_wave -= image
                    potential += square * weight * image
            weight = splines_y[1, j] * splines_x[1, i]
            weights = splines_y[:, j].sum() * splines_x[:, i].sum()
            if wave_square > 0.0:
                value_at_wave = (wave_square * weight * value_at_wave + potential) / (wave_square * weight + squares)
            spectrum[j, i] = value_at_wave / (area * weights)


@numba.njit(nogil=True, cache=True)
def multiply_by_spectrum(charges: Float32s, spectrum: Float32s, sums: Float64s) -> None:
    """Multiply the charges of LANES waves by the spectrum, imaginary parts first; add |charge|^2 x spectrum to sums."""
    n = charges.shape[0] // WIDTH
    for j in range(n):
        at, wave = j * WIDTH, min(j, n - j)
        for i in range(LANES):
            re, im, factor = charges[at + i], charges[at + LANES + i], spectrum[wave, i]
            sums[i] += np.float64(fma(re, re, im * im) * factor)
            charges[at + i], charges[at + LANES + i] = im * factor, re * factor
