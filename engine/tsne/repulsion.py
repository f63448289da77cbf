"""Repulsive forces of t-SNE by interpolation on a grid and fast Fourier transforms, as in FIt-SNE.

    coordinates xs, ys (n_rows,) float32  ->  Z = sum over pairs of 1 / (1 + r^2), and a field of forces

The spacing of the grid is constant, so the kernel's spectrum is computed once for every size; sizes grow in steps. Only
grid rows and columns that hold charges are transformed and stored. Bands of rows and columns are fixed, so bits do not
depend on the number of threads. Arithmetic: kernels/cpu/tsne/grid_repulsion.py. Few rows: exact_repulsion.py there.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from engine.execution.memory import mmap_zeros
from engine.execution.threads import map_blocks, map_shares, row_blocks, thread_count, thread_shares
from engine.kernels.cpu.simd.vectors import LANES
from engine.kernels.cpu.tsne import fft, grid_repulsion
from engine.kernels.cpu.tsne.fft import WIDTH
from engine.kernels.cpu.tsne.grid_repulsion import GRID_SPACING, SPLINE_ORDER
from engine.utils.array_types import Float32s, Float64s, Int64s

MIN_NODES = 256  # nodes a side: their transforms take a millisecond, and the kernel is small at its edge
GROWTH = 1.06  # the embedding may grow by this factor before a new spectrum is computed
MARGIN = 8  # nodes between a charge and its nearest periodic image, beyond the charges' own extent
FORCE = -2.0 * GRID_SPACING  # ratio of the kernel to the potential whose slopes per node are forces


@dataclass(frozen=True)
class Axis:
    """Fourier transforms along one axis of a grid."""

    n: int
    factors: Int64s
    roots: Float32s

    @classmethod
    def from_length(cls, n: int) -> Axis:
        """Prepare transforms of length n."""
        return cls(n, fft.radix_factors(n), fft.roots_of_unity(n))


@dataclass(frozen=True)
class Spectrum:
    """The kernel's spectrum on a grid of one size: transformed charges are multiplied by it."""

    y: Axis
    x: Axis
    kernel: Float32s  # (blocks of LANES waves along x, n_y / 2 + 1, LANES): waves -ky are those of ky


@dataclass(frozen=True)
class RepulsionField:
    """The potential of all rows on a grid, whose slopes are repulsive forces, and Z."""

    origin: tuple[float, float]  # number of the grid's first row and column, counted from the origin of coordinates
    potential: Float32s  # (cells_y, cells_x)
    z: float


class InterpolationGrid:
    """Computes fields; keeps a spectrum as long as the embedding fits on its grid, and the memory of the transforms."""

    def __init__(self) -> None:
        self._spectrum: Spectrum | None = None
        self._scratch: dict[str, NDArray[Any]] = {}
        self._thread_memory = threading.local()

    def compute_field(self, xs: Float32s, ys: Float32s, margin: int = 0) -> RepulsionField:
        """Return the field of rows at xs, ys; it can be read up to `margin` nodes around the rows.

        The next call overwrites it.
        """
        (y0, cells_y), (x0, cells_x) = _extent(ys, margin), _extent(xs, margin)
        spectrum = self._spectrum_for(cells_y, cells_x)
        along_y, along_x, n_blocks = spectrum.y, spectrum.x, len(spectrum.kernel)
        starts, order = np.empty(cells_y - SPLINE_ORDER + 2, np.int32), self._memory("order", np.int32, len(xs))
        grid_repulsion.sort_by_grid_row(ys, float(y0), starts, order)
        n_bands = -(-cells_y // WIDTH)
        max_bands = -(-(along_y.n // 2) // WIDTH)
        size = n_blocks * n_bands * WIDTH * WIDTH
        down = self._memory("down", np.float32, n_blocks * max_bands * WIDTH * WIDTH)[:size]
        down = down.reshape(n_blocks, n_bands * WIDTH, WIDTH)  # contiguous, or kernels are compiled for strides as well
        across = self._memory("across", np.float32, max_bands, along_x.n, WIDTH)[:n_bands]
        potential = self._memory(
            "down", np.float32, cells_y, cells_x
        )  # its memory: charges are read before the potential is written
        sums = np.zeros(n_blocks * LANES)

        def forward(bands: slice) -> None:
            grid_repulsion.forward_transform(
                xs, ys, order, starts, (float(y0), float(x0)), (bands.start, bands.stop),
                along_x.factors, along_x.roots, down, self._work(along_x.n),
            )  # fmt: skip

        def convolve(blocks: slice) -> None:
            grid_repulsion.convolve(
                down, spectrum.kernel, (blocks.start, blocks.stop), along_y.factors, along_y.roots, across, sums,
                self._work(along_y.n),
            )  # fmt: skip

        def backward(bands: slice) -> None:
            grid_repulsion.inverse_transform(
                across, (bands.start, bands.stop), along_x.factors, along_x.roots, potential, self._work(along_x.n)
            )

        map_shares(forward, thread_shares(n_bands))
        map_shares(convolve, thread_shares(n_blocks))
        map_shares(backward, thread_shares(n_bands))
        sums = sums[: along_x.n // 2 + 1]  # the rest pads the last block, which is as wide as the host's vectors
        z = FORCE * (2.0 * sums.sum() - sums[0] - sums[-1]) - len(xs)
        return RepulsionField((float(y0), float(x0)), potential, float(z))

    def _memory(self, name: str, dtype: Any, *shape: int) -> NDArray[Any]:
        """Return memory that is reused by the next call: fresh pages cost as much as a transform."""
        size = math.prod(shape)
        memory = self._scratch.get(name)
        if memory is None or len(memory) < size:
            self._scratch.pop(name, None)
            memory = self._scratch[name] = mmap_zeros(size, dtype)
        return memory[:size].reshape(shape)

    def _work(self, n: int) -> Float32s:
        """Return this thread's memory for transforms of length n."""
        size = 2 * n * WIDTH
        memory: Float32s | None = getattr(self._thread_memory, "work", None)
        if memory is None or len(memory) < size:
            memory = self._thread_memory.work = mmap_zeros(size, np.float32)
        return memory[:size].reshape(2, n * WIDTH)

    def _spectrum_for(self, cells_y: int, cells_x: int) -> Spectrum:
        needed = 2 * cells_y + MARGIN, 2 * cells_x + MARGIN
        spectrum = self._spectrum
        if spectrum is None or needed[0] > spectrum.y.n or needed[1] > spectrum.x.n:
            self._spectrum, self._scratch = None, {}  # so that old and new are not in memory together
            spectrum = self._spectrum = compute_spectrum((_grid_nodes(needed[0]), _grid_nodes(needed[1])))
        return spectrum


def compute_spectrum(shape: tuple[int, int]) -> Spectrum:
    """Return the spectrum of a grid of `shape` nodes, which are lengths of transforms."""
    n_y, n_x = shape
    y, x = (np.square(GRID_SPACING * np.arange(n // 2 + 1)) for n in shape)
    # The kernel is even along both axes, so cosine transforms of a quarter of the nodes give its whole spectrum.
    kernel_values = np.add.outer(1.0 + y, x)
    kernel_values = scipy.fft.dctn(
        np.reciprocal(kernel_values, out=kernel_values), type=1, workers=thread_count(), overwrite_x=True
    )
    wave_y, wave_x = (2.0 * np.pi / GRID_SPACING / n * np.arange(n // 2 + 1, dtype=np.float64) for n in shape)
    splines_y, splines_x = _splines(wave_y), _splines(wave_x)
    kernel = np.zeros((-(-len(wave_x) // LANES), len(wave_y), LANES), np.float32)

    def fill(waves: slice) -> None:
        columns = np.ascontiguousarray(kernel_values[:, waves])
        grid_repulsion.compute_influence_function(
            columns, wave_y, wave_x[waves], splines_y, splines_x[:, waves].copy(), kernel[waves.start // LANES]
        )

    for _ in map_blocks(fill, row_blocks(len(wave_x), LANES)):
        pass
    kernel *= np.float32(1.0 / FORCE / (n_y * n_x))
    return Spectrum(Axis.from_length(n_y), Axis.from_length(n_x), kernel)


def _splines(wave: Float64s) -> Float64s:
    """Return the squared transform of the B-spline at the images -1, 0 and 1 of wave numbers (n,), of shape (3, n)."""
    angles = np.add.outer([-np.pi, 0.0, np.pi], wave * (0.5 * GRID_SPACING))
    # NumPy's sine and powers have other bits on CPUs with AVX-512; the sine of the C library is the same.
    sines = np.array([math.sin(angle) for angle in angles.ravel()]).reshape(angles.shape)
    cardinal = np.divide(sines, angles, out=np.ones_like(angles), where=angles != 0.0)
    squares: Float64s = np.multiply.reduce([cardinal] * (2 * SPLINE_ORDER))
    return squares


def _extent(values: Float32s, margin: int) -> tuple[int, int]:
    """Return the number of the first grid line, `margin` below all values, and the nodes up to `margin` above them."""
    low, high = (int(np.floor(np.float32(v) * np.float32(1.0 / GRID_SPACING))) for v in (values.min(), values.max()))
    extra = margin + 1  # one more node at either end, where rounding may put a row
    return low - extra, high - low + SPLINE_ORDER + 2 * extra


def _grid_nodes(needed: int) -> int:
    return max(MIN_NODES, fft.next_fast_length(int(needed * GROWTH)))
