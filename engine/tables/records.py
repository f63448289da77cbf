"""Rows as dicts, such as those of JSON, as a table: {"age": 31, "city": "Rome"}, or a list of them.

dict or sequence of dicts  ->  pyarrow Table, one row a dict;   anything else  ->  itself
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from numbers import Number
from typing import Any

import numpy as np
import pyarrow as pa

from engine.errors import SourceFormatError


def is_records(source: Any) -> bool:
    """Tell whether a source is a dict, or a sequence of dicts."""
    if isinstance(source, Mapping):
        return True
    return isinstance(source, Sequence) and len(source) > 0 and all(isinstance(row, Mapping) for row in source)


def table_of_records(source: Any, names: Sequence[str] | None = None) -> Any:
    """Return a dict as a table of one row, a sequence of dicts as one of as many rows, and anything else unchanged.

    A column that a dict lacks is null in its row. With `names`, the table has no other columns.

    Raises
    ------
    SourceFormatError
        If the values of a column differ in type, or no column can hold them; it names the columns.
    """
    if not is_records(source):
        return source
    source = [source] if isinstance(source, Mapping) else source
    present = dict.fromkeys(name for row in source for name in row)
    kept = [name for name in present if names is None or name in names]
    return table_of_columns({name: [row.get(name) for row in source] for name in kept or present})


def table_of_columns(columns: Mapping[str, Sequence[Any]]) -> pa.Table:
    """Return columns of Python and NumPy values as a table; missing values are None, NaN, NaT and pandas' NA.

    Raises
    ------
    SourceFormatError
        If the values of a column differ in type, or no column can hold them; it names the columns.
    """
    arrays = {}
    faults: dict[str, list[str]] = {}
    for name, values in columns.items():
        try:
            arrays[name] = _to_array(values)
        except OverflowError:
            faults.setdefault("whole numbers of more than 64 bits", []).append(repr(name))
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, TypeError, ValueError):
            several = len(set(map(type, values)) - {type(None)}) > 1
            what = "values of different types" if several else "values that no column of a table can hold"
            faults.setdefault(what, []).append(repr(name))
    if faults:
        named = {what: ", ".join(names) for what, names in faults.items()}
        raise SourceFormatError(
            f"Rows have {'; and '.join(f'{what} in {names}' for what, names in named.items())}.",
            hint="give each column one type: numbers (whole ones of 64 bits), texts, dates, or lists of texts.",
        )
    return pa.table(arrays)


def is_missing(value: Any) -> bool:
    """Tell whether a value is None, NaN, NaT or pandas' NA."""
    try:
        return bool(_to_array([value]).null_count)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return False


def _to_array(values: Sequence[Any]) -> pa.Array:
    """Return values as an array; raise ValueError where pyarrow takes numbers as times, or truth values as numbers."""
    array = pa.array(_alike_times(values), from_pandas=True)
    kinds = set(map(type, values))
    if len(kinds) == 1:
        return array
    is_number = pa.types.is_floating(array.type) or pa.types.is_integer(array.type)
    if is_number and any(issubclass(kind, bool | np.bool_) for kind in kinds):
        raise ValueError("truth values among numbers")
    odd = tuple(kind for kind in kinds if issubclass(kind, Number | np.bool_))
    if (
        pa.types.is_temporal(array.type) and odd and any(isinstance(v, odd) and v == v for v in values)
    ):  # NaN is missing
        raise ValueError("numbers among times")
    return array


def _alike_times(values: Sequence[Any]) -> Sequence[Any]:
    """Return dates and times of NumPy as those of Python; and dates as times where there are both."""
    kinds = set(map(type, values))
    if np.datetime64 in kinds:
        values = [_python_time(value) if isinstance(value, np.datetime64) else value for value in values]
        kinds = set(map(type, values))
    if date in kinds and any(issubclass(kind, datetime) for kind in kinds):
        values = [datetime.combine(value, time()) if type(value) is date else value for value in values]
    return values


def _python_time(value: np.datetime64) -> Any:
    """Return a date, or a time to the microsecond; None for NaT."""
    if np.isnat(value):
        return None
    is_date = np.datetime_data(value)[0] in ("Y", "M", "W", "D")
    found = value.astype("datetime64[D]" if is_date else "datetime64[us]").item()
    if isinstance(found, int):
        raise ValueError("the calendar of Python ends before it")
    return found
