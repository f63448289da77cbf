"""The CPU backend: NumPy's BLAS for products of matrices, the kernels of kernels/cpu for everything else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
    LibraryPlan,
    Moments,
    Nearest,
    Prepared,
    Projection,
    Rows,
)
from engine.errors import UsageError
from engine.execution.array_storage import Storage
from engine.execution.threads import thread_count
from engine.kernels.cpu import distance
from engine.kernels.cpu.features import encode
from engine.kernels.cpu.kmeans import assign, lloyd
from engine.kernels.cpu.kmeans import filter as certify
from engine.kernels.cpu.kmeans import quantize as codes
from engine.kernels.cpu.kmeans import quantized_centers as screen
from engine.kernels.cpu.pca import moments
from engine.kernels.cpu.pca import project as scores

PILOT_ROWS = 256  # rows of a block whose mean it is shifted by: its own mean then lies within a deviation of 0
PRODUCT_ROWS = 1024  # rows in float64 at a time: 512 KiB at 64 features stay in L2
SAMPLE = 1024  # rows of a block that say what its rows are like, where no more is known
FRAME_ROWS = 4096  # rows that say what all rows are like
JOB_ROWS = 128 * SUM_ROWS  # at most so many rows a block of a pass …
JOBS_PER_THREAD = 4  # … and so many blocks for every thread where that makes them smaller …
LEAST_JOB_ROWS = 16 * SUM_ROWS  # … than that, but not than this, unless threads would have none: a block costs 0.3 ms
FEW_ROWS = 8192  # to which it is not worth while to compile kernels of a second precision
# What decides whether finer codes pay, measured on one Emerald Rapids core; only their ratios matter, and roughly.
SCREEN_NANOSECONDS = 0.005  # per row, centre and feature at level BYTES
OPEN_NANOSECONDS = 45.0  # per row left open
ENCODE_NANOSECONDS = 0.7  # per value
LEAST_SAVED = (
    2e6  # nanoseconds that finer codes have to save: where there is little to save, kernels need no second form
)


@dataclass(frozen=True)
class CpuRows:
    """Rows coded for the screen."""

    level: int
    frame: codes.Frame
    coded: codes.Coded

    def part(self, rows: slice) -> codes.Coded:
        """Return the codes of some rows; at the level without codes there are none."""
        return codes.Coded(*(array[rows] for array in self.coded))


class CpuBackend:
    """Every verb of `Backend` on one thread of this process."""

    name = "cpu"
    one_per_worker = False
    libraries: frozenset[str] = frozenset()

    def moments(self, X: Rows) -> Moments:
        n_rows, n_features = X.shape
        sums, scatter = np.zeros(n_features), np.zeros((n_features, n_features))
        product = np.empty_like(scatter)
        shifted = np.empty((min(PRODUCT_ROWS, n_rows), n_features))
        with np.errstate(over="ignore", invalid="ignore"):  # the caller refuses what is not finite
            shift = X[:: max(1, n_rows // PILOT_ROWS)].mean(axis=0, dtype=np.float64)
            for first in range(0, n_rows, PRODUCT_ROWS):
                part = shifted[: min(PRODUCT_ROWS, n_rows - first)]
                moments.shift_rows(X[first : first + PRODUCT_ROWS], shift, part, sums)
                scatter += np.matmul(part.T, part, out=product)  # which BLAS knows to be symmetric
            rest = sums / n_rows
            scatter -= np.outer(rest, sums)
        scatter = np.tril(scatter) + np.tril(scatter, -1).T
        return Moments(n_rows, shift + rest, scatter)

    def scores(self, X: Rows, mean: Float64s, axes: Float64s) -> Rows:
        out = np.empty((len(X), axes.shape[1]), X.dtype)
        scores.project(X, mean, axes, out)
        return out

    def encoded_moments(self, rows: EncodedRows, n_hot_columns: int) -> EncodedMoments:
        n_dense = rows.dense.shape[1]
        width = -(-n_dense // LANES) * LANES
        gram, cross = np.zeros((n_dense + 1, width)), np.zeros((n_hot_columns, width))
        pairs = np.zeros(n_hot_columns * n_hot_columns, np.uint32)
        encode.add_gram(rows.dense, gram)
        encode.add_hot(*rows, cross, pairs)
        counts = pairs.astype(np.int64).reshape(n_hot_columns, n_hot_columns)
        return EncodedMoments(len(rows.dense), gram, cross, counts)

    def encoded_scores(self, rows: EncodedRows, projection: Projection, out: Rows | None = None) -> Rows:
        if out is None:
            out = np.empty((len(rows.dense), projection.n_components), np.float32)
        scores.project_encoded(*rows, projection.base, projection.dense_axes, projection.hot_axes, out)
        return out

    def room(self, shape: tuple[int, int], storage: Storage) -> Rows:
        return storage.array("Z", shape, np.float32)

    def job_rows(self, n_rows: int) -> int:
        share = -(-n_rows // (thread_count() * SUM_ROWS))  # of a thread, in runs of SUM_ROWS
        return min(
            max(-(-share // JOBS_PER_THREAD) * SUM_ROWS, min(share * SUM_ROWS, LEAST_JOB_ROWS), SUM_ROWS), JOB_ROWS
        )

    def prepare_rows(self, X: Rows, storage: Storage) -> CpuRows:
        return _room_for(codes.lowest_level(X.shape[1]), sample_of(X, FRAME_ROWS), len(X), storage)

    def survey(self, X: Rows, weights: Float64s, rows: CpuRows, part: slice) -> tuple[Float64s, Float64s, bool]:
        low, high = np.full(X.shape[1], np.inf, X.dtype), np.full(X.shape[1], -np.inf, X.dtype)
        finite = codes.survey(X, weights, rows.frame, rows.part(part), low, high)
        return low.astype(np.float64), high.astype(np.float64), finite

    def refine(
        self, rows: CpuRows, X: Rows, n_clusters: int, screened: int, opened: int, storage: Storage
    ) -> CpuRows | None:
        if rows.level == codes.FLOATS:
            return None
        n_rows, n_features = X.shape
        screening = n_clusters * n_features * SCREEN_NANOSECONDS  # a row, at this level; the next one takes twice that
        saved = opened * (OPEN_NANOSECONDS + screening) - screened * screening
        if saved <= max(n_rows * n_features * ENCODE_NANOSECONDS, LEAST_SAVED):
            return None
        return _room_for(rows.level + 1, sample_of(X, FRAME_ROWS), n_rows, storage)  # the same factor: drifts have it

    def encode(self, X: Rows, rows: CpuRows, part: slice) -> None:
        if len(rows.coded.codes):
            codes.encode(X, np.arange(len(X)), len(X), rows.frame, *rows.part(part))

    def units(self, rows: CpuRows) -> float:
        return float(rows.frame.factor)

    def square_sums(
        self, X: Rows, weights: Float64s, rows: CpuRows | None, part: slice, grid: Grid
    ) -> tuple[Int64s, Int64s]:
        sums, squares = np.zeros(X.shape[1], np.int64), np.zeros(X.shape[1], np.int64)
        lloyd.add_squares(X, weights, grid.shift, grid.scale, grid.square_scale, sums, squares)
        return sums, squares

    def prepare(self, centres: Rows, rows: CpuRows) -> Prepared:
        return screen.screen(centres, rows.frame, rows.level)

    def lloyd(
        self,
        X: Rows,
        weights: Float64s,
        rows: CpuRows,
        part: slice,
        centres: Prepared,
        drift: Drift,
        grid: Grid,
        labels: Int32s,
        slack: NDArray[np.float32],
    ) -> ClusterSums:
        n_features, n_clusters = centres.exact.shape
        sums, masses = np.zeros((n_clusters, n_features), np.int64), np.zeros(n_clusters, np.int64)
        coded = rows.part(part)
        counts = lloyd.lloyd_pass(
            X,
            weights,
            coded,
            rows.frame,
            centres,
            drift.least,
            drift.most,
            drift.fast,
            grid.shift,
            grid.scale,
            grid.mass_scale,
            labels,
            slack,
            sums,
            masses,
            certify.desk_for(centres, coded, n_features),
        )
        return ClusterSums(sums, masses, *counts)

    def label(self, X: Rows, centres: Rows, labels: Int32s) -> None:
        frame, coded, prepared, desk = _one_off(X, centres)
        assign.label_rows(X, coded, frame, prepared, desk, labels)

    def own_distances(self, X: Rows, rows: CpuRows | None, part: slice, centres: Rows, labels: Int32s) -> Float64s:
        out = np.empty(len(X))
        distance.own_distances(X, centres.astype(np.float64), labels, out)
        return out

    def inertia(
        self, X: Rows, weights: Float64s, rows: CpuRows | None, part: slice, centres: Rows, labels: Int32s
    ) -> Float64s:
        squared = self.own_distances(X, rows, part, centres, labels)
        sums: Float64s = distance.sums_of_runs(squared, weights, SUM_ROWS)
        return sums

    def nearest_two(self, X: Rows, centres: Rows) -> Nearest:
        labels, runner_up = np.empty(len(X), np.int32), np.empty(len(X), np.int32)
        nearest, second = np.empty(len(X)), np.empty(len(X))
        frame, coded, prepared, desk = _one_off(X, centres)
        assign.label_two(X, coded, frame, prepared, desk, labels, nearest, runner_up, second)
        return Nearest(labels, np.sqrt(nearest).astype(np.float32), runner_up, np.sqrt(second).astype(np.float32))

    def distances(self, X: Rows, centres: Rows) -> Rows:
        out = np.empty((len(X), len(centres)), X.dtype)
        distance.distances(X, _columns(centres), out)
        return out

    def library_centres(self, X: Rows, weights: Float64s, start: Rows | str, plan: LibraryPlan) -> tuple[Rows, int]:
        raise UsageError(
            "algorithm='cuml' is the K-Means of RAPIDS, which runs on device 'cuda' only, and this is 'cpu'.",
            hint="use algorithm='lloyd', or see `rooms doctor` for what keeps the GPU from being used.",
        )


def sample_of(X: Rows, size: int = SAMPLE) -> Rows:
    """Return up to `size` rows of X at equal distances."""
    return X[:: max(1, len(X) // size)][:size]


def _room_for(level: int, sample: Rows, n_rows: int, storage: Storage) -> CpuRows:
    coded = codes.empty_coded(n_rows, sample.shape[1], level, storage.scratch)
    return CpuRows(level, codes.frame_of(sample, level), coded)


def _one_off(X: Rows, centres: Rows) -> tuple[codes.Frame, codes.Coded, Prepared, certify.Desk]:
    """Prepare to look at rows once: they are encoded run by run; where there are many, so finely that few stay open."""
    coarsest = codes.lowest_level(X.shape[1])
    level = coarsest if len(X) <= FEW_ROWS else max(coarsest, codes.SHORTS)
    frame = codes.frame_of(sample_of(X), level)
    coded = codes.empty_coded(0, X.shape[1], level)
    prepared = screen.screen(centres, frame, level)
    return frame, coded, prepared, certify.desk_for(prepared, coded, X.shape[1])


def _columns(centres: Rows) -> Float64s:
    return np.ascontiguousarray(centres.T, dtype=np.float64)
