"""What a persona says: three sentences to be read out, what a room would open with, and a fuller portrait.

contrasts of a cluster, strongest first  ->  who they are, what they share, what sets them apart
"""

from __future__ import annotations

from engine.explain.personas.effect_sizes import INTERESTS, NOTABLE, WHO, Contrast
from engine.explain.personas.phrases import clause, interest
from engine.utils.formatting import capitalised, listed, people, percent

CLAUSES = 3  # a sentence; more cannot be listened to
N_INTERESTS = 5


def sentences(strongest: list[Contrast], size: int, share: float, min_people: int) -> tuple[str, ...]:
    answered = [c for c in strongest if c.about.kind != "missing"]
    who = _picked([c for c in answered if c.group == WHO] or [c for c in answered if c.about.kind != "label"], [])
    sharing = [c for c in answered if c.difference > 0 and (not c.is_share or c.here >= 0.3)]
    shared = _picked(sorted(sharing, key=lambda c: c.group != INTERESTS and c.about.kind != "label"), who)
    apart = _picked([c for c in answered if c.strength >= NOTABLE] or answered, [*who, *shared])
    told = [_joined(apart, min_people)] if apart else []
    return (
        f"{capitalised(people(size))}, {percent(share)} of all"
        + (f": {_joined(who, min_people)}." if who else ", much like everybody in who they are."),
        f"What they share: {_joined(shared, min_people)}." if shared else "They share nothing that others do not.",
        f"What sets them apart: {'; '.join([*told, *_open(strongest)])}."
        if told or _open(strongest)
        else "Nothing more sets them apart.",
    )


def _open(strongest: list[Contrast]) -> list[str]:
    """Return a clause on the questions that most of them leave open, or answer, unlike others."""
    missing = [c for c in strongest if c.about.kind == "missing" and c.strength >= NOTABLE]
    clauses = []
    for verb, some in (
        ("they mostly leave open", [c for c in missing if c.difference > 0 and c.here >= 0.5]),
        ("they mostly answer what others leave open", [c for c in missing if c.difference < 0 and c.everybody >= 0.3]),
    ):
        if some:
            named = [c.about.name for c in some[:2]]
            more = len(some) - len(named)
            items = listed([*named, f"{more} more"] if more else named)
            clauses.append(f"{verb}: {items}" if "what" in verb else f"{verb} {items}")
    return clauses


def _picked(candidates: list[Contrast], used: list[Contrast]) -> list[Contrast]:
    """Return a few contrasts of different columns, none told before; a column of labels may give two."""
    picked: list[Contrast] = []
    columns: dict[str, int] = {}
    for contrast in used:
        if contrast.about.kind != "label":
            columns[contrast.about.column] = 2
    for contrast in candidates:
        column, allowed = contrast.about.column, 2 if contrast.about.kind == "label" else 1
        if contrast in used or columns.get(column, 0) >= allowed:
            continue
        columns[column] = columns.get(column, 0) + 1
        picked.append(contrast)
        if len(picked) == CLAUSES:
            break
    return picked


def _joined(parts: list[Contrast], min_people: int) -> str:
    return listed([clause(part, min_people=min_people, brief=n > 0) for n, part in enumerate(parts)])


def interests(strongest: list[Contrast]) -> tuple[str, ...]:
    """Return what more of them like than of everybody, interests before other columns of labels, at most a few."""
    liked = [c for c in strongest if c.difference > 0 and interest(c) and (not c.is_share or c.here >= 0.1)]
    in_group = [c for c in liked if c.group == INTERESTS] or liked
    return tuple(dict.fromkeys(interest(c) or "" for c in in_group))[:N_INTERESTS]


def portrait(
    strongest: list[Contrast], liked: tuple[str, ...], min_people: int
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return headings, and what there is to say below each, of the cluster that has a fuller portrait."""
    parts = [c for c in strongest if c.about.kind != "missing"]
    who = _picked_many([c for c in parts if c.group == WHO] or [c for c in parts if c.about.kind != "label"], 5)
    shared = _picked_many(
        [c for c in parts if c.difference > 0 and (not c.is_share or c.here >= 0.3) and c not in who], 6
    )
    apart = _picked_many([c for c in parts if c not in who and c not in shared], 5)
    said = {
        heading: tuple(capitalised(clause(c, min_people=min_people)) + _interval(c) + "." for c in some)
        for heading, some in (("Who they are", who), ("What they share", shared), ("What sets them apart", apart))
    }
    if liked:
        said["A room for them would open with"] = (capitalised(listed(liked)) + ".",)
    return tuple((heading, lines) for heading, lines in said.items() if lines)


def _picked_many(candidates: list[Contrast], limit: int) -> list[Contrast]:
    columns: dict[str, int] = {}
    picked = []
    for contrast in candidates:
        columns[contrast.about.column] = columns.get(contrast.about.column, 0) + 1
        if columns[contrast.about.column] <= (3 if contrast.about.kind == "label" else 1):
            picked.append(contrast)
    return picked[:limit]


def _interval(contrast: Contrast) -> str:
    if contrast.lift is not None and contrast.lift_low is not None and contrast.lift_high is not None:
        if contrast.lift < 0.1:
            return ""
        times = [f"{value:.{1 if contrast.lift >= 2.0 else 2}f}" for value in
                 (contrast.lift, contrast.lift_low, contrast.lift_high)]  # fmt: skip
        return f": {times[0]} times as often ({times[1]} to {times[2]})"
    sign = "above" if contrast.difference > 0 else "below"
    low, high = sorted((abs(contrast.low), abs(contrast.high)))
    return f": {abs(contrast.difference):.2f} standard deviations {sign} ({low:.2f} to {high:.2f})"
