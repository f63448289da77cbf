"""Write the encoder as SQL: the columns of X, from the columns of a table.

    EncodingPlan, schema, dialect  ->  per source column its value, NULL where it is missing, and the columns of X

Numbers are imputed, clipped and scaled as the encoder does, in double precision; the encoder rounds the result to
float32. One-hot and multi-hot columns are 0 or 1, whose one value in X goes to the coefficients of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from engine.export.sql_columns import SqlColumns, check_readable, is_written_date
from engine.export.sql_dialect import SqlDialect
from engine.features.encoding_plan import DAYS_PER_YEAR, CategoryPlan, ColumnPlan, EncodingPlan, LabelPlan, NumberPlan
from engine.tables.list_texts import spellings


@dataclass(frozen=True)
class SourceColumn:
    """A column of the table: its value as SQL, and the columns of X as SQL on the value's name."""

    name: str
    value: str
    dense: tuple[str, ...]  # of the numbers of X, at most one
    hot: tuple[str, ...]  # of the columns of X that are 0 or 1


class Width(NamedTuple):
    """How many columns of X a column has that are numbers, and that are 0 or 1."""

    dense: int
    hot: int


def plan_width(plan: ColumnPlan) -> Width:
    """Return how many columns of X a column has."""
    if isinstance(plan, NumberPlan):
        return Width(1, int(plan.indicator))
    values = plan.categories if isinstance(plan, CategoryPlan) else plan.labels
    return Width(0, len(values) + 1 + plan.indicator)


class SqlEncoder:
    """Writes the columns of X in one dialect."""

    def __init__(self, plan: EncodingPlan, schema: pa.Schema, dialect: SqlDialect) -> None:
        self.plan, self.schema, self.dialect = plan, schema, dialect
        self.columns = SqlColumns(dialect)

    def source_columns(self, plans: Sequence[ColumnPlan]) -> list[SourceColumn]:
        """Return columns of the plan, in order.

        Raises
        ------
        UsageError
            If the dialect cannot write some of them; it names all of these.
        """
        check_readable(self.dialect, plans, self.schema)
        return [self._source_column(number, plan) for number, plan in enumerate(plans)]

    def _source_column(self, number: int, plan: ColumnPlan) -> SourceColumn:
        field, name = self.schema.field(plan.column), f"given_{number}"
        if isinstance(plan, NumberPlan):
            missing = f"{name} IS NULL"
            if plan.role == "date" and plan.missing:
                missing = f"{name} IS NULL OR {self._is_marked_day(name, plan)}"
            hot = [missing] if plan.indicator else []
            return SourceColumn(name, self._number(field, plan), (self._encoded(name, plan),), self._truths(hot))
        if isinstance(plan, CategoryPlan):
            return SourceColumn(name, self._category(field, plan), (), self._truths(self._one_hot(name, field, plan)))
        return SourceColumn(name, self._labels(field, plan), (), self._truths(self._multi_hot(name, field, plan)))

    def _number(self, field: pa.Field, plan: NumberPlan) -> str:
        """Return a number, or a date as days, NULL where it is missing."""
        if plan.role == "date":
            column, kind = self.columns.given(field), field.type
            if is_written_date(plan, field) and not self.dialect.dates_are_texts:
                column, kind = self.columns.moment(field, plan), pa.timestamp("us")
            return self.dialect.computed_double(self.dialect.days(column, kind))
        value = self.columns.present(field, plan)
        for mark in plan.missing:
            value = f"NULLIF({value}, {self.dialect.number(mark)})"
        return value

    def _encoded(self, name: str, plan: NumberPlan) -> str:
        number = self.dialect.number
        if plan.role == "date":
            value = f"({number(self.plan.reference_day)} - {name}) / {number(DAYS_PER_YEAR)}"
            if plan.missing:
                value = f"CASE WHEN NOT {self._is_marked_day(name, plan)} THEN {value} END"
            name = value
        value = f"COALESCE({name}, {number(plan.fill)})"
        if plan.logarithm:
            value = f"LN(1 + {self.dialect.largest([value, '0'])})"
        value = self.dialect.smallest([self.dialect.largest([value, number(plan.low)]), number(plan.high)])
        factor = plan.scale * float(np.sqrt(plan.weight))
        return self.dialect.computed_double(f"({value} - {_signed(number(plan.centre))}) * {number(factor)}")

    def _is_marked_day(self, name: str, plan: NumberPlan) -> str:
        return f"FLOOR({name}) IN ({', '.join(map(self.dialect.number, plan.missing))})"

    def _category(self, field: pa.Field, plan: CategoryPlan) -> str:
        return self.columns.without_marks(self.columns.present(field, plan), field, plan)

    def _one_hot(self, name: str, field: pa.Field, plan: CategoryPlan) -> list[str]:
        literals = list(map(self.columns.category_literal(field.type), plan.categories))
        conditions = [f"{name} = {literal}" for literal in literals]
        conditions.append(f"{name} NOT IN ({', '.join(literals)})")
        if plan.indicator:
            return [*conditions, f"{name} IS NULL"]
        conditions[0] += f" OR {name} IS NULL"  # a missing category counts as the most frequent
        return conditions

    def _labels(self, field: pa.Field, plan: LabelPlan) -> str:
        if plan.separator is None:
            return self.columns.given(field)
        column = self.columns.present(field, plan) if plan.indicator else self.columns.given(field)
        return self.dialect.split_labels(self.columns.without_marks(column, field, plan), plan.separator)

    def _multi_hot(self, name: str, field: pa.Field, plan: LabelPlan) -> list[str]:
        are_numbers = plan.separator is None and pa.types.is_integer(field.type.value_type)
        literal = str if are_numbers else self.dialect.text
        written = [[label] if plan.separator is None else spellings(label, plan.separator) for label in plan.labels]
        conditions = [" OR ".join(self.dialect.contains(name, literal(text)) for text in texts) for texts in written]
        known = [literal(text) for texts in written for text in texts]
        conditions.append(self.dialect.contains_other(name, known if are_numbers else [*known, "''"]))
        return [*conditions, f"{name} IS NULL"] if plan.indicator else conditions

    def _truths(self, conditions: Sequence[str]) -> tuple[str, ...]:
        return tuple(
            self.dialect.computed_double(f"CASE WHEN {condition} THEN 1 ELSE 0 END") for condition in conditions
        )


def _signed(literal: str) -> str:
    return f"({literal})" if literal.startswith("-") else literal
