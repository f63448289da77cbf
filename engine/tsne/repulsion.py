"""Repulsion of all rows of a map: on a grid by fast Fourier transforms, or pair by pair where rows are few.

    places xs, ys (n_rows,) float32  ->  Z = sum over pairs of 1 / (1 + r^2), a field of forces to read at any place

The grid has one spacing for ever, so the kernel's spectrum is computed once for every size; sizes grow in steps. Only
grid rows and columns that hold charges are transformed and kept. Bands of rows and columns are fixed, so bits do not
depend on threads. Arithmetic: kernels/cpu/tsne/grid_repulsion.py.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from engine.execution.memory import pages
from engine.execution.threads import in_shares, map_blocks, row_blocks, shares_of, thread_count
from engine.kernels.cpu.simd.vectors import LANES
from engine.kernels.cpu.tsne import fft
from engine.kernels.cpu.tsne import grid_repulsion as tsne_grid
from engine.kernels.cpu.tsne.fft import WIDTH
from engine.kernels.cpu.tsne.grid_repulsion import ORDER, SPACING

Float32s = NDArray[np.float32]

LEAST_SIZE = 256  # nodes a side: transforms of it take a millisecond, and the kernel has died down at its edge
GROWTH = 1.06  # room for the map to grow before spectra are computed anew
MARGIN = 8  # nodes between a charge and its nearest periodic image, beyond the charges' own extent
FORCE = -2.0 * SPACING  # the kernel over the potential whose slopes, per node, are forces


@dataclass(frozen=True)
class Axis:
    """Transforms along one axis of a grid."""

    n: int
    factors: NDArray[np.int64]
    roots: Float32s

    @classmethod
    def of(cls, n: int) -> Axis:
        """Prepare transforms of length n."""
        return cls(n, fft.factors_of(n), fft.roots_of(n))


@dataclass(frozen=True)
class Spectrum:
    """What a grid of one size multiplies its charges with."""

    y: Axis
    x: Axis
    kernel: Float32s  # (blocks of LANES waves along x, n_y / 2 + 1, LANES): waves -ky are those of ky


@dataclass(frozen=True)
class Field:
    """The potential of all rows on a grid: its slopes are forces."""

    origin: tuple[float, float]  # number of the grid's first row and column, counted from place 0
    potential: Float32s  # (cells_y, cells_x)
    z: float


class Grid:
    """Keeps a spectrum while the map fits on it, and the memory of the transforms."""

    def __init__(self) -> None:
        self._spectrum: Spectrum | None = None
        self._scratch: dict[str, NDArray[Any]] = {}
        self._own = threading.local()

    def field(self, xs: Float32s, ys: Float32s, margin: int = 0) -> Field:
        """Return the field of forces of rows at xs, ys, and Z; it can be read up to `margin` nodes around the rows.

        The next call overwrites it.
        """
        (y0, cells_y), (x0, cells_x) = _extent(ys, margin), _extent(xs, margin)
        spectrum = self._fitting(cells_y, cells_x)
        along_y, along_x, n_blocks = spectrum.y, spectrum.x, len(spectrum.kernel)
        starts, order = np.empty(cells_y - ORDER + 2, np.int32), self._memory("order", np.int32, len(xs))
        tsne_grid.sort_by_grid_row(ys, float(y0), starts, order)
        n_bands = -(-cells_y // WIDTH)
        most_bands = -(-(along_y.n // 2) // WIDTH)
        down = self._memory("down", np.float32, n_blocks, most_bands * WIDTH, WIDTH)[:, : n_bands * WIDTH]
        across = self._memory("across", np.float32, most_bands, along_x.n, WIDTH)[:n_bands]
        potential = self._memory("down", np.float32, cells_y, cells_x)  # charges are read before it is written
        sums = np.zeros(n_blocks * LANES)

        def forward(bands: slice) -> None:
            tsne_grid.forward(
                xs, ys, order, starts, (float(y0), float(x0)), (bands.start, bands.stop),
                along_x.factors, along_x.roots, down, self._work(along_x.n),
            )  # fmt: skip

        def convolve(blocks: slice) -> None:
            tsne_grid.convolve(
                down, spectrum.kernel, (blocks.start, blocks.stop), along_y.factors, along_y.roots, across, sums,
                self._work(along_y.n),
            )  # fmt: skip

        def backward(bands: slice) -> None:
            tsne_grid.backward(
                across, (bands.start, bands.stop), along_x.factors, along_x.roots, potential, self._work(along_x.n)
            )

        in_shares(forward, shares_of(n_bands))
        in_shares(convolve, shares_of(n_blocks))
        in_shares(backward, shares_of(n_bands))
        z = FORCE * (2.0 * sums.sum() - sums[0] - sums[along_x.n // 2]) - len(xs)
        return Field((float(y0), float(x0)), potential, float(z))

    def _memory(self, name: str, dtype: Any, *shape: int) -> NDArray[Any]:
        """Return memory kept from one call to the next: fresh pages cost as much as a transform."""
        size = math.prod(shape)
        kept = self._scratch.get(name)
        if kept is None or len(kept) < size:
            self._scratch.pop(name, None)
            kept = self._scratch[name] = pages(size, dtype)
        return kept[:size].reshape(shape)

    def _work(self, n: int) -> Float32s:
        """Return this thread's memory for transforms of length n."""
        size = 2 * n * WIDTH
        kept: Float32s | None = getattr(self._own, "work", None)
        if kept is None or len(kept) < size:
            kept = self._own.work = pages(size, np.float32)
        return kept[:size].reshape(2, n * WIDTH)

    def _fitting(self, cells_y: int, cells_x: int) -> Spectrum:
        needed = 2 * cells_y + MARGIN, 2 * cells_x + MARGIN
        have = self._spectrum
        if have is None or needed[0] > have.y.n or needed[1] > have.x.n:
            self._spectrum, self._scratch = None, {}  # so that old and new are not in memory together
            have = self._spectrum = spectrum_of((_size(needed[0]), _size(needed[1])))
        return have


def spectrum_of(shape: tuple[int, int]) -> Spectrum:
    """Return the spectrum of a grid of `shape` nodes, both lengths of transforms."""
    n_y, n_x = shape
    y, x = (np.square(SPACING * np.arange(n // 2 + 1)) for n in shape)
    # The kernel is even along both axes, so cosine transforms of a quarter of the nodes give its whole spectrum.
    sampled = np.add.outer(1.0 + y, x)
    sampled = scipy.fft.dctn(np.reciprocal(sampled, out=sampled), type=1, workers=thread_count(), overwrite_x=True)
    wave_y, wave_x = (2.0 * np.pi / SPACING / n * np.arange(n // 2 + 1, dtype=np.float64) for n in shape)
    splines_y, splines_x = _splines(wave_y), _splines(wave_x)
    kernel = np.zeros((-(-len(wave_x) // LANES), len(wave_y), LANES), np.float32)

    def fill(waves: slice) -> None:
        columns = np.ascontiguousarray(sampled[:, waves])
        tsne_grid.influence(
            columns, wave_y, wave_x[waves], splines_y, splines_x[:, waves].copy(), kernel[waves.start // LANES]
        )

    for _ in map_blocks(fill, row_blocks(len(wave_x), LANES)):
        pass
    kernel *= np.float32(1.0 / FORCE / (n_y * n_x))
    return Spectrum(Axis.of(n_y), Axis.of(n_x), kernel)


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
    return max(LEAST_SIZE, fft.length_from(int(needed * GROWTH)))
