"""The CPU backend for sparse rows (engine/utils/sparse_rows.py): blocks that fit in memory once they are dense.

    SparseRows -> blocks of BLOCK_VALUES values; no row is kept quantized

Quantized rows are dense. Without them, passes quantize the rows of a block as they read them: the labels, which are
defined in float64, are the same.
"""

from __future__ import annotations

from engine.backends.cpu import QUANTIZER_SAMPLE_ROWS, CpuBackend, PreparedCpuRows, allocate_rows_at, evenly_spaced_rows
from engine.backends.protocol import SUM_ROWS
from engine.execution.array_storage import Storage
from engine.kernels.cpu.kmeans import quantize
from engine.utils.array_types import Rows

BLOCK_VALUES = 1 << 23  # of a block once it is dense: 64 MiB of float64 a thread, unless SUM_ROWS rows have more


class SparseCpuBackend(CpuBackend):
    """Methods of `Backend` for rows that are sparse, of which there are `n_features`."""

    def __init__(self, n_features: int) -> None:
        self.most_rows = max(1, BLOCK_VALUES // (n_features * SUM_ROWS)) * SUM_ROWS

    def rows_per_block(self, n_rows: int) -> int:
        return min(super().rows_per_block(n_rows), self.most_rows)

    def allocate_rows(self, X: Rows, storage: Storage, n_clusters: int | None = None) -> PreparedCpuRows:
        return allocate_rows_at(quantize.FLOAT32, evenly_spaced_rows(X, QUANTIZER_SAMPLE_ROWS), len(X), storage)
