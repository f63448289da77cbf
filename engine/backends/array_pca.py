"""Moments and scores on an array module: the verbs of principal components.

    rows, or encoded rows, of the host or of the device  ->  moments on the host, scores where the rows are

Scores have the bits of engine/backends/cpu.py, moments agree with it to rounding. The arithmetic is kernels/cuda's.
"""

from __future__ import annotations

import numpy as np

from engine.backends.chunked import Chunks
from engine.backends.cpu import PILOT_ROWS, CpuBackend
from engine.backends.protocol import LANES, EncodedMoments, EncodedRows, Float64s, Moments, Projection, Rows
from engine.kernels.arrays.pca import moments
from engine.kernels.arrays.pca import project as scores


class ArrayComponents(Chunks):
    """What rows are projected with, and the projection."""

    def moments(self, X: Rows) -> Moments:
        def work(values: int) -> Moments:
            mean, scatter = moments.moments(self.xp, self.xp.asarray(X), PILOT_ROWS, values)
            return Moments(len(X), self.host(mean), self.host(scatter))

        return self.within(work, lambda cpu: cpu.moments(self.host(X)))

    def scores(self, X: Rows, mean: Float64s, axes: Float64s) -> Rows:
        def work(values: int) -> Rows:
            put = self.xp.asarray
            return self.host(scores.project(self.xp, put(X), put(mean), put(axes), values))

        return self.within(work, lambda cpu: cpu.scores(self.host(X), mean, axes))

    def encoded_moments(self, rows: EncodedRows, n_hot_columns: int) -> EncodedMoments:
        def work(values: int) -> EncodedMoments:
            dense, starts, hot = map(self.xp.asarray, rows)
            found = moments.encoded_moments(self.xp, dense, starts, hot, n_hot_columns, values)
            gram, cross, pairs = map(self.host, found)
            padding = ((0, 0), (0, -gram.shape[1] % LANES))
            return EncodedMoments(len(rows.dense), np.pad(gram, padding), np.pad(cross, padding), pairs)

        return self.within(work, lambda cpu: cpu.encoded_moments(self._on_host(rows), n_hot_columns))

    def encoded_scores(self, rows: EncodedRows, projection: Projection, out: Rows | None = None) -> Rows:
        n_components = projection.n_components
        target = np.empty((len(rows.dense), n_components), np.float32) if out is None else out

        def work(values: int) -> None:
            put = self.xp.asarray
            base, dense_axes, hot_axes = put(projection.base), put(projection.dense_axes), put(projection.hot_axes)
            encoded = (put(rows.dense), put(rows.starts), put(rows.hot))
            found = scores.project_encoded(self.xp, encoded, base, dense_axes, hot_axes, n_components, values)
            self.write(target, found)

        def otherwise(cpu: CpuBackend) -> None:
            self.write(target, cpu.encoded_scores(self._on_host(rows), projection))

        self.within(work, otherwise)
        return target

    def _on_host(self, rows: EncodedRows) -> EncodedRows:
        return EncodedRows(*map(self.host, rows))
