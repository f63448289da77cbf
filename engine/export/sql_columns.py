"""Write the values of a column as SQL, with NULL where the engine takes them for missing, in the type of the column.

    pyarrow.Field, ColumnPlan  ->  an expression of one dialect

Rules compare these expressions, and models encode them. Marks of missing values are left to both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeGuard

import numpy as np
import pyarrow as pa

from engine.blocks import COUNTS
from engine.errors import UsageError
from engine.export.sql_date_texts import date_from_text
from engine.export.sql_dialect import (
    BRACKETS,
    DATE_TEXTS,
    LINES,
    LISTS,
    NUMBER_TEXTS,
    SECONDS,
    VECTORS,
    WORDY_DATES,
    SqlDialect,
)
from engine.export.sql_number_texts import number_from_text
from engine.features.columnar_block import TICKS_PER_SECOND, physical_kind
from engine.features.encoding_plan import CategoryPlan, ColumnPlan, LabelPlan, NumberPlan
from engine.tables.date_texts import DateFormat
from engine.tables.list_texts import is_list
from engine.tables.vector_columns import POSITION, vector_name
from engine.utils.formatting import natural_list


def is_written_date(plan: ColumnPlan, field: pa.Field) -> TypeGuard[NumberPlan]:
    """Return whether a column has dates that are texts or digits."""
    return isinstance(plan, NumberPlan) and plan.role == "date" and not pa.types.is_temporal(field.type)


class SqlColumns:
    """Writes columns, and literals that are compared with them, in one dialect."""

    def __init__(self, dialect: SqlDialect) -> None:
        self.dialect = dialect

    def given(self, field: pa.Field) -> str:
        """Return a column as it is, or an element of a vector."""
        source = vector_name(field)
        if source is None:
            return self.dialect.identifier(field.name)
        return self.dialect.element(self.dialect.identifier(source), int(field.metadata[POSITION]))

    def present(self, field: pa.Field, plan: ColumnPlan) -> str:
        """Return a column as it is compared, NULL where it has no value; a date of a text as days if it is no type."""
        column = self.given(field)
        if isinstance(plan, NumberPlan) and plan.role == "date" and self.dialect.dates_are_texts:
            return self.dialect.days(column, field.type)
        if isinstance(plan, LabelPlan) and plan.separator is not None:
            return self.dialect.written(column)
        if is_written_date(plan, field):
            return self.moment(field, plan)
        if isinstance(plan, NumberPlan) and plan.number_format is not None:
            return number_from_text(column, plan.number_format)
        if physical_kind(field.type) == "seconds":
            return self.seconds(field)
        if pa.types.is_floating(field.type):
            return self.dialect.given_double(column, infinite=isinstance(plan, CategoryPlan))
        if isinstance(plan, NumberPlan) and pa.types.is_boolean(field.type):
            return self.dialect.integer(column)
        if isinstance(plan, NumberPlan) and pa.types.is_integer(field.type):
            return self.dialect.double(column)
        if pa.types.is_timestamp(field.type) and field.type.tz is not None:
            return self.dialect.zoned(column)
        return column

    def without_marks(self, column: str, field: pa.Field, plan: CategoryPlan | LabelPlan) -> str:
        """Return texts, or categories in another type, NULL where they are marks of missing values."""
        if not plan.missing:
            return column
        literal = self.category_literal(field.type)
        return f"CASE WHEN {column} NOT IN ({', '.join(map(literal, plan.missing))}) THEN {column} END"

    def moment(self, field: pa.Field, plan: NumberPlan) -> str:
        """Return the moment of a column of texts or digits in UTC, NULL where it is none."""
        column = self.given(field)
        if pa.types.is_floating(field.type):
            column = f"CASE WHEN {column} = FLOOR({column}) THEN TRY_CAST({column} AS BIGINT) END"
        return date_from_text(column, plan.date_format or DateFormat())

    def seconds(self, field: pa.Field) -> str:
        """Return a column of durations or times of the day in seconds."""
        column = self.given(field)
        if COUNTS in (field.metadata or {}):
            return f"{self.dialect.double(column)} / {self.dialect.number(TICKS_PER_SECOND[field.type.unit])}"
        return self.dialect.seconds(column)

    def category_literal(self, kind: pa.DataType) -> Callable[[str], str]:
        """Return the function that writes a category as a literal of the column's type: number, boolean or text."""
        if pa.types.is_floating(kind):  # float16 is read as float32, which keeps its values
            as_read = np.float64 if pa.types.is_float64(kind) else np.float32
            return lambda value: self.dialect.number(float(as_read(value)))
        if pa.types.is_integer(kind):
            return str
        return str.upper if pa.types.is_boolean(kind) else self.dialect.text


def check_readable(dialect: SqlDialect, plans: Iterable[ColumnPlan], schema: pa.Schema) -> None:
    """Raise UsageError if a dialect cannot read some columns of a plan; it names all of these."""
    lacking: dict[str, list[str]] = {}
    for plan in plans:
        need = _need(plan, schema.field(plan.column))
        if need in dialect.lacks:
            lacking.setdefault(need, []).append(repr(plan.column))
    if lacking:
        what = "; ".join(f"{need} ({natural_list(names)})" for need, names in lacking.items())
        raise UsageError(
            f"{dialect.name} cannot read what the model was fitted on: {what}.",
            hint="name a table that has these columns in types of the database (--table), or fit without them.",
        )


def _need(plan: ColumnPlan, field: pa.Field) -> str:
    """Return what a database has to be able to read for a column, "" if it is what all can."""
    if vector_name(field) is not None:
        return VECTORS
    if isinstance(plan, LabelPlan):
        if plan.separator is None:
            return LISTS
        return BRACKETS if is_list(plan.separator) else LINES if plan.separator == "\n" else ""
    if not isinstance(plan, NumberPlan):
        return ""
    if plan.role != "date":
        return NUMBER_TEXTS if pa.types.is_string(field.type) else SECONDS if plan.in_seconds else ""
    if not is_written_date(plan, field):
        return ""
    return WORDY_DATES if plan.date_format is not None and plan.date_format.forms else DATE_TEXTS
