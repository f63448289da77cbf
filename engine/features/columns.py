"""One column of a block as plain arrays: numbers, codes of categories, codes of labels.

    narwhals Series  ->  float64 with NaN | int32 codes | (offsets, int32 codes)

Written once with narwhals, so that it runs on pyarrow (the CPU's tables), on pandas and on cuDF. Only list columns
need an adaptor per library. What the numbers mean is not known here: see roles.py and plan.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import narwhals as nw
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine.errors import NonFiniteValueError

Kind = Literal["number", "boolean", "text", "list", "time", "other"]

MISSING_CODE = -1
_DAY_IN_MILLISECONDS = 86_400_000


def kind_of(kind: pa.DataType) -> Kind:
    """Return the physical kind of an Arrow type: what a column can be read as."""
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return "number"
    if pa.types.is_string(kind):
        return "text"
    if pa.types.is_list(kind) and (pa.types.is_string(kind.value_type) or pa.types.is_integer(kind.value_type)):
        return "list"
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return "time"
    return "other"


def numbers(series: nw.Series[Any]) -> NDArray[np.float64]:
    """Return a number or boolean column as float64 of shape (n_rows,), missing values as NaN.

    Raises
    ------
    NonFiniteValueError
        If a value is infinite: no imputation could know what was meant.
    """
    if series.dtype == nw.Boolean:
        series = series.cast(nw.Int8)
    values: NDArray[np.float64] = series.cast(nw.Float64).to_numpy().astype(np.float64, copy=False)
    infinite = int(np.isinf(values).sum())
    if infinite:
        raise NonFiniteValueError(
            f"Column {series.name!r} holds {infinite} infinite values.",
            hint="replace them by missing values, or set the column's role to 'ignore'.",
        )
    return values


def days(series: nw.Series[Any]) -> NDArray[np.float64]:
    """Return a date or time column as days since 1970-01-01, float64 of shape (n_rows,), missing as NaN."""
    if series.dtype == nw.Date:
        series = series.cast(nw.Datetime("ms"))
    milliseconds = series.dt.timestamp("ms").cast(nw.Float64).to_numpy().astype(np.float64, copy=False)
    return milliseconds / _DAY_IN_MILLISECONDS


def as_text(series: nw.Series[Any]) -> nw.Series[Any]:
    """Return a column as text, so that numbers and booleans can be categories; 3.0 and 3 are one category."""
    if series.dtype == nw.String:
        return series
    if not series.dtype.is_float():
        return series.cast(nw.String)
    known = series.fill_nan(None)
    rounded = known.round(0)
    return rounded.cast(nw.Int64).cast(nw.String).zip_with((known == rounded).fill_null(True), known.cast(nw.String))


def codes(series: nw.Series[Any], categories: Sequence[str]) -> NDArray[np.int32]:
    """Return each text's position in `categories`, len(categories) for any other, MISSING_CODE for null."""
    if not categories:
        found = np.zeros(len(series), np.int32)
    else:
        mapped = series.replace_strict(
            list(categories), list(range(len(categories))), default=len(categories), return_dtype=nw.Int32
        )
        found = mapped.to_numpy().astype(np.int32)
    found[series.is_null().to_numpy()] = MISSING_CODE
    return found


def labels(
    series: nw.Series[Any], separator: str | None
) -> tuple[NDArray[np.int64], nw.Series[Any], NDArray[np.bool_]]:
    """Split a multi-label column into its labels.

    Returns
    -------
    offsets : int64 of shape (n_rows + 1,)
        Row i's labels are flat[offsets[i]:offsets[i + 1]].
    flat : Series of text
    missing : bool of shape (n_rows,)
    """
    missing = series.is_null().to_numpy().astype(bool)
    lists = _arrow(series)
    if separator is not None:
        lists = _split(lists, separator)
    offsets = np.zeros(len(lists) + 1, np.int64)
    np.cumsum(pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False), out=offsets[1:])
    flat = lists.flatten().cast(pa.string())  # leaves out what lies below a null list
    return offsets, nw.new_series(series.name, flat, backend="pyarrow"), missing


def _arrow(series: nw.Series[Any]) -> pa.Array:
    column = series.to_arrow()
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _split(text: pa.Array, separator: str) -> pa.Array:
    """Split at the separator and the blanks around it, so that 'a; b' and 'a;b' hold the same labels."""
    blank_free = pc.replace_substring_regex(text, rf"\s*{re.escape(separator.strip())}\s*", separator.strip())
    return pc.split_pattern(pc.utf8_trim_whitespace(blank_free), separator.strip())
