"""The CPU backend: matrix products by NumPy's BLAS, everything else by the kernels of kernels/cpu."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import numpy as np

from engine.backends.protocol import (
    LANES,
    SUM_ROWS,
    ClusterSums,
    EncodedMoments,
    EncodedRows,
    FixedPointGrid,
    LibraryKMeansSettings,
    Moments,
    PreparedCenters,
    PreparedRows,
    PrincipalAxes,
    Projection,
    SkipThresholds,
    TwoNearest,
)
from engine.errors import UsageError
from engine.execution.array_storage import IN_MEMORY, Storage
from engine.execution.threads import thread_count
from engine.kernels.arrays.pca.project import scale_to_unit_length
from engine.kernels.cpu import distance
from engine.kernels.cpu.features import encode
from engine.kernels.cpu.kmeans import assign, lloyd, quantize, quantized_centers
from engine.kernels.cpu.kmeans import certify as row_filter
from engine.kernels.cpu.pca import moments, project
from engine.utils.array_types import Array, Float32s, Float64s, Int32s, Int64s, Rows

SHIFT_SAMPLE_ROWS = 256  # a block is shifted by their mean, so its own mean is within a standard deviation of 0
PRODUCT_ROWS = 1024  # rows in float64 at a time: 512 KiB at 64 features stay in L2
UNIT_VALUES = 1 << 16  # scores scaled to unit length at a time: 256 KiB stay in L2
BLOCK_SAMPLE_ROWS = 1024  # of a block on which a quantizer is fitted if the block is all that is known
QUANTIZER_SAMPLE_ROWS = 4096  # of all rows on which a quantizer is fitted
# Rows in a block of a pass: BLOCKS_PER_THREAD blocks a thread, within these limits. A block costs 0.3 ms, so it has at
# least MIN_BLOCK_ROWS unless a thread would get none.
MAX_BLOCK_ROWS = 128 * SUM_ROWS
BLOCKS_PER_THREAD = 4
MIN_BLOCK_ROWS = 16 * SUM_ROWS
SINGLE_ROWS = 256  # up to so many rows, preparing the centers takes longer than labelling the rows
KEPT_CENTER_BYTES = 64 << 10  # of centers that stay prepared between calls
FEW_ROWS = 8192  # up to so many rows, compiling the kernels of a second precision does not pay
# Costs that decide whether a higher precision pays, measured on one Zen 4 core; rough ratios suffice.
FILTER_NANOSECONDS = 0.006  # per row, center and feature at level INT8
REFINE_NANOSECONDS = 100.0  # per row that the filter left undecided
QUANTIZE_NANOSECONDS = 0.7  # per value
# Whether int16 is to be used from the start: bytes leave at least so large a share of rows open on real tables, and
# int16 has to save so many times what it costs.
LEAST_OPEN_SHARE, FILTER_MARGIN = 0.08, 1.25
OPEN_SHARE_ROWS = 2048  # on which the share of open rows is counted
SAMPLE_SCALE = 2.0**20  # of sums over a sample, whose values are about 1 once they are multiplied by the factor
MIN_SAVED_NANOSECONDS = 2e6  # a smaller saving does not pay for compiling the kernels of another precision


@dataclass(frozen=True)
class PreparedCpuRows:
    """Rows quantized for the filter of Lloyd's passes."""

    level: int
    quantizer: quantize.RowQuantizer
    quantized: quantize.QuantizedRows

    def part(self, rows: slice) -> quantize.QuantizedRows:
        """Return the quantized values of a slice of rows, which are empty at the level that stores none."""
        return quantize.QuantizedRows(*(array[rows] for array in self.quantized))


class CpuBackend:
    """Methods of `Backend` that run on one thread of this process."""

    name = "cpu"
    kernels = "numba"
    one_per_worker = False
    libraries: frozenset[str] = frozenset()
    missing_libraries: Mapping[str, str] = MappingProxyType({})
    device_errors: tuple[type[Exception], ...] = ()

    def moments(self, X: Rows) -> Moments:
        n_rows, n_features = X.shape
        sums, scatter = np.zeros(n_features), np.zeros((n_features, n_features))
        product = np.empty_like(scatter)
        shifted = np.empty((min(PRODUCT_ROWS, n_rows), n_features))
        with np.errstate(over="ignore", invalid="ignore"):  # the caller rejects values that are not finite
            shift = X[:: max(1, n_rows // SHIFT_SAMPLE_ROWS)].mean(axis=0, dtype=np.float64)
            for first in range(0, n_rows, PRODUCT_ROWS):
                part = shifted[: min(PRODUCT_ROWS, n_rows - first)]
                moments.shift_rows(X[first : first + PRODUCT_ROWS], shift, part, sums)
                scatter += np.matmul(part.T, part, out=product)  # NumPy computes it as a symmetric product (syrk)
            offset = sums / n_rows  # of the mean from the shift
            scatter -= np.outer(offset, sums)
        scatter = np.tril(scatter) + np.tril(scatter, -1).T
        return Moments(n_rows, shift + offset, scatter)

    def scores(self, X: Rows, mean: Float64s, axes: Float64s) -> Rows:
        out = np.empty((len(X), axes.shape[1]), X.dtype)
        project.project(X, mean, axes, out)
        return out

    def encoded_moments(self, rows: EncodedRows, n_hot_columns: int) -> EncodedMoments:
        n_dense = rows.dense.shape[1]
        width = -(-n_dense // LANES) * LANES
        gram, cross = np.zeros((n_dense + 1, width)), np.zeros((n_hot_columns, width))
        pairs = np.zeros(n_hot_columns * n_hot_columns, np.uint32)
        encode.accumulate_gram(rows.dense, gram)
        encode.accumulate_hot_products(*rows, cross, pairs)
        counts = pairs.astype(np.int64).reshape(n_hot_columns, n_hot_columns)
        return EncodedMoments(len(rows.dense), gram, cross, counts)

    def encoded_scores(self, rows: EncodedRows, projection: Projection, out: Rows | None = None) -> Rows:
        if out is None:
            out = np.empty((len(rows.dense), projection.n_components), np.float32)
        project.project_encoded(*rows, projection.base, projection.dense_axes, projection.hot_axes, out)
        if projection.shortest is not None:
            scale_to_unit_length(np, out, projection.shortest, UNIT_VALUES)
        return out

    def allocate_scores(self, shape: tuple[int, int], storage: Storage) -> Rows:
        return storage.array("Z", shape, np.float32)

    def rows_per_block(self, n_rows: int) -> int:
        share = -(-n_rows // (thread_count() * SUM_ROWS))  # of a thread, in groups of SUM_ROWS rows
        return min(
            max(-(-share // BLOCKS_PER_THREAD) * SUM_ROWS, min(share * SUM_ROWS, MIN_BLOCK_ROWS), SUM_ROWS),
            MAX_BLOCK_ROWS,
        )

    def rows_per_lloyd_pass(self, n_rows: int) -> int:
        return self.rows_per_block(n_rows)

    def allocate_rows(self, X: Rows, storage: Storage, n_clusters: int | None = None) -> PreparedCpuRows:
        level, sample = quantize.coarsest_level(X.shape[1]), evenly_spaced_rows(X, QUANTIZER_SAMPLE_ROWS)
        # Few rows do not pay for compiling two precisions, and rows in files would take twice the space.
        if n_clusters is not None and level == quantize.INT8 and len(X) > FEW_ROWS and storage.folder is None:
            level = quantize.INT16 if self._is_int16_faster(sample, n_clusters) else level
        return allocate_rows_at(level, sample, len(X), storage)

    def _is_int16_faster(self, sample: Rows, n_clusters: int) -> bool:
        """Return whether int16 saves more, by rows that it does not leave open, than its products cost.

        The share of rows that bytes leave open is counted in the second iteration of Lloyd's algorithm on the sample.
        """
        filtering = n_clusters * sample.shape[1] * FILTER_NANOSECONDS
        if filtering <= LEAST_OPEN_SHARE * REFINE_NANOSECONDS:
            return True
        if filtering >= REFINE_NANOSECONDS or 4 * n_clusters > OPEN_SHARE_ROWS:
            return False
        sample = np.ascontiguousarray(evenly_spaced_rows(sample, OPEN_SHARE_ROWS))
        everything = slice(0, len(sample))
        rows = allocate_rows_at(quantize.INT8, sample, len(sample), IN_MEMORY)
        self.requantize_rows(sample, rows, everything)
        shift, scale = rows.quantizer.shift.astype(np.float64), float(rows.quantizer.factor) * SAMPLE_SCALE
        grid = FixedPointGrid(shift, np.full(len(shift), scale), np.full(len(shift), scale), 1.0)
        labels, bounds = np.full(len(sample), -1, np.int32), np.empty(len(sample), np.float32)
        never = np.full(n_clusters, np.inf, np.float32)
        thresholds = SkipThresholds(never, never, np.empty(0, np.int32))  # no row is skipped

        def label(centers: Rows) -> ClusterSums:
            prepared = self.prepare_centers(centers, rows)
            return self.lloyd_pass(sample, np.empty(0), rows, everything, prepared, thresholds, grid, labels, bounds)

        seeds = np.ascontiguousarray(evenly_spaced_rows(sample, n_clusters))
        first = label(seeds)
        means = first.sums / np.maximum(first.masses, 1)[:, None] / scale + shift
        second = label(np.where(first.masses[:, None] > 0, means, seeds).astype(sample.dtype))
        return bool(second.opened * REFINE_NANOSECONDS > FILTER_MARGIN * second.screened * filtering)

    def prepare_and_range(
        self, X: Rows, weights: Float64s, rows: PreparedCpuRows, part: slice
    ) -> tuple[Float64s, Float64s, bool]:
        low, high = np.full(X.shape[1], np.inf, X.dtype), np.full(X.shape[1], -np.inf, X.dtype)
        finite = quantize.quantize_and_range(X, weights, rows.quantizer, rows.part(part), low, high)
        return low.astype(np.float64), high.astype(np.float64), finite

    def finer_rows(
        self, rows: PreparedCpuRows, X: Rows, n_clusters: int, screened: int, opened: int, storage: Storage
    ) -> PreparedCpuRows | None:
        if rows.level == quantize.FLOAT32:
            return None
        n_rows, n_features = X.shape
        filtering = n_clusters * n_features * FILTER_NANOSECONDS  # per row at this level; twice that at the next one
        saved = opened * REFINE_NANOSECONDS - screened * filtering
        if saved <= max(n_rows * n_features * QUANTIZE_NANOSECONDS, MIN_SAVED_NANOSECONDS):
            return None
        # The factor stays the same, as the gap bounds of all rows contain it.
        return allocate_rows_at(rows.level + 1, evenly_spaced_rows(X, QUANTIZER_SAMPLE_ROWS), n_rows, storage)

    def requantize_rows(self, X: Rows, rows: PreparedCpuRows, part: slice) -> None:
        if len(rows.quantized.values):
            quantize.quantize_rows(X, np.arange(len(X)), len(X), rows.quantizer, *rows.part(part))

    def words_per_row(self, rows: PreparedCpuRows, n_features: int) -> int:
        return -(-n_features * rows.quantized.values.itemsize // 4)

    def movement_scale(self, rows: PreparedCpuRows) -> float:
        return float(rows.quantizer.factor)

    def sums_and_squares(
        self, X: Rows, weights: Float64s, rows: PreparedCpuRows | None, part: slice, grid: FixedPointGrid
    ) -> tuple[Int64s, Int64s]:
        sums, squares = np.zeros(X.shape[1], np.int64), np.zeros(X.shape[1], np.int64)
        lloyd.add_squares(X, weights, grid.shift, grid.scale, grid.square_scale, sums, squares)
        return sums, squares

    def prepare_centers(self, centers: Rows, rows: PreparedCpuRows) -> PreparedCenters:
        return quantized_centers.quantize_centers(centers, rows.quantizer, rows.level)

    def lloyd_pass(
        self,
        X: Rows,
        weights: Float64s,
        rows: PreparedCpuRows,
        part: slice,
        centers: PreparedCenters,
        thresholds: SkipThresholds,
        grid: FixedPointGrid,
        labels: Int32s,
        gap_bound: Float32s,
    ) -> ClusterSums:
        n_features, n_clusters = centers.columns.shape
        sums, masses = np.zeros((n_clusters, n_features), np.int64), np.zeros(n_clusters, np.int64)
        quantized = rows.part(part)
        counts = lloyd.lloyd_pass(
            X,
            weights,
            quantized,
            rows.quantizer,
            centers,
            thresholds.lower,
            thresholds.upper,
            thresholds.fast_centers,
            grid.shift,
            grid.scale,
            grid.mass_scale,
            labels,
            gap_bound,
            sums,
            masses,
            row_filter.allocate_row_buffer(quantized, n_features),
        )
        return ClusterSums(sums, masses, *counts)

    def label(self, X: Rows, centers: Rows, labels: Int32s) -> None:
        quantizer, quantized, prepared, row_buffer = _prepare_single_use(X, centers)
        assign.label_rows(X, quantized, quantizer, prepared, row_buffer, labels)

    def assigned_distances(
        self, X: Rows, rows: PreparedCpuRows | None, part: slice, centers: Rows, labels: Int32s
    ) -> Float64s:
        out = np.empty(len(X))
        distance.assigned_distances(X, centers.astype(np.float64), labels, out)
        return out

    def inertia(
        self, X: Rows, weights: Float64s, rows: PreparedCpuRows | None, part: slice, centers: Rows, labels: Int32s
    ) -> Float64s:
        squared = self.assigned_distances(X, rows, part, centers, labels)
        sums: Float64s = distance.block_sums(squared, weights, SUM_ROWS)
        return sums

    def nearest_two(self, X: Rows, centers: Rows) -> TwoNearest:
        labels, second_labels = np.empty(len(X), np.int32), np.empty(len(X), np.int32)
        squared, second_squared = np.empty(len(X)), np.empty(len(X))
        quantizer, quantized, prepared, row_buffer = _prepare_single_use(X, centers)
        assign.label_nearest_two(
            X, quantized, quantizer, prepared, row_buffer, labels, squared, second_labels, second_squared
        )  # fmt: skip
        distances, second_distances = (np.sqrt(d2).astype(np.float32) for d2 in (squared, second_squared))
        return TwoNearest(labels, distances, second_labels, second_distances)

    def distances(self, X: Rows, centers: Rows) -> Rows:
        out = np.empty((len(X), len(centers)), X.dtype)
        distance.distances(X, _columns(centers), out)
        return out

    def with_fused_kernels(self) -> CpuBackend:
        raise UsageError(
            "algorithm='fused' is kernels of GPUs, which run on device 'cuda' only, and this is 'cpu'.",
            hint="use algorithm='lloyd', or see `rooms doctor` for what keeps the GPU from being used.",
        )

    def library_centers(
        self, X: Rows, weights: Float64s, rows: PreparedRows, start: Rows | str, plan: LibraryKMeansSettings
    ) -> tuple[Rows, int]:
        raise _no_library("K-Means", "lloyd")

    def allocate_columns(self, shape: tuple[int, int]) -> Array:
        raise _no_library("PCA", "moments")

    def library_axes(self, X: Array) -> PrincipalAxes:
        raise _no_library("PCA", "moments")


def _no_library(what: str, instead: str) -> UsageError:
    return UsageError(
        f"algorithm='cuml' is the {what} of RAPIDS, which runs on device 'cuda' only, and this is 'cpu'.",
        hint=f"use algorithm='{instead}', or see `rooms doctor` for what keeps the GPU from being used.",
    )


def evenly_spaced_rows(X: Rows, size: int = BLOCK_SAMPLE_ROWS) -> Rows:
    """Return up to `size` rows of X, evenly spaced."""
    return X[:: max(1, len(X) // size)][:size]


def allocate_rows_at(level: int, sample: Rows, n_rows: int, storage: Storage) -> PreparedCpuRows:
    """Return room for n_rows rows, quantized at a level of precision as a sample of them suggests."""
    quantized = quantize.allocate_quantized_rows(n_rows, sample.shape[1], level, storage.scratch)
    return PreparedCpuRows(level, quantize.fit_quantizer(sample, level), quantized)


def _prepare_single_use(
    X: Rows, centers: Rows
) -> tuple[quantize.RowQuantizer, quantize.QuantizedRows, PreparedCenters, row_filter.RowBuffer]:
    """Prepare to label rows once: the kernels quantize them run by run, many rows so finely that few stay undecided."""
    coarsest = quantize.coarsest_level(X.shape[1])
    level = coarsest if len(X) <= FEW_ROWS else max(coarsest, quantize.INT16)
    quantized = quantize.allocate_quantized_rows(0, X.shape[1], level)
    if len(X) <= SINGLE_ROWS and centers.nbytes <= KEPT_CENTER_BYTES:
        quantizer, prepared = _prepare_kept_centers(centers.tobytes(), centers.shape, centers.dtype.str, level)
    else:
        quantizer = quantize.fit_quantizer(evenly_spaced_rows(X), level)
        prepared = quantized_centers.quantize_centers(centers, quantizer, level)
    return quantizer, quantized, prepared, row_filter.allocate_row_buffer(quantized, X.shape[1])


@lru_cache(maxsize=8)
def _prepare_kept_centers(
    content: bytes, shape: tuple[int, int], dtype: str, level: int
) -> tuple[quantize.RowQuantizer, PreparedCenters]:
    """Prepare centers for a few rows, such as those of a request; the quantizer is fitted on the centers themselves."""
    centers = np.frombuffer(content, dtype).reshape(shape)
    quantizer = quantize.fit_quantizer(centers, level)
    return quantizer, quantized_centers.quantize_centers(centers, quantizer, level)


def _columns(centers: Rows) -> Float64s:
    return np.ascontiguousarray(centers.T, dtype=np.float64)
