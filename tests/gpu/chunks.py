"""Chunks of a table by pyarrow, with the columns that cuDF offers the encoder, on any array module."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.backends.array_kmeans import ArrayBackend
from engine.features.gpu_encoder import GpuTableReader
from engine.tables.device_columns import DictionaryColumn, ListColumn, TimeColumn


class ArrowColumns:
    """engine.tables.device_columns.DeviceColumns of an Arrow table."""

    def __init__(self, table: pa.Table, xp: Any) -> None:
        self._table, self._xp = table.combine_chunks(), xp

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def numbers(self, name: str) -> Any:
        column = self._column(name)
        column = column.cast(pa.uint8()) if pa.types.is_boolean(column.type) else column
        return self._put(pc.fill_null(column.cast(pa.float64(), safe=False), np.nan))

    def times(self, name: str) -> TimeColumn:
        column = self._column(name)
        unit = "D" if pa.types.is_date32(column.type) else column.type.unit
        counts = column.cast(pa.int32() if unit == "D" else pa.int64()).cast(pa.int64()).fill_null(0)
        return TimeColumn(self._put(counts), self._put(column.is_null()), unit)

    def dictionary(self, name: str) -> DictionaryColumn:
        return self._dictionary(self._column(name))

    def lists(self, name: str) -> ListColumn:
        column = self._column(name)
        lengths = pc.list_value_length(column).fill_null(0).cast(pa.int64())
        return ListColumn(self._put(lengths), self._put(column.is_null()), self._dictionary(column.flatten()))

    def _dictionary(self, column: pa.Array) -> DictionaryColumn:
        encoded = column.dictionary_encode()
        return DictionaryColumn(self._put(encoded.indices.cast(pa.int64()).fill_null(-1)), encoded.dictionary)

    def _column(self, name: str) -> pa.Array:
        column = self._table.column(name)
        return column.chunk(0) if column.num_chunks else pa.array([], column.type)

    def _put(self, column: pa.Array) -> Any:
        return self._xp.asarray(np.array(column.to_numpy(zero_copy_only=False)))


class NumpyDevice(ArrayBackend):
    """The array backend on NumPy, or a stand-in for CuPy, that reads tables in chunks of the given lengths."""

    name = "numpy"

    def __init__(self, xp: Any = np, *, lengths: Sequence[int] = (7, 1, 300), **options: Any) -> None:
        super().__init__(xp, **options)
        self.lengths = lengths

    def reader(self, table: Any) -> GpuTableReader:
        """Return a reader of the table that uses pyarrow in place of cuDF."""

        def chunks(columns: Sequence[str], chunk_bytes: int) -> Iterator[ArrowColumns]:
            rows = pa.concat_tables(block.rows for block in table.blocks(columns))
            start = 0
            for length in cycle(self.lengths):
                if start >= rows.num_rows:
                    return
                yield ArrowColumns(rows.slice(start, length), self.xp)
                start += length

        return GpuTableReader("a stand-in", table, {}, chunks, self)
