"""Columns that pyarrow reads, in a chunk on a device: those that its library does not read to the same values.

    rows of a pyarrow Table  ->  ArrowColumns, arrays copied to the device
    a chunk of the library, the same rows by pyarrow  ->  MixedColumns

Both implement engine.tables.device_columns.DeviceColumns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine.blocks import Block
from engine.errors import InputChangedError
from engine.features.columnar_block import column_array, to_float64, to_text
from engine.tables.device_columns import Array, DeviceColumns, DictionaryColumn, IntegerColumn, ListColumn, TimeColumn


class ArrowColumns:
    """Rows of a pyarrow Table as columns on a device.

    Parameters
    ----------
    rows : pyarrow.Table
        With the types of a Table's blocks.
    xp : module
        The array module of the device.
    """

    def __init__(self, rows: pa.Table, xp: Any) -> None:
        self._rows, self._xp = rows, xp

    def __len__(self) -> int:
        return int(self._rows.num_rows)

    def kind(self, name: str) -> pa.DataType:
        """Return the type of a column; of a dictionary, that of its values."""
        kind = self._rows.schema.field(name).type
        return kind.value_type if pa.types.is_dictionary(kind) else kind

    def slice(self, first: int, last: int) -> ArrowColumns:
        """Return the rows first … last - 1."""
        return ArrowColumns(self._rows.slice(first, last - first), self._xp)

    def take(self, names: Sequence[str], positions: NDArray[np.int64]) -> list[pa.Array]:
        """Return columns of the rows at these positions."""
        return [column_array(self._rows, name).take(pa.array(positions)) for name in names]

    def numbers(self, name: str) -> Array:
        """Return numbers and booleans as float64, missing ones as NaN."""
        return self._put(to_float64(column_array(self._rows, name)))

    def integers(self, name: str) -> IntegerColumn:
        """Return a column of whole numbers that int64 holds."""
        column = column_array(self._rows, name)
        return IntegerColumn(self._put(column.cast(pa.int64()).fill_null(0)), self._put(column.is_null()))

    def times(self, name: str) -> TimeColumn:
        """Return a column of dates or times."""
        column = column_array(self._rows, name)
        if pa.types.is_null(column.type):
            column = column.cast(pa.date32())
        unit = "D" if pa.types.is_date32(column.type) else getattr(column.type, "unit", "ms")
        counts = column.cast(pa.int32() if unit == "D" else pa.int64()).cast(pa.int64()).fill_null(0)
        return TimeColumn(self._put(counts), self._put(column.is_null()), unit)

    def dictionary(self, name: str) -> DictionaryColumn:
        """Return a column of any kind as texts, dictionary-encoded."""
        return self._encode(column_array(self._rows, name))

    def lists(self, name: str) -> ListColumn:
        """Return a column of lists."""
        column = column_array(self._rows, name)
        if pa.types.is_null(column.type):
            column = column.cast(pa.list_(pa.string()))
        lengths = pc.list_value_length(column).fill_null(0).cast(pa.int64())
        return ListColumn(self._put(lengths), self._put(column.is_null()), self._encode(column.flatten()))

    def _encode(self, column: pa.Array) -> DictionaryColumn:
        texts = to_text(column)
        encoded = texts if pa.types.is_dictionary(texts.type) else texts.dictionary_encode()
        return DictionaryColumn(self._put(encoded.indices.cast(pa.int64()).fill_null(-1)), encoded.dictionary)

    def _put(self, column: pa.Array | NDArray[Any]) -> Array:
        """Copy to the device: the array is the caller's, and what pyarrow holds cannot be written."""
        return self._xp.asarray(np.array(column if isinstance(column, np.ndarray) else column.to_numpy(False)))


class MixedColumns:
    """The same rows from two readers: some columns by pyarrow, the others by the device's library."""

    def __init__(self, columns: DeviceColumns, on_host: ArrowColumns, host_names: frozenset[str]) -> None:
        self._columns, self._on_host, self._host_names = columns, on_host, host_names

    def __len__(self) -> int:
        return len(self._columns)

    def _of(self, name: str) -> DeviceColumns:
        return self._on_host if name in self._host_names else self._columns

    def kind(self, name: str) -> pa.DataType:
        """Return the type that the table's schema gives a column."""
        return self._of(name).kind(name)

    def slice(self, first: int, last: int) -> MixedColumns:
        """Return the rows first … last - 1."""
        return MixedColumns(self._columns.slice(first, last), self._on_host.slice(first, last), self._host_names)

    def take(self, names: Sequence[str], positions: NDArray[np.int64]) -> list[pa.Array]:
        """Return columns of the rows at these positions, on the host."""
        return [self._of(name).take([name], positions)[0] for name in names]

    def numbers(self, name: str) -> Array:
        """Return numbers and booleans as float64, missing ones as NaN."""
        return self._of(name).numbers(name)

    def integers(self, name: str) -> IntegerColumn:
        """Return a column of whole numbers that int64 holds."""
        return self._of(name).integers(name)

    def times(self, name: str) -> TimeColumn:
        """Return a column of dates or times."""
        return self._of(name).times(name)

    def dictionary(self, name: str) -> DictionaryColumn:
        """Return a column of any kind, dictionary-encoded."""
        return self._of(name).dictionary(name)

    def lists(self, name: str) -> ListColumn:
        """Return a column of lists."""
        return self._of(name).lists(name)


class RowQueue:
    """The rows of a table's blocks, without dictionaries, handed out in runs of any length."""

    def __init__(self, blocks: Iterator[Block]) -> None:
        self._blocks = blocks
        self._pending: list[pa.Table] = []
        self._n_pending = 0

    def take(self, n_rows: int) -> pa.Table:
        """Return the next rows, one chunk a column; raise InputChangedError if there are not so many."""
        while self._n_pending < n_rows:
            block = next(self._blocks, None)
            if block is None:
                raise InputChangedError("Two readers of the table found different numbers of rows.")
            self._pending.append(block.rows)
            self._n_pending += len(block)
        joined = pa.concat_tables(self._pending)
        self._pending, self._n_pending = [joined.slice(n_rows)], self._n_pending - n_rows
        return joined.slice(0, n_rows).combine_chunks()
