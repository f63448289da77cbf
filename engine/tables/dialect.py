"""How a CSV file is written: what stands between its columns, and before decimals.

    the first bytes of a file  ->  Dialect(delimiter, decimal_point)

Names ending in .tsv are tab-separated. Others are split by the sign, among comma, semicolon, tab and bar, that makes
most columns of the header; the comma where two make as many. Numbers have decimal commas where a column that is not
comma-separated shows some (`29626,45`), and none shows decimal points.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

from engine.tables.paths import Files

MISSING = ["", "NA", "N/A", "NaN", "nan", "NULL", "null", "None", "#N/A"]
_HEAD_BYTES = 1 << 20
_DELIMITERS = ",;\t|"
_DECIMAL = {point: re.compile(rf"[+-]?\d*(?:{re.escape(point)}\d+)?(?:[eE][+-]?\d+)?") for point in ",."}


class Dialect(NamedTuple):
    """How a CSV file is to be split and its numbers to be read."""

    delimiter: str = ","
    decimal_point: str = "."


def dialect_of(files: Files) -> Dialect:
    """Find out how the first of the files is written; the others of a table are to be written alike.

    Raises
    ------
    UnicodeDecodeError
        If its header is not UTF-8.
    """
    path = files.paths[0]
    with files.filesystem.open(path, "rb", compression="infer") as stream:
        head: bytes = stream.read(_HEAD_BYTES)
    lines = head.decode("utf-8-sig", errors="replace").splitlines()
    if len(head) == _HEAD_BYTES:
        del lines[-1]  # most likely not whole
    delimiter = "\t" if path.lower().endswith((".tsv", ".tsv.gz")) else _delimiter(lines[0] if lines else "")
    if delimiter == ",":
        return Dialect()
    return Dialect(delimiter, _decimal_point(lines[1:], delimiter))


def header_of(files: Files) -> list[str]:
    """Return the names of the columns of the first file, without reading its rows."""
    with files.filesystem.open(files.paths[0], "rb", compression="infer") as stream:
        line = stream.readline().decode("utf-8-sig", errors="replace")
    return next(csv.reader([line], delimiter=dialect_of(files).delimiter), [])


def _delimiter(header: str) -> str:
    return max(_DELIMITERS, key=lambda sign: len(next(csv.reader([header], delimiter=sign), [])))


def _decimal_point(lines: Sequence[str], delimiter: str) -> str:
    """Return the comma if a column of numbers has decimals behind commas, and none has them behind points."""
    columns = list(zip_longest(*csv.reader(lines, delimiter=delimiter), fillvalue=""))
    found = {point: any(_has_decimals(column, point) for column in columns) for point in ",."}
    return "," if found[","] and not found["."] else "."


def _has_decimals(column: Sequence[str], point: str) -> bool:
    """Tell whether all of a column's values are numbers, some with decimals behind this point."""
    texts = [text for text in map(str.strip, column) if text not in MISSING]
    return any(point in text for text in texts) and all(_DECIMAL[point].fullmatch(text) for text in texts)
