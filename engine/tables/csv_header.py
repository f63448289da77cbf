"""Read what stands above the rows of a CSV file: a line `sep=;`, the names, and further lines of headers.

    the first characters of a file  ->  CsvHeader(delimiter, names, lines before and after the names)

Excel writes `sep=;` above the names. Qualtrics writes the texts of the questions and a line of JSON below them, and
consoles of databases a line of dashes. Names may hold line breaks in quotation marks. Other lines that look like
headers are refused: no one can tell what they are.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from engine.errors import SourceFormatError

DELIMITERS = ",;\t|"
MAX_EXTRA = 2  # lines of headers below the names
MIN_NUMBERS = 5  # of a column, from which on a text above them looks like a header
MIN_COLUMNS = 2  # of numbers that have a text above them
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\r?(?:\n|$)', re.IGNORECASE)
_IMPORT_ID = re.compile(r'\{\s*"ImportId"\s*:.*\}', re.DOTALL)  # of the third line of Qualtrics


class CsvHeader(NamedTuple):
    """The names of a CSV file's columns, and how they are written.

    Attributes
    ----------
    delimiter : str
    names : tuple of str
    n_before, n_after : lines before the names, and rows of headers after them, which are not rows of the table
    """

    delimiter: str
    names: tuple[str, ...]
    n_before: int = 0
    n_after: int = 0

    @property
    def layout(self) -> str:
        """What precedes the rows, in words: "" for nothing but the names."""
        parts = ["a line with the separator"] if self.n_before else []
        parts += [f"{self.n_after} more lines of headers"] if self.n_after else []
        return " and ".join(parts)


def read_header(text: str, delimiter: str | None = None) -> CsvHeader:
    """Read the header of a file.

    Parameters
    ----------
    text : str
        The first characters of the file, with all lines of the header.
    delimiter : str, optional
        If the file's name gives it; else it is the sign that splits the header into most columns, the comma in a tie.
    """
    match = _SEPARATOR_LINE.match(text)
    if match is not None:
        delimiter, text = match[1], text[match.end() :]
    signs = DELIMITERS if delimiter is None else delimiter
    records = {sign: _first_records(text, sign) for sign in signs}
    best = max(signs, key=lambda sign: len(records[sign][0]) if records[sign] else 0)
    names, *others = records[best] or [[]]
    n_after = next((n for n, cells in enumerate(others, 1) if _are_import_ids(cells)), 0)
    n_after = 1 if not n_after and others and _is_rule(others[0]) else n_after
    return CsvHeader(best, tuple(names), int(match is not None), n_after)


def names_that_are_numbers(names: Sequence[str]) -> int:
    """Count the names that are numbers, if half of them are, and they do not ascend as years do: they may be values."""
    numbers = [float(name) for name in names if _NUMBER.fullmatch(name.strip())]
    ascend = all(before < after for before, after in pairwise(numbers))  # years, or the columns of a matrix
    return 0 if ascend or len(numbers) < max(MIN_COLUMNS, len(names) / 2) else len(numbers)


def rows_below(text: str, header: CsvHeader) -> list[list[str]]:
    """Return the rows of a text below its header; none if a field is longer than the csv module reads."""
    for _ in range(header.n_before):
        text = text.partition("\n")[2]
    try:
        return [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=header.delimiter) if row][
            1 + header.n_after :
        ]
    except csv.Error:
        return []


def refuse_more_headers(columns: Sequence[Sequence[str]], path: str, n_before: int) -> None:
    """Raise SourceFormatError if the first rows look like headers: columns of numbers have texts there, and no number.

    Parameters
    ----------
    columns : sequence of sequences of str
        The texts of each column from its first row on, numbers as "0" and missing values as "".
    path, n_before : the file, and the lines before its names
    """
    for n in range(MAX_EXTRA, 0, -1):
        if any("0" in column[:n] for column in columns):
            continue
        numbers = [c for c in columns if c[n:].count("0") >= MIN_NUMBERS and not set(c[n:]) - {"0", ""}]
        n_texts = sum("" not in column[:n] for column in numbers)
        if n_texts >= max(MIN_COLUMNS, len(numbers) / 2):
            first = n_before + 2
            lines = f"Line {first}" if n == 1 else f"Lines {first} and {first + 1}"
            raise SourceFormatError(
                f"{lines} of {path} look{'s' if n == 1 else ''} like more headers: {n_texts} columns of numbers have "
                "texts there.",
                hint="leave out all lines of headers but one, or make these texts missing values.",
            )


def _first_records(text: str, delimiter: str) -> list[list[str]]:
    records: list[list[str]] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        while len(records) <= MAX_EXTRA:
            record = next(reader, None)
            if record is None:
                break
            if record:
                records.append(record)
    except csv.Error:  # a field is longer than the csv module reads
        pass
    return records


def _are_import_ids(cells: Sequence[str]) -> bool:
    given = [cell for cell in cells if cell.strip()]
    return bool(given) and all(_IMPORT_ID.fullmatch(cell.strip()) for cell in given)


def _is_rule(cells: Sequence[str]) -> bool:
    """Tell whether a line is drawn below the names: dashes in every cell; one in each are missing values."""
    drawn = [cell.strip() for cell in cells]
    return all(cell and not cell.strip("-=") for cell in drawn) and any(len(cell) > 1 for cell in drawn)
