"""Repulsion on a grid: charges spread over nodes, and the spectrum of the kernel that takes charges to forces.

    places xs, ys (n_rows,) float32  ->  charges (n_cells_y, n_cells_x);  spectrum of the grid  ->  potential, forces

A row's charge of 1 is spread over ORDER x ORDER nodes by B-splines. The force (x, y) / (1 + r^2)^2 is the gradient of
-1 / 2(1 + r^2), so the slopes of one potential, read back with the splines' derivatives, are both components, nothing
cancels, and Z = sum 1 / (1 + r^2) is a sum over the spectrum (Parseval). The spectrum is the one of least squared error
over all places in a cell (Hockney & Eastwood, "Computer Simulation Using Particles", 1988): it divides out the splines
and weighs the images that spreading folds into the band. Rows come sorted by the grid row they
are in, so a band of grid rows is written by one thread, and every node adds its charges in the order of the rows.
"""

from __future__ import annotations

from typing import TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

from engine.kernels.cpu.simd.vectors import LANES
from engine.kernels.cpu.tsne.fft import WIDTH, transform

SPACING = 0.29  # of the grid, in units of the map, where the kernel is 1 / (1 + r^2): see decisions/0006
ORDER = 6  # nodes a row is spread over, in each direction
OWN_PUSH = 7.948e-4  # of a row by its own charge, at most: follows from the two above

Float32s: TypeAlias = NDArray[np.float32]
Float64s: TypeAlias = NDArray[np.float64]
Int64s: TypeAlias = NDArray[np.int64]
Int32s: TypeAlias = NDArray[np.int32]


@numba.njit(nogil=True, cache=True)
def sort_by_grid_row(ys: Float32s, origin: float, starts: Int32s, order: Int32s) -> None:
    """Write row numbers sorted by the grid row they are in, ties by number, and where each grid row starts."""
    factor, first = np.float32(1.0 / SPACING), np.float32(origin)
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


@numba.njit(nogil=True, cache=True, inline="always", fastmath={"contract", "nsz"})
def _fifth_order(u: np.float32) -> tuple[np.float32, ...]:
    """Return the weights of the five nodes that splines of one order less spread a place over."""
    v, half, third, fourth = np.float32(1.0) - u, np.float32(0.5), np.float32(1.0 / 3.0), np.float32(0.25)
    u1, u2, u3 = u + np.float32(1.0), u + np.float32(2.0), u + np.float32(3.0)
    v1, v2, v3 = v + np.float32(1.0), v + np.float32(2.0), v + np.float32(3.0)
    a0, a1, a2 = half * v * v, half * (u1 * v + v1 * u), half * u * u
    b0, b1, b2, b3 = third * v * a0, third * (u2 * a0 + v1 * a1), third * (u1 * a1 + v2 * a2), third * u * a2
    c0, c1, c2 = fourth * v * b0, fourth * (u3 * b0 + v1 * b1), fourth * (u2 * b1 + v2 * b2)
    return c0, c1, c2, fourth * (u1 * b2 + v3 * b3), fourth * u * b3


@numba.njit(nogil=True, cache=True, inline="always", fastmath={"contract", "nsz"})
def spline_weights(u: np.float32) -> tuple[np.float32, ...]:
    """Return the weights of the six nodes around a place that lies u in [0, 1) beyond the first of them but two."""
    c0, c1, c2, c3, c4 = _fifth_order(u)
    v, fifth = np.float32(1.0) - u, np.float32(0.2)
    u1, u2, u3, u4 = u + np.float32(1.0), u + np.float32(2.0), u + np.float32(3.0), u + np.float32(4.0)
    v1, v2, v3, v4 = v + np.float32(1.0), v + np.float32(2.0), v + np.float32(3.0), v + np.float32(4.0)
    d0, d1, d2 = fifth * v * c0, fifth * (u4 * c0 + v1 * c1), fifth * (u3 * c1 + v2 * c2)
    return d0, d1, d2, fifth * (u2 * c2 + v3 * c3), fifth * (u1 * c3 + v4 * c4), fifth * u * c4


@numba.njit(nogil=True, cache=True, inline="always", fastmath={"contract", "nsz"})
def spline_slopes(u: np.float32) -> tuple[np.float32, ...]:
    """Return the derivatives of the weights by the place, in nodes."""
    c0, c1, c2, c3, c4 = _fifth_order(u)
    return -c0, c0 - c1, c1 - c2, c2 - c3, c3 - c4, c4


@numba.njit(nogil=True, cache=True, inline="always", fastmath={"contract", "nsz"})
def add_nodes(charges: Float32s, at: int, y: float, weights: tuple[float, ...]) -> None:
    """Add y times the six weights to the nodes of a grid row, which lie WIDTH apart."""
    charges[at] += y * weights[0]
    charges[at + WIDTH] += y * weights[1]
    charges[at + 2 * WIDTH] += y * weights[2]
    charges[at + 3 * WIDTH] += y * weights[3]
    charges[at + 4 * WIDTH] += y * weights[4]
    charges[at + 5 * WIDTH] += y * weights[5]


@numba.njit(nogil=True, cache=True, fastmath={"contract", "nsz"})
def spread(
    xs: Float32s, ys: Float32s, order: Int32s, starts: Int32s, origin: tuple[float, float],
    first: int, charges: Float32s,
) -> None:  # fmt: skip
    """Add the charges of all rows to the WIDTH grid rows from `first` on; `charges` (columns * WIDTH,) holds them."""
    factor = np.float32(1.0 / SPACING)
    y0, x0 = np.float32(origin[0]), np.float32(origin[1])
    for row in range(max(first - ORDER + 1, 0), min(first + WIDTH, starts.shape[0] - 1)):
        for place in range(starts[row], starts[row + 1]):
            i = order[place]
            x, y = xs[i] * factor - x0, ys[i] * factor - y0
            column = np.uint64(x)
            across = spline_weights(x - np.float32(column))
            down = spline_weights(y - np.float32(row))
            for a in numba.literal_unroll((0, 1, 2, 3, 4, 5)):
                if first <= row + a < first + WIDTH:
                    add_nodes(charges, column * np.uint64(WIDTH) + np.uint64(row + a - first), down[a], across)


@numba.njit(nogil=True, cache=True)
def forward(
    xs: Float32s, ys: Float32s, order: Int32s, starts: Int32s, origin: tuple[float, float], bands: tuple[int, int],
    factors: Int64s, roots: Float32s, down: Float32s, work: Float32s,
) -> None:  # fmt: skip
    """Spread charges over bands of WIDTH grid rows, and transform these along x.

    Two grid rows are the real and the imaginary parts of one sequence. Of their spectra, (blocks of LANES waves, grid
    rows, 2, LANES), the waves up to n / 2 are kept: the others are their conjugates.
    """
    n = roots.shape[0] // 2
    charges, spare = work[0], work[1]
    half = np.float32(0.5)
    for band in range(bands[0], bands[1]):
        first = band * WIDTH
        charges[: n * WIDTH] = 0.0
        spread(xs, ys, order, starts, origin, first, charges)
        found = transform(charges, spare, factors, roots)
        for block in range(down.shape[0]):
            for lane in range(LANES):
                top, below = down[block, first + lane], down[block, first + LANES + lane]
                for c in range(LANES):
                    wave = block * LANES + c
                    at, mirror = wave * WIDTH + lane, ((n - wave) % n) * WIDTH + lane
                    top[c] = half * (found[at] + found[mirror])
                    top[LANES + c] = half * (found[at + LANES] - found[mirror + LANES])
                    below[c] = half * (found[at + LANES] + found[mirror + LANES])
                    below[LANES + c] = half * (found[mirror] - found[at])


@numba.njit(nogil=True, cache=True)
def convolve(
    down: Float32s, spectrum: Float32s, blocks: tuple[int, int], factors: Int64s, roots: Float32s,
    across: Float32s, sums: Float64s, work: Float32s,
) -> None:  # fmt: skip
    """Transform blocks of LANES waves along y, multiply by the kernel's spectrum, and transform back.

    Writes each wave's sum of |charge|^2 x potential, and the potential of two grid rows, which is real, as the real and
    the imaginary parts of one sequence, (bands of WIDTH grid rows, waves, 2, LANES). Imaginary parts come first, as an
    inverse transform wants them.
    """
    n, n_waves = roots.shape[0] // 2, across.shape[1]
    for block in range(blocks[0], blocks[1]):
        start, spare = work[0], work[1]
        start[: down.shape[1] * WIDTH] = down[block].ravel()
        start[down.shape[1] * WIDTH : n * WIDTH] = 0.0
        charges = transform(start, spare, factors, roots)
        other = spare if len(factors) % 2 == 0 else start
        multiply(charges, spectrum[block], sums[block * LANES : (block + 1) * LANES])
        found = transform(charges, other, factors, roots)
        for band in range(across.shape[0]):
            for c in range(min(LANES, n_waves // 2 + 1 - block * LANES)):
                wave = block * LANES + c
                at, mirror = across[band, wave], across[band, (n_waves - wave) % n_waves]
                first = band * WIDTH * WIDTH + c
                for lane in range(LANES):  # waves 0 and n / 2 are their own mirrors, and keep what is written last
                    top, below = first + lane * WIDTH, first + (LANES + lane) * WIDTH
                    a_im, a_re, b_im, b_re = found[top], found[top + LANES], found[below], found[below + LANES]
                    mirror[lane], mirror[LANES + lane] = b_re - a_im, a_re + b_im
                    at[lane], at[LANES + lane] = a_im + b_re, a_re - b_im


@numba.njit(nogil=True, cache=True)
def backward(
    across: Float32s, bands: tuple[int, int], factors: Int64s, roots: Float32s, potential: Float32s, work: Float32s
) -> None:
    """Transform bands of WIDTH grid rows back along x into the potential (grid rows, grid columns)."""
    for band in range(bands[0], bands[1]):
        found = transform(across[band].ravel(), work[0], factors, roots)
        for lane in range(WIDTH):
            if band * WIDTH + lane < potential.shape[0]:
                row, place = potential[band * WIDTH + lane], (lane + LANES) % WIDTH  # imaginary parts come first
                for column in range(potential.shape[1]):
                    row[column] = found[column * WIDTH + place]


@numba.njit(nogil=True, cache=True, inline="always", fastmath={"contract", "nsz"})
def _along(potential, row, column, weights, slopes):  # type: ignore[no-untyped-def]
    """Return the value and the slope along x of a grid row at a place."""
    value, slope = weights[0] * potential[row, column], slopes[0] * potential[row, column]
    for b in range(1, ORDER):
        value += weights[b] * potential[row, column + b]
        slope += slopes[b] * potential[row, column + b]
    return value, slope


@numba.njit(nogil=True, cache=True, inline="always", fastmath={"contract", "nsz"})
def force_at(potential, y, x):  # type: ignore[no-untyped-def]
    """Return the force (y, x), the potential's slope at a place in nodes from its corner."""
    column, row = np.uint64(x), np.uint64(y)
    u, v = x - np.float32(column), y - np.float32(row)
    across, slopes_across = spline_weights(u), spline_slopes(u)
    down, slopes_down = spline_weights(v), spline_slopes(v)
    force_y = force_x = np.float32(0.0)
    for a in range(ORDER):
        value, slope = _along(potential, row + np.uint64(a), column, across, slopes_across)
        force_y += slopes_down[a] * value
        force_x += down[a] * slope
    return force_y, force_x


@numba.njit(nogil=True, cache=True, inline="always", fastmath={"contract", "nsz"})
def _own_push(x: np.float32) -> np.float32:
    """Return what a row's own charge pushes it along one axis: a sine of its place in the cell, here a polynomial."""
    t = x - np.float32(np.uint64(x)) - np.float32(0.5)
    square = t * t
    sine = (np.float32(25.133) + square * (np.float32(56.1) * square - np.float32(64.3))) * (np.float32(0.25) - square)
    return np.float32(-OWN_PUSH) * t * sine


@numba.njit(nogil=True, cache=True, fastmath={"contract", "nsz"})
def read_forces(
    xs: Float32s, ys: Float32s, start: int, stop: int, origin: tuple[float, float], potential: Float32s,
    forces: Float32s,
) -> None:  # fmt: skip
    """Write the forces on rows start … stop into forces (stop - start, 2)."""
    factor = np.float32(1.0 / SPACING)
    y0, x0 = np.float32(origin[0]), np.float32(origin[1])
    for i in range(start, stop):
        y, x = ys[i] * factor - y0, xs[i] * factor - x0
        force_y, force_x = force_at(potential, y, x)
        forces[i - start, 0], forces[i - start, 1] = force_y - _own_push(y), force_x - _own_push(x)


@numba.njit(nogil=True, cache=True)
def influence(
    sampled: Float64s, wave_y: Float64s, wave_x: Float64s, splines_y: Float64s, splines_x: Float64s,
    spectrum: Float32s,
) -> None:  # fmt: skip
    """Write some waves of the spectrum that charges are multiplied with, (n_y / 2 + 1, LANES).

    It has the least squared error of forces that are slopes of the potential (Ballenegger, Cerda & Holm, 2012).
    `sampled` is the transform of 1 / (1 + r^2) on the grid, wave_* are wave numbers, splines_* (3, n) the squared
    transforms of the splines at the images -1, 0, 1. The images of the kernel, which sampling folds into the band, are
    known: its transform is 2 pi K0(k), beyond the band by its asymptotic series.
    """
    step = 2.0 * np.pi / SPACING
    area = SPACING * SPACING
    for j in range(wave_y.shape[0]):
        for i in range(wave_x.shape[0]):
            own = sampled[j, i] * area
            own_square = wave_y[j] * wave_y[j] + wave_x[i] * wave_x[i]
            potential = squares = 0.0
            for a in range(3):
                for b in range(3):
                    if a == 1 and b == 1:
                        continue
                    qy, qx = wave_y[j] + (a - 1) * step, wave_x[i] + (b - 1) * step
                    square, weight = qy * qy + qx * qx, splines_y[a, j] * splines_x[b, i]
                    squares += square * weight
                    k = np.sqrt(square)
                    if k > 25.0:  # its transform is below 1e-10
                        continue
                    z = 1.0 / k
                    series = 1.0 + z * (-0.125 + z * (0.0703125 - z * 0.0732421875))
                    image = 2.0 * np.pi * np.sqrt(0.5 * np.pi * z) * np.exp(-k) * series
                    own -= image
                    potential += square * weight * image
            weight = splines_y[1, j] * splines_x[1, i]
            weights = splines_y[:, j].sum() * splines_x[:, i].sum()
            if own_square > 0.0:
                own = (own_square * weight * own + potential) / (own_square * weight + squares)
            spectrum[j, i] = own / (area * weights)


@numba.njit(nogil=True, cache=True, fastmath={"contract", "nsz"})
def multiply(charges: Float32s, spectrum: Float32s, sums: Float64s) -> None:
    """Turn the spectra of LANES waves into those of the potential, imaginary parts first; add up charge x potential."""
    n = charges.shape[0] // WIDTH
    for j in range(n):
        at, wave = j * WIDTH, min(j, n - j)
        for i in range(LANES):
            re, im, factor = charges[at + i], charges[at + LANES + i], spectrum[wave, i]
            sums[i] += np.float64((re * re + im * im) * factor)
            charges[at + i], charges[at + LANES + i] = im * factor, re * factor
