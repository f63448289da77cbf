"""Repulsion on a grid: charges spread over nodes, and the spectrum of the kernel that takes charges to forces.

    places xs, ys (n_rows,) float32  ->  charges (n_cells_y, n_cells_x);  spectra of the grid  ->  potential and forces

A row's charge of 1 is spread over ORDER x ORDER nodes by B-splines, and forces are read back with the same weights.
The force (x, y) / (1 + r^2)^2 is the gradient of -1 / 2(1 + r^2), so one transform of the charges gives both
components, nothing cancels, and Z = sum 1 / (1 + r^2) is a sum over the spectrum (Parseval). The spectrum is the one of
least squared error over all places in a cell (Hockney & Eastwood, "Computer Simulation Using Particles", 1988): it
divides out the splines and weighs the images that spreading folds into the band. Rows come sorted by the grid row they
are in, so a band of grid rows is written by one thread, and every node adds its charges in the order of the rows.
"""

from __future__ import annotations

from typing import TypeAlias

import numba
import numpy as np
from engine.kernels.cpu.fft import WIDTH, transform
from engine.kernels.cpu.simd import LANES
from numpy.typing import NDArray

SPACING = 0.3  # of the grid, in units of the map, where the kernel is 1 / (1 + r^2): see decisions/0006
ORDER = 6  # nodes a row is spread over, in each direction

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
def spline_weights(u: np.float32) -> tuple[np.float32, ...]:
    """Return the weights of the six nodes around a place that lies u in [0, 1) beyond the first of them but two."""
    v, half, third = np.float32(1.0) - u, np.float32(0.5), np.float32(1.0 / 3.0)
    fourth, fifth = np.float32(0.25), np.float32(0.2)
    u1, u2, u3, u4 = u + np.float32(1.0), u + np.float32(2.0), u + np.float32(3.0), u + np.float32(4.0)
    v1, v2, v3, v4 = v + np.float32(1.0), v + np.float32(2.0), v + np.float32(3.0), v + np.float32(4.0)
    a0, a1, a2 = half * v * v, half * (u1 * v + v1 * u), half * u * u
    b0, b1, b2, b3 = third * v * a0, third * (u2 * a0 + v1 * a1), third * (u1 * a1 + v2 * a2), third * u * a2
    c0, c1, c2 = fourth * v * b0, fourth * (u3 * b0 + v1 * b1), fourth * (u2 * b1 + v2 * b2)
    c3, c4 = fourth * (u1 * b2 + v3 * b3), fourth * u * b3
    d0, d1, d2 = fifth * v * c0, fifth * (u4 * c0 + v1 * c1), fifth * (u3 * c1 + v2 * c2)
    d3, d4, d5 = fifth * (u2 * c2 + v3 * c3), fifth * (u1 * c3 + v4 * c4), fifth * u * c4
    return d0, d1, d2, d3, d4, d5


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
    down: Float32s, spectra: Float32s, blocks: tuple[int, int], factors: Int64s, roots: Float32s,
    across: Float32s, sums: Float64s, work: Float32s,
) -> None:  # fmt: skip
    """Transform blocks of LANES waves along y, multiply by `spectra`, and transform back.

    Writes each wave's sum of |charge|^2 x potential, and the force x + i y, (blocks of LANES grid rows, waves, 2,
    LANES): both components are real, so one complex transform along x will give both. Imaginary parts come first, as
    an inverse transform wants them.
    """
    n, n_waves = roots.shape[0] // 2, across.shape[1]
    in_place = len(factors) % 2 == 0
    for block in range(blocks[0], blocks[1]):
        start, spare, right = work[0], work[1], work[2]
        start[: down.shape[1] * WIDTH] = down[block].ravel()
        start[down.shape[1] * WIDTH : n * WIDTH] = 0.0
        charges = transform(start, spare, factors, roots)
        left = spare if in_place else start
        multiply(charges, spectra[block], left, right, sums[block * LANES : (block + 1) * LANES])
        force_y = transform(left, charges, factors, roots)
        force_x = transform(right, charges if in_place else left, factors, roots)
        for rows in range(across.shape[0]):
            for c in range(min(LANES, n_waves // 2 + 1 - block * LANES)):
                wave = block * LANES + c
                at, mirror = across[rows, wave], across[rows, (n_waves - wave) % n_waves]
                first = rows * LANES * WIDTH + c
                for lane in range(LANES):  # waves 0 and n / 2 are their own mirrors, and keep what is written last
                    y_im, y_re = force_y[first + lane * WIDTH], force_y[first + lane * WIDTH + LANES]
                    x_im, x_re = force_x[first + lane * WIDTH], force_x[first + lane * WIDTH + LANES]
                    mirror[lane], mirror[LANES + lane] = y_re - x_im, x_re + y_im
                    at[lane], at[LANES + lane] = x_im + y_re, x_re - y_im


@numba.njit(nogil=True, cache=True)
def backward(
    across: Float32s, blocks: tuple[int, int], factors: Int64s, roots: Float32s, forces: Float32s, work: Float32s
) -> None:
    """Transform blocks of LANES grid rows back along x into forces (grid rows, grid columns, 2) of (y, x)."""
    for block in range(blocks[0], blocks[1]):
        found = transform(across[block].ravel(), work[0], factors, roots)
        for lane in range(min(LANES, forces.shape[0] - block * LANES)):
            row = forces[block * LANES + lane]
            for column in range(forces.shape[1]):
                row[column, 0] = found[column * WIDTH + lane]
                row[column, 1] = found[column * WIDTH + LANES + lane]


@numba.njit(nogil=True, cache=True, inline="always", fastmath={"contract", "nsz"})
def _row_forces(field: Float32s, row: int, column: int, weights: tuple[float, ...]) -> tuple[float, float]:
    y = weights[0] * field[row, column, 0]
    x = weights[0] * field[row, column, 1]
    for b in range(1, ORDER):
        y += weights[b] * field[row, column + b, 0]
        x += weights[b] * field[row, column + b, 1]
    return y, x


@numba.njit(nogil=True, cache=True, inline="always", fastmath={"contract", "nsz"})
def force_at(field, y, x):  # type: ignore[no-untyped-def]
    """Return the force (y, x) at a place in nodes from the corner of a field (n_cells_y, n_cells_x, 2) of (y, x)."""
    column, row = np.uint64(x), np.uint64(y)
    across = spline_weights(x - np.float32(column))
    down = spline_weights(y - np.float32(row))
    force_y = force_x = np.float32(0.0)
    for a in range(ORDER):
        part_y, part_x = _row_forces(field, row + np.uint64(a), column, across)
        force_y += down[a] * part_y
        force_x += down[a] * part_x
    return force_y, force_x


@numba.njit(nogil=True, cache=True, fastmath={"contract", "nsz"})
def read_forces(
    xs: Float32s, ys: Float32s, start: int, stop: int, origin: tuple[float, float], field: Float32s, forces: Float32s
) -> None:
    """Write the forces on rows start … stop into forces (n_rows, 2)."""
    factor = np.float32(1.0 / SPACING)
    y0, x0 = np.float32(origin[0]), np.float32(origin[1])
    for i in range(start, stop):
        forces[i, 0], forces[i, 1] = force_at(field, ys[i] * factor - y0, xs[i] * factor - x0)


@numba.njit(nogil=True, cache=True)
def influence(
    sampled: Float64s, wave_y: Float64s, wave_x: Float64s, splines_y: Float64s, splines_x: Float64s,
    norm: float, spectra: Float32s,
) -> None:  # fmt: skip
    """Write some waves of the spectra that least-squares interpolation multiplies charges with.

    `spectra` (n_y, 3, LANES) gets potential, and pulls along y and x, these times `norm`; waves -ky are those of ky.

    `sampled` is the transform of 1 / (1 + r^2) on the grid, wave_* are wave numbers, splines_* (3, n) the squared
    transforms of the splines at the images -1, 0, 1. The images of the kernel, which sampling folds into the band, are
    known: its transform is 2 pi K0(k), beyond the band by its asymptotic series.
    """
    step = 2.0 * np.pi / SPACING
    area = SPACING * SPACING
    n_y = spectra.shape[0]
    for j in range(wave_y.shape[0]):
        for i in range(wave_x.shape[0]):
            ky, kx = wave_y[j], wave_x[i]
            own = sampled[j, i] * area
            p = py = px = 0.0
            for a in range(3):
                for b in range(3):
                    if a == 1 and b == 1:
                        continue
                    qy, qx = ky + (a - 1) * step, kx + (b - 1) * step
                    k = np.sqrt(qy * qy + qx * qx)
                    if k > 25.0:  # its transform is below 1e-10
                        continue
                    z = 1.0 / k
                    series = 1.0 + z * (-0.125 + z * (0.0703125 - z * 0.0732421875))
                    image = 2.0 * np.pi * np.sqrt(0.5 * np.pi * z) * np.exp(-k) * series
                    own -= image
                    image *= splines_y[a, j] * splines_x[b, i]
                    p += image
                    py -= 0.5 * qy * image
                    px -= 0.5 * qx * image
            weight_y = splines_y[0, j] + splines_y[1, j] + splines_y[2, j]
            weight_x = splines_x[0, i] + splines_x[1, i] + splines_x[2, i]
            own *= splines_y[1, j] * splines_x[1, i]
            scale = 1.0 / (area * (weight_y * weight_x) ** 2)
            spectra[j, 0, i] = (p + own) * scale
            spectra[j, 1, i] = (py - 0.5 * ky * own) * scale * norm
            spectra[j, 2, i] = (px - 0.5 * kx * own) * scale * norm
            mirror = (n_y - j) % n_y
            spectra[mirror, 0, i], spectra[mirror, 2, i] = spectra[j, 0, i], spectra[j, 2, i]
            if 0 < j < wave_y.shape[0] - 1:
                spectra[mirror, 1, i] = -spectra[j, 1, i]


@numba.njit(nogil=True, cache=True, fastmath={"contract", "nsz"})
def multiply(charges: Float32s, spectra: Float32s, out_y: Float32s, out_x: Float32s, sums: Float64s) -> None:
    """Write the spectra of both force components of LANES waves, imaginary parts first; add up charge x potential."""
    for j in range(spectra.shape[0]):
        at = j * WIDTH
        for i in range(LANES):
            re, im = charges[at + i], charges[at + LANES + i]
            sums[i] += np.float64((re * re + im * im) * spectra[j, 0, i])
            pull_y, pull_x = spectra[j, 1, i], spectra[j, 2, i]
            out_y[at + i], out_y[at + LANES + i] = re * pull_y, -im * pull_y
            out_x[at + i], out_x[at + LANES + i] = re * pull_x, -im * pull_x
