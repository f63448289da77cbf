"""How a CSV file is written: what stands between its columns and before decimals, and how dates are spelt.

    the first bytes of a file  ->  Dialect(delimiter, decimal_point, dates)

Names ending in .tsv are tab-separated. Others are split by the sign, among comma, semicolon, tab and bar, that makes
most columns of the header; the comma where two make as many. Numbers have decimal commas where a column that is not
comma-separated shows some (`29626,45`), and none shows decimal points.

A column holds dates where every text in the first bytes has one form. ISO dates are read anyway. Of `03/04/2017`,
day or month may come first: such columns are dates only if one shows which (`25/12/2017`) and none the contrary. Years
of two digits are text: a 55 may be 1955 or 2055.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import NamedTuple

from engine.tables.source_paths import Files

MISSING = ["", "NA", "N/A", "NaN", "nan", "NULL", "null", "None", "#N/A"]
_HEAD_BYTES = 1 << 20
_DELIMITERS = ",;\t|"
_DAY, _MONTH, _YEAR = r"(?P<day>0?[1-9]|[12]\d|3[01])", r"(?P<month>0?[1-9]|1[0-2])", r"(?:1[89]|20)\d\d"
_NAME = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_FULL_NAME = "(?:January|February|March|April|May|June|July|August|September|October|November|December)"
_FORMS = {
    form: re.compile(text, re.ASCII)
    for form, text in {
        "%d.%m.%Y": rf"{_DAY}\.{_MONTH}\.{_YEAR}",
        "%d/%m/%Y": f"{_DAY}/{_MONTH}/{_YEAR}",
        "%m/%d/%Y": f"{_MONTH}/{_DAY}/{_YEAR}",
        "%d-%b-%Y": f"{_DAY}-{_NAME}-{_YEAR}",
        "%B %d, %Y": f"{_FULL_NAME} {_DAY}, {_YEAR}",
    }.items()
}
_EITHER_FIRST = {"%d/%m/%Y", "%m/%d/%Y"}
_DECIMAL = {point: re.compile(rf"[+-]?\d*(?:{re.escape(point)}\d+)?(?:[eE][+-]?\d+)?") for point in ",."}


class Dialect(NamedTuple):
    """How a CSV file is to be split, and its numbers and dates to be read; `dates` are forms for `strptime`."""

    delimiter: str = ","
    decimal_point: str = "."
    dates: tuple[str, ...] = ()


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
    try:
        columns = list(zip_longest(*csv.reader(lines[1:], delimiter=delimiter), fillvalue=""))
    except csv.Error:  # a text longer than that module reads: nothing is known but the delimiter
        columns = []
    return Dialect(delimiter, _decimal_point(columns) if delimiter != "," else ".", _dates(columns))


def header_of(files: Files) -> list[str]:
    """Return the names of the columns of the first file, without reading its rows."""
    with files.filesystem.open(files.paths[0], "rb", compression="infer") as stream:
        line = stream.readline().decode("utf-8-sig", errors="replace")
    return next(csv.reader([line], delimiter=dialect_of(files).delimiter), [])


def _delimiter(header: str) -> str:
    return max(_DELIMITERS, key=lambda sign: len(next(csv.reader([header], delimiter=sign), [])))


def _decimal_point(columns: Iterable[Sequence[str]]) -> str:
    """Return the comma if a column of numbers has decimals behind commas, and none has them behind points."""
    found = {point: any(_has_decimals(column, point) for column in columns) for point in ",."}
    return "," if found[","] and not found["."] else "."


def _has_decimals(column: Sequence[str], point: str) -> bool:
    """Tell whether all of a column's values are numbers, some with decimals behind this point."""
    texts = _present(column)
    return any(point in text for text in texts) and all(_DECIMAL[point].fullmatch(text) for text in texts)


def _dates(columns: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """Return the forms of dates that columns hold; where day or month may come first, only what a column shows."""
    found: set[str] = set()
    for column in columns:
        texts = _present(column)
        forms = {form for form, pattern in _FORMS.items() if texts and all(map(pattern.fullmatch, texts))}
        if forms != _EITHER_FIRST:
            found |= forms
    return tuple(sorted(found - _EITHER_FIRST if found >= _EITHER_FIRST else found))


def _present(column: Sequence[str]) -> list[str]:
    return [text for text in map(str.strip, column) if text not in MISSING]
