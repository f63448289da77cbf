"""Parquet and ORC files read by cuDF, chunk by chunk, as arrays of the GPU.

    a table of files  ->  CudfTable: chunks of columns, and which columns it does not read as the CPU does

A chunk is a data frame until its columns have been taken out of it, and no longer. What cuDF would read to other bits
is said in words, and pyarrow reads it: CSV (its parser rounds decimal fractions its own way, and a range of bytes may
begin inside a quoted line), decimals, half floats, ORC's times. How the library is called is checked against its
recorded signatures; nothing here has run on a GPU: not measured yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from engine.blocks import Table, plain_type
from engine.tables.device_columns import Array, Coded, Lists, Ticks
from engine.tables.file_table import FileTable

FORMATS = ("parquet", "orc")
PASS_BYTES = 1 << 30  # compressed pages that are held while they are decoded


class CudfTable:
    """Files that cuDF reads.

    Attributes
    ----------
    unreadable : dict of column to reason
    """

    def __init__(self, table: FileTable) -> None:
        self._files = table.files
        self.unreadable = _unreadable(table)

    def chunks(self, columns: Sequence[str], chunk_bytes: int) -> Iterator[CudfColumns]:
        """Yield all rows in order, with these columns; about `chunk_bytes` decoded at a time, of ORC a stripe."""
        read = self._parquet if self._files.format == "parquet" else self._orc
        for path in self._files.paths:
            yield from read(path, list(columns), chunk_bytes)

    @staticmethod
    def _parquet(path: str, columns: list[str], chunk_bytes: int) -> Iterator[CudfColumns]:
        import cudf
        from pylibcudf.io import SourceInfo
        from pylibcudf.io.parquet import ChunkedParquetReader, ParquetReaderOptions

        options = ParquetReaderOptions.builder(SourceInfo([path])).build()
        options.set_column_names(columns)
        reader = ChunkedParquetReader(options, chunk_read_limit=chunk_bytes, pass_read_limit=PASS_BYTES)
        while reader.has_next():
            yield CudfColumns(cudf.DataFrame.from_pylibcudf(reader.read_chunk()))

    @staticmethod
    def _orc(path: str, columns: list[str], chunk_bytes: int) -> Iterator[CudfColumns]:
        import cudf
        from pyarrow.orc import ORCFile

        for stripe in range(ORCFile(path).nstripes):
            yield CudfColumns(cudf.read_orc(path, columns=columns, stripes=[[stripe]]))


class CudfColumns:
    """A chunk's columns as arrays: engine.tables.device_columns.Columns."""

    def __init__(self, frame: Any) -> None:
        self._frame = frame

    def __len__(self) -> int:
        return len(self._frame)

    def numbers(self, name: str) -> Array:
        """Return numbers and booleans as float64, missing ones as NaN."""
        series = self._frame[name].astype("float64")
        values = series.fillna(0.0).to_cupy()
        values[series.isna().to_cupy()] = np.nan
        return values

    def ticks(self, name: str) -> Ticks:
        """Return dates and times."""
        series = self._frame[name]
        unit, _ = np.datetime_data(series.dtype)
        return Ticks(series.astype("int64").fillna(0).to_cupy(), series.isna().to_cupy(), unit)

    def coded(self, name: str) -> Coded:
        """Return values of any kind as codes."""
        return _coded(self._frame[name])

    def lists(self, name: str) -> Lists:
        """Return lists."""
        series = self._frame[name]
        lengths = series.list.len().fillna(0).astype("int64").to_cupy()
        return Lists(lengths, series.isna().to_cupy(), _coded(series.list.leaves))


def cudf_table(table: Table) -> CudfTable | str:
    """Return the table for cuDF to read; or, in words, what reads it, and why."""
    if not isinstance(table, FileTable):
        return "pyarrow, because the table is not of files, or has vectors"
    files = table.files
    if files.format not in FORMATS:
        return f"pyarrow, because cuDF does not read {files.format} files to the same bits in chunks"
    if not isinstance(files.filesystem, LocalFileSystem):
        return "pyarrow, because the files are not on a local file system"
    return CudfTable(table)


def _coded(series: Any) -> Coded:
    kind = str(series.dtype)
    if series.count() == 0:
        return Coded(series.isna().to_cupy().astype(np.int64) * -1, pa.array([], pa.string()))
    codes, distinct = (series.astype("uint8") if kind == "bool" else series).factorize()
    found = distinct.to_arrow()
    return Coded(codes, found.cast(pa.bool_() if kind == "bool" else plain_type(found.type)))


def _unreadable(table: FileTable) -> dict[str, str]:
    """Return the columns that cuDF does not read as pyarrow does, each with the reason."""
    schemas = table.physical_schemas()
    found = {}
    for field in table.schema:
        if any(field.name not in schema.names for schema in schemas):
            found[field.name] = "it is in the names of the folders"
            continue
        kinds = {schema.field(field.name).type for schema in schemas}
        if any(plain_type(kind) != field.type for kind in kinds):
            found[field.name] = "its type is not the same in all files"
        elif not all(_read_alike(kind, table.files.format) for kind in kinds):
            found[field.name] = f"its type is {', '.join(sorted(map(str, kinds)))}"
    return found


def _read_alike(kind: pa.DataType, format: str) -> bool:
    """Return whether cuDF reads a type to the same values."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        element = plain_type(kind.value_type)
        return bool(pa.types.is_string(element) or pa.types.is_integer(element))
    if pa.types.is_dictionary(kind):
        return bool(pa.types.is_string(plain_type(kind)))
    if pa.types.is_timestamp(kind):
        return format == "parquet"
    numbers = pa.types.is_integer(kind) or pa.types.is_float32(kind) or pa.types.is_float64(kind)
    texts = pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view()
    return bool(numbers or texts or pa.types.is_boolean(kind) or pa.types.is_date32(kind))
