"""Read a block of a table into NumPy arrays: numbers, codes of texts, codes of labels.

    pyarrow Table, one ReadSpec a column  ->  ColumnarBlock: float64 (n_numbers, n_rows) with NaN,
                                              int32 codes (n_texts, n_rows), and per label column offsets and codes

Texts and labels become codes into the names of this block, so reading needs no earlier pass, and no later pass has to
look at a text again. What the numbers mean is not known here: see column_roles.py and encoding_plan.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine.errors import NonFiniteValueError
from engine.features.typed_categories import LIMIT, CategoryKind, write_alike
from engine.tables.csv_dialect import MISSING
from engine.tables.date_texts import DateFormat, parse_dates
from engine.tables.list_texts import split_texts, unescape
from engine.tables.number_texts import NumberFormat, ParsedTexts, parse_texts

PhysicalKind = Literal["number", "boolean", "text", "list", "time", "seconds", "other"]

MISSING_CODE = -1
MAX_DISTINCT = 10_000  # distinct texts counted before a column is taken for an identifier or free text
UNLIMITED = 2**31 - 1  # distinct texts: a limit that no column reaches
_NAME_BYTES = 80  # bytes of a short Python text and of the list's pointer to it
_DAY_IN_SECONDS = 86_400.0
_DAY_IN_MILLISECONDS = 86_400_000.0
TICKS_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
FIRST_DAY, END_DAY = -719_162.0, 2_932_897.0  # 0001-01-01 and 10000-01-01, in days since 1970-01-01
LAST_NANOSECOND = 9_223_372_036_853.5 / _DAY_IN_MILLISECONDS  # days to the last millisecond that nanoseconds reach


@dataclass(frozen=True)
class ReadSpec:
    """How to read a column: as numbers, days, one category, or several labels (split at `separator` if text).

    Numbers of a text column are parsed by its `number_format`, dates by its `date_format`. The values in `missing` are
    read as missing: numbers, days since 1970-01-01 (whatever the time of the day), or whole texts. Texts of
    categories that were numbers or truth values are written as these are.
    """

    form: Literal["number", "days", "category", "labels"]
    separator: str | None = None
    max_distinct: int = MAX_DISTINCT
    number_format: NumberFormat | None = None
    date_format: DateFormat | None = None
    missing: tuple[float | str, ...] = ()
    category_kind: CategoryKind = "text"

    @property
    def max_names(self) -> int:
        """The number of names from which on some rows have too many, though an empty text and marks do not count."""
        return self.max_distinct + 1 + len(self.missing)

    def with_missing(self, marks: tuple[float | str, ...]) -> ReadSpec:
        """Return the same ReadSpec with these marks of missing values."""
        return replace(self, missing=marks) if marks else self


class RaggedLabels(NamedTuple):
    """A multi-label column as ragged lists: row i has names[code] for the codes[offsets[i]:offsets[i + 1]] >= 0."""

    offsets: NDArray[np.int32]  # (n_rows + 1,)
    codes: NDArray[np.int32]  # MISSING_CODE for an empty text, which is no label
    names: list[str] | None  # None: more than max_distinct
    missing: NDArray[np.bool_]  # (n_rows,)
    marks: Mapping[str, int] = {}  # rows with each whole text that marks a missing value


@dataclass(frozen=True)
class ColumnarBlock:
    """A block of rows as NumPy arrays; the rows of `numbers` and `codes` are in the order of their column names."""

    n_rows: int
    number_columns: tuple[str, ...]
    numbers: NDArray[np.float64]  # (n_numbers, n_rows); NaN is missing
    text_columns: tuple[str, ...]
    codes: NDArray[np.int32]  # (n_texts, n_rows): positions in `names`, or MISSING_CODE
    names: tuple[list[str] | None, ...]  # the texts of this block, per text column; None: more than max_distinct
    labels: dict[str, RaggedLabels]
    parsed: dict[str, ParsedTexts] = field(default_factory=dict)  # number columns that are texts in the table
    n_marked: dict[str, int] = field(default_factory=dict)  # rows with a mark of a missing value, by column
    marks: dict[str, Counter[str]] = field(default_factory=dict)  # rows with each such text, by column of categories

    @cached_property
    def number_rows(self) -> dict[str, int]:
        """The row of `numbers` that holds each column."""
        return {name: row for row, name in enumerate(self.number_columns)}

    @cached_property
    def text_rows(self) -> dict[str, int]:
        """The row of `codes` and `names` that holds each column."""
        return {name: row for row, name in enumerate(self.text_columns)}

    @property
    def n_bytes(self) -> int:
        """Bytes of memory that the arrays and the names take."""
        lists = sum(part.offsets.nbytes + part.codes.nbytes + part.missing.nbytes for part in self.labels.values())
        return self.numbers.nbytes + self.codes.nbytes + lists + self.name_bytes

    @property
    def name_bytes(self) -> int:
        """Bytes of memory that the names take."""
        return _NAME_BYTES * sum(map(len, filter(None, [*self.names, *(part.names for part in self.labels.values())])))


def physical_kind(kind: pa.DataType) -> PhysicalKind:
    """Return the physical kind of an Arrow type, which decides what roles a column can have."""
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
    if pa.types.is_time(kind) or pa.types.is_duration(kind):
        return "seconds"
    return "other"


def is_list_of_nulls(kind: pa.DataType) -> bool:
    """Tell whether a type is that of lists which are all empty or missing."""
    return bool(pa.types.is_list(kind) and pa.types.is_null(kind.value_type))


def to_arrow_table(rows: Any) -> pa.Table:
    """Convert any data frame that narwhals knows to a pyarrow Table."""
    if isinstance(rows, pa.Table):
        return rows
    import narwhals as nw  # takes 50 ms to import, which a job on files saves

    return nw.from_native(rows, eager_only=True).to_arrow()


class BlockColumns(Protocol):
    """The columns of a block, each read by its ReadSpec."""

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        ...

    def numbers(self, name: str, spec: ReadSpec) -> tuple[NDArray[np.float64], ParsedTexts | None]:
        """Return numbers, or days since 1970-01-01, with NaN; and what was parsed if they are texts."""
        ...

    def category(self, name: str, spec: ReadSpec) -> tuple[NDArray[np.int32], list[str] | None]:
        """Return the code of each value, and what the codes stand for."""
        ...

    def has_text(self, name: str, texts: Sequence[float | str]) -> NDArray[np.bool_]:
        """Return whether the value of each row is written as one of the texts."""
        ...

    def labels(self, name: str, spec: ReadSpec) -> RaggedLabels:
        """Return lists of labels."""
        ...


@dataclass(frozen=True)
class ArrowColumns:
    """The columns of a pyarrow Table."""

    rows: pa.Table

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        return int(self.rows.num_rows)

    def numbers(self, name: str, spec: ReadSpec) -> tuple[NDArray[np.float64], ParsedTexts | None]:
        """Return numbers, or days since 1970-01-01, with NaN; and what was parsed if they are texts."""
        column = column_array(self.rows, name)
        if spec.form == "days":
            if not may_hold_written_dates(column.type):
                return finite_days(column, name), None
            parsed = parse_dates(to_text(column), spec.date_format or DateFormat())
            return parsed.values, parsed
        if spec.number_format is None or not is_text(column.type):
            return finite_numbers(column, name), None
        parsed = parse_texts(column, spec.number_format)
        return finite_numbers(parsed.values, name), parsed

    def category(self, name: str, spec: ReadSpec) -> tuple[NDArray[np.int32], list[str] | None]:
        """Return the code of each value, and what the codes stand for."""
        return factorize_texts(to_text(column_array(self.rows, name)), spec.max_names)

    def has_text(self, name: str, texts: Sequence[float | str]) -> NDArray[np.bool_]:
        """Return whether the value of each row is written as one of the texts."""
        column = to_text(column_array(self.rows, name)).cast(pa.string())
        is_text: NDArray[np.bool_] = pc.is_in(column, pa.array(texts, pa.string())).to_numpy(zero_copy_only=False)
        return is_text

    def labels(self, name: str, spec: ReadSpec) -> RaggedLabels:
        """Return lists of labels."""
        return read_labels(column_array(self.rows, name), spec.separator, spec.max_names, spec.missing)


def read_block(rows: pa.Table | BlockColumns, read_specs: Mapping[str, ReadSpec]) -> ColumnarBlock:
    """Read the columns named in `read_specs` into arrays.

    Raises
    ------
    NonFiniteValueError
        If a number or a date is infinite: no imputation can tell what was meant.
    """
    columns = ArrowColumns(rows) if isinstance(rows, pa.Table) else rows
    numeric = number_columns(read_specs)
    text_columns = tuple(name for name, read_spec in read_specs.items() if read_spec.form == "category")
    numbers = np.empty((len(numeric), columns.n_rows))
    parsed: dict[str, ParsedTexts] = {}
    n_marked: dict[str, int] = {}
    counts: dict[str, Counter[str]] = {}
    for row, name in zip(numbers, numeric, strict=True):
        read_spec = read_specs[name]
        row[:], texts_of_numbers = columns.numbers(name, read_spec)
        if texts_of_numbers is not None:
            parsed[name] = texts_of_numbers
        if read_spec.missing:
            is_mark = np.isin(np.floor(row) if read_spec.form == "days" else row, read_spec.missing)
            row[is_mark], n_marked[name] = np.nan, int(is_mark.sum())
    codes = np.empty((len(text_columns), columns.n_rows), np.int32)
    names = []
    for row, name in zip(codes, text_columns, strict=True):
        row[:], texts = columns.category(name, read_specs[name])
        if texts is not None and (kind := read_specs[name].category_kind) != "text":
            row[:], texts = _merge_names(row, write_alike(texts, kind))
            row[np.isin(row, [k for k, text in enumerate(texts) if text in MISSING])] = MISSING_CODE
        marks = read_specs[name].missing
        if marks and texts is not None:
            found = [k for k, text in enumerate(texts) if text in marks]
            is_mark = np.isin(row, found)
            if found:
                n_rows = np.bincount(row[is_mark], minlength=len(texts)).tolist()
                counts[name] = Counter({texts[k]: n_rows[k] for k in found if n_rows[k]})
        elif marks:
            is_mark = columns.has_text(name, marks)
        if marks:
            row[is_mark], n_marked[name] = MISSING_CODE, int(is_mark.sum())
        names.append(texts)
    labels = {
        name: columns.labels(name, read_spec) for name, read_spec in read_specs.items() if read_spec.form == "labels"
    }
    return ColumnarBlock(
        columns.n_rows, numeric, numbers, text_columns, codes, tuple(names), labels, parsed, n_marked, counts
    )


def number_columns(read_specs: Mapping[str, ReadSpec]) -> tuple[str, ...]:
    """Return the columns that are read as numbers, in the order of ColumnarBlock.numbers."""
    return tuple(name for name, read_spec in read_specs.items() if read_spec.form in ("number", "days"))


def column_array(rows: pa.Table, name: str) -> pa.Array:
    """Return a column as one contiguous array."""
    column = rows.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def numeric_values(rows: pa.Table, name: str, read_spec: ReadSpec) -> NDArray[np.float64]:
    """Return a column of numbers, or of days since 1970-01-01, as float64 with NaN."""
    values: NDArray[np.float64] = read_block(rows.select([name]), {name: read_spec}).numbers[0]
    return values


def encode_categories(column: pa.Array, categories: Sequence[str], marks: Collection[str] = ()) -> NDArray[np.int32]:
    """Return each value's position in `categories`, len(categories) for others, MISSING_CODE for null and for marks."""
    codes, names = factorize_texts(to_text(column), UNLIMITED)
    position = {name: k for k, name in enumerate(categories)} | dict.fromkeys(marks, MISSING_CODE)
    return _positions(codes, names or [], position, len(categories))


def remap_codes(codes: NDArray[np.int32], names: list[str], categories: Sequence[str]) -> NDArray[np.int32]:
    """Map codes into `names` to codes into `categories`; len(categories) stands for names that are no category."""
    return _positions(codes, names, {name: k for k, name in enumerate(categories)}, len(categories))


def _positions(
    codes: NDArray[np.int32], names: list[str], position: Mapping[str, int], other: int
) -> NDArray[np.int32]:
    lookup = np.array([MISSING_CODE, *(position.get(name, other) for name in names)], np.int32)
    return lookup[codes + 1]


def finite_numbers(column: pa.Array | NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """Return a number or boolean column as float64, missing values as NaN; raise NonFiniteValueError for infinities."""
    values = column if isinstance(column, np.ndarray) else to_float64(column)
    refuse_infinite(int(np.isinf(values).sum()), name)
    return values


def finite_days(column: pa.Array, name: str) -> NDArray[np.float64]:
    """Return a date or time column as days since 1970-01-01, missing as NaN; raise an error if one is infinite."""
    days = days_since_epoch(column)
    first, end = day_limits(getattr(column.type, "unit", "D"))
    refuse_infinite_days(int(np.count_nonzero((days <= first) | (days >= end))), name)
    return days


def day_limits(unit: str) -> tuple[float, float]:
    """Return the days between which a finite date of a time unit lies, both excluded.

    DuckDB and PostgreSQL store an infinite date as the largest or smallest number of its type: for nanoseconds a moment
    in 2262 or 1677, for other units outside of the years 1 to 9999, as is whatever else can be no date of the calendar.
    """
    return (-LAST_NANOSECOND, LAST_NANOSECOND) if unit == "ns" else (FIRST_DAY - 1.0, END_DAY)


def refuse_infinite(n_infinite: int, name: str) -> None:
    """Raise NonFiniteValueError if a column holds infinite numbers."""
    if n_infinite:
        raise NonFiniteValueError(
            f"Column {name!r} holds {n_infinite} infinite values.",
            hint="replace them by missing values, or set the column's role to 'ignore'.",
        )


def refuse_infinite_days(n_infinite: int, name: str) -> None:
    """Raise NonFiniteValueError if a column holds infinite dates."""
    if n_infinite:
        raise NonFiniteValueError(
            f"Column {name!r} holds {n_infinite} dates that are infinite, or not of the years 1 to 9999.",
            hint="replace them by missing values, or set the column's role to 'ignore'.",
        )


def days_since_epoch(column: pa.Array) -> NDArray[np.float64]:
    """Return a date or time column as days since 1970-01-01, float64 of shape (n_rows,), missing as NaN."""
    if pa.types.is_null(column.type):
        return to_float64(column)
    if pa.types.is_date32(column.type):
        return to_float64(column.cast(pa.int32()))
    if getattr(column.type, "unit", None) == "s":  # as milliseconds they could overflow
        return to_float64(column.cast(pa.int64())) / _DAY_IN_SECONDS
    milliseconds = column.cast(pa.timestamp("ms", tz=getattr(column.type, "tz", None)), safe=False).cast(pa.int64())
    return to_float64(milliseconds) / _DAY_IN_MILLISECONDS


def may_hold_written_dates(kind: pa.DataType) -> bool:
    """Return whether dates of a column are texts or digits, which have to be parsed."""
    return is_text(kind) or physical_kind(kind) == "number"


def is_text(kind: pa.DataType) -> bool:
    """Tell whether a column of a block holds texts, plain or dictionary-encoded."""
    return bool(pa.types.is_string(kind) or (pa.types.is_dictionary(kind) and pa.types.is_string(kind.value_type)))


def undecided_text_columns(
    rows: pa.Table, roles: Collection[str], overrides: Mapping[str, str], skip: Collection[str]
) -> Iterator[tuple[str, pa.Array]]:
    """Yield name and values of each text column, not skipped, whose role is undecided or set to one of `roles`."""
    for name in rows.column_names:
        column = column_array(rows, name)
        if is_text(column.type) and name not in skip and (name not in overrides or overrides[name] in roles):
            yield name, column


def to_float64(column: pa.Array) -> NDArray[np.float64]:
    """Return a column of numbers or booleans as float64, missing values as NaN; durations and times in seconds."""
    if physical_kind(column.type) == "seconds":
        counts = column.cast(pa.int32() if pa.types.is_time32(column.type) else pa.int64())
        return to_float64(counts) / TICKS_PER_SECOND[column.type.unit]
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    if column.null_count:
        column = pc.fill_null(column.cast(pa.float64(), safe=False), np.nan)
    values: NDArray[np.float64] = column.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
    return values


def to_text(column: pa.Array) -> pa.Array:
    """Convert a column to text, so that numbers and booleans can be categories; 3.0 and 3 are one category."""
    if pa.types.is_string(column.type) or pa.types.is_dictionary(column.type):
        return column
    if not pa.types.is_floating(column.type):
        return column.cast(pa.string())
    if pa.types.is_float16(column.type):
        column = column.cast(pa.float32())  # pyarrow rounds and writes float32, which has the same values
    values = pc.if_else(pc.is_nan(column), None, column)
    rounded = pc.round(values)
    whole = pc.and_(pc.equal(values, rounded), pc.less(pc.abs(values), LIMIT)).fill_null(True)
    return pc.if_else(whole, rounded.cast(pa.int64(), safe=False).cast(pa.string()), values.cast(pa.string()))


def factorize_texts(texts: pa.Array, limit: int) -> tuple[NDArray[np.int32], list[str] | None]:
    """Return each text's code, MISSING_CODE for null, and the distinct texts, or None if they exceed `limit`."""
    encoded = texts.dictionary_encode()
    codes = encoded.indices if encoded.null_count == 0 else pc.fill_null(encoded.indices, MISSING_CODE)
    return codes.to_numpy(), None if len(encoded.dictionary) > limit else encoded.dictionary.to_pylist()


def read_labels(
    column: pa.Array, separator: str | None, limit: int = UNLIMITED, marks: Sequence[float | str] = ()
) -> RaggedLabels:
    """Read a multi-label column, lists or texts split at the separator, into ragged codes; a null has no labels.

    A text without a letter or sign is missing, as in a CSV file, and so is one of the marks; an empty list is not.
    """
    if marks and is_text(column.type):
        is_mark = pc.is_in(column.cast(pa.string()), pa.array(marks, pa.string()))
        found = pc.value_counts(column.filter(is_mark).cast(pa.string())).to_pylist()
        column = pc.if_else(is_mark, pa.scalar(None, column.type), column)
        read = read_labels(column, separator, limit)
        return read._replace(marks={entry["values"]: entry["counts"] for entry in found})
    if pa.types.is_null(column.type):
        return RaggedLabels(np.zeros(len(column) + 1, np.int32), np.empty(0, np.int32), [], np.ones(len(column), bool))
    missing = column.is_null().to_numpy(zero_copy_only=False)
    lists = column if separator is None else split_texts(column, separator)
    offsets = np.zeros(len(lists) + 1, np.int32)
    np.cumsum(pc.fill_null(pc.list_value_length(lists), 0).to_numpy(), out=offsets[1:])
    codes, names = factorize_texts(to_text(lists.flatten()), limit)
    if names is not None and separator is not None and any("\\" in name for name in names):
        codes, names = _merge_names(codes, [unescape(name, separator) for name in names])
    if separator is not None and (names is None or "" in names):
        missing = missing | blank_texts(column)
    if names is not None and "" in names:
        codes = np.where(codes == names.index(""), MISSING_CODE, codes).astype(np.int32)
    return RaggedLabels(offsets, codes, names, missing)


def blank_texts(column: pa.Array) -> NDArray[np.bool_]:
    """Return which texts of a column, plain or dictionary-encoded, are empty or blank."""
    if pa.types.is_dictionary(column.type):
        codes = pc.fill_null(column.indices, MISSING_CODE).to_numpy(zero_copy_only=False)
        blank: NDArray[np.bool_] = np.append(blank_texts(column.dictionary), False)[codes]
        return blank
    is_blank = pc.equal(pc.utf8_trim_whitespace(column), "").fill_null(False)
    blank = is_blank.to_numpy(zero_copy_only=False)
    return blank


def _merge_names(codes: NDArray[np.int32], names: list[str]) -> tuple[NDArray[np.int32], list[str]]:
    """Return codes into names that do not repeat."""
    distinct = list(dict.fromkeys(names))
    return remap_codes(codes, names, distinct), distinct
