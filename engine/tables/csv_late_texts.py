"""Look at columns of a CSV file that begin as numbers, or empty, and hold texts later: how are those numbers written?

    batches of such columns  ->  the texts that are no plain numbers; SourceFormatError if they contradict the numbers

Types are guessed from the first bytes of a file, and number formats are found in the first block of rows. If decimal
commas or thousands marks come only later, these texts tell (number_texts.py). If a column has decimal points in some
rows and decimal commas in others, nobody can tell what 1,299 is: the file is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import SourceFormatError
from engine.tables.csv_dialect import NUMBER_WITH_POINT, CsvDialect, shows_decimals
from engine.tables.csv_faults import find_line
from engine.tables.number_texts import is_missing_mark
from engine.tables.source_paths import SourceFiles

MAX_LATE_TEXTS = 1000  # distinct texts of a column
MIN_NUMBER_SHARE = 0.9  # of them; answers such as 1,2,3 beside 2,4 are no decimals
_MARK_NAMES = {".": "point", ",": "comma"}


def find_late_texts(
    batches: Iterable[pa.RecordBatch], guessed: Mapping[str, pa.DataType], dialect: CsvDialect, files: SourceFiles
) -> dict[str, list[str]]:
    """Return the numbers among the later texts of columns, written in another way than the first numbers.

    Parameters
    ----------
    batches : iterable of pyarrow.RecordBatch
        The columns as texts.
    guessed : mapping of column name to pyarrow type
        What the first rows seemed to hold: integers, perhaps with marks between thousands; floats; or nothing (null).

    Raises
    ------
    SourceFormatError
        If a column of numbers has decimals after points and after commas.
    """
    decimal = rf"^[+-]?[0-9]*({re.escape(dialect.decimal_point)}[0-9]*)?([eE][+-]?[0-9]+)?$"
    plain = {name: decimal if pa.types.is_floating(kind) else "^[+-]?[0-9]*$" for name, kind in guessed.items()}
    found: dict[str, set[str]] = {name: set() for name in guessed}
    for batch in batches:
        for name in [name for name, texts in found.items() if len(texts) < MAX_LATE_TEXTS]:
            texts = pc.utf8_trim_whitespace(batch.column(batch.schema.get_field_index(name)).unique().drop_null())
            others = texts.filter(pc.invert(pc.match_substring_regex(texts, plain[name]))).to_pylist()
            found[name].update(text for text in others if not is_missing_mark(text))
            if pa.types.is_null(guessed[name]) and not all(map(_is_number, found[name])):
                del found[name]  # it holds words
        if not found:
            break
    late = {}
    for name, others in found.items():
        numbers = sorted(filter(_is_number, others))
        if numbers and len(numbers) >= MIN_NUMBER_SHARE * len(others):
            _check_marks(name, numbers, guessed[name], dialect, files)
            late[name] = numbers
    return late


def _is_number(text: str) -> bool:
    return any(pattern.fullmatch(text) for pattern in NUMBER_WITH_POINT.values())


def _check_marks(name: str, numbers: list[str], guess: pa.DataType, dialect: CsvDialect, files: SourceFiles) -> None:
    """Raise SourceFormatError if numbers show the one decimal mark, and others of the column the other one."""
    shown = {mark for mark in ".," if any(shows_decimals(text, mark) for text in numbers)}
    shown |= {dialect.decimal_point} if pa.types.is_floating(guess) else set()
    if len(shown) < 2:
        return
    usual = dialect.decimal_point
    later = "," if usual == "." else "."
    position = dialect.header.names.index(name)
    line = find_line(
        files, dialect, lambda cells: position < len(cells) and shows_decimals(cells[position].strip(), later)
    )
    where = files.paths[0] if line is None else f"Line {line[1]:,} of {line[0]}"
    what = f"{where} has a number with a decimal {_MARK_NAMES[later]} in column {name!r}"
    raise SourceFormatError(
        f"{what}, and other rows have decimal {_MARK_NAMES[usual]}s there.", hint="write all numbers of a column alike."
    )
