"""Find the numbers and dates that stand for missing values, such as -999, 9999-12-31, or 99 of an age.

    first block, settings  ->  marks of missing values by column, as numbers, days or texts
    statistics             ->  which marks were found in how many rows, in words

A mark looks like one (-1, 99, 998, -9999, 9999-12-31), is the smallest or largest value, repeats, and stands apart from
the other values: plainly, or it stays a value. Settings win: they name the marks of a column, or none.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.blocks import BLOCK_ROWS, Block, require_columns
from engine.errors import UsageError
from engine.features.column_statistics import ColumnStatistics, TableStatistics
from engine.features.columnar_block import ReadSpec, is_text, read_block, to_text
from engine.features.moment_marks import find_moment_marks
from engine.features.scale_ends import fill_range, is_unexpected, typical_step
from engine.tables.csv_dialect import MISSING
from engine.tables.vector_columns import vector_name
from engine.utils.formatting import format_iso_day

MIN_REPEATS = 3  # rows with a value that may be a mark
MAX_MARKS = 4  # marks at each end of a column
MAX_CODES = 9  # negative digits below it
MIN_HOLE = 3  # between two negative digits of which one is -7 or less: others do not go on so
MIN_OTHERS = 3  # distinct other values that a mark stands apart from
MIN_OTHERS_OF_A_DIGIT = 10  # the same for -1 to -9, which small scales have too
FAR = 3.0  # ranges of the other values between them and a positive mark
MIN_HEAP = 3.0  # times as many rows as with the last values before it has a mark among fractions
MIN_HEAP_ROWS, MIN_FAR_HEAP_ROWS = 5, 10  # rows with a mark after a scale, and far from amounts
MIN_HEAP_SHARE = 0.01  # of the rows, with numbers far from all others that only repeat
YES_AND_NO = ((0.0, 1.0), (1.0, 2.0))  # codes beside which two digits of a mark, and -7 to -9, plainly mark something
MIN_GAP_STEPS, MIN_GAP = 5.0, 0.15  # steps, and ranges, of the other values between them and a mark after a scale
MIN_DOUBTED_STEPS = 2.0  # steps from which on a number that looks like a mark is warned of
MAX_ABOUT_ZERO = 4.0  # times the size of the smallest number has the largest of a scale that goes to both sides of 0
FREQUENT = 0.5  # of the median frequency: a scale that begins so at 0 does not taper off there
MIN_STEPS = 5  # steps between the smallest values, from which on a negative number below them is not the next one
FAR_NEGATIVE = 1.0  # the same for a negative mark of several nines
ZERO_GAP = 0.25  # of the median of the other values between them and a 0 that may be missing
ROUND_AMOUNT = 100.0  # a column whose values are all multiples of it holds amounts, of which 0 is one
LAST_YEARS, FIRST_YEAR = "2900-01-01", "0001-12-31"  # dates from and up to here mark missing ones, once is enough
_DIGITS = re.compile(r"9{2,}|8{2,}|7{2,}|6{2,}|9*[96-8]9*|9+[678]")
_INTEGER = re.compile("[+-]?[0-9]+")
_LIMITS = {
    float(2**bits - 1) for bits in (15, 16, 31, 32, 63, 64)
} | {-float(2**bits) for bits in (15, 31, 63)} | {-32767.0, 1.7976931348623157e308, 9.969209968386869e36}  # fmt: skip
_DAYS = {
    float(date.fromisoformat(day).toordinal() - date(1970, 1, 1).toordinal())
    for day in ("1000-01-01", "1601-01-01", "1753-01-01", "1800-01-01", "1899-12-30", "1899-12-31", "1900-01-01",
                "1901-01-01", "1904-01-01", "1970-01-01", "1980-01-01", "2049-12-31", "2050-01-01", "2099-12-31",
                "2100-01-01", "2199-12-31", "2200-01-01", "2222-02-22", "2262-04-11", "2500-01-01", "2525-01-01",
                "2999-12-31")
}  # fmt: skip


class MissingMarksWarning(UserWarning):
    """Warns of numbers and dates that are taken as missing values, and of those that only look like it."""


def _day(text: str) -> float:
    return float(date.fromisoformat(text).toordinal() - date(1970, 1, 1).toordinal())


def set_missing_marks(
    schema: pa.Schema, first: Block | None, read_specs: Mapping[str, ReadSpec], settings: Mapping[str, Sequence[str]]
) -> dict[str, ReadSpec]:
    """Return how to read the columns, with the marks of missing values that are set, or found in the first rows.

    Parameters
    ----------
    schema : pyarrow.Schema
    first : Block or None
        The first rows of the columns whose values decide how they are read; None if the table has none.
    read_specs : mapping of column name to ReadSpec
    settings : mapping of column name to sequence of str
        The marks of a column; an empty sequence: it has none.

    Raises
    ------
    MissingColumnError, UsageError
        If marks are set for a column that the table does not have, or that are none of its kind.

    Warns
    -----
    MissingMarksWarning
        If marks are set for the id, or another column that is not read.
    """
    require_columns(schema, settings, "The table")
    unread = [repr(name) for name, texts in settings.items() if texts and name not in read_specs]
    if unread:
        message = f"Marks of missing values are set for {', '.join(unread)}, which is not read as a feature"
        warnings.warn(f"{message}: they change nothing.", MissingMarksWarning, stacklevel=3)
    marks: dict[str, tuple[float | str, ...]] = {
        name: _parse_marks(name, texts, schema.field(name).type, read_specs[name])
        for name, texts in settings.items()
        if name in read_specs
    }
    for name, read_spec in read_specs.items():
        if _is_written(schema.field(name).type, read_spec) and settings.get(name, True):
            marks[name] = tuple(sorted({*marks.get(name, ()), *MISSING}))
    numeric = {
        name: read_spec
        for name, read_spec in read_specs.items()
        if read_spec.form in ("number", "days") and name not in marks and vector_name(schema.field(name)) is None
    }
    if first is not None:
        seen = {name: read_spec for name, read_spec in numeric.items() if first.has_column(name)}
        block = read_block(first.rows, seen)
        for name, values in zip(block.number_columns, block.numbers, strict=True):
            is_date = seen[name].form == "days"
            named = () if is_date else find_moment_marks(name, values)
            marks[name] = named or find_marks(values, is_date=is_date)
    return {name: read_spec.with_missing(marks.get(name, ())) for name, read_spec in read_specs.items()}


def _is_written(kind: pa.DataType, read_spec: ReadSpec) -> bool:
    """Tell whether a column has categories, or several labels a row, as texts."""
    return is_text(kind) and (read_spec.form == "category" or read_spec.separator is not None)


def _parse_marks(name: str, texts: Sequence[str], kind: pa.DataType, read_spec: ReadSpec) -> tuple[float | str, ...]:
    """Return marks that were set as texts, in the form in which the column's values are compared with them."""
    if read_spec.form == "labels":
        raise UsageError(f"Column {name!r} holds several labels a row: no marks of missing values can be set for it.")
    try:
        if read_spec.form == "days":
            return tuple(sorted({_day(text.strip()) for text in texts}))
        if read_spec.form == "category" and pa.types.is_integer(kind):
            return tuple(sorted({str(int(text)) if _INTEGER.fullmatch(text) else _whole(text) for text in texts}))
        if read_spec.form == "number" or pa.types.is_floating(kind):
            numbers = np.array(sorted({float(text) for text in texts}))
            if pa.types.is_float32(kind) or pa.types.is_float16(kind):
                numbers = numbers.astype(kind.to_pandas_dtype())  # values of the column have been rounded so
            if read_spec.form == "category":
                return tuple(to_text(pa.array(numbers)).to_pylist())
            return tuple(numbers.astype(np.float64).tolist())
    except ValueError as error:
        what = "dates, as 9999-12-31" if read_spec.form == "days" else "numbers"
        raise UsageError(f"The marks of missing values of column {name!r} must be {what}.") from error
    return tuple(sorted(set(texts)))


def _whole(text: str) -> str:
    return f"{float(text):.0f}"


def find_marks(values: NDArray[np.float64], *, is_date: bool = False) -> tuple[float, ...]:
    """Return the values of a column of numbers, or of days, that plainly mark missing values, ascending.

    Parameters
    ----------
    values : float64 array of shape (n_rows,)
        With NaN for missing values.
    is_date : bool, default=False
        Whether they are days since 1970-01-01.
    """
    return _find_apart(values, _day_stands_apart if is_date else _number_stands_apart, is_date=is_date)


def find_doubtful_marks(values: NDArray[np.float64]) -> tuple[float, ...]:
    """Return the numbers that look like marks and stand apart from the others, though not plainly, ascending.

    Parameters
    ----------
    values : float64 array of shape (n_rows,)
        Without the marks that were found, with NaN for missing values.
    """
    return _find_apart(values, _may_stand_apart, is_date=False) or _find_far_heaps(values)


def _find_far_heaps(values: NDArray[np.float64]) -> tuple[float, ...]:
    """Return up to MAX_MARKS numbers that repeat at one end, far from all others, whatever their digits; never 0."""
    present = values[np.isfinite(values)]
    ends = [np.count_nonzero(present == end) for end in (present.min(), present.max())] if len(present) else [0]
    if max(ends) < MIN_FAR_HEAP_ROWS:  # of most columns: they need not be sorted
        return ()
    distinct, counts = np.unique(present, return_counts=True)
    for side in (1, -1):
        numbers, rows = distinct[::side], counts[::side]
        for n_marks in range(1, min(MAX_MARKS, len(numbers) - MIN_OTHERS_OF_A_DIGIT) + 1):
            marks, others = numbers[-n_marks:], numbers[:-n_marks]
            often = rows[-n_marks:].min() >= MIN_FAR_HEAP_ROWS and rows[-n_marks:].sum() >= MIN_HEAP_SHARE * rows.sum()
            if often and 0.0 not in marks and abs(marks[0] - others[-1]) >= FAR * abs(others[-1] - others[0]):
                return tuple(np.sort(marks).tolist())
    return ()


def _find_apart(
    values: NDArray[np.float64], stands_apart: Callable[[int, _Others], bool], *, is_date: bool
) -> tuple[float, ...]:
    looks_so = _is_marked_day if is_date else _is_marked_number
    present = values[~np.isnan(values)]
    if len(present) < MIN_REPEATS:
        return ()
    present = np.floor(present) if is_date else present
    if not looks_so(float(present.min())) and not looks_so(float(present.max())):
        return ()
    distinct, counts = np.unique(present, return_counts=True)
    low, high = 0 if is_date else _count_negative_codes(distinct, counts), len(distinct)
    n_codes = low
    while low < min(max(MAX_MARKS, n_codes), high) and _may_be_mark(distinct[low], counts[low], is_date):
        low += 1
    while high > max(low, len(distinct) - MAX_MARKS) and _may_be_mark(distinct[high - 1], counts[high - 1], is_date):
        high -= 1
    while low > n_codes and not stands_apart(low - 1, _Others(distinct, counts, low, high)):
        low -= 1  # the nearest to the others is one of them
    while high < len(distinct) and not stands_apart(high, _Others(distinct, counts, low, high)):
        high += 1
    return (*distinct[:low].tolist(), *distinct[high:].tolist())


def _count_negative_codes(distinct: NDArray[np.float64], counts: NDArray[np.int64]) -> int:
    """Return how many of the smallest values are codes of surveys, such as -9, -8, -7, -2 and -1 below 1 to 5; often 0.

    A scale that goes below 0 has no hole there, or its values get rarer towards its end, as differences of goals do.
    """
    n_codes = int(np.count_nonzero(distinct < 0.0))
    codes, others, rows = distinct[:n_codes], distinct[n_codes:], counts[:n_codes]
    if not 2 <= n_codes <= MAX_CODES or len(others) < 2 or others[-1] <= 0.0 or rows.min() < MIN_REPEATS:
        return 0
    are_digits = codes[0] >= -9.0 and bool((codes == np.rint(codes)).all())
    has_hole = codes[0] <= -7.0 and float(np.diff(codes).max()) >= MIN_HOLE
    goes_on = others[0] - codes[-1] <= 1.0 and bool((np.diff(rows) > 0).all())
    return n_codes if are_digits and has_hole and not goes_on else 0


class _Others(NamedTuple):
    """The distinct values of a column and their counts; those from `low` up to `high` are no marks."""

    distinct: NDArray[np.float64]
    counts: NDArray[np.int64]
    low: int
    high: int

    @property
    def values(self) -> NDArray[np.float64]:
        return self.distinct[self.low : self.high]

    @property
    def frequencies(self) -> NDArray[np.int64]:
        return self.counts[self.low : self.high]

    def count_from(self, position: int) -> int:
        """Return the rows with this distinct value or a larger one."""
        return int(self.counts[position:].sum())


def _may_be_mark(value: float, count: int, is_date: bool) -> bool:
    if is_date:
        return _is_marked_day(value) and (count >= MIN_REPEATS or _is_beyond_calendars(value))
    return _is_marked_number(value) and count >= MIN_REPEATS


def _is_marked_number(value: float) -> bool:
    if value in _LIMITS or abs(value) >= 1e20 or (-9.0 <= value < 0.0 and value == np.rint(value)):
        return True
    digits = f"{abs(value):.15g}"
    whole, _, decimals = digits.partition(".")
    return len(whole) + len(decimals) > 1 and _DIGITS.fullmatch(whole + decimals) is not None


def _is_marked_day(day: float) -> bool:
    return day in _DAYS or _is_beyond_calendars(day)


def looks_like_mark(value: float, *, is_date: bool) -> bool:
    """Tell whether a number, or a day since 1970-01-01, is one of those that mark missing values in many tables."""
    return _is_marked_day(np.floor(value)) if is_date else _is_marked_number(value)


def format_mark(mark: float, *, is_date: bool) -> str:
    """Return a mark as people write it."""
    return format_iso_day(mark) if is_date else f"{mark:.15g}"


def _is_beyond_calendars(day: float) -> bool:
    return day >= _day(LAST_YEARS) or day <= _day(FIRST_YEAR)


def _day_stands_apart(position: int, others: _Others) -> bool:
    day, days, counts = float(others.distinct[position]), others.values, others.frequencies
    if _is_beyond_calendars(day):
        return True
    if len(days) < MIN_OTHERS:
        return False
    gap, span = max(days[0] - day, day - days[-1]), days[-1] - days[0]
    n_rows, count = int(counts.sum()), int(others.counts[position])
    often = count >= 0.01 * n_rows and count >= 5 * np.median(counts)
    return bool(gap >= span or (gap >= 0.1 * span and often))


def _number_stands_apart(position: int, others: _Others) -> bool:
    value, count = float(others.distinct[position]), int(others.counts[position])
    values, counts = others.values, others.frequencies
    if len(values) < MIN_OTHERS:
        return tuple(values.tolist()) in YES_AND_NO and (value >= 10.0 or value <= -7.0)
    smallest, largest = float(values[0]), float(values[-1])
    gap, span = max(value - largest, smallest - value), largest - smallest
    if value < 0:
        if smallest < 0:  # one of several negative numbers
            return value < -9.0 and gap >= FAR_NEGATIVE * span
        if value < -9.0:
            return True
        if len(values) < MIN_OTHERS_OF_A_DIGIT:
            return value < -1.0 and gap >= span
        return not _goes_on(value, count, values, counts)
    edge = counts[-max(len(counts) // 20, 3) :]
    heaped = count >= MIN_HEAP * float(np.median(edge))
    unexpected = smallest < 0 or is_unexpected(others.count_from(position), values, counts, value)
    # A scale most of whose steps occur: nobody is between it and a number far away that repeats.
    fills = unexpected and fill_range(values) and (heaped or gap >= span or bool((values == np.rint(values)).all()))
    if gap >= FAR * span:
        if smallest < 0 or ((fills or (heaped and unexpected)) and count >= MIN_FAR_HEAP_ROWS):
            return True
        return bool(np.log1p(value) - np.log1p(largest) >= 0.5 * np.log1p(largest / (1 + smallest)))
    several = len(others.distinct) - others.high > 1 and gap >= span
    far = gap >= max(MIN_GAP_STEPS * typical_step(values), MIN_GAP * span)
    return fills and far and (several or count >= MIN_HEAP_ROWS)


def _goes_on(value: float, count: int, values: NDArray[np.float64], counts: NDArray[np.int64]) -> bool:
    """Tell whether a lone negative number may be the next one of a scale that others come down: -1 below 0, 1, 2 …"""
    near = counts[:5].astype(np.float64)
    if near[0] >= near[1]:  # the others end where they are frequent: at 0, as counts and amounts do
        return False
    if values[0] == 0.0 and near[0] >= FREQUENT * float(np.median(counts)):
        return False
    if values[0] - value >= MIN_STEPS * float(np.median(np.diff(values[:6]))):
        return False
    is_next = values[0] - value == 1.0 and values[1] - values[0] == 1.0
    expected = near[0] ** 2 / near[1] if is_next else float(np.median(near))
    return bool(count < 2.0 * expected + 3.0 * np.sqrt(expected))


def _may_stand_apart(position: int, others: _Others) -> bool:
    """Tell whether a number that looks like a mark is apart from the others, by less than a mark plainly is."""
    value, values, counts = float(others.distinct[position]), others.values, others.frequencies
    if len(values) < MIN_OTHERS:
        return False
    smallest, largest = float(values[0]), float(values[-1])
    gap, span = max(value - largest, smallest - value), largest - smallest
    if value < 0.0:
        about_zero = largest <= MAX_ABOUT_ZERO * abs(float(others.distinct[0]))
        if about_zero or smallest < 0.0:  # of a scale that goes to both sides
            return gap >= span
        begins_at_zero = smallest == 0.0 and counts[0] >= FREQUENT * float(np.median(counts))
        return begins_at_zero or gap >= MIN_DOUBTED_STEPS * typical_step(values)
    if smallest >= 0 and not is_unexpected(others.count_from(position), values, counts, value, times=1.0):
        return False
    return gap >= max(MIN_DOUBTED_STEPS * typical_step(values), MIN_GAP * span)


def zeros_stand_apart(ascending: NDArray[np.float64]) -> bool:
    """Tell whether 0 repeats and stands apart from other positive numbers, which do not begin near it.

    So does the 0 of a height that nobody measured. Zeros of amounts, of which others are small, do not, and neither
    do those of amounts that are all rounded to hundreds, as a credit of 0, 5000, 5500, …
    """
    n_zeros = int(np.searchsorted(ascending, 0.0, side="right"))
    if not MIN_REPEATS <= n_zeros <= 0.5 * len(ascending) or ascending[0] < 0.0:
        return False
    distinct = np.unique(ascending[n_zeros:])
    if len(distinct) < MIN_OTHERS_OF_A_DIGIT or not (distinct % ROUND_AMOUNT).any():
        return False
    smallest, step = float(distinct[0]), float(np.median(np.diff(distinct)))
    return bool(smallest >= ZERO_GAP * float(np.median(ascending[n_zeros:])) and smallest >= MIN_STEPS * step)


def report_missing_marks(statistics: TableStatistics, settings: Mapping[str, Sequence[str]]) -> None:
    """Warn of marks that were found in the first rows, and of values that look like marks only after them."""
    found = [
        f"{name!r} ({describe_missing_marks(column)})"
        for name, column in statistics.columns.items()
        if column.read_spec.form in ("number", "days") and column.read_spec.missing and name not in settings
    ]
    late = [
        repr(name)
        for name, column in statistics.columns.items()
        if statistics.n_rows > BLOCK_ROWS
        and column.read_spec.form in ("number", "days")
        and name not in settings
        and column.n_present
        and find_marks(column.sample, is_date=column.read_spec.form == "days")
    ]
    doubtful = [
        f"{name!r} ({', '.join(format_mark(mark, is_date=False) for mark in marks)})"
        for name, column in statistics.columns.items()
        if column.read_spec.form == "number" and name not in settings and repr(name) not in late
        for marks in [find_doubtful_marks(column.sorted_sample)]
        if marks
    ]
    zeros = [
        repr(name)
        for name, column in statistics.columns.items()
        if column.read_spec.form == "number" and name not in settings and zeros_stand_apart(column.sorted_sample)
    ]
    absent = [
        repr(name)
        for name, column in statistics.columns.items()
        if settings.get(name) and column.read_spec.form in ("number", "days", "category") and not column.n_marked
    ]
    if absent:
        message = f"Marks of missing values that are set occur in no row: {', '.join(absent)}"
        warnings.warn(f"{message}. Texts are compared letter by letter.", MissingMarksWarning, stacklevel=3)
    remedy = "--missing COLUMN=VALUE,VALUE names the marks of a column, --missing COLUMN= says that it has none"
    if found:
        message = f"Values that stand apart are taken as missing: {'; '.join(found)}; {remedy}."
        warnings.warn(message, MissingMarksWarning, stacklevel=3)
    if late:
        message = f"Values that look like marks of missing ones come up only after the first rows: {', '.join(late)}"
        warnings.warn(f"{message}. They stay values; {remedy}.", MissingMarksWarning, stacklevel=3)
    if doubtful:
        message = f"Values that look like marks of missing ones stand apart, but not plainly: {'; '.join(doubtful)}"
        warnings.warn(f"{message}. They stay values; {remedy}.", MissingMarksWarning, stacklevel=3)
    if zeros:
        message = f"Zeros stand apart from all other values of {', '.join(zeros)}: they may be missing ones"
        warnings.warn(f"{message}. They stay values; {remedy}.", MissingMarksWarning, stacklevel=3)


def describe_missing_marks(column: ColumnStatistics) -> str:
    """Return how many missing values of a column are written as which marks; of texts, those that it has."""
    is_date = column.read_spec.form == "days"
    if column.read_spec.form in ("category", "labels"):
        texts = [mark if mark.strip() else f'"{mark}"' for mark in sorted(column.marks)]
        return f"{column.n_marked:,} missing values written as {', '.join(texts)}"
    numbers = [mark for mark in column.read_spec.missing if not isinstance(mark, str)]
    shown = [format_mark(mark, is_date=is_date) for mark in numbers]
    return f"{column.n_marked:,} missing values written as {', '.join(shown)}"
