"""The fused kernels by NumPy, launched as on a GPU: for tests of the engine on machines without Triton.

They find their arguments where the committed cubins do. What the kernels themselves do is tested in Triton's
interpreter, in tests/kernels/cuda.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from engine.kernels.cuda.launch import ARRAYS, SCALARS, CompiledKernel
from tests.gpu.driver import Driver


class NumpyKernels(Driver):
    """cupy.cuda as launch.py uses it."""

    def execute(self, kernel: CompiledKernel, n_programs: int, arguments: dict[str, bytes]) -> None:
        """Do what a kernel does, for all rows of the launch at once."""
        found = Arguments(kernel, arguments)
        if kernel.entry == "label_rows":
            assert n_programs == -(-(found["n_rows"] - found["first_row"]) // kernel.constants["ROWS"])
            label_rows(found)
        elif kernel.entry == "refine_rows":
            refine_rows(found)
        elif kernel.entry == "rank_landmarks":  # which alone writes what is read
            rank_landmarks(found, n_programs * kernel.constants["ROWS"] // found["tile_rows"])


class Arguments:
    """Arguments of a launch by their names: numbers, and arrays at addresses."""

    def __init__(self, kernel: CompiledKernel, contents: dict[str, bytes]) -> None:
        self._kinds, self._contents, self.constants = dict(kernel.parameters), contents, kernel.constants

    def __getitem__(self, name: str) -> Any:
        return np.frombuffer(self._contents[name], SCALARS[self._kinds[name]])[0].item()

    def array(self, name: str, *shape: int, first: int = 0) -> Any:
        """Return an array whose first value is the `first` at an address."""
        dtype = ARRAYS[self._kinds[name]]
        address = int(np.frombuffer(self._contents[name], np.uint64)[0]) + first * dtype.itemsize
        n_bytes = int(np.prod(shape)) * dtype.itemsize
        return np.frombuffer((ctypes.c_char * n_bytes).from_address(address), dtype).reshape(shape)


def label_rows(found: Arguments) -> None:
    first, d, k, constants = found["first_row"], found["n_features"], found["n_clusters"], found.constants
    n = found["n_rows"] - first
    width, padded = constants["FEATURES"] * constants["FEATURE_BLOCKS"], -(-k // constants["CENTERS"])
    padded *= constants["CENTERS"]
    high, low = (
        (found.array(name, padded, width).astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        for name in ("High", "Low")
    )
    X = found.array("X", n, d, first=first * d)
    y = np.zeros((n, width))
    with np.errstate(all="ignore"):
        y[:, :d] = (X - found.array("FrameShift", d)) * np.float32(found["factor"])
        scores = found.array("Offsets", padded) - y @ (high + low).T
        labels = scores.argmin(axis=1)
        two = np.sort(scores, axis=1)[:, :2]
        bound = found.array("Blurs", padded)[labels] + 2 * found["per_row"] * (y * y).sum(axis=1) + found["floor"]
        certain = two[:, 1] - two[:, 0] > bound
    certain &= np.arange(n) % 11 > 0  # so that other rows than ties are left open, too
    opened = np.flatnonzero(~certain)
    counts = found.array("Counts", 2)
    found.array("Open", len(opened))[:] = opened
    counts[0] += len(opened)
    move(found, first, np.flatnonzero(certain), labels[certain])


def refine_rows(found: Arguments) -> None:
    first, d, k = found["first_row"], found["n_features"], found["n_clusters"]
    rows = found.array("Open", int(found.array("Counts", 2)[0]))
    centers = found.array("Centers", d, found["n_centers_padded"])[:, :k].astype(np.float64)
    squared = np.zeros((len(rows), k))
    for t in range(d):
        squared += (gather(found, "X", first, rows, d)[:, t, None].astype(np.float64) - centers[t]) ** 2
    move(found, first, rows, squared.argmin(axis=1))


def rank_landmarks(found: Arguments, n_tiles: int) -> None:
    """Rank all landmarks around the homes of rows."""
    d, k, n, width = found["n_features"], found["k"], found["n_landmarks"], found["width"]
    tiles = zip(*(found.array(name, n_tiles).tolist() for name in ("Begins", "Ends", "Homes")), strict=True)
    landmarks = found.array("Landmarks", n, d).astype(np.float64)
    for begin, end, home in tiles:
        rows = found.array("Order", end - begin, first=begin)
        around = found.array("Around", width, first=home * width)
        around = around[around < n]
        last = int(rows.max()) + 1
        squared = np.zeros((len(rows), len(around)))
        for t in range(d):
            squared += (found.array("X", last, d)[rows, t, None].astype(np.float64) - landmarks[around, t]) ** 2
        order = np.argsort(squared, axis=1, kind="stable")[:, :k]
        found.array("Neighbors", last, k)[rows] = around[order]
        found.array("Squared", last, k)[rows] = np.take_along_axis(squared, order, axis=1)


def gather(found: Arguments, name: str, first: int, rows: Any, width: int = 1) -> Any:
    last = int(rows.max()) + 1 if len(rows) else 0
    values = found.array(name, last, width, first=first * width)[rows]
    return values if width > 1 or name == "X" else values[:, 0]


def move(found: Arguments, first: int, rows: Any, after: Any) -> None:
    """Replace labels of rows, list those that changed, and move them between the sums."""
    d, k, n_copies = found["n_features"], found["n_clusters"], found["n_copies"]
    before = gather(found, "Labels", first, rows).copy()
    changed = before != after
    rows, before, after = rows[changed], before[changed], after[changed]
    if len(rows) == 0:
        return
    counts = found.array("Counts", 2)
    found.array("Changed", len(rows), first=int(counts[1]))[:] = rows
    counts[1] += len(rows)
    found.array("Labels", int(rows.max()) + 1, first=first)[rows] = after
    terms = gather(found, "X", first, rows, d).astype(np.float64) - found.array("Shift", d)
    mass = np.ones(len(rows), np.int64)
    if found.constants["WEIGHTED"]:
        weights = gather(found, "Weights", first, rows)
        terms *= weights[:, None]
        mass = np.rint(weights * found["mass_scale"]).astype(np.int64)
    whole = np.rint(terms * found.array("Scale", d)).astype(np.int64)
    copy = rows // found.constants["ROWS"] % n_copies
    sums, masses = found.array("Sums", n_copies, k, d), found.array("Masses", n_copies, k)
    for cluster, sign in ((after, 1), (before, -1)):
        inside = cluster >= 0
        np.add.at(sums, (copy[inside], cluster[inside]), sign * whole[inside])
        np.add.at(masses, (copy[inside], cluster[inside]), sign * mass[inside])
