"""Find the rule of a cluster that holds for one row, or the one that most nearly does: rules.json, read back.

rules of a cluster as in rules.json, PersonRow  ->  PersonRule: the rule, and the conditions that hold
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from engine.explain.binning.binner import Binner
from engine.explain.binning.predicates import YES, Predicate
from engine.explain.person.changed_rows import PersonRow

_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class PersonRule:
    """A rule, as in rules.json, and which of its conditions hold for a person."""

    rule: dict[str, Any]
    holds: tuple[bool, ...]

    @property
    def conditions(self) -> list[dict[str, Any]]:
        """The conditions, as in rules.json."""
        conditions: list[dict[str, Any]] = self.rule["conditions"]
        return conditions

    @property
    def points(self) -> int:
        """The points that the person has."""
        return sum(_points(c) for c, holds in zip(self.conditions, self.holds, strict=True) if holds)

    @property
    def needed(self) -> int:
        """The points that the rule needs; in runs of earlier versions, rules needed all of their conditions."""
        return int(self.rule.get("points_needed", len(self.conditions)))

    @property
    def total(self) -> int:
        """The points of all conditions together."""
        return sum(map(_points, self.conditions))

    @property
    def is_conjunction(self) -> bool:
        """Whether the rule needs all of its conditions."""
        return self.needed == self.total

    @property
    def lacking(self) -> list[dict[str, Any]]:
        """The fewest further conditions that would have to hold for the rule to match: those of most points."""
        found: list[dict[str, Any]] = []
        points = self.points
        for condition in sorted(self._not_held(), key=_points, reverse=True):
            if points >= self.needed:
                break
            found.append(condition)
            points += _points(condition)
        return found

    def facts(self) -> dict[str, Any]:
        """Return the points of the person, and what is lacking, as plain JSON values."""
        return {
            "words": self.rule["words"],
            "points": self.points,
            "points_needed": self.needed,
            "holds": list(self.holds),
            "lacking": self.lacking,
        }

    def _not_held(self) -> list[dict[str, Any]]:
        return [c for c, holds in zip(self.conditions, self.holds, strict=True) if not holds]


def matching_rule(rules: Mapping[str, Any], row: PersonRow) -> PersonRule | None:
    """Return the most precise rule of a cluster that holds for a row; None if none does."""
    holding = [rule for rule in _evaluate(rules, row) if rule.points >= rule.needed]
    return max(holding, key=lambda found: (found.rule["precision"], found.rule["coverage"]), default=None)


def nearest_rule(rules: Mapping[str, Any], row: PersonRow) -> PersonRule | None:
    """Return the rule of a cluster that lacks fewest conditions for a row; None if the cluster has no rules."""
    return min(_evaluate(rules, row), key=lambda found: (len(found.lacking), -found.rule["precision"]), default=None)


def _evaluate(rules: Mapping[str, Any], row: PersonRow) -> list[PersonRule]:
    return [PersonRule(rule, tuple(_holds(c, row) for c in rule["conditions"])) for rule in rules["rules"]]


def _points(condition: Mapping[str, Any]) -> int:
    return int(condition.get("points", 1))


def _holds(condition: Mapping[str, Any], row: PersonRow) -> bool:
    """Tell whether a condition holds, by the binning that rules are counted with."""
    bounds = tuple(_number(condition[key]) for key in ("at_least", "below") if key in condition)
    predicate = Predicate(condition["column"], "", condition["kind"], condition.get("value"), bounds)
    binner = Binner(row.model.encoder.plan, [predicate])
    found = int(binner.unpack(binner.pack(row.block))[0, 0])
    if bounds:
        return found == ("at_least" in condition)
    return bool((found == YES) == condition["holds"])


def _number(bound: float | str) -> float:
    """Return a bound as a number; dates are days since 1970-01-01."""
    return float((date.fromisoformat(bound) - _EPOCH).days) if isinstance(bound, str) else float(bound)
