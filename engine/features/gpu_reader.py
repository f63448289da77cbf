"""Read a table in chunks of columns on a GPU, and go on in smaller chunks where its memory runs out.

    Table, a library's chunks  ->  GpuTableReader  ->  function(columns) of every chunk, in order

pyarrow reads the columns that the library does not read to the same values; the device gets them beside the others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.backends.chunked import N_RETRIES, SHRINK_FACTOR, ChunkedDevice
from engine.blocks import Table
from engine.errors import InputChangedError, OutOfResourcesError
from engine.features.gpu_encoder import GpuEncodedTable
from engine.features.host_columns import ArrowColumns, MixedColumns, RowQueue
from engine.tables.device_columns import DeviceColumns

if TYPE_CHECKING:
    from engine.features.encoder import FeatureEncoder

Result = TypeVar("Result")

# Bytes decoded at a time: about what a GPU decodes in tens of milliseconds. Not measured yet.
CHUNK_BYTES = 1 << 28
MAX_NAMED = 5  # columns that a reason names
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GpuTableReader:
    """Reader that yields a table as chunks of device columns.

    Attributes
    ----------
    name : str
        The name of the library that reads.
    table : Table
    unreadable : dict of column to reason
        Columns that the library does not read to the same values as the CPU.
    chunks : callable
        Takes column names and a number of bytes, and yields all rows in order, in chunks of about that size.
    device : ChunkedDevice
    """

    name: str
    table: Table
    unreadable: dict[str, str]
    chunks: Callable[[Sequence[str], int], Iterator[DeviceColumns]]
    device: ChunkedDevice

    def describe(self, columns: Sequence[str]) -> str:
        """Return what reads these columns; if that is not the library alone, with the reason after ", because "."""
        others = [name for name in columns if name in self.unreadable]
        if not others:
            return self.name
        reasons = ", ".join(f"{name!r}: {self.unreadable[name]}" for name in others[:MAX_NAMED])
        more = f", and {len(others) - MAX_NAMED} more" if len(others) > MAX_NAMED else ""
        readers = "pyarrow" if len(others) == len(columns) else f"{self.name} and pyarrow"
        which = "column" if len(others) == 1 else "columns"
        return f"{readers}, because {self.name} does not read {which} {reasons}{more}"

    def reads(self, columns: Sequence[str]) -> bool:
        """Return whether the library reads any of these columns."""
        return any(name not in self.unreadable for name in columns)

    def encoded_table(self, encoder: FeatureEncoder) -> GpuEncodedTable | str:
        """Return the table as an encoder encodes it, or a text that names the reader needed instead and the reason."""
        return GpuEncodedTable(self, encoder) if self.reads(encoder.columns) else self.describe(encoder.columns)

    def pick(self, rows: NDArray[np.int64], columns: Sequence[str]) -> Iterator[pa.Table | None]:
        """Yield the rows with these numbers, ascending, as those of each chunk, in one pass."""
        schema = pa.schema([self.table.schema.field(name) for name in columns])
        for _, picked in self.map(lambda start, chunk: pick_rows(start, chunk, rows, schema), columns):
            yield picked

    def map(
        self, function: Callable[[int, DeviceColumns], Result], columns: Sequence[str]
    ) -> Iterator[tuple[int, Result]]:
        """Yield the number of the first row, and function(first row, columns), of every chunk in order.

        Where device memory runs out, the rest is read in smaller chunks, at last by the CPU: `function` may be called
        again with rows of a chunk for which it raised MemoryError. What the library raises becomes LibraryError.

        Raises
        ------
        InputChangedError
            If the table has another number of rows than when it was opened.
        OutOfResourcesError
            If memory does not suffice, and the device has no fallback.
        """
        n_done, chunk_bytes = 0, CHUNK_BYTES
        for _ in range(1 + N_RETRIES):
            try:
                for first, n_rows, result in self._map_chunks(function, columns, chunk_bytes, n_done):
                    yield first, result
                    n_done += n_rows
                if n_done != self.table.n_rows:
                    raise InputChangedError(
                        f"The table had {self.table.n_rows} rows when it was opened, but {self.name} read {n_done}."
                    )
                return
            except MemoryError as error:
                reason = str(error).split("\n", 1)[0] or "no reason given"
            self.device.free_unused_memory()
            logger.warning("Out of memory on %s, reading %d MiB: %s.", self.device.name, chunk_bytes >> 20, reason)
            chunk_bytes //= SHRINK_FACTOR
        if self.device.fallback is None:
            raise OutOfResourcesError(
                f"Out of memory on device {self.device.name!r}, "
                f"reading chunks of {chunk_bytes * SHRINK_FACTOR >> 20} MiB.",
                hint="free memory on the device, or use --device auto, which falls back to the CPU.",
            )
        logger.warning("Out of memory on %s: the CPU reads the rows from %d on.", self.device.name, n_done)
        blocks = self.table.blocks(columns, dictionary_encoded=True)
        for first, chunk in _skip_rows(n_done, (ArrowColumns(block.rows, self.device.xp) for block in blocks)):
            yield first, function(first, chunk)

    def _map_chunks(
        self, function: Callable[[int, DeviceColumns], Result], columns: Sequence[str], chunk_bytes: int, n_skipped: int
    ) -> Iterator[tuple[int, int, Result]]:
        """Yield first row, number of rows and function's result of every chunk after the first `n_skipped` rows."""
        chunks = _skip_rows(n_skipped, self._read_chunks(columns, chunk_bytes))
        while True:
            with self.device.library_call(self.name):
                first, chunk = next(chunks, (0, None))
                if chunk is None:
                    return
                n_rows, result = len(chunk), function(first, chunk)
            yield first, n_rows, result

    def _read_chunks(self, columns: Sequence[str], chunk_bytes: int) -> Iterator[DeviceColumns]:
        """Yield all rows in order: the columns that the library reads, and beside them those of pyarrow."""
        on_host = [name for name in columns if name in self.unreadable]
        chunks = self.chunks([name for name in columns if name not in self.unreadable], chunk_bytes)
        if not on_host:
            yield from chunks
            return
        queue, host_names = RowQueue(self.table.blocks(on_host)), frozenset(on_host)
        for chunk in chunks:
            yield MixedColumns(chunk, ArrowColumns(queue.take(len(chunk)), self.device.xp), host_names)


def pick_rows(start: int, columns: DeviceColumns, rows: NDArray[np.int64], schema: pa.Schema) -> pa.Table | None:
    """Return the rows of a chunk with these numbers, ascending, in the types of a schema; None if it has none."""
    first, last = np.searchsorted(rows, [start, start + len(columns)])
    if first == last:
        return None
    arrays = columns.take(schema.names, rows[first:last] - start)
    return pa.table([array.cast(field.type) for array, field in zip(arrays, schema, strict=True)], schema)


def _skip_rows(n_rows: int, chunks: Iterator[DeviceColumns]) -> Iterator[tuple[int, DeviceColumns]]:
    """Yield number of the first row and columns of the chunks after the first `n_rows` rows; none is empty."""
    start = 0
    for chunk in chunks:
        n_skipped = min(max(n_rows - start, 0), len(chunk))
        if n_skipped < len(chunk):
            yield start + n_skipped, chunk.slice(n_skipped, len(chunk)) if n_skipped else chunk
        start += len(chunk)
