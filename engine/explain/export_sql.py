"""Write rules as SQL, so that any database that holds the profiles can select the people of a cluster.

    Explanation, EncodingPlan, Schema  ->  contents of rules.sql

Two statements, each to be run alone on a table `profiles`: the rules of each cluster as a boolean column, and the full
tree as one CASE. Both select exactly the people that rules.json counts. Missing values, NULL and NaN, count as in the
clustering: COALESCE(..., TRUE) is a condition that holds for them. The dialect is that of DuckDB (sql_dialect.py).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.explain.binning.predicates import YES, missing_bin
from engine.explain.rules.conditions import Condition
from engine.explain.rules.decision_tree import LEAF
from engine.explain.rules.explanation import Explanation
from engine.export.sql_columns import SqlColumns
from engine.export.sql_dialect import DUCKDB, SqlDialect
from engine.features.columnar_block import END_DAY
from engine.features.encoding_plan import CategoryPlan, ColumnPlan, EncodingPlan, LabelPlan, NumberPlan
from engine.tables.list_texts import spellings
from engine.tables.vector_columns import vector_name
from engine.utils.formatting import format_percent, natural_list, printable_text

TABLE = "profiles"  # name of the table that the statements read
DAY_IN_MILLISECONDS = 86_400_000
HEADER = """\
-- Rules of clusters for a table {table}, written for {dialect}. Run each of the two statements alone.
-- A missing value, NULL or the NaN of a floating-point column, counts as in the clustering: COALESCE(..., TRUE)
-- holds for it, and no other condition does but IS NULL.
-- Numbers are compared as doubles, and times with a time zone in UTC, whatever the time zone of the session.
"""


def to_sql(
    explanation: Explanation,
    names: Sequence[str],
    plan: EncodingPlan,
    schema: pa.Schema,
    id: str | None,
    numbers: NDArray[np.int32],
) -> str:
    """Return the contents of rules.sql.

    Parameters
    ----------
    explanation : Explanation
    names : sequence of str
        Names of the clusters.
    plan : EncodingPlan
    schema : pyarrow.Schema
        Schema of the profiles.
    id : str or None
        Column that identifies a profile; without it, all columns are selected beside the result.
    numbers : int32 array of shape (n_clusters,)
        The number of each cluster.
    """
    writer = SqlConditionWriter(plan, schema)
    key = writer.dialect.identifier(id) if id is not None else "*"
    columns = []
    for cluster, rules in enumerate(explanation.clusters):
        conjunctions = [" AND ".join(writer.sql(condition) for condition in rule.conditions) for rule in rules.rules]
        disjunction = "\n      OR ".join(f"({conjunction})" for conjunction in conjunctions) or "FALSE"
        metrics = f"precision {format_percent(rules.precision)}, coverage {format_percent(rules.coverage)}"
        note = metrics if conjunctions else "no short rule describes this cluster"
        number = numbers[cluster]
        comment = f"  -- {number}: {printable_text(names[cluster])} ({note})\n"
        columns.append(f"{comment}  CASE WHEN {disjunction} THEN TRUE ELSE FALSE END AS cluster_{number}")
    tree = _case_expression(explanation, writer.sql, numbers, node=0, depth=1)
    fidelity = format_percent(explanation.full.fidelity)
    return (
        HEADER.format(table=TABLE, dialect=writer.dialect.name)
        + _ambiguous_names_note(schema)
        + f"\n-- The people whom the rules of each cluster match.\nSELECT {key},\n"
        + ",\n".join(columns)
        + f"\nFROM {TABLE};\n\n"
        + f"-- The full tree: it names the right cluster for {fidelity} of the people.\n"
        + f"SELECT {key},\n  {tree} AS cluster\nFROM {TABLE};\n"
    )


def _case_expression(
    explanation: Explanation, sql: Callable[[Condition], str], numbers: NDArray[np.int32], *, node: int, depth: int
) -> str:
    """Return the CASE expression of the full tree below a node."""
    tree = explanation.full.tree
    if tree.predicate[node] == LEAF:
        return str(numbers[tree.label[node]])
    (condition,) = explanation.conditions({int(tree.predicate[node]): (0, int(tree.bin_threshold[node]))})
    indent = "  " * (depth + 1)
    left, right = (
        _case_expression(explanation, sql, numbers, node=int(side[node]), depth=depth + 1)
        for side in (tree.left, tree.right)
    )
    return f"CASE WHEN {sql(condition)}\n{indent}THEN {left}\n{indent}ELSE {right} END"


def _ambiguous_names_note(schema: pa.Schema) -> str:
    """Return a comment on the columns whose names differ in case only, which databases take for one or rename."""
    columns = {vector_name(field) or field.name for field in schema}
    counts = Counter(map(str.casefold, columns))
    names = [f'"{printable_text(name)}"' for name in sorted(columns) if counts[name.casefold()] > 1]
    if not names:
        return ""
    return f"-- The names {natural_list(names)} differ in case only: rename them in the table and here.\n"


class SqlConditionWriter:
    """Writes conditions on the columns of a plan as SQL; missing values count as the plan says."""

    def __init__(self, plan: EncodingPlan, schema: pa.Schema, dialect: SqlDialect = DUCKDB) -> None:
        self.plans = {column.column: column for column in plan.columns}
        self.schema = schema
        self.reference_day = plan.reference_day
        self.dialect = dialect
        self.columns = SqlColumns(dialect)

    def sql(self, condition: Condition) -> str:
        """Return the condition as an expression that is true where it holds, and false or NULL elsewhere."""
        plan = self.plans[condition.predicate.column]
        field = self.schema.field(condition.predicate.column)
        column = self._column(field, plan)
        if condition.predicate.kind == "missing":
            return f"{column} IS {'' if condition.low == YES else 'NOT '}NULL"
        if isinstance(plan, NumberPlan):
            expression = self._number(condition, plan, column)
        elif isinstance(plan, CategoryPlan):
            expression = self._category(condition, plan, column)
        else:
            expression = self._label(condition, plan, self.columns.given(field))
        holds = condition.low <= missing_bin(condition.predicate, plan, self.reference_day) <= condition.high
        return f"COALESCE({expression}, TRUE)" if holds else expression

    def _column(self, field: pa.Field, plan: ColumnPlan) -> str:
        """Return a column, or an element of a vector, as it is compared: NULL where it is missing or a mark of it."""
        column = self.columns.present(field, plan)
        if isinstance(plan, LabelPlan) or not plan.missing:
            return column
        kind = self._compared_kind(field.type, plan)
        if pa.types.is_timestamp(kind):
            days = [self._is_within_day(column, kind, float(day)) for day in plan.missing]
            return f"CASE WHEN NOT ({' OR '.join(f'({day})' for day in days)}) THEN {column} END"
        write: Callable[[Any], str] = self.dialect.day if pa.types.is_date(kind) else self.dialect.number
        if isinstance(plan, CategoryPlan):
            write = self.columns.category_literal(field.type)
        return f"CASE WHEN {column} NOT IN ({', '.join(map(write, plan.missing))}) THEN {column} END"

    def _is_within_day(self, column: str, kind: pa.TimestampType, day: float) -> str:
        reaches = self._reaches_moment(kind)
        begins = f"{column} {reaches('>=', day)}"
        return begins if day + 1 >= END_DAY else f"{begins} AND {column} {reaches('<', day + 1)}"

    @staticmethod
    def _compared_kind(kind: pa.DataType, plan: ColumnPlan) -> pa.DataType:
        """Return the type in which a column is compared: dates that are texts or numbers are moments."""
        is_written = isinstance(plan, NumberPlan) and plan.role == "date" and not pa.types.is_temporal(kind)
        return pa.timestamp("us") if is_written else kind

    def _number(self, condition: Condition, plan: NumberPlan, column: str) -> str:
        kind = self._compared_kind(self.schema.field(plan.column).type, plan)
        reaches = self._reaches_moment(kind) if pa.types.is_timestamp(kind) else self._reaches(plan)
        bounds = [(">=", condition.at_least), ("<", condition.below)]
        return " AND ".join(f"{column} {reaches(sign, bound)}" for sign, bound in bounds if bound is not None)

    def _reaches(self, plan: NumberPlan) -> Callable[[str, float], str]:
        if plan.role == "date":
            return lambda sign, bound: f"{sign} {self.dialect.day(math.ceil(bound))}"
        return lambda sign, bound: f"{sign} {self.dialect.number(bound)}"

    def _reaches_moment(self, kind: pa.TimestampType) -> Callable[[str, float], str]:
        """Return the function that compares with a moment, as the engine does: in whole milliseconds, cut towards 1970.

        So a moment up to 1970 is reached by everything later than the millisecond before it.
        """
        cut = kind.unit in ("us", "ns")

        def compare(sign: str, bound: float) -> str:
            milliseconds = _first_millisecond(bound)
            if cut and milliseconds <= 0:
                return f"{'>' if sign == '>=' else '<='} {self.dialect.moment(milliseconds - 1)}"
            return f"{sign} {self.dialect.moment(milliseconds)}"

        return compare

    def _category(self, condition: Condition, plan: CategoryPlan, column: str) -> str:
        literal = self.columns.category_literal(self.schema.field(plan.column).type)
        holds = condition.low == YES
        if condition.predicate.kind == "rare category":
            listed = ", ".join(literal(value) for value in plan.categories)
            return f"{column} {'NOT IN' if holds else 'IN'} ({listed})"
        return f"{column} {'=' if holds else '<>'} {literal(condition.predicate.value or '')}"

    def _label(self, condition: Condition, plan: LabelPlan, column: str) -> str:
        label, holds = condition.predicate.value or "", condition.low == YES
        if plan.separator is None:
            kind = self.schema.field(plan.column).type
            value = label if pa.types.is_integer(kind.value_type) else self.dialect.text(label)
            contains = self.dialect.contains(column, value)
            return contains if holds else f"NOT {contains}"
        joined, mark = self.dialect.joined_labels(column, plan.separator)
        sign, word = (">", " OR ") if holds else ("=", " AND ")
        found = [
            f"{self.dialect.position(self.dialect.text(mark + text + mark), joined)} {sign} 0"
            for text in spellings(label, plan.separator)
        ]
        return found[0] if len(found) == 1 else f"({word.join(found)})"


def _first_millisecond(days: float) -> int:
    """Return the first millisecond since 1970-01-01 that is not before these days."""
    milliseconds = round(days * DAY_IN_MILLISECONDS)
    while (milliseconds - 1) / DAY_IN_MILLISECONDS >= days:
        milliseconds -= 1
    while milliseconds / DAY_IN_MILLISECONDS < days:
        milliseconds += 1
    return milliseconds
