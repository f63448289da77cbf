"""The verbs of a backend on any array module: CuPy on a GPU, NumPy wherever the same code is to be tested.

Rows are copied to the device once, when they are surveyed, if they fit there; else whenever a pass looks at them.
Labels stay there too, and only those that changed come back. K-Means, scores and counts have the bits of
engine/backends/cpu.py; moments and places agree with it to rounding. The arithmetic is kernels/cuda's, chunks and
memory are chunks.py's, what only a GPU has is gpu.py's.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.backends.chunks import Array, Chunks
from engine.backends.cpu import PILOT_ROWS, CpuBackend, sample_of
from engine.backends.protocol import (
    LANES,
    SUM_ROWS,
    ClusterSums,
    Drift,
    EncodedMoments,
    EncodedRows,
    Float64s,
    Grid,
    Int32s,
    Int64s,
    Moments,
    Nearest,
    Placed,
    Prepared,
    Projection,
    Rows,
)
from engine.execution.storage import Storage
from engine.kernels.cpu import codes
from engine.kernels.cuda import assign, distance, lloyd, moments, scores, screen

RESIDENT_SHARE = 0.7  # of the free memory that rows may take; the rest is for chunks, and for what others allocate
logger = logging.getLogger(__name__)


@dataclass
class DeviceRows:
    """What is kept about rows between passes."""

    frame: codes.Frame
    X: Array | None = None  # (n_rows, n_features) on the device; None where it did not fit
    labels: Array | None = None  # (n_rows,) int32 there
    runs: dict[int, float] = field(default_factory=dict)  # first row of a block -> run its labels there belong to
    next_run: Iterator[int] = field(default_factory=lambda: count(1))


class ArrayBackend(Chunks):
    """Every verb of `Backend` but those that a library of the device does."""

    def moments(self, X: Rows) -> Moments:
        def work(values: int) -> Moments:
            mean, scatter = moments.moments(self.xp, self.xp.asarray(X), PILOT_ROWS, values)
            return Moments(len(X), self.host(mean), self.host(scatter))

        return self.within(work, lambda cpu: cpu.moments(X))

    def scores(self, X: Rows, mean: Float64s, axes: Float64s) -> Rows:
        def work(values: int) -> Rows:
            put = self.xp.asarray
            return self.host(scores.project(self.xp, put(X), put(mean), put(axes), values))

        return self.within(work, lambda cpu: cpu.scores(X, mean, axes))

    def encoded_moments(self, rows: EncodedRows, n_hot_columns: int) -> EncodedMoments:
        def work(values: int) -> EncodedMoments:
            dense, starts, hot = map(self.xp.asarray, rows)
            found = moments.encoded_moments(self.xp, dense, starts, hot, n_hot_columns, values)
            gram, cross, pairs = map(self.host, found)
            padding = ((0, 0), (0, -gram.shape[1] % LANES))
            return EncodedMoments(len(rows.dense), np.pad(gram, padding), np.pad(cross, padding), pairs)

        return self.within(work, lambda cpu: cpu.encoded_moments(rows, n_hot_columns))

    def encoded_scores(self, rows: EncodedRows, projection: Projection) -> NDArray[np.float32]:
        def work(values: int) -> NDArray[np.float32]:
            put = self.xp.asarray
            base, dense_axes, hot_axes = put(projection.base), put(projection.dense_axes), put(projection.hot_axes)
            encoded, n = (put(rows.dense), put(rows.starts), put(rows.hot)), projection.n_components
            return self.host(scores.project_encoded(self.xp, encoded, base, dense_axes, hot_axes, n, values))

        return self.within(work, lambda cpu: cpu.encoded_scores(rows, projection))

    def prepare_rows(self, sample: Rows, n_rows: int, storage: Storage) -> DeviceRows:
        frame = codes.frame_of(sample, codes.FLOATS)
        free, needed = self.free_memory(), n_rows * (sample.shape[1] * sample.dtype.itemsize + 4)
        try:
            if free is None or needed <= RESIDENT_SHARE * free:
                X = self.xp.empty((n_rows, sample.shape[1]), sample.dtype)
                return DeviceRows(frame, X, self.xp.empty(n_rows, np.int32))
        except MemoryError:
            self.release()
        logger.warning("%s has no room for rows of %d MiB: every pass copies them.", self.name, needed >> 20)
        return DeviceRows(frame)

    def survey(self, X: Rows, weights: Float64s, rows: DeviceRows, part: slice) -> tuple[Float64s, Float64s, bool]:
        if rows.X is not None:
            self.write(rows.X[part], X)
        found = self.within(
            lambda values: self._extent(self.xp, self._block(X, rows, part), weights),
            lambda cpu: self._extent(np, X, weights),
        )
        return found

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
            sums, squares = lloyd.square_sums(self.xp, self._block(X, rows, part), put(weights), of, values)
            return self.host(sums), self.host(squares)

        return self.within(work, lambda cpu: cpu.square_sums(X, weights, None, part, grid))

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
        """Label every row anew: all that `slack` says is, in its first place, whose labels the device has."""
        if rows.labels is not None and rows.runs.get(part.start) != slack[0]:
            self.write(rows.labels[part], labels)
            slack[0] = rows.runs[part.start] = next(rows.next_run)

        def work(values: int) -> ClusterSums:
            block = self._block(X, rows, part)
            before = self.xp.asarray(labels) if rows.labels is None else rows.labels[part]
            after, opened, defined = assign.label_rows(self.xp, block, centres, values)
            moved = self.xp.flatnonzero(after != before)
            sums, masses = self._moved(self.xp, block, weights, grid, before, after, moved, centres, values)
            places, names = self.host(moved), self.host(after[moved])
            if rows.labels is not None:
                before[...] = after
            labels[places] = names
            return ClusterSums(self.host(sums), self.host(masses), len(places), len(X), opened, defined)

        def otherwise(cpu: CpuBackend) -> ClusterSums:
            rows.runs.pop(part.start, None)
            after = np.empty(len(X), np.int32)
            cpu.label(X, centres.given, after)
            moved = np.flatnonzero(after != labels)
            sums, masses = self._moved(np, X, weights, grid, labels, after, moved, centres, self.values)
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
            ready = screen.ready(self.xp, centres, codes.frame_of(sample_of(X), codes.FLOATS))
            labels[:] = self.host(assign.label_rows(self.xp, self.xp.asarray(X), ready, values).labels)

        self.within(work, lambda cpu: cpu.label(X, centres, labels))

    def own_distances(self, X: Rows, rows: DeviceRows | None, part: slice, centres: Rows, labels: Int32s) -> Float64s:
        def work(values: int) -> Float64s:
            return self.host(self._own(X, rows, part, centres, labels, values))

        return self.within(work, lambda cpu: cpu.own_distances(X, None, part, centres, labels))

    def inertia(
        self, X: Rows, weights: Float64s, rows: DeviceRows | None, part: slice, centres: Rows, labels: Int32s
    ) -> Float64s:
        def work(values: int) -> Float64s:
            squared = self._own(X, rows, part, centres, labels, values)
            return self.host(distance.sums_of_runs(self.xp, squared, self.xp.asarray(weights), SUM_ROWS))

        return self.within(work, lambda cpu: cpu.inertia(X, weights, None, part, centres, labels))

    def nearest_two(self, X: Rows, centres: Rows) -> Nearest:
        def work(values: int) -> Nearest:
            ready = screen.ready(self.xp, centres, codes.frame_of(sample_of(X), codes.FLOATS))
            found = map(self.host, assign.label_two(self.xp, self.xp.asarray(X), ready, values))
            labels, nearest, runners_up, second = found
            first, other = np.sqrt(nearest).astype(np.float32), np.sqrt(second).astype(np.float32)
            return Nearest(labels.astype(np.int32), first, runners_up.astype(np.int32), other)

        return self.within(work, lambda cpu: cpu.nearest_two(X, centres))

    def distances(self, X: Rows, centres: Rows) -> Rows:
        def work(values: int) -> Rows:
            out, columns = np.empty((len(X), len(centres)), X.dtype), self.xp.asarray(centres.T.astype(np.float64))
            for part in distance.runs(len(X), max(centres.shape), values):
                squared = distance.squared_distances(self.xp, self.xp.asarray(X[part]), columns)
                out[part] = self.host(self.xp.sqrt(squared))
            return out

        return self.within(work, lambda cpu: cpu.distances(X, centres))

    def atlas(self, X: NDArray[np.float32], places: NDArray[np.float32]) -> Prepared:
        from engine.backends.atlas import DeviceAtlas

        return DeviceAtlas.of(self, X, places)

    def place(self, X: NDArray[np.float32], atlas: Prepared) -> Placed:
        def otherwise(cpu: CpuBackend) -> Placed:
            return cpu.place(X, atlas.given)

        def work(values: int) -> Placed:
            placed: Placed = atlas.place(X, values)
            return placed

        return self.within(work, otherwise)

    def _block(self, X: Rows, rows: DeviceRows | None, part: slice) -> Array:
        """Return a block on the device."""
        return self.xp.asarray(X) if rows is None or rows.X is None else rows.X[part]

    def _own(self, X: Rows, rows: DeviceRows | None, part: slice, centres: Rows, labels: Int32s, values: int) -> Array:
        block, exact = self._block(X, rows, part), self.xp.asarray(centres.astype(np.float64))
        there, squared = self.xp.asarray(labels), self.xp.empty(len(X))
        for run in distance.runs(len(X), X.shape[1], values):
            squared[run] = distance.own_distances(self.xp, block[run], exact, there[run])
        return squared
