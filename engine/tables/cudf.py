"""Columns of numbers from files into one matrix on a GPU: cuDF decodes chunks, and no table is ever whole.

    files, columns  ->  matrix (n_rows, n_columns) float32, row-major, missing values NaN

A data frame and a matrix of the same rows would take three times the matrix. So the matrix is allocated first, and
chunks of about CHUNK_BYTES are written into it. How the library is called is checked against its recorded
signatures; nothing here has run on a GPU: not measured yet. The engine's fits read with pyarrow (arrow.py):
benchmarks/gpu compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from engine.errors import SourceFormatError
from engine.tables.arrow import open_table
from engine.tables.block import require_columns
from engine.tables.csv import MISSING
from engine.tables.paths import Files, find_files

CHUNK_BYTES = 1 << 28  # decoded at a time; of the order of what a GPU decodes in tens of milliseconds
PASS_BYTES = 1 << 30  # compressed pages that are held for it


def read_matrix(sources: Sequence[str], columns: Sequence[str], *, chunk_bytes: int = CHUNK_BYTES) -> Any:
    """Return the columns of all files as a CuPy matrix, rows in the order of the files.

    Raises
    ------
    SourceNotFoundError, SourceFormatError, SchemaMismatchError, EmptyTableError, MissingColumnError
    """
    import cupy

    table, files = open_table(list(sources)), find_files(sources)
    require_columns(table.schema, columns, "The table")
    matrix = cupy.empty((table.n_rows, len(columns)), np.float32)
    start = 0
    for frame in _frames(files, list(columns), table.schema.names, chunk_bytes):
        stop = start + len(frame)
        if stop <= len(matrix):  # else the files have changed, which is told below
            for number, name in enumerate(columns):
                matrix[start:stop, number] = frame[name].to_cupy(dtype=np.float32, na_value=np.nan)
        start = stop
    if start != len(matrix):
        raise SourceFormatError(f"{files.paths[0]} … had {len(matrix)} rows when it was opened, but cuDF read {start}.")
    return matrix


def _frames(files: Files, columns: list[str], names: list[str], chunk_bytes: int) -> Iterator[Any]:
    """Yield the rows of all files as cuDF data frames of about `chunk_bytes`."""
    if files.format == "parquet":
        yield from _parquet(files.paths, columns, chunk_bytes)
    elif files.format == "orc":
        for path in files.paths:
            yield from _orc(path, columns)
    elif files.format == "csv":
        for path in files.paths:
            yield from _csv(path, int(files.filesystem.size(path)), columns, names, chunk_bytes)
    else:
        raise SourceFormatError(f"cuDF does not read {files.format} in chunks.", hint="give Parquet, ORC or CSV files.")


def _parquet(paths: Sequence[str], columns: list[str], chunk_bytes: int) -> Iterator[Any]:
    import cudf
    from pylibcudf.io import SourceInfo
    from pylibcudf.io.parquet import ChunkedParquetReader, ParquetReaderOptions

    options = ParquetReaderOptions.builder(SourceInfo(list(paths))).build()
    options.set_column_names(columns)
    reader = ChunkedParquetReader(options, chunk_read_limit=chunk_bytes, pass_read_limit=PASS_BYTES)
    while reader.has_next():
        yield cudf.DataFrame.from_pylibcudf(reader.read_chunk())


def _orc(path: str, columns: list[str]) -> Iterator[Any]:
    import cudf
    from pyarrow.orc import ORCFile

    for stripe in range(ORCFile(path).nstripes):
        yield cudf.read_orc(path, columns=columns, stripes=[[stripe]])


def _csv(path: str, size: int, columns: list[str], names: list[str], chunk_bytes: int) -> Iterator[Any]:
    """Yield the rows that begin in each range of bytes; a compressed file has no ranges, and comes whole."""
    import cudf

    kinds: dict[str, Any] = {"usecols": columns, "dtype": dict.fromkeys(columns, "float64"), "na_values": MISSING}
    if path.endswith(".gz"):
        yield cudf.read_csv(path, **kinds)
        return
    for start in range(0, size, chunk_bytes):
        # Only the first range holds the line of names, which is skipped as line 0.
        header = 0 if start == 0 else None
        yield cudf.read_csv(path, names=names, header=header, byte_range=(start, chunk_bytes), **kinds)
