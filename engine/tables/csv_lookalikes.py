"""Refuse files that are named as CSV and are something else: JSON, gzip, or columns that another sign separates.

    the first characters of a file, its names and rows  ->  SourceFormatError, or nothing

Read as CSV, such a file has columns that nobody has: a fit of pieces of JSON, or of texts such as `34^2`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from engine.errors import SourceFormatError

MIN_ROWS = 3
_FORMATS = {
    "JSON": re.compile(r'\s*(?:\[\s*)?\{\s*"(?:[^"\\]|\\.)*"\s*:'),
    "HTML": re.compile(r"\s*<(?:!doctype html|html|head|body|table)\b", re.IGNORECASE),
    "XML": re.compile(r"\s*<\?xml\b", re.IGNORECASE),
    "Parquet": re.compile("PAR1"),
    "what gzip has compressed": re.compile("\x1f[\x8b\ufffd]\x08"),
    "a ZIP archive, as .xlsx files are": re.compile("PK\x03\x04"),
}
# Signs that other programs separate columns by; blanks last, of which a file of fixed widths has several.
_SIGNS = {"\x01": "the character 1", "^": "'^'", "~": "'~'", "::": "'::'", "\x1f": "the character 31", " ": "blanks"}
_NUMBER = re.compile(r"[+-]?\d*[.,]?\d+(?:[eE][+-]?\d+)?")


def refuse_other_formats(text: str, path: str) -> None:
    """Raise SourceFormatError if the first characters of a file are those of JSON, XML, Parquet or the like."""
    for name, pattern in _FORMATS.items():
        if pattern.match(text):
            raise SourceFormatError(
                f"{path} holds {name}, not CSV.", hint="convert it to CSV or Parquet, or give it its own ending."
            )


def refuse_other_separators(names: Sequence[str], rows: Sequence[Sequence[str]], path: str) -> None:
    """Raise SourceFormatError if the only column is several ones, of numbers too, that another sign separates."""
    if len(names) != 1 or len(rows) < MIN_ROWS:
        return
    lines = [names[0], *(row[0] for row in rows if len(row) == 1)]
    for sign, words in _SIGNS.items():
        parts = [line.split() if sign == " " else line.split(sign) for line in lines]
        if len(parts[0]) < 2 or any(len(part) != len(parts[0]) for part in parts):
            continue
        if any(all(map(_NUMBER.fullmatch, column)) for column in zip(*parts[1:], strict=True)):
            raise SourceFormatError(
                f"{path} has one column by commas, semicolons, tabs and bars, but {len(parts[0])} by {words}.",
                hint="write it with one of those between columns.",
            )
