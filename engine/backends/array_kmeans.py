"""K-Means on an array module: the methods of a backend on CuPy for a GPU, on NumPy in tests.

Rows that are not on the device are copied there once, by `prepare_and_range`, if they fit; else every pass copies them
piece by piece. Labels stay on the device too, and only changed ones are copied back. Results have the bits of those of
engine/backends/cpu.py. The arithmetic is in kernels/arrays, chunks and memory in chunked.py, moments and scores in
array_pca.py, what only a GPU has in gpu.py.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from engine.backends.array_pca import ArrayPCA
from engine.backends.cpu import QUANTIZER_SAMPLE_ROWS, CpuBackend, evenly_spaced_rows
from engine.backends.device_matrix import DeviceMatrix, device_array
from engine.backends.protocol import SUM_ROWS, ClusterSums, FixedPointGrid, SkipThresholds, TwoNearest
from engine.execution.array_storage import Storage
from engine.kernels.arrays import distance
from engine.kernels.arrays.columns import reduce_columns
from engine.kernels.arrays.kmeans import assign, lloyd
from engine.kernels.arrays.kmeans import certify as row_filter
from engine.kernels.cpu.kmeans import quantize
from engine.utils.array_types import Array, Float32s, Float64s, Int32s, Int64s, Rows

RESIDENT_SHARE = 0.7  # largest share of the free memory for rows; the rest is for chunks and for other allocations
BLOCK_ROWS = 4096 * SUM_ROWS  # rows in a block of a pass: a launch takes microseconds for any number. Not measured yet
logger = logging.getLogger(__name__)


@dataclass
class PreparedDeviceRows:
    """Rows and labels in device memory.

    The labels of a block belong to one run of Lloyd's algorithm at a time; `label_ids` says to which.
    """

    quantizer: quantize.RowQuantizer
    X: Array | None = None  # (n_rows, n_features) on the device; None if it did not fit
    labels: Array | None = None  # (n_rows,) int32 on the device
    label_ids: dict[int, float] = field(default_factory=dict)  # first row of a block -> number of its last pass
    next_id: Iterator[int] = field(default_factory=lambda: count(1))


class DeviceCenters(NamedTuple):
    """Centers for passes over rows."""

    host: Rows  # (n_clusters, n_features), as given
    arrays: Any | None  # on the device; None if it failed to take them: every block tries anew, and falls back


class ArrayBackend(ArrayPCA):
    """All methods of `Backend` but those that call a library of the device."""

    def rows_per_block(self, n_rows: int) -> int:
        return BLOCK_ROWS

    def rows_per_lloyd_pass(self, n_rows: int) -> int:
        return BLOCK_ROWS

    def allocate_scores(self, shape: tuple[int, int], storage: Storage) -> Rows:
        """Allocate on the device, or in the storage if that is a folder or the rows do not fit."""
        if storage.folder is None:
            matrix = self._allocate_resident(shape, np.dtype(np.float32))
            if matrix is not None:
                return DeviceMatrix(self, matrix)  # type: ignore[return-value]  # it supports what passes do with rows
        rows: Rows = storage.array("Z", shape, np.float32)
        return rows

    def allocate_rows(self, X: Rows, storage: Storage, n_clusters: int | None = None) -> PreparedDeviceRows:
        quantizer = quantize.fit_quantizer(self.to_host(evenly_spaced_rows(X, QUANTIZER_SAMPLE_ROWS)), quantize.FLOAT32)
        device_X = device_array(X)
        device_X = self._allocate_resident(X.shape, X.dtype) if device_X is None else device_X
        if device_X is None:
            return PreparedDeviceRows(quantizer)
        labels = self._allocate((len(X),), np.int32)
        return PreparedDeviceRows(quantizer, None if labels is None else device_X, labels)

    def _allocate_resident(self, shape: tuple[int, ...], dtype: Any) -> Array | None:
        """Allocate rows on the device if their labels fit there too; else log a warning and return None."""
        free, needed = self.free_memory(), shape[0] * (shape[1] * dtype.itemsize + np.dtype(np.int32).itemsize)
        fits = free is None or needed <= RESIDENT_SHARE * free
        matrix = self._allocate(shape, dtype) if fits else None
        if matrix is None:
            logger.warning("%s has no room for rows of %d MiB: every pass copies them.", self.name, needed >> 20)
        return matrix

    def _allocate(self, shape: tuple[int, ...], dtype: Any) -> Array | None:
        """Return an array of the device; None if it has not the memory, or fails and there is a fallback."""
        try:
            try:
                return self.xp.empty(shape, dtype)
            except MemoryError:
                self.free_unused_memory()
        except self.device_errors as error:
            self.fallback_after(error, "rows stay on the host")
        return None

    def prepare_and_range(
        self, X: Rows, weights: Float64s, rows: PreparedDeviceRows, part: slice
    ) -> tuple[Float64s, Float64s, bool]:
        def compute(chunk_values: int) -> tuple[Float64s, Float64s, bool]:
            ranges, resident = [], rows.X
            for piece, block in self.pieces(X):
                if resident is not None and not hasattr(X, "get"):
                    resident[part][piece] = block
                ranges.append(self._range(self.xp, block, weights[piece]))
            lows, highs, finite = zip(*ranges, strict=True)
            return np.min(lows, axis=0), np.max(highs, axis=0), all(finite)

        def compute_on_cpu(cpu: CpuBackend) -> tuple[Float64s, Float64s, bool]:
            resident = rows.X
            if resident is not None and not hasattr(X, "get"):
                try:
                    self.copy_into(resident[part], X)
                except self.device_errors as error:
                    self.fallback_after(error, "every pass copies the rows")
                    rows.X = rows.labels = None
            return self._range(np, self.to_host(X), weights)

        return self.run_in_chunks(compute, compute_on_cpu)

    def _range(self, xp: Any, X: Array, weights: Float64s) -> tuple[Float64s, Float64s, bool]:
        """Return least and largest values of rows that have weight, and whether all rows are finite."""

        def reduce_rows(rows: Array) -> tuple[Float64s, Float64s]:
            if len(rows) == 0:
                return np.full(X.shape[1], np.inf), np.full(X.shape[1], -np.inf)
            low, high = (self.to_host(reduce_columns(xp, rows, method)) for method in ("min", "max"))
            return low.astype(np.float64), high.astype(np.float64)

        low, high = reduce_rows(X)  # NaN if any value is
        finite = bool(np.isfinite(low).all() and np.isfinite(high).all())
        return (*(reduce_rows(X[xp.asarray(weights) > 0]) if len(weights) else (low, high)), finite)

    def finer_rows(
        self, rows: PreparedDeviceRows, X: Rows, n_clusters: int, screened: int, opened: int, storage: Storage
    ) -> None:
        """Return None: rows are filtered in float32, the highest precision."""

    def requantize_rows(self, X: Rows, rows: PreparedDeviceRows, part: slice) -> None:
        """Do nothing: rows are not quantized."""

    def words_per_row(self, rows: PreparedDeviceRows, n_features: int) -> int:
        return n_features

    def movement_scale(self, rows: PreparedDeviceRows) -> float:
        return float(rows.quantizer.factor)

    def sums_and_squares(
        self, X: Rows, weights: Float64s, rows: PreparedDeviceRows, part: slice, grid: FixedPointGrid
    ) -> tuple[Int64s, Int64s]:
        def compute(chunk_values: int) -> tuple[Int64s, Int64s]:
            put = self.xp.asarray
            fixed_point = put(grid.shift), put(grid.scale), put(grid.square_scale)
            total = np.zeros((2, X.shape[1]), np.int64)
            for piece, block in self._blocks(X, rows, part):
                sums = lloyd.compute_square_sums(self.xp, block, put(weights[piece]), fixed_point, chunk_values)
                total += np.stack([self.to_host(part_sums) for part_sums in sums])
            return total[0], total[1]

        return self.run_in_chunks(compute, lambda cpu: cpu.sums_and_squares(self.to_host(X), weights, None, part, grid))

    def prepare_centers(self, centers: Rows, rows: PreparedDeviceRows) -> DeviceCenters:
        return DeviceCenters(
            centers, self.run_in_chunks(lambda _: self._center_arrays(centers, rows.quantizer), lambda cpu: None)
        )

    def _center_arrays(self, centers: Rows, quantizer: quantize.RowQuantizer) -> Any:
        """Return centers on the device as its passes want them."""
        return row_filter.prepare_centers(self.xp, centers, quantizer)

    def lloyd_pass(
        self,
        X: Rows,
        weights: Float64s,
        rows: PreparedDeviceRows,
        part: slice,
        centers: DeviceCenters,
        thresholds: SkipThresholds,
        grid: FixedPointGrid,
        labels: Int32s,
        gap_bound: Float32s,
    ) -> ClusterSums:
        """Label every row: none is skipped, and only gap_bound[0] is used, for the number of the block's last pass.

        Labels on the device are valid if the same number was recorded for them. Every pass has a new number, because
        copies of a run share the device's labels.
        """

        def compute(chunk_values: int) -> ClusterSums:
            if rows.labels is not None and rows.label_ids.pop(part.start, None) != gap_bound[0]:
                self.copy_into(rows.labels[part], labels)
            arrays = self._center_arrays(centers.host, rows.quantizer) if centers.arrays is None else centers.arrays
            total = ClusterSums(*zero_sums(centers.host), 0, len(X), 0, 0)
            changes: list[tuple[Any, Any]] = []  # row numbers, new labels
            for piece, block in self._blocks(X, rows, part):
                piece_rows = slice(part.start + piece.start, part.start + piece.stop)
                before = self.xp.asarray(labels[piece]) if rows.labels is None else rows.labels[piece_rows]
                after, opened, defined = assign.label_rows(self.xp, block, arrays, chunk_values)
                changed = self.xp.flatnonzero(after != before)
                sums, masses = self._sum_changes(
                    self.xp, block, weights[piece], grid, before, after, changed, len(centers.host), chunk_values
                )  # fmt: skip
                changes.append((self.to_host(changed) + piece.start, self.to_host(after[changed])))
                total = _add(
                    total, ClusterSums(self.to_host(sums), self.to_host(masses), len(changed), 0, opened, defined)
                )
                if rows.labels is not None:
                    before[...] = after
            for numbers, new_labels in changes:  # last, so that `labels` is unchanged if memory runs out before
                labels[numbers] = new_labels
            if rows.labels is not None:
                gap_bound[0] = rows.label_ids[part.start] = next(rows.next_id)
            return total

        def compute_on_cpu(cpu: CpuBackend) -> ClusterSums:
            rows.label_ids.pop(part.start, None)
            return self._lloyd_pass_on_cpu(cpu, self.to_host(X), weights, centers.host, grid, labels)

        return self.run_in_chunks(compute, compute_on_cpu)

    def _lloyd_pass_on_cpu(
        self, cpu: CpuBackend, X: Rows, weights: Float64s, centers: Rows, grid: FixedPointGrid, labels: Int32s
    ) -> ClusterSums:
        """Label rows of the host in place, and return the changes of the clusters' sums."""
        after = np.empty(len(X), np.int32)
        cpu.label(X, centers, after)
        changed = np.flatnonzero(after != labels)
        sums, masses = self._sum_changes(
            np, X, weights, grid, labels, after, changed, len(centers), self.chunk_values
        )  # fmt: skip
        labels[changed] = after[changed]
        return ClusterSums(sums, masses, len(changed), len(X), len(X), 0)

    @staticmethod
    def _sum_changes(
        xp: Any, X: Array, weights: Float64s, grid: FixedPointGrid, before: Array, after: Array, changed: Array,
        n_clusters: int, chunk_values: int,
    ) -> tuple[Array, Array]:  # fmt: skip
        """Return by how much the rows `changed` change sums and masses."""
        device_weights, rows = xp.asarray(weights), None
        if len(changed) < len(X):
            rows, before, after = changed, before[changed], after[changed]
            device_weights = device_weights[changed] if len(weights) else device_weights
        fixed_point = xp.asarray(grid.shift), xp.asarray(grid.scale), grid.mass_scale
        return lloyd.compute_sum_changes(
            xp, X, rows, device_weights, fixed_point, before, after, n_clusters, chunk_values
        )  # fmt: skip

    def label(self, X: Rows, centers: Rows, labels: Int32s) -> None:
        def compute(chunk_values: int) -> None:
            prepared = self._prepare_centers_once(X, centers)
            for piece, block in self.pieces(X):
                labels[piece] = self.to_host(assign.label_rows(self.xp, block, prepared, chunk_values).labels)

        self.run_in_chunks(compute, lambda cpu: cpu.label(self.to_host(X), centers, labels))

    def assigned_distances(
        self, X: Rows, rows: PreparedDeviceRows | None, part: slice, centers: Rows, labels: Int32s
    ) -> Float64s:
        def compute(chunk_values: int) -> Float64s:
            return self.to_host(self._assigned_distances(X, rows, part, centers, labels, chunk_values))

        return self.run_in_chunks(
            compute, lambda cpu: cpu.assigned_distances(self.to_host(X), None, part, centers, labels)
        )

    def inertia(
        self, X: Rows, weights: Float64s, rows: PreparedDeviceRows | None, part: slice, centers: Rows, labels: Int32s
    ) -> Float64s:
        def compute(chunk_values: int) -> Float64s:
            squared = self._assigned_distances(X, rows, part, centers, labels, chunk_values)
            return self.to_host(distance.block_sums(self.xp, squared, self.xp.asarray(weights), SUM_ROWS))

        return self.run_in_chunks(
            compute, lambda cpu: cpu.inertia(self.to_host(X), weights, None, part, centers, labels)
        )

    def nearest_two(self, X: Rows, centers: Rows) -> TwoNearest:
        def compute(chunk_values: int) -> TwoNearest:
            prepared, parts = self._prepare_centers_once(X, centers), []
            for _, block in self.pieces(X):
                arrays = map(self.to_host, assign.label_nearest_two(self.xp, block, prepared, chunk_values))
                labels, squared, second_labels, second_squared = arrays
                distances, second_distances = (np.sqrt(d2).astype(np.float32) for d2 in (squared, second_squared))
                parts.append((labels.astype(np.int32), distances, second_labels.astype(np.int32), second_distances))
            return TwoNearest(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

        return self.run_in_chunks(compute, lambda cpu: cpu.nearest_two(self.to_host(X), centers))

    def distances(self, X: Rows, centers: Rows) -> Rows:
        def compute(chunk_values: int) -> Rows:
            out, columns = np.empty((len(X), len(centers)), X.dtype), self.xp.asarray(centers.T.astype(np.float64))
            for piece, block in self.pieces(X):
                for part in distance.row_chunks(len(block), max(centers.shape), chunk_values):
                    squared = distance.squared_distances(self.xp, block[part], columns)
                    out[piece][part] = self.to_host(self.xp.sqrt(squared))
            return out

        return self.run_in_chunks(compute, lambda cpu: cpu.distances(self.to_host(X), centers))

    def _blocks(self, X: Rows, rows: PreparedDeviceRows | None, part: slice) -> Iterator[tuple[slice, Array]]:
        """Yield a block, rows `part` of the prepared ones, on the device; in pieces if it has to be copied."""
        if rows is None or rows.X is None:
            return self.pieces(X)
        return iter([(slice(0, len(X)), rows.X[part])])

    def _prepare_centers_once(self, X: Rows, centers: Rows) -> row_filter.CenterArrays:
        """Prepare centers for rows that were not prepared."""
        return row_filter.prepare_centers(
            self.xp, centers, quantize.fit_quantizer(self.to_host(evenly_spaced_rows(X)), quantize.FLOAT32)
        )

    def _assigned_distances(
        self, X: Rows, rows: PreparedDeviceRows | None, part: slice, centers: Rows, labels: Int32s, chunk_values: int
    ) -> Array:
        exact, device_labels = self.xp.asarray(centers.astype(np.float64)), self.xp.asarray(labels)
        squared = self.xp.empty(len(X))
        for piece, block in self._blocks(X, rows, part):
            piece_labels = device_labels[piece]
            for run in distance.row_chunks(len(block), X.shape[1], chunk_values):
                squared[piece][run] = distance.assigned_distances(self.xp, block[run], exact, piece_labels[run])
        return squared


def zero_sums(centers: Rows) -> tuple[Int64s, Int64s]:
    """Return sums and masses of clusters that no row is in."""
    return np.zeros(centers.shape, np.int64), np.zeros(len(centers), np.int64)


def _add(a: ClusterSums, b: ClusterSums) -> ClusterSums:
    return ClusterSums(
        a.sums + b.sums, a.masses + b.masses, a.changed + b.changed, a.screened + b.screened, a.opened + b.opened,
        a.defined + b.defined,
    )  # fmt: skip
