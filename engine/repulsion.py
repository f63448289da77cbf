"""Repulsion of all rows of a map: on a grid by fast Fourier transforms, or pair by pair where rows are few.

    places xs, ys (n_rows,) float32  ->  Z = sum over pairs of 1 / (1 + r^2), a field of forces to read at any place

The grid has one spacing for ever, so the kernel's spectrum is computed once for every size; sizes grow in steps. Only
grid rows and columns that hold charges are transformed and kept. Bands of rows and columns are fixed, so bits do not
depend on threads. Arithmetic: kernels/cpu/tsne_grid.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from engine.execution.local import map_blocks, row_blocks
from engine.kernels.cpu import tsne_grid
from engine.kernels.cpu.tsne_grid import ORDER, SPACING

Float32s = NDArray[np.float32]

LEAST_SIZE = 256  # nodes a side: transforms of it take a millisecond, and the kernel has died down at its edge
GROWTH = 1.06  # room for the map to grow before spectra are computed anew
MARGIN = 8  # nodes between a charge and its nearest periodic image, beyond the charges' own extent
BAND_ROWS = 32  # grid rows of a block: 32 x 1,350 nodes are 170 KiB of L2
BAND_COLUMNS = 32


@dataclass(frozen=True)
class Spectra:
    """What a grid of one size multiplies its charges with."""

    shape: tuple[int, int]
    bands: list[tuple[Float32s, Float32s, Float32s]]  # potential, pull_y, pull_x of every BAND_COLUMNS columns


@dataclass(frozen=True)
class Field:
    """Forces of all rows on a grid."""

    origin: tuple[float, float]  # number of the grid's first row and column, counted from place 0
    forces: Float32s  # (cells_y, cells_x, 2): y and x
    z: float


class Grid:
    """Keeps spectra while the map fits on them, and the memory of the transforms."""

    def __init__(self) -> None:
        self._spectra: Spectra | None = None
        self._scratch: dict[str, NDArray[Any]] = {}

    def field(self, xs: Float32s, ys: Float32s, margin: int = 0) -> Field:
        """Return the field of forces of rows at xs, ys, and Z; it can be read up to `margin` nodes around the rows.

        The next call overwrites it.
        """
        (y0, cells_y), (x0, cells_x) = _extent(ys, margin), _extent(xs, margin)
        spectra = self._fitting(cells_y, cells_x)
        n_y, n_x = spectra.shape
        waves = n_x // 2 + 1
        starts, order = np.empty(cells_y - ORDER + 2, np.int32), self._memory("order", np.int32, len(xs))
        tsne_grid.sort_by_grid_row(ys, float(y0), starts, order)
        down = self._memory("down", np.complex64, cells_y, waves)
        across_y = self._memory("across_y", np.complex64, cells_y, waves)
        across_x = self._memory("across_x", np.complex64, cells_y, waves)
        forces = self._memory("forces", np.float32, cells_y, cells_x, 2)

        def forward(band: slice) -> None:
            charges = np.zeros((band.stop - band.start, cells_x), np.float32)
            tsne_grid.spread(xs, ys, order, starts, (float(y0), float(x0)), band.start, charges)
            down[band] = scipy.fft.rfft(charges, n=n_x, axis=1)

        def convolve(band: slice) -> NDArray[np.float64]:
            part = spectra.bands[band.start // BAND_COLUMNS]
            charges = scipy.fft.fft(down[:, band], n=n_y, axis=0)
            out_y, out_x = np.empty_like(charges), np.empty_like(charges)
            sums: NDArray[np.float64] = tsne_grid.convolve(_pairs(charges), *part, _pairs(out_y), _pairs(out_x))
            across_y[:, band] = scipy.fft.ifft(out_y, axis=0, overwrite_x=True)[:cells_y]
            across_x[:, band] = scipy.fft.ifft(out_x, axis=0, overwrite_x=True)[:cells_y]
            return sums

        def backward(band: slice) -> None:
            forces[band, :, 0] = scipy.fft.irfft(across_y[band], n=n_x, axis=1)[:, :cells_x]
            forces[band, :, 1] = scipy.fft.irfft(across_x[band], n=n_x, axis=1)[:, :cells_x]

        _run(forward, cells_y, BAND_ROWS)
        sums = np.concatenate(list(map_blocks(convolve, row_blocks(waves, BAND_COLUMNS))))
        _run(backward, cells_y, BAND_ROWS)
        z = (2.0 * sums.sum() - sums[0] - sums[-1]) / (n_y * n_x) - len(xs)
        return Field((float(y0), float(x0)), forces, float(z))

    def _memory(self, name: str, dtype: Any, *shape: int) -> NDArray[Any]:
        """Return memory kept from one call to the next: fresh pages cost as much as a transform."""
        size = math.prod(shape)
        kept = self._scratch.get(name)
        if kept is None or len(kept) < size:
            kept = self._scratch[name] = np.empty(int(size * GROWTH), dtype)
        return kept[:size].reshape(shape)

    def _fitting(self, cells_y: int, cells_x: int) -> Spectra:
        needed = 2 * cells_y + MARGIN, 2 * cells_x + MARGIN
        have = self._spectra
        if have is None or needed[0] > have.shape[0] or needed[1] > have.shape[1]:
            self._spectra = spectra_of((_size(needed[0]), _size(needed[1])))
        assert self._spectra is not None
        return self._spectra


def spectra_of(shape: tuple[int, int]) -> Spectra:
    """Return the spectra of a grid of `shape` nodes, both even."""
    n_y, n_x = shape
    y, x = (SPACING * scipy.fft.fftfreq(n, 1.0 / n) for n in shape)
    sampled = scipy.fft.rfft2(1.0 / (1.0 + np.square(y)[:, None] + np.square(x)[None, :])).real
    wave_y = 2.0 * np.pi / SPACING * scipy.fft.fftfreq(n_y)
    wave_x = 2.0 * np.pi / SPACING * scipy.fft.rfftfreq(n_x)
    splines_y, splines_x = _splines(wave_y), _splines(wave_x)

    def band_of(band: slice) -> tuple[Float32s, Float32s, Float32s]:
        potential, pull_y, pull_x = (np.empty((n_y, band.stop - band.start), np.float32) for _ in range(3))
        columns = np.ascontiguousarray(sampled[:, band])
        tsne_grid.influence(
            columns, wave_y, wave_x[band], splines_y, splines_x[:, band].copy(), potential, pull_y, pull_x
        )
        pull_y[n_y // 2] = 0.0  # the highest wave has no sign
        pull_x[:, wave_x[band] >= wave_x[-1]] = 0.0
        return potential, pull_y, pull_x

    return Spectra(shape, list(map_blocks(band_of, row_blocks(n_x // 2 + 1, BAND_COLUMNS))))


def _pairs(values: NDArray[np.complex64]) -> Float32s:
    return values.view(np.float32).reshape(*values.shape, 2)


def _splines(wave: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the squared transform of the spline at a wave number's images -1, 0 and 1, (3, n)."""
    turns = wave * SPACING / (2.0 * np.pi)
    return np.stack([np.sinc(turns + image) ** (2 * ORDER) for image in (-1, 0, 1)])


def _extent(values: Float32s, margin: int) -> tuple[int, int]:
    """Return the number of the first grid line, `margin` below all values, and how many nodes reach beyond the last."""
    low, high = (int(np.floor(np.float32(v) * np.float32(1.0 / SPACING))) for v in (values.min(), values.max()))
    beyond = margin + 1  # one node more at either end, where rounding may put a place
    return low - beyond, high - low + ORDER + 2 * beyond


def _size(needed: int) -> int:
    return max(LEAST_SIZE, 2 * int(scipy.fft.next_fast_len(int(needed * GROWTH) // 2)))


def _run(work: Any, n_rows: int, rows_per_block: int) -> None:
    for _ in map_blocks(work, row_blocks(n_rows, rows_per_block)):
        pass
