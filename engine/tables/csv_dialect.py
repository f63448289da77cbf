"""Detect the dialect of a CSV file: its delimiter and its decimal point.

    the first bytes of a file  ->  CsvDialect(delimiter, decimal_point)

Files whose names end in .tsv are tab-separated. In others the delimiter is the one of comma, semicolon, tab and bar
that splits the header into most columns; the comma in a tie. Numbers have decimal commas if a column of a file that is
not comma-separated shows some (`29626,45`), and no column shows decimal points. Where every mark is followed by three
digits, as in `1.299`, it may mark thousands: number_texts.py decides, and such columns are read as text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

from engine.tables.csv_header import CsvHeader, read_header, refuse_more_headers, rows_below
from engine.tables.csv_lookalikes import refuse_other_formats, refuse_other_separators
from engine.tables.number_texts import MISSING_MARKS, are_grouped, marks_thousands
from engine.tables.source_paths import SourceFiles

# Texts that are missing values: in all columns of CSV files and spreadsheets, among the categories and several answers
# of other tables, and in new rows.
MISSING = ["", " ", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "#N/A"]
_WORDS = frozenset(MISSING) - {"", " "}
_HEAD_BYTES = 1 << 20  # bytes of a file that the dialect is detected from
HEADER_BYTES = 1 << 16  # bytes of a file that hold all lines of its header
# Numbers with decimals after this point, and perhaps the other mark between thousands.
NUMBER_WITH_POINT = {
    point: re.compile(rf"[+-]?(?:\d*|\d{{1,3}}(?:{grouping}\d{{3}})+)(?:{re.escape(point)}\d+)?(?:[eE][+-]?\d+)?")
    for point, grouping in ((",", r"\."), (".", ","))
}


class CsvDialect(NamedTuple):
    """How to split a CSV file and parse its numbers.

    Attributes
    ----------
    delimiter, decimal_point : str
    shown_decimal : the decimal point if a column shows it beyond doubt, else ""
    grouped : positions of the columns whose points mark thousands although they could be decimal points
    header : CsvHeader
    mixed : positions of the columns of numbers of which some have decimal points, and others decimal commas
    marks : the words of MISSING in the first rows of each column that has some, by its position
    """

    delimiter: str = ","
    decimal_point: str = "."
    shown_decimal: str = ""
    grouped: tuple[int, ...] = ()
    header: CsvHeader = CsvHeader(",", ())
    mixed: tuple[int, ...] = ()
    marks: tuple[tuple[int, tuple[str, ...]], ...] = ()


def detect_dialect(files: SourceFiles) -> CsvDialect:
    """Detect the dialect of the first file; the other files of the table must be written alike.

    Raises
    ------
    SourceFormatError
        If the first rows look like more lines of headers, or the file is no CSV or separated by another sign.
    """
    path = files.paths[0]
    head = read_head(files, path, _HEAD_BYTES)
    if len(head) == _HEAD_BYTES:
        head = head[: head.rfind(b"\n") + 1]  # the last line is most likely cut off
    text = head.decode("utf-8-sig", errors="replace")
    refuse_other_formats(text, path)
    header = read_header(text, delimiter_of_name(path))
    rows = rows_below(text, header)
    refuse_other_separators(header.names, rows, path)
    columns = list(zip_longest(*rows, fillvalue=""))
    if rows and "0" not in map(_classify, rows[0]):
        refuse_more_headers([list(map(_classify, column)) for column in columns], path, header.n_before)
    present = [_nonmissing(column) for column in columns]
    decimal_point, shown, grouped = _detect_decimal_point(present, header.delimiter)
    mixed = tuple(position for position, texts in enumerate(present) if _has_both_points(texts))
    words = [tuple(sorted(set(map(str.strip, column)) & _WORDS)) for column in columns]
    marks = tuple((position, found) for position, found in enumerate(words) if found)
    return CsvDialect(header.delimiter, decimal_point, shown, grouped, header, mixed, marks)


def shows_decimals(text: str, point: str) -> bool:
    """Tell whether a text is a number whose decimals follow this point beyond doubt."""
    other = "," if point == "." else "."
    return (
        point in text
        and NUMBER_WITH_POINT[point].fullmatch(text) is not None
        and NUMBER_WITH_POINT[other].fullmatch(text) is None
        and not are_grouped([text], point)
    )


def _has_both_points(texts: Sequence[str]) -> bool:
    return all(any(shows_decimals(text, point) for text in texts) for point in ".,") and not {
        _classify(text) for text in texts
    } - {"0", ""}


def read_head(files: SourceFiles, path: str, n_bytes: int) -> bytes:
    """Return the first bytes of a file."""
    with files.filesystem.open(path, "rb", compression="infer") as stream:
        head: bytes = stream.read(n_bytes)
    return head


def read_names(files: SourceFiles) -> list[str]:
    """Return the column names of the first file, but read no rows."""
    head = read_head(files, files.paths[0], HEADER_BYTES)
    return list(read_header(head.decode("utf-8-sig", errors="replace"), delimiter_of_name(files.paths[0])).names)


def delimiter_of_name(path: str) -> str | None:
    """Return the delimiter that a file's name gives."""
    return "\t" if path.lower().endswith((".tsv", ".tsv.gz")) else None


def _classify(text: str) -> str:
    """Return "0" for a number, "" for a missing value, and other texts as they are."""
    text = text.strip()
    if text.lower() in MISSING_MARKS:
        return ""
    return "0" if any(pattern.fullmatch(text) for pattern in NUMBER_WITH_POINT.values()) else text


def _detect_decimal_point(columns: Sequence[Sequence[str]], delimiter: str) -> tuple[str, str, tuple[int, ...]]:
    """Return `decimal_point`, `shown_decimal` and `grouped` of the dialect.

    The decimal point is the comma if a column of numbers has decimals after commas, and none has them after points.
    """
    shown = {",": False, ".": False}
    ambiguous: dict[str, list[int]] = {",": [], ".": []}
    for position, texts in enumerate(columns):
        for point in ".," if delimiter != "," else ".":
            if not any(point in text for text in texts):
                continue
            if are_grouped(texts, point):
                ambiguous[point].append(position)
            elif all(map(NUMBER_WITH_POINT[point].fullmatch, texts)):
                shown[point] = True
    if shown[","] or shown["."]:
        decimal_point = "," if not shown["."] else "."
    else:
        commas = [columns[position] for position in ambiguous[","]]
        decimals = delimiter == ";" and any(not marks_thousands(_unsigned(texts), ",") for texts in commas)
        decimal_point = "," if decimals else "."
    grouped = ambiguous["."] if decimal_point == "." else []
    return (
        decimal_point,
        decimal_point if shown[decimal_point] and not all(shown.values()) else "",
        tuple(position for position in grouped if marks_thousands(_unsigned(columns[position]), ".")),
    )


def _unsigned(texts: Sequence[str]) -> list[str]:
    return list({text.lstrip("+-") for text in texts})


def _nonmissing(column: Sequence[str]) -> list[str]:
    return [text for text in map(str.strip, column) if text not in MISSING]
