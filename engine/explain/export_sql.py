"""Write rules as SQL, so that any database that holds the profiles can select the people of a cluster.

    Explanation, EncodingPlan, Schema  ->  contents of rules.sql

Two statements, each to be run alone on a table `profiles`: the rules of each cluster as a boolean column, and the full
tree as one CASE. Missing values count as in the clustering, so every number is wrapped in COALESCE. The dialect is that
of DuckDB, which a test runs; PostgreSQL differs in list functions only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa

from engine.explain.binning.predicates import YES, fill_value
from engine.explain.export_sql_numbers import number_from_text
from engine.explain.rules.conditions import Condition
from engine.explain.rules.decision_tree import LEAF
from engine.explain.rules.explanation import Explanation
from engine.features.encoding_plan import CategoryPlan, EncodingPlan, LabelPlan, NumberPlan
from engine.tables.vector_columns import POSITION, vector_name
from engine.utils.formatting import format_iso_day, format_percent, printable_text

TABLE = "profiles"  # name of the table that the statements read


def to_sql(
    explanation: Explanation, names: Sequence[str], plan: EncodingPlan, schema: pa.Schema, id: str | None
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
    """
    writer = SqlConditionWriter(plan, schema)
    key = _quoted(id) if id is not None else "*"
    columns = []
    for cluster, rules in enumerate(explanation.clusters):
        conjunctions = [" AND ".join(writer.sql(condition) for condition in rule.conditions) for rule in rules.rules]
        disjunction = "\n      OR ".join(f"({conjunction})" for conjunction in conjunctions) or "FALSE"
        metrics = f"precision {format_percent(rules.precision)}, coverage {format_percent(rules.coverage)}"
        note = metrics if conjunctions else "no rule"
        comment = f"  -- {cluster}: {printable_text(names[cluster])} ({note})\n"
        columns.append(f"{comment}  CASE WHEN {disjunction} THEN TRUE ELSE FALSE END AS cluster_{cluster}")
    tree = _case_expression(explanation, writer.sql, node=0, depth=1)
    return (
        "-- Who is in which cluster, as rules. A missing value is NULL; NaN must be made NULL first.\n"
        f"SELECT {key},\n" + ",\n".join(columns) + f"\nFROM {TABLE};\n\n"
        f"-- The full tree: it names the right cluster for {format_percent(explanation.full.fidelity)} of the people.\n"
        f"SELECT {key},\n  {tree} AS cluster\nFROM {TABLE};\n"
    )


def _case_expression(explanation: Explanation, sql: Callable[[Condition], str], *, node: int, depth: int) -> str:
    """Return the CASE expression of the full tree below a node."""
    tree = explanation.full.tree
    if tree.predicate[node] == LEAF:
        return str(int(tree.label[node]))
    (condition,) = explanation.conditions({int(tree.predicate[node]): (0, int(tree.bin_threshold[node]))})
    indent = "  " * (depth + 1)
    left, right = (
        _case_expression(explanation, sql, node=int(side[node]), depth=depth + 1) for side in (tree.left, tree.right)
    )
    return f"CASE WHEN {sql(condition)}\n{indent}THEN {left}\n{indent}ELSE {right} END"


class SqlConditionWriter:
    """Writes conditions on the columns of a plan as SQL; missing values count as the plan says."""

    def __init__(self, plan: EncodingPlan, schema: pa.Schema) -> None:
        self.plans = {column.column: column for column in plan.columns}
        self.schema = schema
        self.reference_day = plan.reference_day

    def sql(self, condition: Condition) -> str:
        """Return the condition as an expression that is true where it holds, and false or NULL elsewhere."""
        column = _column(self.schema.field(condition.predicate.column))
        plan = self.plans[condition.predicate.column]
        if isinstance(plan, NumberPlan) and plan.number_format is not None:
            column = number_from_text(column, plan.number_format)
        if condition.predicate.kind == "missing":
            return f"{column} IS {'' if condition.low == YES else 'NOT '}NULL"
        if isinstance(plan, NumberPlan):
            return self._number(condition, plan, column)
        if isinstance(plan, CategoryPlan):
            return self._category(condition, plan, column)
        return self._label(condition, plan, column)

    def _number(self, condition: Condition, plan: NumberPlan, column: str) -> str:
        kind, fill = self.schema.field(plan.column).type, fill_value(plan, self.reference_day)
        if pa.types.is_boolean(kind):
            column = f"CAST({column} AS INTEGER)"
        day_literal = _timestamp if pa.types.is_timestamp(kind) else _date
        literal = day_literal if plan.role == "date" else _number
        value = f"COALESCE({column}, {literal(fill)})"
        low, high = condition.at_least, condition.below
        comparisons = [] if low is None else [f"{value} >= {literal(low)}"]
        return " AND ".join(comparisons if high is None else [*comparisons, f"{value} < {literal(high)}"])

    def _category(self, condition: Condition, plan: CategoryPlan, column: str) -> str:
        literal = _category_literal(self.schema.field(plan.column).type)
        holds = condition.low == YES
        if not plan.indicator:  # a missing value counts as the most frequent one
            column = f"COALESCE({column}, {literal(plan.categories[0])})"
        if condition.predicate.kind == "rare category":
            known = f"{column} IN ({', '.join(literal(value) for value in plan.categories)})"
            if holds:
                return f"NOT ({known})"
            return f"COALESCE({known}, TRUE)" if plan.indicator else known
        value = literal(condition.predicate.value or "")
        if holds:
            return f"{column} = {value}"
        return f"{column} IS DISTINCT FROM {value}" if plan.indicator else f"{column} <> {value}"

    def _label(self, condition: Condition, plan: LabelPlan, column: str) -> str:
        label = condition.predicate.value or ""
        if plan.separator is None:
            kind = self.schema.field(plan.column).type
            value = label if pa.types.is_integer(kind.value_type) else _text(label)
            has = f"list_contains({column}, {value})"
        else:
            separator = plan.separator.strip()
            pattern, literal = _text(rf"\s*{_escape_regex(separator)}\s*"), _text(separator)
            joined = f"{literal} || REGEXP_REPLACE(TRIM({column}), {pattern}, {literal}, 'g') || {literal}"
            has = f"POSITION({_text(separator + label + separator)} IN {joined}) > 0"
        return f"COALESCE({has}, FALSE)" if condition.low == YES else f"NOT COALESCE({has}, FALSE)"


def _column(field: pa.Field) -> str:
    """Return a column, or a number of a vector: places in lists count from 1."""
    source = vector_name(field)
    return _quoted(field.name) if source is None else f"{_quoted(source)}[{int(field.metadata[POSITION]) + 1}]"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _number(value: float) -> str:
    return f"{value:.0f}" if value == round(value) and abs(value) < 1e15 else repr(float(value))


def _date(days: float) -> str:
    return f"DATE '{format_iso_day(days)}'"


def _timestamp(days: float) -> str:
    seconds = round((days % 1.0) * 86_400, 3)
    hours, rest = divmod(seconds, 3600)
    return f"TIMESTAMP '{format_iso_day(days)} {int(hours):02d}:{int(rest // 60):02d}:{rest % 60:06.3f}'"


def _escape_regex(text: str) -> str:
    return "".join(f"\\{c}" if c in r"\.^$*+?()[]{}|" else c for c in text)


def _category_literal(kind: pa.DataType) -> Callable[[str], str]:
    """Return the function that writes a category as a literal of the column's type: number, boolean or text."""
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return str
    return str.upper if pa.types.is_boolean(kind) else _text
