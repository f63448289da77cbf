"""The verbs of a backend on any array module: CuPy on a GPU, NumPy wherever the same code is to be tested.

Rows are copied to the device once, when they are surveyed, if they fit there and are not there already; else whenever a
pass looks at them, piece by piece. Labels stay there too, and only those that changed come back. K-Means has the bits
of engine/backends/cpu.py; places agree with it to rounding. The arithmetic is kernels/cuda's, chunks and memory are
chunked.py's, moments and scores array_pca.py's, what only a GPU has gpu.py's.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.backends.array_pca import ArrayComponents
from engine.backends.chunked import Array
from engine.backends.cpu import FRAME_ROWS, CpuBackend, sample_of
from engine.backends.device_matrix import DeviceMatrix, array_in
from engine.backends.protocol import (
    SUM_ROWS,
    ClusterSums,
    Drift,
    Float64s,
    Grid,
    Int32s,
    Int64s,
    Nearest,
    Rows,
)
from engine.execution.array_storage import Storage
from engine.kernels.arrays import distance
from engine.kernels.arrays.kmeans import assign, lloyd
from engine.kernels.arrays.kmeans import filter as screen
from engine.kernels.cpu.kmeans import quantize as codes

RESIDENT_SHARE = 0.7  # of the free memory that rows may take; the rest is for chunks, and for what others allocate
JOB_ROWS = 4096 * SUM_ROWS  # rows a block of a pass: a launch takes microseconds, whatever it does. Not measured yet
logger = logging.getLogger(__name__)


@dataclass
class DeviceRows:
    """What is kept about rows between passes."""

    frame: codes.Frame
    X: Array | None = None  # (n_rows, n_features) on the device; None where it did not fit
    labels: Array | None = None  # (n_rows,) int32 there
    runs: dict[int, float] = field(default_factory=dict)  # first row of a block -> run its labels there belong to
    next_run: Iterator[int] = field(default_factory=lambda: count(1))


class ArrayBackend(ArrayComponents):
    """Every verb of `Backend` but those that a library of the device does."""

    def job_rows(self, n_rows: int) -> int:
        return JOB_ROWS

    def room(self, shape: tuple[int, int], storage: Storage) -> Rows:
        """Return room on the device, unless rows have to lie in a file, or do not fit."""
        if storage.folder is None:
            found = self._resident(shape, np.dtype(np.float32))
            if found is not None:
                return DeviceMatrix(self, found)  # type: ignore[return-value]  # what is asked of rows, it does
        rows: Rows = storage.array("Z", shape, np.float32)
        return rows

    def prepare_rows(self, X: Rows, storage: Storage) -> DeviceRows:
        frame = codes.frame_of(self.host(sample_of(X, FRAME_ROWS)), codes.FLOATS)
        there = array_in(X)
        there = self._resident(X.shape, X.dtype) if there is None else there
        if there is None:
            return DeviceRows(frame)
        return DeviceRows(frame, there, self.xp.empty(len(X), np.int32))

    def _resident(self, shape: tuple[int, ...], dtype: Any) -> Array | None:
        """Return room for rows, which labels have to fit beside; None, and a warning, where there is none."""
        free, needed = self.free_memory(), shape[0] * (shape[1] * dtype.itemsize + np.dtype(np.int32).itemsize)
        try:
            if free is None or needed <= RESIDENT_SHARE * free:
                return self.xp.empty(shape, dtype)
        except MemoryError:
            self.release()
        logger.warning("%s has no room for rows of %d MiB: every pass copies them.", self.name, needed >> 20)
        return None

    def survey(self, X: Rows, weights: Float64s, rows: DeviceRows, part: slice) -> tuple[Float64s, Float64s, bool]:
        def work(values: int) -> tuple[Float64s, Float64s, bool]:
            found = []
            for piece, block in self.pieces(X):
                if rows.X is not None and not hasattr(X, "get"):
                    rows.X[part][piece] = block
                found.append(self._extent(self.xp, block, weights[piece]))
            lows, highs, finite = zip(*found, strict=True)
            return np.min(lows, axis=0), np.max(highs, axis=0), all(finite)

        def otherwise(cpu: CpuBackend) -> tuple[Float64s, Float64s, bool]:
            if rows.X is not None and not hasattr(X, "get"):
                self.write(rows.X[part], X)
            return self._extent(np, self.host(X), weights)

        return self.within(work, otherwise)

    def _extent(self, xp: Any, X: Array, weights: Float64s) -> tuple[Float64s, Float64s, bool]:
        counted = X[xp.asarray(weights) > 0] if len(weights) else X
        finite = bool(xp.isfinite(X).all())
        if len(counted) == 0:
            return np.full(X.shape[1], np.inf), np.full(X.shape[1], -np.inf), finite
        low, high = self.host(counted.min(axis=0)), self.host(counted.max(axis=0))
        return low.astype(np.float64), high.astype(np.float64), finite

    def refine(self, rows: DeviceRows, X: Rows, n_clusters: int, screened: int, opened: int, storage: Storage) -> None:
        """Return None: rows are screened as they are."""

    def encode(self, X: Rows, rows: DeviceRows, part: slice) -> None:
        """Do nothing: rows are screened as they are."""

    def units(self, rows: DeviceRows) -> float:
        return float(rows.frame.factor)

    def square_sums(
        self, X: Rows, weights: Float64s, rows: DeviceRows, part: slice, grid: Grid
    ) -> tuple[Int64s, Int64s]:
        def work(values: int) -> tuple[Int64s, Int64s]:
            put = self.xp.asarray
            of = put(grid.shift), put(grid.scale), put(grid.square_scale)
            total = np.zeros((2, X.shape[1]), np.int64)
            for piece, block in self._blocks(X, rows, part):
                found = lloyd.square_sums(self.xp, block, put(weights[piece]), of, values)
                total += np.stack([self.host(sums) for sums in found])
            return total[0], total[1]

        return self.within(work, lambda cpu: cpu.square_sums(self.host(X), weights, None, part, grid))

    def prepare(self, centres: Rows, rows: DeviceRows) -> screen.Centres:
        return screen.ready(self.xp, centres, rows.frame)

    def lloyd(
        self,
        X: Rows,
        weights: Float64s,
        rows: DeviceRows,
        part: slice,
        centres: screen.Centres,
        drift: Drift,
        grid: Grid,
        labels: Int32s,
        slack: NDArray[np.float32],
    ) -> ClusterSums:
        """Label every row anew: all that `slack` says is, in its first place, whose labels the device has.

        That changes with every call, since a run may be a copy of another one.
        """
        if rows.labels is not None:
            if rows.runs.get(part.start) != slack[0]:
                self.write(rows.labels[part], labels)
            slack[0] = rows.runs[part.start] = next(rows.next_run)

        def work(values: int) -> ClusterSums:
            total = ClusterSums(*_no_sums(centres.given), 0, len(X), 0, 0)
            found: list[tuple[Any, Any]] = []
            for piece, block in self._blocks(X, rows, part):
                here = slice(part.start + piece.start, part.start + piece.stop)
                before = self.xp.asarray(labels[piece]) if rows.labels is None else rows.labels[here]
                after, opened, defined = assign.label_rows(self.xp, block, centres, values)
                moved = self.xp.flatnonzero(after != before)
                sums, masses = self._moved(
                    self.xp, block, weights[piece], grid, before, after, moved, centres, values
                )  # fmt: skip
                found.append((self.host(moved) + piece.start, self.host(after[moved])))
                total = _added(total, ClusterSums(self.host(sums), self.host(masses), len(moved), 0, opened, defined))
                if rows.labels is not None:
                    before[...] = after
            for places, names in found:  # last, so that what runs out of memory changes nothing here
                labels[places] = names
            return total

        def otherwise(cpu: CpuBackend) -> ClusterSums:
            rows.runs.pop(part.start, None)
            after, there = np.empty(len(X), np.int32), self.host(X)
            cpu.label(there, centres.given, after)
            moved = np.flatnonzero(after != labels)
            sums, masses = self._moved(np, there, weights, grid, labels, after, moved, centres, self.values)
            labels[moved] = after[moved]
            return ClusterSums(sums, masses, len(moved), len(X), len(X), 0)

        return self.within(work, otherwise)

    @staticmethod
    def _moved(
        xp: Any, X: Array, weights: Float64s, grid: Grid, before: Array, after: Array, moved: Array,
        centres: screen.Centres, values: int,
    ) -> tuple[Array, Array]:  # fmt: skip
        """Return what the rows `moved` change about the sums; where that is all of them, without a copy of them."""
        own = xp.asarray(weights)
        if len(moved) < len(X):
            own = own[moved] if len(weights) else own
            X, before, after = X[moved], before[moved], after[moved]
        of = xp.asarray(grid.shift), xp.asarray(grid.scale), grid.mass_scale
        return lloyd.moved_sums(xp, X, own, of, before, after, len(centres.given), values)

    def label(self, X: Rows, centres: Rows, labels: Int32s) -> None:
        def work(values: int) -> None:
            ready = self._ready(X, centres)
            for piece, block in self.pieces(X):
                labels[piece] = self.host(assign.label_rows(self.xp, block, ready, values).labels)

        self.within(work, lambda cpu: cpu.label(self.host(X), centres, labels))

    def own_distances(self, X: Rows, rows: DeviceRows | None, part: slice, centres: Rows, labels: Int32s) -> Float64s:
        def work(values: int) -> Float64s:
            return self.host(self._own(X, rows, part, centres, labels, values))

        return self.within(work, lambda cpu: cpu.own_distances(self.host(X), None, part, centres, labels))

    def inertia(
        self, X: Rows, weights: Float64s, rows: DeviceRows | None, part: slice, centres: Rows, labels: Int32s
    ) -> Float64s:
        def work(values: int) -> Float64s:
            squared = self._own(X, rows, part, centres, labels, values)
            return self.host(distance.sums_of_runs(self.xp, squared, self.xp.asarray(weights), SUM_ROWS))

        return self.within(work, lambda cpu: cpu.inertia(self.host(X), weights, None, part, centres, labels))

    def nearest_two(self, X: Rows, centres: Rows) -> Nearest:
        def work(values: int) -> Nearest:
            ready, parts = self._ready(X, centres), []
            for _, block in self.pieces(X):
                found = map(self.host, assign.label_two(self.xp, block, ready, values))
                labels, nearest, runners_up, second = found
                first, other = np.sqrt(nearest).astype(np.float32), np.sqrt(second).astype(np.float32)
                parts.append((labels.astype(np.int32), first, runners_up.astype(np.int32), other))
            return Nearest(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

        return self.within(work, lambda cpu: cpu.nearest_two(self.host(X), centres))

    def distances(self, X: Rows, centres: Rows) -> Rows:
        def work(values: int) -> Rows:
            out, columns = np.empty((len(X), len(centres)), X.dtype), self.xp.asarray(centres.T.astype(np.float64))
            for piece, block in self.pieces(X):
                for part in distance.runs(len(block), max(centres.shape), values):
                    squared = distance.squared_distances(self.xp, block[part], columns)
                    out[piece][part] = self.host(self.xp.sqrt(squared))
            return out

        return self.within(work, lambda cpu: cpu.distances(self.host(X), centres))

    def _blocks(self, X: Rows, rows: DeviceRows | None, part: slice) -> Iterator[tuple[slice, Array]]:
        """Yield a block, rows `part` of those prepared, on the device, in pieces where it has to be copied."""
        if rows is None or rows.X is None:
            return self.pieces(X)
        return iter([(slice(0, len(X)), rows.X[part])])

    def _ready(self, X: Rows, centres: Rows) -> screen.Centres:
        """Make centres ready for rows that nobody has prepared."""
        return screen.ready(self.xp, centres, codes.frame_of(self.host(sample_of(X)), codes.FLOATS))

    def _own(self, X: Rows, rows: DeviceRows | None, part: slice, centres: Rows, labels: Int32s, values: int) -> Array:
        exact, there = self.xp.asarray(centres.astype(np.float64)), self.xp.asarray(labels)
        squared = self.xp.empty(len(X))
        for piece, block in self._blocks(X, rows, part):
            own = there[piece]
            for run in distance.runs(len(block), X.shape[1], values):
                squared[piece][run] = distance.own_distances(self.xp, block[run], exact, own[run])
        return squared


def _no_sums(centres: Rows) -> tuple[Int64s, Int64s]:
    return np.zeros(centres.shape, np.int64), np.zeros(len(centres), np.int64)


def _added(one: ClusterSums, other: ClusterSums) -> ClusterSums:
    return ClusterSums(
        one.sums + other.sums, one.masses + other.masses, one.changed + other.changed, one.screened + other.screened,
        one.opened + other.opened, one.defined + other.defined,
    )  # fmt: skip
