"""A block of a table as plain arrays: numbers, codes of texts, codes of labels.

    pyarrow Table + Reading per column  ->  PlainRows: float64 (n_numbers, n_rows) with NaN,
                                            int32 codes (n_texts, n_rows), and per list column offsets and codes

Texts and labels are codes into the names found in this very block, so reading needs no earlier pass and no later
one has to look at a text again. What the numbers mean is not known here: see column_roles.py and encoding_plan.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine.errors import NonFiniteValueError

Kind = Literal["number", "boolean", "text", "list", "time", "other"]

MISSING_CODE = -1
MAX_DISTINCT = 10_000  # different texts counted before a column is taken for an identifier or free text
ANY_NUMBER = 2**31 - 1  # of different texts
_NAME_BYTES = 80  # of a short Python text and the list's pointer to it
_DAY_IN_MILLISECONDS = 86_400_000.0


@dataclass(frozen=True)
class Reading:
    """How a column is read: as numbers, days, one category, or several labels (split at `separator` if text)."""

    form: Literal["number", "days", "category", "labels"]
    separator: str | None = None
    max_distinct: int = MAX_DISTINCT


class Labels(NamedTuple):
    """A multi-label column: row i has the labels names[code] for code in codes[offsets[i]:offsets[i + 1]], if >= 0."""

    offsets: NDArray[np.int32]  # (n_rows + 1,)
    codes: NDArray[np.int32]  # MISSING_CODE for empty texts, which are no label
    names: list[str] | None  # None: more than the reading's max_distinct
    missing: NDArray[np.bool_]  # (n_rows,)


@dataclass(frozen=True)
class PlainRows:
    """A block of rows as arrays; the order of columns is that of the names in each form."""

    n_rows: int
    number_columns: tuple[str, ...]
    numbers: NDArray[np.float64]  # (n_numbers, n_rows); NaN is missing
    text_columns: tuple[str, ...]
    codes: NDArray[np.int32]  # (n_texts, n_rows): positions in `names`, or MISSING_CODE
    names: tuple[list[str] | None, ...]  # the texts of this block, per text column; None: more than max_distinct
    labels: dict[str, Labels]

    @property
    def n_bytes(self) -> int:
        """Memory the arrays and names take."""
        lists = sum(part.offsets.nbytes + part.codes.nbytes + part.missing.nbytes for part in self.labels.values())
        return self.numbers.nbytes + self.codes.nbytes + lists + self.name_bytes

    @property
    def name_bytes(self) -> int:
        """Memory the names take."""
        return _NAME_BYTES * sum(map(len, filter(None, [*self.names, *(part.names for part in self.labels.values())])))


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


def arrow_rows(rows: Any) -> pa.Table:
    """Return rows of any data frame that narwhals knows as a pyarrow Table."""
    if isinstance(rows, pa.Table):
        return rows
    import narwhals as nw  # 50 ms that a job on files saves

    return nw.from_native(rows, eager_only=True).to_arrow()


def read(rows: pa.Table, readings: Mapping[str, Reading]) -> PlainRows:
    """Read the columns named in `readings`.

    Raises
    ------
    NonFiniteValueError
        If a number is infinite: no imputation could know what was meant.
    """
    form_of = {name: reading.form for name, reading in readings.items()}
    numeric = number_columns(readings)
    text_columns = tuple(name for name, form in form_of.items() if form == "category")
    numbers = np.empty((len(numeric), rows.num_rows))
    for row, name in zip(numbers, numeric, strict=True):
        column = array_of(rows, name)
        row[:] = days(column) if form_of[name] == "days" else finite_numbers(column, name)
    codes = np.empty((len(text_columns), rows.num_rows), np.int32)
    names = []
    for row, name in zip(codes, text_columns, strict=True):
        row[:], found = coded(as_text(array_of(rows, name)), readings[name].max_distinct)
        names.append(found)
    labels = {
        name: labels_of(array_of(rows, name), reading.separator, reading.max_distinct)
        for name, reading in readings.items()
        if reading.form == "labels"
    }
    return PlainRows(rows.num_rows, numeric, numbers, text_columns, codes, tuple(names), labels)


def number_columns(readings: Mapping[str, Reading]) -> tuple[str, ...]:
    """Return the columns that are read as numbers, in the order of PlainRows."""
    return tuple(name for name, reading in readings.items() if reading.form in ("number", "days"))


def array_of(rows: pa.Table, name: str) -> pa.Array:
    """Return a column as one array."""
    column = rows.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def values_of(rows: pa.Table, name: str, *, date: bool) -> NDArray[np.float64]:
    """Return a column of numbers, or of days since 1970-01-01, as float64 with NaN."""
    return days(array_of(rows, name)) if date else finite_numbers(array_of(rows, name), name)


def codes_in(column: pa.Array, known: Sequence[str]) -> NDArray[np.int32]:
    """Return each value's position among `known` texts, len(known) for any other, MISSING_CODE for null."""
    codes, names = coded(as_text(column), ANY_NUMBER)
    return placed(codes, names or [], known)


def placed(codes: NDArray[np.int32], names: list[str], known: Sequence[str]) -> NDArray[np.int32]:
    """Turn codes into `names` into codes into `known`; len(known) stands for names that are not there."""
    place = {name: k for k, name in enumerate(known)}
    table = np.array([MISSING_CODE, *(place.get(name, len(known)) for name in names)], np.int32)
    return table[codes + 1]


def finite_numbers(column: pa.Array, name: str) -> NDArray[np.float64]:
    """Return a number or boolean column as float64, missing values as NaN, or say how many are infinite."""
    values = _floats(column)
    infinite = int(np.isinf(values).sum())
    if infinite:
        raise NonFiniteValueError(
            f"Column {name!r} holds {infinite} infinite values.",
            hint="replace them by missing values, or set the column's role to 'ignore'.",
        )
    return values


def days(column: pa.Array) -> NDArray[np.float64]:
    """Return a date or time column as days since 1970-01-01, float64 of shape (n_rows,), missing as NaN."""
    if pa.types.is_null(column.type):
        return _floats(column)
    if pa.types.is_date32(column.type):
        return _floats(column.cast(pa.int32()))
    milliseconds = column.cast(pa.timestamp("ms", tz=getattr(column.type, "tz", None)), safe=False).cast(pa.int64())
    return _floats(milliseconds) / _DAY_IN_MILLISECONDS


def _floats(column: pa.Array) -> NDArray[np.float64]:
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    if column.null_count:
        column = pc.fill_null(column.cast(pa.float64(), safe=False), np.nan)
    values: NDArray[np.float64] = column.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
    return values


def as_text(column: pa.Array) -> pa.Array:
    """Return a column as text, so that numbers and booleans can be categories; 3.0 and 3 are one category."""
    if pa.types.is_string(column.type) or pa.types.is_dictionary(column.type):
        return column
    if not pa.types.is_floating(column.type):
        return column.cast(pa.string())
    known = pc.if_else(pc.is_nan(column), None, column)
    rounded = pc.round(known)
    whole = pc.equal(known, rounded).fill_null(True)
    return pc.if_else(whole, rounded.cast(pa.int64(), safe=False).cast(pa.string()), known.cast(pa.string()))


def coded(texts: pa.Array, limit: int) -> tuple[NDArray[np.int32], list[str] | None]:
    """Return each text's position among the different ones, MISSING_CODE for null; and those, if up to `limit`."""
    found = texts.dictionary_encode()
    codes = found.indices if found.null_count == 0 else pc.fill_null(found.indices, MISSING_CODE)
    return codes.to_numpy(), None if len(found.dictionary) > limit else found.dictionary.to_pylist()


def labels_of(column: pa.Array, separator: str | None, limit: int = ANY_NUMBER) -> Labels:
    """Split a multi-label column into its labels; below a null list there are none."""
    if pa.types.is_null(column.type):
        return Labels(np.zeros(len(column) + 1, np.int32), np.empty(0, np.int32), [], np.ones(len(column), bool))
    missing = column.is_null().to_numpy(zero_copy_only=False)
    lists = column if separator is None else _split(column, separator)
    offsets = np.zeros(len(lists) + 1, np.int32)
    np.cumsum(pc.fill_null(pc.list_value_length(lists), 0).to_numpy(), out=offsets[1:])
    codes, names = coded(as_text(lists.flatten()), limit)
    if names is not None and "" in names:
        codes = np.where(codes == names.index(""), MISSING_CODE, codes).astype(np.int32)
    return Labels(offsets, codes, names, missing)


def _split(text: pa.Array, separator: str) -> pa.Array:
    """Split at the separator and the blanks around it, so that 'a; b' and 'a;b' hold the same labels."""
    if pa.types.is_dictionary(text.type):
        return _split(text.dictionary, separator).take(text.indices)
    blank_free = pc.replace_substring_regex(text, rf"\s*{re.escape(separator.strip())}\s*", separator.strip())
    return pc.split_pattern(pc.utf8_trim_whitespace(blank_free), separator.strip())
