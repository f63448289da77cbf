"""A typical member: put together from medians and most frequent values, so it is nobody.

contrasts of a cluster  ->  what, and its typical value, demographics first
"""

from __future__ import annotations

from engine.explain.personas.effect_sizes import WHO, Contrast
from engine.explain.personas.phrases import figure
from engine.explain.rules.conditions import truth_words
from engine.utils.formatting import listed

TOLD_WHO, TOLD = 6, 12  # columns of demographics, and of all


def typical(part: list[Contrast], min_people: int) -> tuple[tuple[str, str], ...]:
    """Return the typical value of each of the columns that tell most, demographics first."""
    by_column: dict[str, list[Contrast]] = {}
    for contrast in part:
        if contrast.about.kind != "missing":
            by_column.setdefault(contrast.about.column, []).append(contrast)
    found: list[tuple[bool, float, str, str]] = []
    for contrasts in by_column.values():
        strongest, value = max(c.strength for c in contrasts), _typical_value(contrasts, min_people)
        if value is not None:
            found.append((contrasts[0].group != WHO, -strongest, contrasts[0].about.name, value))
    who = [entry for entry in sorted(found) if not entry[0]][:TOLD_WHO]
    rest = [entry for entry in sorted(found) if entry[0]][: TOLD - len(who)]
    return tuple((name, value) for _, _, name, value in [*who, *rest])


def _typical_value(contrasts: list[Contrast], min_people: int) -> str | None:
    kind = contrasts[0].about.kind
    if not contrasts[0].is_share:
        return figure(contrasts[0], contrasts[0].here) if contrasts[0].n_people >= min_people else None
    most = max(contrasts, key=lambda c: c.here)
    if kind == "truth":
        yes = most.here >= 0.5
        behind = most.n_people if yes else most.n_known - most.n_people
        meaning = most.about.meaning(most.about.cuts[0] if yes else most.about.low)
        if meaning is None and (most.about.low, most.about.cuts[0]) != (0.0, 1.0):
            meaning = truth_words(most.about, yes=yes).removeprefix(f"{most.about.name} is ")
        return (meaning or ("yes" if yes else "no")) if behind >= min_people else None
    if most.n_people < min_people:
        return None
    if kind == "category":
        return most.about.said
    often = sorted((c for c in contrasts if c.here >= 0.25 and c.n_people >= min_people), key=lambda c: -c.here)
    return listed([c.about.said for c in often[:3]]) or None
