"""Rules as SQL: who is in which cluster, asked of any database that holds the profiles.

    Explanation, Plan, Schema  ->  rules.sql

Two statements, each to be run alone on a table `profiles`: the rules of each cluster as a column of true and false, and
the full tree as one CASE. Missing values count as in the clustering, so every number is wrapped in COALESCE. Written
in the dialect of DuckDB, which a test runs; PostgreSQL differs in list functions only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa

from engine.explain.binning.predicates import YES, fill_of
from engine.explain.rules.conditions import Condition
from engine.explain.rules.decision_tree import LEAF, Ranges
from engine.explain.rules.explanation import Explanation
from engine.features.encoding_plan import CategoryPlan, LabelPlan, NumberPlan, Plan
from engine.tables.vector_columns import PLACE, vector_of
from engine.utils.formatting import clean, iso_day, percent

TABLE = "profiles"


def to_sql(found: Explanation, names: Sequence[str], plan: Plan, schema: pa.Schema, id: str | None) -> str:
    """Return the contents of rules.sql.

    Parameters
    ----------
    found : Explanation
    names : sequence of str
        Of the clusters.
    plan : Plan
    schema : pyarrow.Schema
        Of the profiles.
    id : str or None
        Column that identifies a profile; without it, all columns are selected beside the result.
    """
    asked = Conditions(plan, schema)
    key = _quoted(id) if id is not None else "*"
    columns = []
    for cluster, rules in enumerate(found.clusters):
        either = [" AND ".join(asked.sql(condition) for condition in rule.conditions) for rule in rules.rules]
        test = "\n      OR ".join(f"({one})" for one in either) or "FALSE"
        said = f"precision {percent(rules.precision)}, coverage {percent(rules.coverage)}" if either else "no rule"
        head = f"  -- {cluster}: {clean(names[cluster])} ({said})\n"
        columns.append(f"{head}  CASE WHEN {test} THEN TRUE ELSE FALSE END AS cluster_{cluster}")
    tree = _case(found, asked.sql, node=0, ranges=found.conditions, depth=1)
    return (
        "-- Who is in which cluster, as rules. A missing value is NULL; NaN must be made NULL first.\n"
        f"SELECT {key},\n" + ",\n".join(columns) + f"\nFROM {TABLE};\n\n"
        f"-- The full tree: it names the right cluster for {percent(found.full.fidelity)} of the people.\n"
        f"SELECT {key},\n  {tree} AS cluster\nFROM {TABLE};\n"
    )


def _case(
    found: Explanation,
    sql: Callable[[Condition], str],
    *,
    node: int,
    ranges: Callable[[Ranges], tuple[Condition, ...]],
    depth: int,
) -> str:
    tree = found.full.tree
    if tree.question[node] == LEAF:
        return str(int(tree.label[node]))
    (condition,) = ranges({int(tree.question[node]): (0, int(tree.cut[node]))})
    indent = "  " * (depth + 1)
    left, right = (
        _case(found, sql, node=int(side[node]), ranges=ranges, depth=depth + 1) for side in (tree.left, tree.right)
    )
    return f"CASE WHEN {sql(condition)}\n{indent}THEN {left}\n{indent}ELSE {right} END"


class Conditions:
    """Write conditions on the columns of a plan, whose missing values count as it says."""

    def __init__(self, plan: Plan, schema: pa.Schema) -> None:
        self.plans = {column.column: column for column in plan.columns}
        self.schema = schema
        self.reference_day = plan.reference_day

    def sql(self, condition: Condition) -> str:
        """Return the condition as an expression that is true where it holds, and false or NULL elsewhere."""
        column = _column(self.schema.field(condition.question.column))
        plan = self.plans[condition.question.column]
        if condition.question.kind == "missing":
            return f"{column} IS {'' if condition.low == YES else 'NOT '}NULL"
        if isinstance(plan, NumberPlan):
            return self._number(condition, plan, column)
        if isinstance(plan, CategoryPlan):
            return self._category(condition, plan, column)
        return self._label(condition, plan, column)

    def _number(self, condition: Condition, plan: NumberPlan, column: str) -> str:
        kind, fill = self.schema.field(plan.column).type, fill_of(plan, self.reference_day)
        if pa.types.is_boolean(kind):
            column = f"CAST({column} AS INTEGER)"
        of_day = _timestamp if pa.types.is_timestamp(kind) else _date
        literal = of_day if plan.role == "date" else _number
        value = f"COALESCE({column}, {literal(fill)})"
        low, high = condition.at_least, condition.below
        tests = [] if low is None else [f"{value} >= {literal(low)}"]
        return " AND ".join(tests if high is None else [*tests, f"{value} < {literal(high)}"])

    def _category(self, condition: Condition, plan: CategoryPlan, column: str) -> str:
        literal = _literal_of(self.schema.field(plan.column).type)
        holds = condition.low == YES
        if not plan.indicator:  # a missing value counts as the most frequent one
            column = f"COALESCE({column}, {literal(plan.categories[0])})"
        if condition.question.kind == "rare category":
            known = f"{column} IN ({', '.join(literal(value) for value in plan.categories)})"
            if holds:
                return f"NOT ({known})"
            return f"COALESCE({known}, TRUE)" if plan.indicator else known
        value = literal(condition.question.value or "")
        if holds:
            return f"{column} = {value}"
        return f"{column} IS DISTINCT FROM {value}" if plan.indicator else f"{column} <> {value}"

    def _label(self, condition: Condition, plan: LabelPlan, column: str) -> str:
        label = condition.question.value or ""
        if plan.separator is None:
            kind = self.schema.field(plan.column).type
            value = label if pa.types.is_integer(kind.value_type) else _text(label)
            has = f"list_contains({column}, {value})"
        else:
            sign = plan.separator.strip()
            pattern = _text(rf"\s*{_pattern(sign)}\s*")
            joined = f"{_text(sign)} || REGEXP_REPLACE(TRIM({column}), {pattern}, {_text(sign)}, 'g') || {_text(sign)}"
            has = f"POSITION({_text(sign + label + sign)} IN {joined}) > 0"
        return f"COALESCE({has}, FALSE)" if condition.low == YES else f"NOT COALESCE({has}, FALSE)"


def _column(field: pa.Field) -> str:
    """Return a column, or a number of a vector: places in lists count from 1."""
    source = vector_of(field)
    return _quoted(field.name) if source is None else f"{_quoted(source)}[{int(field.metadata[PLACE]) + 1}]"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _number(value: float) -> str:
    return f"{value:.0f}" if value == round(value) and abs(value) < 1e15 else repr(float(value))


def _date(days: float) -> str:
    return f"DATE '{iso_day(days)}'"


def _timestamp(days: float) -> str:
    seconds = round((days % 1.0) * 86_400, 3)
    hours, rest = divmod(seconds, 3600)
    return f"TIMESTAMP '{iso_day(days)} {int(hours):02d}:{int(rest // 60):02d}:{rest % 60:06.3f}'"


def _pattern(sign: str) -> str:
    return "".join(f"\\{c}" if c in r"\.^$*+?()[]{}|" else c for c in sign)


def _literal_of(kind: pa.DataType) -> Callable[[str], str]:
    """Return how a category is written for a column's type: numbers and booleans as themselves, else as text."""
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return str
    return str.upper if pa.types.is_boolean(kind) else _text
