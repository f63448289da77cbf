"""PCA on an array module: moments of rows, and their scores on principal components.

    rows or encoded rows, on the host or the device  ->  moments and scores on the host, or scores written to `out`

Scores have the bits of those of engine/backends/cpu.py, moments agree to rounding. The arithmetic is in
kernels/arrays/pca.
"""

from __future__ import annotations

from functools import reduce

import numpy as np

from engine.backends.chunked import ChunkedDevice
from engine.backends.cpu import SHIFT_SAMPLE_ROWS, CpuBackend
from engine.backends.protocol import LANES, EncodedMoments, EncodedRows, Moments, Projection
from engine.blocks import BLOCK_ROWS
from engine.execution.threads import row_blocks
from engine.kernels.arrays.features.encode import slice_rows
from engine.kernels.arrays.pca import moments
from engine.kernels.arrays.pca import project as scores
from engine.utils.array_types import Float64s, Rows


class ArrayPCA(ChunkedDevice):
    """The PCA methods of `Backend`."""

    def moments(self, X: Rows) -> Moments:
        def compute(chunk_values: int) -> Moments:
            mean, scatter = moments.compute_moments(self.xp, self.xp.asarray(X), SHIFT_SAMPLE_ROWS, chunk_values)
            return Moments(len(X), self.to_host(mean), self.to_host(scatter))

        return self.run_in_chunks(compute, lambda cpu: cpu.moments(self.to_host(X)))

    def scores(self, X: Rows, mean: Float64s, axes: Float64s) -> Rows:
        def compute(chunk_values: int) -> Rows:
            put = self.xp.asarray
            return self.to_host(scores.project(self.xp, put(X), put(mean), put(axes), chunk_values))

        return self.run_in_chunks(compute, lambda cpu: cpu.scores(self.to_host(X), mean, axes))

    def encoded_moments(self, rows: EncodedRows, n_hot_columns: int) -> EncodedMoments:
        return self.add_moments_of_blocks(None, rows, n_hot_columns)

    def add_moments_of_blocks(
        self, total: EncodedMoments | None, rows: EncodedRows, n_hot_columns: int
    ) -> EncodedMoments:
        """Return `total` plus the moments of every BLOCK_ROWS rows, added in order.

        That is the sum that `encoded_moments` of the blocks one by one adds up to, in a few launches for many blocks.
        """

        def compute(chunk_values: int) -> EncodedMoments:
            dense, starts, hot = map(self.xp.asarray, rows)
            sums = moments.compute_encoded_moments(self.xp, dense, starts, hot, n_hot_columns, BLOCK_ROWS, chunk_values)
            grams, crosses, pairs = map(self.to_host, sums)
            padding = ((0, 0), (0, 0), (0, -grams.shape[2] % LANES))
            blocks = list(zip(np.pad(grams, padding), np.pad(crosses, padding), strict=True))
            gram, cross = blocks.pop(0) if total is None else (total.gram, total.cross)
            for block_gram, block_cross in blocks:
                gram, cross = gram + block_gram, cross + block_cross
            n_before = 0 if total is None else total.n_rows
            return EncodedMoments(
                n_before + len(rows.dense), gram, cross, pairs if total is None else total.pairs + pairs
            )

        def compute_on_cpu(cpu: CpuBackend) -> EncodedMoments:
            host_rows = self._to_host(rows)
            blocks = (
                EncodedRows(*slice_rows(host_rows, part.start, part.stop))
                for part in row_blocks(len(rows.dense), BLOCK_ROWS)
            )
            parts = [cpu.encoded_moments(block, n_hot_columns) for block in blocks]
            return reduce(EncodedMoments.plus, parts if total is None else [total, *parts])

        return self.run_in_chunks(compute, compute_on_cpu)

    def encoded_scores(self, rows: EncodedRows, projection: Projection, out: Rows | None = None) -> Rows:
        n_components = projection.n_components
        target = np.empty((len(rows.dense), n_components), np.float32) if out is None else out

        def compute(chunk_values: int) -> None:
            put = self.xp.asarray
            base, dense_axes, hot_axes = put(projection.base), put(projection.dense_axes), put(projection.hot_axes)
            encoded = (put(rows.dense), put(rows.starts), put(rows.hot))
            Z = scores.project_encoded(self.xp, encoded, base, dense_axes, hot_axes, n_components, chunk_values)
            if projection.shortest is not None:
                scores.scale_to_unit_length(self.xp, Z, projection.shortest, chunk_values)
            self.copy_into(target, Z)

        def compute_on_cpu(cpu: CpuBackend) -> None:
            self.copy_into(target, cpu.encoded_scores(self._to_host(rows), projection))

        self.run_in_chunks(compute, compute_on_cpu)
        return target

    def _to_host(self, rows: EncodedRows) -> EncodedRows:
        return EncodedRows(*map(self.to_host, rows))
