"""Read Parquet and ORC files with cuDF, in chunks, as arrays on the GPU.

    FileTable  ->  CudfTable: chunks of device columns, and the columns that cuDF does not read as pyarrow does

The data frame of a chunk lives only until its columns have been taken from it. pyarrow reads what cuDF would read to
other bits, and a text says why: CSV (cuDF's parser rounds decimal fractions its own way, and a range of bytes may
begin inside a quoted line), decimals, half floats, ORC's timestamps. The calls are checked against recorded signatures
of the library; nothing here has run on a GPU: not measured yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem
from numpy.typing import NDArray

from engine.blocks import Table, normalize_type
from engine.tables.device_columns import Array, DictionaryColumn, IntegerColumn, ListColumn, TimeColumn
from engine.tables.file_table import FileTable

FORMATS = ("parquet", "orc")
PASS_BYTES = 1 << 30  # bytes of compressed pages that are held while they are decoded


class CudfTable:
    """A table of Parquet or ORC files that cuDF reads in chunks.

    Attributes
    ----------
    unreadable : dict of column to reason
        Columns that cuDF does not read to the same values as pyarrow.
    """

    def __init__(self, table: FileTable) -> None:
        self._files, self._schema = table.files, table.schema
        self.unreadable = _unreadable_columns(table)

    def chunks(self, columns: Sequence[str], chunk_bytes: int) -> Iterator[CudfColumns]:
        """Yield all rows in order, with these columns: Parquet about `chunk_bytes` decoded at a time, ORC a stripe."""
        read = self._read_parquet if self._files.format == "parquet" else self._read_orc
        for path in self._files.paths:
            for frame in read(path, list(columns), chunk_bytes):
                yield CudfColumns(frame, self._schema)

    @staticmethod
    def _read_parquet(path: str, columns: list[str], chunk_bytes: int) -> Iterator[Any]:
        import cudf
        from pylibcudf.io import SourceInfo
        from pylibcudf.io.parquet import ChunkedParquetReader, ParquetReaderOptions

        options = ParquetReaderOptions.builder(SourceInfo([path])).build()
        options.set_column_names(columns)
        reader = ChunkedParquetReader(options, chunk_read_limit=chunk_bytes, pass_read_limit=PASS_BYTES)
        while reader.has_next():
            yield cudf.DataFrame.from_pylibcudf(reader.read_chunk())

    @staticmethod
    def _read_orc(path: str, columns: list[str], chunk_bytes: int) -> Iterator[Any]:
        import cudf
        from pyarrow.orc import ORCFile

        for stripe in range(ORCFile(path).nstripes):
            yield cudf.read_orc(path, columns=columns, stripes=[[stripe]])


class CudfColumns:
    """The columns of a cuDF data frame as device arrays; implements engine.tables.device_columns.DeviceColumns."""

    def __init__(self, frame: Any, schema: pa.Schema) -> None:
        self._frame, self._schema = frame, schema

    def __len__(self) -> int:
        return len(self._frame)

    def kind(self, name: str) -> pa.DataType:
        """Return the type that the table's schema gives a column."""
        return self._schema.field(name).type

    def slice(self, first: int, last: int) -> CudfColumns:
        """Return the rows first … last - 1."""
        return CudfColumns(self._frame.iloc[first:last], self._schema)

    def take(self, names: Sequence[str], positions: NDArray[np.int64]) -> list[pa.Array]:
        """Return columns of the rows at these positions, on the host."""
        return [self._frame[name].take(positions).to_arrow() for name in names]

    def numbers(self, name: str) -> Array:
        """Return numbers and booleans as float64, missing ones as NaN."""
        series = self._frame[name].astype("float64")
        values = series.fillna(0.0).to_cupy()
        values[series.isna().to_cupy()] = np.nan
        return values

    def integers(self, name: str) -> IntegerColumn:
        """Return a column of whole numbers that int64 holds."""
        series = self._frame[name]
        return IntegerColumn(series.astype("int64").fillna(0).to_cupy(), series.isna().to_cupy())

    def times(self, name: str) -> TimeColumn:
        """Return a column of dates or times."""
        series = self._frame[name]
        unit, _ = np.datetime_data(series.dtype)
        return TimeColumn(series.astype("int64").fillna(0).to_cupy(), series.isna().to_cupy(), unit)

    def dictionary(self, name: str) -> DictionaryColumn:
        """Return a column of any kind, dictionary-encoded."""
        return _encode_dictionary(self._frame[name])

    def lists(self, name: str) -> ListColumn:
        """Return a column of lists."""
        series = self._frame[name]
        lengths = series.list.len().fillna(0).astype("int64").to_cupy()
        return ListColumn(lengths, series.isna().to_cupy(), _encode_dictionary(series.list.leaves))


def open_cudf_table(table: Table) -> CudfTable | str:
    """Return the table as cuDF reads it, or a text that names the reader used instead and the reason."""
    if not isinstance(table, FileTable):
        return "pyarrow, because the table is not of files, or has vectors"
    files = table.files
    if files.format not in FORMATS:
        return f"pyarrow, because cuDF does not read {files.format} files to the same bits in chunks"
    if not isinstance(files.filesystem, LocalFileSystem):
        return "pyarrow, because the files are not on a local file system"
    return CudfTable(table)


def _encode_dictionary(series: Any) -> DictionaryColumn:
    kind = str(series.dtype)
    if series.count() == 0:
        return DictionaryColumn(series.isna().to_cupy().astype(np.int64) * -1, pa.array([], pa.string()))
    codes, distinct = (series.astype("uint8") if kind == "bool" else series).factorize()
    dictionary = distinct.to_arrow()
    return DictionaryColumn(codes, dictionary.cast(pa.bool_() if kind == "bool" else normalize_type(dictionary.type)))


def _unreadable_columns(table: FileTable) -> dict[str, str]:
    """Return the columns that cuDF does not read as pyarrow does, each with the reason."""
    schemas = table.physical_schemas()
    int96_columns = table.int96_columns() if table.files.format == "parquet" else set()
    reasons = {}
    for field in table.schema:
        if any(field.name not in schema.names for schema in schemas):
            reasons[field.name] = "it is in the names of the folders"
            continue
        kinds = {schema.field(field.name).type for schema in schemas}
        if any(normalize_type(kind) != field.type for kind in kinds):
            reasons[field.name] = "its type is not the same in all files"
        elif field.name in int96_columns:
            reasons[field.name] = "it is stored as INT96, which cuDF reads as nanoseconds"
        elif not all(_reads_same_values(kind, table.files.format) for kind in kinds):
            reasons[field.name] = f"its type is {', '.join(sorted(map(str, kinds)))}"
    return reasons


def _reads_same_values(kind: pa.DataType, format: str) -> bool:
    """Tell whether cuDF reads a type to the same values as pyarrow."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        element = normalize_type(kind.value_type)
        return bool(pa.types.is_string(element) or pa.types.is_integer(element))
    if pa.types.is_dictionary(kind):
        return bool(pa.types.is_string(normalize_type(kind)))
    if pa.types.is_timestamp(kind):
        return format == "parquet"
    numbers = pa.types.is_integer(kind) or pa.types.is_float32(kind) or pa.types.is_float64(kind)
    texts = pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view()
    return bool(numbers or texts or pa.types.is_boolean(kind) or pa.types.is_date32(kind))
