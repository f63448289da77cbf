"""The CPU backend: NumPy's BLAS for products of matrices, the kernels of kernels/cpu for everything else."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.backends.protocol import (
    SUM_ROWS,
    ClusterSums,
    Float64s,
    Grid,
    Int32s,
    Int64s,
    Moments,
    Nearest,
    Prepared,
    Rows,
)
from engine.kernels.cpu import assign, distance, lloyd, scores, seeding

_NO_SUMS = np.empty((0, 0), np.int64)
_NO_MASSES = np.empty(0, np.int64)
_NO_WEIGHTS = np.empty(0)
_NO_SHIFT = np.empty(0)


class CpuBackend:
    """Every verb of `Backend` on one thread of this process."""

    name = "cpu"

    def moments(self, X: Rows) -> Moments:
        with np.errstate(over="ignore", invalid="ignore"):  # the caller refuses what is not finite
            centred = X.astype(np.float64)
            mean = centred.mean(axis=0)
            centred -= mean
            rest = centred.sum(axis=0)  # what rounding left in the mean
            scatter = centred.T @ centred - np.outer(rest, rest) / len(X)
        return Moments(len(X), mean + rest / len(X), scatter)

    def scores(self, X: Rows, mean: Float64s, axes: Float64s) -> Rows:
        out = np.empty((len(X), axes.shape[1]), X.dtype)
        scores.project(X, mean, axes, out)
        return out

    def extent(self, X: Rows, weights: Float64s) -> tuple[Float64s, Float64s]:
        low, high = np.full(X.shape[1], np.inf, X.dtype), np.full(X.shape[1], -np.inf, X.dtype)
        lloyd.widen(X, weights, low, high)
        return low.astype(np.float64), high.astype(np.float64)

    def square_sums(self, X: Rows, weights: Float64s, grid: Grid) -> tuple[Int64s, Int64s]:
        sums, squares = np.zeros(X.shape[1], np.int64), np.zeros(X.shape[1], np.int64)
        lloyd.add_squares(X, weights, grid.shift, grid.scale, grid.square_scale, sums, squares)
        return sums, squares

    def prepare(self, centres: Rows, dtype: np.dtype[Any]) -> Prepared:
        return assign.screen(centres, dtype)

    def label(self, X: Rows, centres: Prepared, labels: Int32s) -> None:
        lloyd.lloyd_pass(X, _NO_WEIGHTS, centres, _NO_SHIFT, _NO_SHIFT, 1.0, labels, _NO_SUMS, _NO_MASSES)

    def lloyd(self, X: Rows, weights: Float64s, centres: Prepared, grid: Grid, labels: Int32s) -> ClusterSums:
        n_features, n_clusters = centres.exact.shape
        sums, masses = np.zeros((n_clusters, n_features), np.int64), np.zeros(n_clusters, np.int64)
        changed, opened = lloyd.lloyd_pass(
            X, weights, centres, grid.shift, grid.scale, grid.mass_scale, labels, sums, masses
        )
        return ClusterSums(sums, masses, changed, opened)

    def own_distances(self, X: Rows, centres: Rows, labels: Int32s) -> Float64s:
        out = np.empty(len(X))
        distance.own_distances(X, centres.astype(np.float64), labels, out)
        return out

    def inertia(self, X: Rows, weights: Float64s, centres: Rows, labels: Int32s) -> Float64s:
        sums: Float64s = distance.sums_of_runs(self.own_distances(X, centres, labels), weights, SUM_ROWS)
        return sums

    def nearest_two(self, X: Rows, centres: Rows) -> Nearest:
        labels, runner_up = np.empty(len(X), np.int32), np.empty(len(X), np.int32)
        nearest, second = np.empty(len(X)), np.empty(len(X))
        distance.nearest_two(X, _columns(centres), labels, nearest, runner_up, second)
        return Nearest(labels, np.sqrt(nearest).astype(np.float32), runner_up, np.sqrt(second).astype(np.float32))

    def distances(self, X: Rows, centres: Rows) -> Rows:
        out = np.empty((len(X), len(centres)), X.dtype)
        distance.distances(X, _columns(centres), out)
        return out

    def lowered(self, columns: Float64s, weights: Float64s, closest: Float64s, row: int) -> tuple[Float64s, float]:
        out = np.empty_like(closest)
        potential = seeding.lowered(columns, weights, closest, row, out)
        return out, potential


def _columns(centres: Rows) -> Float64s:
    return np.ascontiguousarray(centres.T, dtype=np.float64)
