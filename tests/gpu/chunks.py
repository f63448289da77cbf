"""A device on any array module that reads tables in chunks of given lengths, by pyarrow in place of cuDF."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pyarrow as pa

from engine.backends.array_kmeans import ArrayBackend
from engine.features.gpu_reader import GpuTableReader
from engine.features.host_columns import ArrowColumns


class NumpyDevice(ArrayBackend):
    """The array backend on NumPy, or a stand-in for CuPy, that reads tables in chunks of the given lengths."""

    name = "numpy"

    def __init__(
        self,
        xp: Any = np,
        *,
        lengths: Sequence[int] = (7, 1, 300),
        unreadable: dict[str, str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(xp, **options)
        self.lengths, self.unreadable = lengths, unreadable or {}

    def reader(self, table: Any) -> GpuTableReader:
        """Return a reader of the table that uses pyarrow in place of cuDF."""

        def chunks(columns: Sequence[str], chunk_bytes: int) -> Iterator[ArrowColumns]:
            rows = pa.concat_tables(block.rows for block in table.blocks(columns))
            start = 0
            for length in cycle(self.lengths):
                if start >= rows.num_rows:
                    return
                yield ArrowColumns(rows.slice(start, length).combine_chunks(), self.xp)
                start += length

        return GpuTableReader("a stand-in", table, self.unreadable, chunks, self)
