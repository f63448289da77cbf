"""Find the columns of texts, and of numbers such as 20240904, that hold dates, and check what was none among them.

    first block  ->  the DateFormat of each such column
    statistics   ->  an error if later values do not fit, a warning if a few do not, or if the order was assumed

How dates are written is in engine/tables/date_texts.py. Of the numbers from 19000101 to 20991231, less than 4 % are
days, and of those from 190001 to 209912, 12 % are months: if MIN_DAYS different ones are, and hardly any is not, they
are dates. Fewer are enough where the name says so.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine.blocks import Block
from engine.config import Role
from engine.errors import RetypedColumnError
from engine.features.column_statistics import ColumnStatistics, TableStatistics
from engine.features.columnar_block import column_array, physical_kind, to_text, undecided_text_columns
from engine.features.key_columns import is_key
from engine.features.moment_marks import find_moment_unit
from engine.features.number_columns import MAX_UNREAD_SHARE
from engine.tables.date_texts import DAY_FIRST, MONTH_FIRST, DateFormat, Form, find_date_format, find_words, parse_dates
from engine.tables.number_texts import is_missing_mark

logger = logging.getLogger(__name__)
MIN_DAYS, MIN_NAMED_DAYS = 10, 2  # different dates in digits, and in a column that is named as a date
MAX_OTHER_SHARE = 0.1  # of different numbers that look like days and stay numbers: a warning says so
TIME_FACTORS = (1.0, 1e4, 1e6)  # of 20240904, 202409041015 and 20240904101500
FIRST_NUMBER, LAST_NUMBER = 190_001.0, 99_999_999.0  # that dates, or a mark of a missing one, are written as
_FIRST_ROWS = 1000  # rows whose values rule out most columns
_NAMED_AS_DATE = re.compile(
    r"date|birth|yyyymm|datum|fecha|(?<![a-z])(day|dt|dob|ymd|month|since|period|(?-i:[a-z]+(Day|Month|Dt)))(?![a-z])",
    re.IGNORECASE,
)


class DateTextsWarning(UserWarning):
    """Warns of dates whose order was assumed, of numbers read as dates, and of texts among dates that are none."""


def find_date_columns(first: Block | None, overrides: Mapping[str, Role], skip: set[str]) -> dict[str, DateFormat]:
    """Return the format of every column of texts or numbers that holds dates.

    Parameters
    ----------
    first : Block or None
        The first rows of the columns whose role is open; None if the table has none.
    overrides, skip : as in column_roles.infer_roles

    Raises
    ------
    RetypedColumnError
        If a column is to be read as dates, but its texts or numbers are none.
    """
    found: dict[str, DateFormat] = {}
    if first is None:
        return found
    texts: dict[str, pa.Array] = {}
    columns = [*undecided_text_columns(first.rows, ("date",), overrides, skip)]
    for name, column in [*columns, *_number_columns(first.rows, overrides, skip)]:
        if name in overrides or _may_hold_dates(column):
            texts[name] = _distinct(column)
            form = find_date_format(texts[name])
            if form is not None and (name in overrides or not form.in_digits or _are_days(name, texts[name], form)):
                words = () if name in overrides else find_words(texts[name], form)
                found[name] = form.model_copy(update={"missing": words})
            elif name in overrides:
                raise RetypedColumnError(
                    f"Column {name!r} was set to date, but its values are no dates that are written alike.",
                    hint="see docs/features.md for what is read as a date, or set another role.",
                )
    known = {form for date in found.values() if not date.assumed for form in date.forms} & {DAY_FIRST, MONTH_FIRST}
    if len(known) == 1:
        (hint,) = known
        found = {name: _with_order(texts[name], form, hint) if form.assumed else form for name, form in found.items()}
    return found


def _may_hold_dates(column: pa.Array) -> bool:
    """Tell whether the first texts or numbers are dates, or none of them but marks of missing ones."""
    first = _distinct(column.slice(0, _FIRST_ROWS)).drop_null()
    return find_date_format(first) is not None or all(is_missing_mark(text.strip()) for text in first.to_pylist())


def _with_order(texts: pa.Array, form: DateFormat, hint: Form) -> DateFormat:
    """Return a format with the order of day and month in other columns, if the texts have it."""
    ordered = find_date_format(texts, hint)
    return form if ordered is None else ordered.model_copy(update={"missing": form.missing})


def _distinct(column: pa.Array) -> pa.Array:
    values = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    return to_text(values).cast(pa.string()).unique()


def _number_columns(rows: pa.Table, overrides: Mapping[str, Role], skip: set[str]) -> Iterator[tuple[str, pa.Array]]:
    """Yield name and values of each column of numbers that may be dates: those of float32 are too coarse."""
    for name in rows.column_names:
        column = column_array(rows, name)
        if name in skip or physical_kind(column.type) != "number" or overrides.get(name, "date") != "date":
            continue
        if name in overrides or (column.type not in (pa.float32(), pa.float16()) and _may_be_days(column)):
            yield name, column


def _may_be_days(column: pa.Array) -> bool:
    limits = pc.min_max(column.slice(0, _FIRST_ROWS)).as_py()
    if limits["max"] is None:  # the first rows have no number
        limits = pc.min_max(column).as_py()
    return limits["max"] is not None and FIRST_NUMBER <= limits["max"] <= LAST_NUMBER and limits["min"] >= -1


def _are_days(name: str, texts: pa.Array, form: DateFormat) -> bool:
    """Tell whether different texts of digits, which look like dates, are dates: nearly all of them, and enough."""
    parsed = parse_dates(texts, form)
    n_days, is_named = len(np.unique(parsed.values[~np.isnan(parsed.values)])), _NAMED_AS_DATE.search(name) is not None
    return (
        parsed.n_unread <= MAX_UNREAD_SHARE * len(texts)
        and (is_named or not is_key(name))
        and n_days >= (MIN_NAMED_DAYS if is_named else MIN_DAYS)
    )


def check_date_columns(statistics: TableStatistics, overrides: Mapping[str, Role], *, is_known: bool = False) -> None:
    """Raise RetypedColumnError if too many texts of a column of dates are none; say which columns were read so.

    With `is_known`, an earlier fit says which columns are dates; they may have been of another type there.
    """
    notes, assumed = [], []
    for name, column in statistics.columns.items():
        form = column.read_spec.date_format or (DateFormat() if column.read_spec.form == "days" else None)
        if form is None or (column.read_spec.date_format is None and not column.n_unread):
            continue
        n_texts = column.n_present + sum(column.marks.values()) + column.n_unread
        counts = f"{column.n_unread:,} of its {n_texts:,} texts are no dates written alike, nor marks of missing ones"
        if (name in overrides and column.n_unread) or column.n_unread > MAX_UNREAD_SHARE * n_texts:
            where = "was set to date" if name in overrides else "holds dates in its first rows"
            remedy = f"set another role, such as --role {name}=ignore"
            if is_known:
                where = "held dates in the table of the earlier fit"
                remedy = "take the columns as they are now by --refit-features"
            raise RetypedColumnError(
                f"Column {name!r} {where}, but {counts}.", hint=f"write all of them as year-month-day, or {remedy}."
            )
        notes.append(f"{name!r} ({describe_date_texts(column)})")
        if form.assumed or form.missing or column.n_unread or (form.in_digits and name not in overrides):
            assumed.append(notes[-1])
    if notes:
        logger.info("Dates in texts or numbers: %s.", "; ".join(notes))
    if assumed:
        remedy = "--role COLUMN=date or another role says what a column is, and year-month-day how dates are meant"
        message = f"Texts or numbers are read as dates: {'; '.join(assumed)}; {remedy}."
        warnings.warn(message, DateTextsWarning, stacklevel=3)


def warn_of_day_numbers(statistics: TableStatistics, overrides: Mapping[str, Role]) -> None:
    """Warn of numbers such as 20240904 that were not read as dates, such as few days without a name, and of times."""
    named = [
        repr(name)
        for name, column in statistics.columns.items()
        if name not in overrides
        and column.read_spec.form == "number"
        and any(_are_day_numbers(column.sorted_sample, factor) for factor in TIME_FACTORS)
    ]
    if named:
        what = f"Numbers that look like days, written as year, month and day, stay numbers: {', '.join(named)}"
        remedy = "--role COLUMN=date reads 20240904 as a date, times have to be written as 2024-09-04 10:15"
        warnings.warn(
            f"{what}; {remedy}. --role COLUMN=numeric keeps them without a warning.", DateTextsWarning, stacklevel=3
        )


def warn_of_moment_numbers(statistics: TableStatistics, overrides: Mapping[str, Role]) -> None:
    """Warn of numbers that count seconds since 1970, or days as spreadsheets do, by the names of their columns."""
    units = {
        name: find_moment_unit(name, column.sorted_sample)
        for name, column in statistics.columns.items()
        if name not in overrides and column.read_spec.form == "number" and column.n_present
    }
    named = [f"{name!r} ({unit})" for name, unit in units.items() if unit is not None]
    if named:
        what = f"Numbers that look like moments stay numbers: {', '.join(named)}"
        remedy = "store them as dates or times, and reports will say when, not how many"
        warnings.warn(
            f"{what}; {remedy}. --role COLUMN=numeric keeps them without a warning.", DateTextsWarning, stacklevel=3
        )


def _are_day_numbers(ascending: NDArray[np.float64], factor: float = 1.0) -> bool:
    """Tell whether nearly all of different numbers are like 20240904, times a factor, and of several days."""
    if len(ascending) < MIN_DAYS or ascending[0] // factor < FIRST_NUMBER or ascending[-1] // factor > LAST_NUMBER:
        return False
    parsed = parse_dates(to_text(pa.array(np.unique(ascending // factor))), DateFormat(forms=("yearmonthday",)))
    return len(parsed.values) > 1 and bool(np.isnan(parsed.values).mean() <= MAX_OTHER_SHARE)


def describe_date_texts(column: ColumnStatistics) -> str:
    """Return how the dates of a column are written, and what stands for missing ones; no values."""
    form = column.read_spec.date_format or DateFormat()
    parts = [form.describe() or "written as texts"]
    n_words = sum(column.marks[word] for word in form.missing)
    if n_marks := sum(column.marks.values()) - n_words:
        parts.append(f"{n_marks:,} marks of missing values")
    if n_words:
        parts.append(f"{n_words:,} missing values written as words")
    if column.n_unread:
        parts.append(f"{column.n_unread:,} other texts taken as missing")
    return "; ".join(parts)
