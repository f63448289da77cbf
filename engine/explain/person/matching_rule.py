"""Find the rule of a cluster that holds for one row: rules.json, read back.

rules of a cluster as in rules.json, PersonRow  ->  the most precise rule that holds, or None
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from engine.explain.binning.binner import Binner
from engine.explain.binning.predicates import YES, Predicate
from engine.explain.person.changed_rows import PersonRow

_EPOCH = date(1970, 1, 1)


def matching_rule(rules: Mapping[str, Any], row: PersonRow) -> dict[str, Any] | None:
    """Return the most precise rule of a cluster that holds for a row, as in rules.json; None if none does."""
    holding = [rule for rule in rules["rules"] if all(_holds(condition, row) for condition in rule["conditions"])]
    return max(holding, key=lambda rule: (rule["precision"], rule["coverage"]), default=None)


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
