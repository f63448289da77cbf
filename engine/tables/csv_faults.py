"""Find the line of a CSV file that cannot be read: its number and the columns it has, never its text.

    files, delimiter  ->  CsvFault of the first such line, or None

pyarrow reads in blocks on several threads and does not count lines. So the files are read once more, line by line,
after they have failed. The csv module splits rows as pyarrow does: quotation marks open at the beginning of a field.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import BinaryIO, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import SourceFormatError
from engine.tables.csv_dialect import MISSING, NUMBER_WITH_POINT, CsvDialect, detect_dialect
from engine.tables.csv_header import read_header
from engine.tables.source_paths import SourceFiles

HEADER_CHARACTERS = 1 << 16  # of a file, in which all lines of its header are
BYTE_ORDER_MARK = "\ufeff"
BACKSLASH_HINT = "quotation marks within texts are to be doubled, not escaped by a backslash."
QUOTE_HINT = "a quotation mark may be missing, or a line break be left over."


class CsvFault(NamedTuple):
    """What is wrong in a file, in words, and the remedy where there is one."""

    path: str
    what: str
    hint: str | None = None


def find_line(
    files: SourceFiles, dialect: CsvDialect, is_meant: Callable[[Sequence[str]], bool]
) -> tuple[str, int] | None:
    """Return the file and the number of the first line of a row whose cells are meant, None if there is none."""
    for path in files.paths:
        with suppress(OSError, EOFError, csv.Error), files.filesystem.open(path, "rb", compression="infer") as stream:
            lines = io.TextIOWrapper(cast(BinaryIO, stream), "utf-8-sig", errors="replace", newline="")
            for _ in range(dialect.header.n_before):
                next(lines, None)
            reader, last = csv.reader(lines, delimiter=dialect.delimiter), 0
            for number, cells in enumerate(reader):
                if number > dialect.header.n_after and is_meant(cells):
                    return path, dialect.header.n_before + last + 1
                last = reader.line_num
    return None


def locate_missing(files: SourceFiles, column: str) -> str:
    """Return " (see line 12 of people.csv)" for the first row that lacks a value of a column, "" if none does."""
    return _locate(files, column, detect_dialect(files), lambda cell: cell in MISSING)


def locate_text(files: SourceFiles, column: str) -> str:
    """Return the same for the first value of a column that is no number."""
    dialect = detect_dialect(files)
    is_number = NUMBER_WITH_POINT[dialect.decimal_point].fullmatch
    return _locate(files, column, dialect, lambda cell: cell not in MISSING and not is_number(cell.strip()))


def locate_infinite(files: SourceFiles, column: str) -> str:
    """Return the same for the first value of a column that is an infinite number."""
    dialect = detect_dialect(files)

    def is_infinite(cell: str) -> bool:
        with suppress(ValueError):
            return math.isinf(float(cell.replace(dialect.decimal_point, ".")))
        return False

    return _locate(files, column, dialect, is_infinite)


def _locate(files: SourceFiles, column: str, dialect: CsvDialect, is_meant: Callable[[str], bool]) -> str:
    position = dialect.header.names.index(column)
    line = find_line(files, dialect, lambda cells: position < len(cells) and is_meant(cells[position]))
    return "" if line is None else f" (see line {line[1]:,} of {line[0]})"


def may_repeat_header(batch: pa.RecordBatch) -> bool:
    """Tell whether a row of a batch has the names of all columns of texts for values: it makes texts of most."""
    texts = [(name, c) for name, c in zip(batch.schema.names, batch.columns, strict=True) if pa.types.is_string(c.type)]
    repeated = np.ones(batch.num_rows if texts and batch.num_columns > 1 else 0, bool)
    for name, column in texts:
        if not repeated.any():
            break
        same = pc.is_in(column, pa.array([name, BYTE_ORDER_MARK + name]))
        repeated &= (pc.or_(same, column.is_null()) if name == "" else same).to_numpy(zero_copy_only=False)
    return bool(repeated.any())


def refuse_repeated_header(files: SourceFiles, dialect: CsvDialect) -> None:
    """Raise SourceFormatError if a line below the header is the header again."""
    names = list(dialect.header.names)
    line = find_line(files, dialect, lambda cells: [cell.removeprefix(BYTE_ORDER_MARK) for cell in cells] == names)
    if line is not None:
        raise SourceFormatError(
            f"Line {line[1]:,} of {line[0]} is the header again: files have been joined together with theirs.",
            hint="leave out that line and others like it, or give the files one by one.",
        )


def find_fault(files: SourceFiles, delimiter: str) -> CsvFault | None:
    """Return the first line that has not as many columns as the header of its file, or is not UTF-8 text."""
    for path in files.paths:
        with suppress(OSError, EOFError, csv.Error), files.filesystem.open(path, "rb", compression="infer") as stream:
            fault = _find_foreign_bytes(path, cast(BinaryIO, stream), delimiter)
            if fault is not None:
                return fault
            stream.seek(0)
            fault = _find_ragged_line(path, cast(BinaryIO, stream), delimiter)
            if fault is not None:
                return fault
    return None


def _find_foreign_bytes(path: str, stream: BinaryIO, delimiter: str) -> CsvFault | None:
    for number, line in enumerate(stream, 1):
        try:
            line.decode("utf-8")
        except UnicodeDecodeError:
            stream.seek(0)
            names = read_header(stream.read(HEADER_CHARACTERS).decode("utf-8-sig", "replace"), delimiter).names
            cells = next(csv.reader([line.decode("utf-8", "replace")], delimiter=delimiter), [])
            column = next((f" in column {n!r}" for n, cell in zip(names, cells, strict=False) if "\ufffd" in cell), "")
            what = f"line {number:,} is not UTF-8 text" + (column if number > 1 else "")
            return CsvFault(path, what, "write the file again in the encoding UTF-8.")
    return None


def _find_ragged_line(path: str, stream: BinaryIO, delimiter: str) -> CsvFault | None:
    text = io.TextIOWrapper(stream, "utf-8-sig", newline="")
    try:
        header = read_header(text.read(HEADER_CHARACTERS), delimiter)
        text.seek(0)
        return _first_ragged(path, _Lines(text), header.n_before, len(header.names), delimiter)
    finally:
        text.detach()


class _Lines:
    """The lines of a file, those of the row that is being read kept."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text, self.row = text, ""

    def __iter__(self) -> Iterator[str]:
        for line in self._text:
            self.row += line
            yield line


def _first_ragged(path: str, lines: _Lines, n_before: int, n_columns: int, delimiter: str) -> CsvFault | None:
    """Return the first row of another number of columns than the names have, told by the lines that it fills."""
    iterator = iter(lines)
    for _ in range(n_before):
        next(iterator)
    lines.row = ""
    reader, first = csv.reader(iterator, delimiter=delimiter), n_before + 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error:  # a field is longer than the csv module reads
            what = f"a text that is still open after {csv.field_size_limit():,} characters begins in line {first:,}"
            return CsvFault(path, what, QUOTE_HINT)
        if cells is None:
            return None
        last = n_before + reader.line_num
        if cells and len(cells) != n_columns:
            where = f"line {first:,} has" if first == last else f"lines {first:,} to {last:,} are one row, which has"
            escaped = '\\"' in lines.row
            hint = BACKSLASH_HINT if escaped else QUOTE_HINT if last > first else None
            return CsvFault(path, f"{where} {len(cells)} columns, but the header has {n_columns}", hint)
        first, lines.row = last + 1, ""
