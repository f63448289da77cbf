"""Compose a typical member of a cluster from medians and most frequent values, so that it is no real person.

effect sizes of a cluster  ->  columns and their typical values, demographics first
"""

from __future__ import annotations

from engine.explain.personas.effect_sizes import DEMOGRAPHICS, EffectSize
from engine.explain.personas.phrases import format_value
from engine.explain.rules.conditions import truth_words
from engine.utils.formatting import natural_list

MAX_DEMOGRAPHICS, MAX_COLUMNS = 6, 12  # columns of demographics, and of all


def typical_member(effect_sizes: list[EffectSize], min_people: int) -> tuple[tuple[str, str], ...]:
    """Return the typical value of each of the columns with the strongest effects, demographics first."""
    by_column: dict[str, list[EffectSize]] = {}
    for effect_size in effect_sizes:
        if effect_size.feature.kind != "missing":
            by_column.setdefault(effect_size.feature.column, []).append(effect_size)
    entries: list[tuple[bool, float, str, str]] = []
    for of_column in by_column.values():
        strongest, value = max(e.strength for e in of_column), _typical_value(of_column, min_people)
        if value is not None:
            entries.append((of_column[0].group != DEMOGRAPHICS, -strongest, of_column[0].feature.name, value))
    demographics = [entry for entry in sorted(entries) if not entry[0]][:MAX_DEMOGRAPHICS]
    others = [entry for entry in sorted(entries) if entry[0]][: MAX_COLUMNS - len(demographics)]
    return tuple((name, value) for _, _, name, value in [*demographics, *others])


def _typical_value(of_column: list[EffectSize], min_people: int) -> str | None:
    """Return the typical value of one column, or None if too few people are behind it."""
    kind = of_column[0].feature.kind
    if not of_column[0].is_share:
        return format_value(of_column[0], of_column[0].cluster_value) if of_column[0].n_people >= min_people else None
    largest = max(of_column, key=lambda e: e.cluster_value)
    if kind == "truth":
        yes = largest.cluster_value >= 0.5
        n_people = largest.n_people if yes else largest.n_known - largest.n_people
        meaning = largest.feature.meaning(largest.feature.thresholds[0] if yes else largest.feature.lower_value)
        if meaning is None and (largest.feature.lower_value, largest.feature.thresholds[0]) != (0.0, 1.0):
            meaning = truth_words(largest.feature, yes=yes).removeprefix(f"{largest.feature.name} is ")
        return (meaning or ("yes" if yes else "no")) if n_people >= min_people else None
    if largest.n_people < min_people:
        return None
    if kind == "category":
        return largest.feature.value_words
    frequent = sorted(
        (e for e in of_column if e.cluster_value >= 0.25 and e.n_people >= min_people), key=lambda e: -e.cluster_value
    )
    return natural_list([e.feature.value_words for e in frequent[:3]]) or None
