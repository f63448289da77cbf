"""Convert rows of Python objects, as drivers of databases give them, to Arrow.

    names, rows, declared types  ->  pyarrow RecordBatch

A column has the type of its values; None alone is null, and NaN stays NaN.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa

from engine.errors import SourceFormatError

VALUES_AT_ONCE = 1 << 20  # Python objects in memory at a time
# Types that SQLite only declares: what values have to be, and what they are read by.
_DECLARED: dict[str, tuple[type, Callable[[Any], Any]]] = {
    "BOOLEAN": (int, bool),
    "BOOL": (int, bool),
    "DATE": (str, dt.date.fromisoformat),
    "DATETIME": (str, dt.datetime.fromisoformat),
    "TIMESTAMP": (str, dt.datetime.fromisoformat),
}


def rows_at_once(n_columns: int) -> int:
    """Return how many rows are fetched at a time."""
    return max(1, VALUES_AT_ONCE // max(1, n_columns))


def batch_of_rows(names: Sequence[str], rows: Sequence[Sequence[Any]], declared: Sequence[str]) -> pa.RecordBatch:
    """Return rows as a batch; columns without a value have the type null.

    Parameters
    ----------
    names : sequence of str
    rows : sequence of sequences
    declared : sequence of str
        The type that each column was declared with, "" for none.

    Raises
    ------
    SourceFormatError
        If a column has values of several types, or of one that Arrow does not know. It names the column.
    """
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    arrays = []
    for name, values, kind in zip(names, columns, declared, strict=True):
        try:
            arrays.append(_to_array(values, kind))
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            raise SourceFormatError(
                f"Column {name!r} of the query has values of several types, or of an unknown one.",
                hint="convert it in the query: CAST(… AS …).",
            ) from None
    return pa.RecordBatch.from_arrays(arrays, names=list(names))


def _to_array(values: Sequence[Any], declared: str) -> pa.Array:
    kinds = set(map(type, values)) - {type(None)}
    expected, read = _DECLARED.get(declared.partition("(")[0].strip(), (None, None))
    if read is not None and kinds == {expected} and (expected is str or set(values) <= {0, 1, None}):
        return pa.array([None if value is None else read(value) for value in values])
    if kinds == {uuid.UUID}:
        stored = pa.array([None if value is None else value.bytes for value in values], pa.binary(16))
        return pa.ExtensionArray.from_storage(pa.uuid(), stored)
    if kinds in ({int, float}, {float}):
        return pa.array(values, pa.float64(), from_pandas=False)
    if kinds == {Decimal} and not all(value is None or value.is_finite() for value in values):
        return pa.array([None if value is None else float(value) for value in values], pa.float64(), from_pandas=False)
    if Decimal in kinds and kinds <= {Decimal, int}:
        return pa.array([None if value is None else Decimal(value) for value in values])
    if kinds <= {bytes, bytearray, memoryview} and kinds:
        return pa.array([None if value is None else bytes(value) for value in values], pa.binary())
    if len(kinds) > 1 or dt.timedelta in kinds:
        raise TypeError("several types, or intervals, which are no numbers")
    return pa.array(values)
