"""Why one person is in their cluster: persona, rule, runner-up, and the least change that would move them.

    model, rules, names, the person's row  ->  Why: facts for programs, and text

The row is read from the table. A run holds clusters and ids, and no profiles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from engine import backends
from engine.config import FitConfig
from engine.explain.person.changed_rows import PersonRow, Value
from engine.explain.person.least_change import LeastChange, find_least_change
from engine.explain.person.matching_rule import PersonRule, matching_rule, nearest_rule
from engine.features.encoding_plan import ColumnPlan, NumberPlan
from engine.model.assignments import ROW, assignment_table
from engine.model.model import Model
from engine.tables.vector_columns import vector_name
from engine.utils.domain_words import DEFAULT_WORDS, DomainWords
from engine.utils.formatting import (
    Vocabulary,
    format_exact_quantity,
    format_iso_day,
    format_percent,
    natural_list,
    printable_text,
)


@dataclass(frozen=True)
class ColumnChange:
    """One column of a change: its name in words, what it holds, and what it would hold, as values and in words."""

    column: str
    name: str
    now: Value
    then: Value
    words: str


@dataclass(frozen=True)
class Why:
    """Why a person is in their cluster.

    Attributes
    ----------
    id : scalar
    cluster : int
        The number of the cluster that the model assigns their row to.
    assigned : int
        The number of the cluster that the run assigned them to; another one if the table is not the run's.
    distance, margin : float
        As in the assignments.
    outlier : bool
    runner_up : int or None
        The number of the second nearest cluster; None if there is one cluster.
    runner_up_odds : float or None
    rule : dict or None
        The most precise rule of the cluster that holds for them, as in rules.json. None if none holds.
    nearest : PersonRule or None
        That rule, or the one that lacks fewest conditions, with the conditions that hold for them, the points they have
        and the fewest further conditions that it would take. None if the cluster has no rules.
    explained : bool
        Whether the run has rules.
    changes : tuple of ColumnChange
        The least change that would move them; none if nothing would.
    moves_to : int or None
        The number of the cluster that the changed row is assigned to.
    names : dict of number to name
        Of all clusters.
    """

    id: Any
    cluster: int
    assigned: int
    distance: float
    margin: float
    outlier: bool
    runner_up: int | None
    runner_up_odds: float | None
    rule: dict[str, Any] | None
    nearest: PersonRule | None
    explained: bool
    changes: tuple[ColumnChange, ...]
    moves_to: int | None
    names: dict[int, str]
    words: DomainWords = DEFAULT_WORDS

    def facts(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        change = None if self.moves_to is None else {
            "cluster": self.moves_to,
            "name": self.names[self.moves_to],
            "columns": [
                {"column": c.column, "from": _plain(c.now), "to": _plain(c.then), "words": c.words}
                for c in self.changes
            ],
        }  # fmt: skip
        return {
            "id": self.id,
            "cluster": self.cluster,
            "name": self.names[self.cluster],
            "assigned": self.assigned,
            "distance": self.distance,
            "margin": self.margin,
            "outlier": self.outlier,
            "rule": self.rule,
            "nearest_rule": None if self.nearest is None else self.nearest.facts(),
            "runner_up": self.runner_up,
            "runner_up_name": None if self.runner_up is None else self.names[self.runner_up],
            "runner_up_odds": self.runner_up_odds,
            "least_change": change,
        }

    def describe(self) -> str:
        """Return everything as text."""
        outlier = ", but far from it: an outlier" if self.outlier else ""
        lines = [f"cluster {self._named(self.cluster)}{outlier}"]
        if self.assigned != self.cluster:
            lines.append(f"the run has them in {self._named(self.assigned)}: the table is not the one of the run")
        lines.append(self._rule_words())
        if self.runner_up is not None:
            odds = "" if self.runner_up_odds is None else f", odds {format_percent(self.runner_up_odds)}"
            lines.append(f"runner-up: {self._named(self.runner_up)}{odds}, margin {self.margin:.2f}")
            lines.append(self._change_words())
        return "\n".join(lines)

    def _named(self, number: int) -> str:
        return f"{number} “{printable_text(self.names[number])}”"

    def _rule_words(self) -> str:
        if not self.explained:
            return "rule: unknown, because the run was made with --skip explain"
        if self.nearest is None:
            return "rule: the cluster has none"
        rule = self.nearest.rule
        points = "" if self.nearest.is_conjunction else f"; they have {self._points_words()}"
        if self.rule is None:
            lacking = natural_list([condition.get("words", "a condition") for condition in self.nearest.lacking])
            nearest = f"the nearest is: {rule['words']}{points}; it takes {lacking}"
            return f"rule: none of the cluster's rules holds for them; {nearest}"
        precision = format_percent(rule["precision"])
        return f"rule: {rule['words']} ({precision} of the {self.words.plural} it matches are in this cluster){points}"

    def _points_words(self) -> str:
        """Return how many points the person has: of a score of single points, how many conditions hold."""
        nearest = self.nearest
        assert nearest is not None
        if nearest.total == len(nearest.conditions):
            return f"{nearest.points} of its {nearest.total} conditions, and {nearest.needed} are needed"
        return f"{nearest.points} of its {nearest.total} points, and {nearest.needed} are needed"

    def _change_words(self) -> str:
        if self.moves_to is None:
            return "least change: nothing within the limits of the columns would move them"
        words = natural_list([change.words for change in self.changes])
        return f"least change: {words}; then they would be in {self._named(self.moves_to)}"


def explain_person(
    model: Model,
    settings: FitConfig,
    rules: list[dict[str, Any]] | None,
    names: Mapping[int, str],
    id: Any,
    assigned: int,
    row: pa.Table,
) -> Why:
    """Explain why a person is in their cluster.

    Parameters
    ----------
    model : Model
    settings : FitConfig
        Of the run: what its columns are called.
    rules : list of dict or None
        The clusters of rules.json; None if the run has no rules.
    names : mapping of number to name
    id : scalar
    assigned : int
        The number of the cluster that the run assigned them to.
    row : pyarrow.Table of one row
        With the columns of the model.
    """
    person = PersonRow(model, model.encoder.read_block(row))  # one text that is no number says nothing of its column
    nearest = backends.resolve("auto")[0].nearest_two(model.block_scores(person.block), model.centers)
    numbers = model.cluster_numbers
    (facts,) = assignment_table(pa.array([0]), ROW, nearest, model.fences, model.odds, numbers).to_pylist()
    change = find_least_change(person, *_changeable_columns(model, settings, row.schema))
    words = Vocabulary.from_schema(
        row.schema, model.encoder.columns, settings.explain.words, settings.explain.values, model.encoder.plan.measured
    )
    alone = model.n_clusters == 1
    of_cluster = None if rules is None else rules[int(nearest.labels[0])]
    rule = None if of_cluster is None else matching_rule(of_cluster, person)
    nearly = rule or (None if of_cluster is None else nearest_rule(of_cluster, person))
    return Why(
        id, facts["cluster"], assigned, facts["distance"], facts["margin"], facts["outlier"],
        None if alone else facts["runner_up"], None if alone else facts["runner_up_odds"],
        None if rule is None else rule.rule, nearly, rules is not None,
        () if change is None else _column_changes(person, change, words),
        None if change is None else int(numbers[change.label]), dict(names),
        DomainWords.of(settings.explain.domain),
    )  # fmt: skip


def _changeable_columns(model: Model, settings: FitConfig, schema: pa.Schema) -> tuple[list[str], list[str]]:
    """Return the columns that a change may be told of, and those that hold whole numbers.

    Numbers of vectors without words are left out: "embedding 17" tells readers nothing.
    """

    def is_readable(name: str) -> bool:
        field = schema.field(name)
        named = name in settings.explain.words or b"rooms.words" in (field.metadata or {})
        return named or vector_name(field) is None

    columns = [name for name in model.encoder.columns if is_readable(name)]
    return columns, [name for name in columns if pa.types.is_integer(schema.field(name).type)]


def _column_changes(person: PersonRow, change: LeastChange, words: Vocabulary) -> tuple[ColumnChange, ...]:
    plans = {plan.column: plan for plan in person.model.encoder.plan.columns}
    changes = []
    for column, then in change.values.items():
        now, name = person.values[column], words.names[column]
        text = _words(plans[column], name, now, then, dict(words.meanings(column)))
        changes.append(ColumnChange(column, name, _dated(plans[column], now), _dated(plans[column], then), text))
    return tuple(changes)


def _words(plan: ColumnPlan, name: str, now: Value, then: Value, meanings: Mapping[str, str]) -> str:
    """Return a change in words: "plan is Basic instead of Family"."""
    if isinstance(then, tuple):
        before = now if isinstance(now, tuple) else ()
        added = [_value_words(plan, name, label, meanings) for label in then if label not in before]
        removed = [_value_words(plan, name, label, meanings) for label in before if label not in then]
        return f"{name} with {natural_list(added)}" if added else f"{name} without {natural_list(removed)}"
    before_words = "a missing value" if now is None else _value_words(plan, name, _rounded(now, then), meanings)
    return f"{name} {_value_words(plan, name, then, meanings)} instead of {before_words}"


def _rounded(now: Value, then: Value) -> Value:
    """Return a value with four digits, unless it is a whole number or would be the value that it is compared with."""
    if not isinstance(now, float) or now.is_integer():
        return now
    rounded = float(f"{now:.4g}")
    return now if rounded == then else rounded


def _value_words(plan: ColumnPlan, name: str, value: Value, meanings: Mapping[str, str]) -> str:
    key = f"{value:.12g}" if isinstance(value, float) else str(value)
    if key in meanings:
        return meanings[key]
    if not isinstance(value, float):
        return printable_text(str(value))
    if isinstance(plan, NumberPlan) and plan.role == "date":
        return format_iso_day(value)
    if isinstance(plan, NumberPlan) and plan.role == "boolean" and value in (0.0, 1.0):
        return "yes" if value else "no"
    return format_exact_quantity(value, plan.unit, name)


def _dated(plan: ColumnPlan, value: Value) -> Value:
    """Return a value as programs take it: days of a date column as an ISO date."""
    is_date = isinstance(plan, NumberPlan) and plan.role == "date"
    return format_iso_day(value) if is_date and isinstance(value, float) else value


def _plain(value: Value) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, tuple):
        return list(value)
    return value.item() if isinstance(value, np.generic) else value
