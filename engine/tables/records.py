"""Rows as dicts, such as those of JSON, as a table: {"age": 31, "city": "Rome"}, or a list of them.

dict or sequence of dicts  ->  pyarrow Table, one row a dict;   anything else  ->  itself
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from engine.errors import SourceFormatError


def is_records(source: Any) -> bool:
    """Tell whether a source is a dict, or a sequence of dicts."""
    if isinstance(source, Mapping):
        return True
    return isinstance(source, Sequence) and len(source) > 0 and all(isinstance(row, Mapping) for row in source)


def table_of_records(source: Any) -> Any:
    """Return a dict as a table of one row, a sequence of dicts as one of as many rows, and anything else unchanged.

    A column that a dict lacks is null in its row.

    Raises
    ------
    SourceFormatError
        If the values of a column differ in type; it names the columns.
    """
    if not is_records(source):
        return source
    source = [source] if isinstance(source, Mapping) else source
    columns, mixed = {}, []
    for name in dict.fromkeys(name for row in source for name in row):
        try:
            columns[name] = pa.array([row.get(name) for row in source])
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            mixed.append(name)
    if mixed:
        raise SourceFormatError(
            f"Rows have values of different types in {', '.join(map(repr, mixed))}.",
            hint="give each column one type: numbers (whole ones of 64 bits), texts, dates, or lists of texts.",
        )
    return pa.table(columns)
