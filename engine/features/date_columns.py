"""Find the text columns that hold dates, and check what was no date among their texts.

    first block  ->  the DateFormat of each text column that holds dates
    statistics   ->  an error if later texts do not fit, a warning if a few do not, or if the order was assumed

How dates are written is in engine/tables/date_texts.py.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.blocks import Block
from engine.config import Role
from engine.errors import RetypedColumnError
from engine.features.column_statistics import ColumnStatistics, TableStatistics
from engine.features.columnar_block import undecided_text_columns
from engine.features.number_columns import MAX_UNREAD_SHARE
from engine.tables.date_texts import DAY_FIRST, MONTH_FIRST, DateFormat, find_date_format

logger = logging.getLogger(__name__)
FIRST_DAY_NUMBER, LAST_DAY_NUMBER = 19_000_101, 21_001_231
MIN_DAY_NUMBERS = 10  # fewer may be amounts
_FIRST_ROWS = 1000  # rows whose texts rule out most columns


class DateTextsWarning(UserWarning):
    """Warns of dates whose order was assumed, and of texts among dates that are none."""


def find_date_columns(first: Block | None, overrides: Mapping[str, Role], skip: set[str]) -> dict[str, DateFormat]:
    """Return the format of every text column that holds dates.

    Parameters
    ----------
    first : Block or None
        The first rows of the columns whose role is open; None if the table has none.
    overrides, skip : as in column_roles.infer_roles

    Raises
    ------
    RetypedColumnError
        If a column is to be read as dates, but its texts are none.
    """
    found: dict[str, DateFormat] = {}
    if first is None:
        return found
    texts: dict[str, pa.Array] = {}
    for name, column in undecided_text_columns(first.rows, ("date",), overrides, skip):
        if name in overrides or find_date_format(_distinct(column.slice(0, _FIRST_ROWS))) is not None:
            texts[name] = _distinct(column)
            form = find_date_format(texts[name])
            if form is not None:
                found[name] = form
            elif name in overrides:
                raise RetypedColumnError(
                    f"Column {name!r} was set to date, but its texts are no dates that are written alike.",
                    hint="see docs/features.md for what is read as a date, or set the role to categorical.",
                )
    known = {form for date in found.values() if not date.assumed for form in date.forms} & {DAY_FIRST, MONTH_FIRST}
    if len(known) == 1:
        (hint,) = known
        found = {
            name: (find_date_format(texts[name], hint) or form) if form.assumed else form
            for name, form in found.items()
        }
    return found


def _distinct(column: pa.Array) -> pa.Array:
    values = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    return values.unique().cast(pa.string())


def check_date_columns(statistics: TableStatistics, overrides: Mapping[str, Role]) -> None:
    """Raise RetypedColumnError if too many texts of a column of dates are none; say which columns were read so."""
    notes, assumed = [], []
    for name, column in statistics.columns.items():
        form = column.read_spec.date_format
        if form is None:
            continue
        n_texts = column.n_present + sum(column.marks.values()) + column.n_unread
        counts = f"{column.n_unread:,} of its {n_texts:,} texts are no dates written alike, nor marks of missing ones"
        if (name in overrides and column.n_unread) or column.n_unread > MAX_UNREAD_SHARE * n_texts:
            where = "was set to date" if name in overrides else "holds dates in its first rows"
            raise RetypedColumnError(
                f"Column {name!r} {where}, but {counts}.",
                hint=f"write all of them as year-month-day, or set --role {name}=categorical or {name}=ignore.",
            )
        notes.append(f"{name!r} ({describe_date_texts(column)})")
        if form.assumed or column.n_unread:
            assumed.append(notes[-1])
    if notes:
        logger.info("Texts are read as dates: %s.", "; ".join(notes))
    if assumed:
        remedy = "write dates as year-month-day where that is wrong"
        warnings.warn(f"Texts are read as dates: {'; '.join(assumed)}; {remedy}.", DateTextsWarning, stacklevel=3)


def warn_of_day_numbers(statistics: TableStatistics, overrides: Mapping[str, Role]) -> None:
    """Warn of columns of numbers such as 20240904: the last day of a month and the next one are 70 or more apart."""
    named = [
        repr(name)
        for name, column in statistics.columns.items()
        if name not in overrides and column.read_spec.form == "number" and _are_day_numbers(column.sorted_sample)
    ]
    if named:
        what = f"Numbers that look like days, written as year, month and day, stay numbers: {', '.join(named)}"
        remedy = "write them as 2024-09-04, and they are dates"
        warnings.warn(
            f"{what}; {remedy}. --role COLUMN=numeric keeps them without a warning.", DateTextsWarning, stacklevel=3
        )


def _are_day_numbers(values: NDArray[np.float64]) -> bool:
    """Tell whether ascending numbers are all like 20240904, and of several days."""
    if len(values) < MIN_DAY_NUMBERS or values[0] < FIRST_DAY_NUMBER or values[-1] > LAST_DAY_NUMBER:
        return False
    month, day = values // 100 % 100, values % 100
    return bool(
        values[0] < values[-1] and ((month >= 1) & (month <= 12) & (day >= 1) & (day <= 31) & (day % 1 == 0)).all()
    )


def describe_date_texts(column: ColumnStatistics) -> str:
    """Return how the dates of a text column are written, and what stands for missing ones; no values."""
    form = column.read_spec.date_format
    assert form is not None
    parts = [form.describe() or "written as texts"]
    if column.marks:
        parts.append(f"{sum(column.marks.values()):,} marks of missing values")
    if column.n_unread:
        parts.append(f"{column.n_unread:,} other texts taken as missing")
    return "; ".join(parts)
