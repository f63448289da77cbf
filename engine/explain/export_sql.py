"""Write rules as SQL, so that any database that holds the profiles can select the people of a cluster.

    contents of rules.json, EncodingPlan, Schema, SqlDialect  ->  contents of rules.sql

Two statements, each to be run alone on one table: the rules of each cluster as a boolean column, and the full tree as
one CASE. Both select exactly the rows that rules.json counts. Missing values, NULL and NaN, count as in the
clustering: COALESCE(..., TRUE) is a condition that holds for them. How databases differ: engine/export/sql_dialect.py.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from typing import Any

import pyarrow as pa

from engine.explain.binning.predicates import fill_value
from engine.export.sql_columns import SqlColumns, check_readable
from engine.export.sql_dialect import DUCKDB, SqlDialect
from engine.features.columnar_block import END_DAY
from engine.features.encoding_plan import CategoryPlan, ColumnPlan, EncodingPlan, LabelPlan, NumberPlan
from engine.tables.list_texts import spellings
from engine.tables.vector_columns import vector_name
from engine.utils.formatting import format_percent, natural_list, printable_text

TABLE = "profiles"  # name of the table that the statements read
DAY_IN_MILLISECONDS = 86_400_000
EPOCH = date(1970, 1, 1)
HEADER = """\
-- Rules of clusters for a table {table}, written for {dialect}. Run each of the two statements alone.
-- `rooms export RUN --to rules --dialect NAME` writes them for another database.
-- A missing value, NULL or the NaN of a floating-point column, counts as in the clustering: COALESCE(..., TRUE)
-- holds for it, and no other condition does but IS NULL.
-- Numbers are compared as doubles, and times with a time zone in UTC, whatever the time zone of the session.
{note}"""
Document = Mapping[str, Any]  # a part of rules.json


def to_sql(
    rules: Document,
    plan: EncodingPlan,
    schema: pa.Schema,
    id: str | None,
    dialect: SqlDialect = DUCKDB,
    table: str = TABLE,
) -> str:
    """Return the contents of rules.sql.

    Parameters
    ----------
    rules : mapping
        The contents of rules.json.
    plan : EncodingPlan
    schema : pyarrow.Schema
        Schema of the profiles.
    id : str or None
        Column that identifies a profile; without it, all columns are selected beside the result.
    dialect : SqlDialect
    table : str
        The table of the profiles, as it is written in a statement.

    Raises
    ------
    UsageError
        If the dialect cannot read a column that the rules test. It names all of these.
    """
    writer = SqlConditionWriter(plan, schema, dialect)
    tested = {condition["column"] for condition in _conditions(rules)}
    check_readable(dialect, [column for column in plan.columns if column.column in tested], schema)
    key = dialect.identifier(id) if id is not None else "*"
    columns = []
    for cluster in rules["clusters"]:
        matches = [_rule_expression(rule, writer.sql) for rule in cluster["rules"]]
        disjunction = "\n      OR ".join(f"({match})" for match in matches) or "FALSE"
        precision, coverage = format_percent(cluster["precision"]), format_percent(cluster["coverage"])
        metrics = f"precision {precision}, coverage {coverage}"
        note = metrics if matches else "no short rule describes this cluster"
        comment = f"  -- {cluster['cluster']}: {printable_text(cluster['name'])} ({note})\n"
        columns.append(f"{comment}  CASE WHEN {disjunction} THEN TRUE ELSE FALSE END AS cluster_{cluster['cluster']}")
    fidelity = format_percent(rules["full"]["fidelity"])
    return (
        HEADER.format(table=table, dialect=dialect.name, note=dialect.note)
        + _ambiguous_names_note(schema)
        + f"\n-- Who matches the rules of each cluster.\nSELECT {key},\n"
        + ",\n".join(columns)
        + f"\nFROM {table};\n\n"
        + f"-- The full tree: it names the right cluster for {fidelity} of all rows.\n"
        + f"SELECT {key},\n  {_case_expression(rules['full']['tree'], writer.sql, depth=1)} AS cluster\nFROM {table};\n"
    )


def _rule_expression(rule: Document, sql: Callable[[Document], str]) -> str:
    """Return a rule: its conditions joined by AND, or the sum of their points if not all of them are needed."""
    points = [condition.get("points", 1) for condition in rule["conditions"]]  # format 1 had conjunctions only
    needed = rule.get("points_needed", sum(points))
    if needed == sum(points):
        return " AND ".join(map(sql, rule["conditions"]))
    terms = [
        f"CASE WHEN {sql(condition)} THEN {n} ELSE 0 END"
        for condition, n in zip(rule["conditions"], points, strict=True)
    ]
    return "\n        + ".join(terms) + f" >= {needed}"


def _conditions(rules: Document) -> Iterator[Document]:
    """Yield the conditions of all rules and of the full tree."""
    for cluster in rules["clusters"]:
        for rule in cluster["rules"]:
            yield from rule["conditions"]
    nodes = [rules["full"]["tree"]]
    while nodes:
        node = nodes.pop()
        if "condition" in node:
            yield node["condition"]
            nodes += [node["then"], node["else"]]


def _case_expression(node: Document, sql: Callable[[Document], str], *, depth: int) -> str:
    """Return the CASE expression of the tree below a node."""
    if "condition" not in node:
        return str(node["cluster"])
    indent = "  " * (depth + 1)
    then, otherwise = (_case_expression(node[side], sql, depth=depth + 1) for side in ("then", "else"))
    return f"CASE WHEN {sql(node['condition'])}\n{indent}THEN {then}\n{indent}ELSE {otherwise} END"


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

    def sql(self, condition: Document) -> str:
        """Return a condition of rules.json as an expression, which is true where it holds, and else false or NULL."""
        plan = self.plans[condition["column"]]
        field = self.schema.field(plan.column)
        column = self._column(field, plan)
        if condition["kind"] == "missing":
            return f"{column} IS {'' if condition['holds'] else 'NOT '}NULL"
        if isinstance(plan, NumberPlan):
            bounds = [(sign, _bound(condition.get(key))) for sign, key in ((">=", "at_least"), ("<", "below"))]
            expression, holds = self._number(bounds, plan, column), self._reaches_fill(bounds, plan)
        elif isinstance(plan, CategoryPlan):
            # Without an indicator, a missing category counts as the most frequent one.
            is_usual = not plan.indicator and condition.get("value") == plan.categories[0]
            expression, holds = self._category(condition, plan, column), condition["holds"] == is_usual
        else:
            expression, holds = self._label(condition, plan, field), not condition["holds"]
        return f"COALESCE({expression}, TRUE)" if holds else expression

    def _column(self, field: pa.Field, plan: ColumnPlan) -> str:
        """Return a column, or an element of a vector, as it is compared: NULL where it is missing or a mark of it."""
        column = self.columns.present(field, plan)
        if isinstance(plan, CategoryPlan | LabelPlan):
            return self.columns.without_marks(column, field, plan)
        if not plan.missing:
            return column
        kind = self._compared_kind(field.type, plan)
        if isinstance(plan, NumberPlan) and plan.role == "date" and not pa.types.is_date(kind):
            days = [self._is_within_day(column, kind, float(day)) for day in plan.missing]
            return f"CASE WHEN NOT ({' OR '.join(f'({day})' for day in days)}) THEN {column} END"
        write: Callable[[Any], str] = self.dialect.day if pa.types.is_date(kind) else self.dialect.number
        return f"CASE WHEN {column} NOT IN ({', '.join(map(write, plan.missing))}) THEN {column} END"

    def _is_within_day(self, column: str, kind: pa.DataType, day: float) -> str:
        reaches = self._reaches(kind)
        begins = f"{column} {reaches('>=', day)}"
        return begins if day + 1 >= END_DAY else f"{begins} AND {column} {reaches('<', day + 1)}"

    def _compared_kind(self, kind: pa.DataType, plan: ColumnPlan) -> pa.DataType:
        """Return the type in which a column is compared: dates that are texts or numbers are moments, or days."""
        if not isinstance(plan, NumberPlan) or plan.role != "date":
            return kind
        if self.dialect.dates_are_texts:
            return pa.float64()
        return kind if pa.types.is_temporal(kind) else pa.timestamp("us")

    def _number(self, bounds: list[tuple[str, float | None]], plan: NumberPlan, column: str) -> str:
        reaches = self._reaches(self._compared_kind(self.schema.field(plan.column).type, plan))
        return " AND ".join(f"{column} {reaches(sign, bound)}" for sign, bound in bounds if bound is not None)

    def _reaches_fill(self, bounds: list[tuple[str, float | None]], plan: NumberPlan) -> bool:
        """Return whether a missing number is within bounds."""
        filled = fill_value(plan, self.reference_day)
        (_, low), (_, high) = bounds
        return (low is None or filled >= low) and (high is None or filled < high)

    def _reaches(self, kind: pa.DataType) -> Callable[[str, float], str]:
        """Return the function that compares a column of this type with a number, or with days since 1970-01-01."""
        if pa.types.is_timestamp(kind):
            return self._reaches_moment(kind)
        if pa.types.is_date(kind):
            return lambda sign, bound: f"{sign} {self.dialect.day(math.ceil(bound))}"
        return lambda sign, bound: f"{sign} {self.dialect.number(bound)}"

    def _reaches_moment(self, kind: pa.TimestampType) -> Callable[[str, float], str]:
        """Return the function that compares with a moment, as the engine does: in whole milliseconds, cut towards 1970.

        So a moment up to 1970 is reached by everything later than the millisecond before it.
        """
        cut = kind.unit in ("us", "ns")
        moment = self.dialect.moment if kind.tz is None else self.dialect.zoned_moment

        def compare(sign: str, bound: float) -> str:
            milliseconds = _first_millisecond(bound)
            if cut and milliseconds <= 0:
                return f"{'>' if sign == '>=' else '<='} {moment(milliseconds - 1)}"
            return f"{sign} {moment(milliseconds)}"

        return compare

    def _category(self, condition: Document, plan: CategoryPlan, column: str) -> str:
        literal = self.columns.category_literal(self.schema.field(plan.column).type)
        if condition["kind"] == "rare category":
            listed = ", ".join(literal(value) for value in plan.categories)
            return f"{column} {'NOT IN' if condition['holds'] else 'IN'} ({listed})"
        return f"{column} {'=' if condition['holds'] else '<>'} {literal(condition['value'])}"

    def _label(self, condition: Document, plan: LabelPlan, field: pa.Field) -> str:
        column = self.columns.without_marks(self.columns.given(field), field, plan)
        texts = [self.dialect.text(condition["value"])]
        if plan.separator is None:
            texts = [condition["value"]] if pa.types.is_integer(field.type.value_type) else texts
        else:
            column = self.dialect.split_labels(column, plan.separator)
            texts = [self.dialect.text(text) for text in spellings(condition["value"], plan.separator)]
        contains = " OR ".join(self.dialect.contains(column, text) for text in texts)
        contains = f"({contains})" if len(texts) > 1 else contains
        return contains if condition["holds"] else f"NOT {contains}"


def _bound(bound: float | str | None) -> float | None:
    """Return a bound of rules.json as a number; a date as days since 1970-01-01."""
    return float((date.fromisoformat(bound) - EPOCH).days) if isinstance(bound, str) else bound


def _first_millisecond(days: float) -> int:
    """Return the first millisecond since 1970-01-01 that is not before these days."""
    milliseconds = round(days * DAY_IN_MILLISECONDS)
    while (milliseconds - 1) / DAY_IN_MILLISECONDS >= days:
        milliseconds -= 1
    while milliseconds / DAY_IN_MILLISECONDS < days:
        milliseconds += 1
    return milliseconds
