"""Write the texts of a persona: up to three sentences to be read aloud, its interests, and a fuller portrait.

effect sizes of a cluster, strongest first  ->  who they are, what they share, what sets them apart
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.explain.personas.effect_sizes import DEMOGRAPHICS, INTERESTS, SMALL_EFFECT, EffectSize
from engine.explain.personas.phrases import clause, has_same_value, interest_words
from engine.utils.domain_words import DomainWords
from engine.utils.formatting import capitalize_first, format_percent, natural_list

MAX_CLAUSES = 3  # of a sentence: nobody can listen to more
MAX_INTERESTS = 5


def write_sentences(
    strongest: list[EffectSize], size: int, share: float, min_people: int, words: DomainWords
) -> tuple[str, ...]:
    """Return sentences: who the people are; and, if there is such, what they share and what sets them apart."""
    answered = [e for e in strongest if e.feature.kind != "missing"]
    identity = _select(
        [e for e in answered if e.group == DEMOGRAPHICS] or [e for e in answered if e.feature.kind != "label"], []
    )
    common = [e for e in answered if e.difference > 0 and (not e.is_share or e.cluster_value >= 0.3)]
    shared = _select(sorted(common, key=lambda e: e.group != INTERESTS and e.feature.kind != "label"), identity)
    distinctive = _select([e for e in answered if e.strength >= SMALL_EFFECT] or answered, [*identity, *shared])
    apart = [_join_clauses(distinctive, min_people, words)] if distinctive else []
    apart += _missing_clauses(strongest)
    who = (
        f": {_join_clauses(identity, min_people, words)}."
        if identity
        else f", much like {words.everybody} in who they are."
    )
    sentences = [f"{words.count(size)}, {format_percent(share)} of all{who}"]
    if shared:
        sentences.append(f"What they share: {_join_clauses(shared, min_people, words)}.")
    if apart:
        sentences.append(f"What sets them apart: {'; '.join(apart)}.")
    return (*sentences, *(() if identity or shared or apart else ("Nothing tells them from others.",)))


def _missing_clauses(strongest: list[EffectSize]) -> list[str]:
    """Return clauses on the columns that most of them leave open, or answer, unlike others."""
    missing = [e for e in strongest if e.feature.kind == "missing" and e.strength >= SMALL_EFFECT]
    clauses = []
    for verb, selected in (
        ("they mostly leave open", [e for e in missing if e.difference > 0 and e.cluster_value >= 0.5]),
        (
            "they mostly answer what others leave open",
            [e for e in missing if e.difference < 0 and e.overall_value >= 0.3],
        ),
    ):
        if selected:
            names = [e.feature.name for e in selected[:2]]
            n_more = len(selected) - len(names)
            items = natural_list([*names, f"{n_more} more"] if n_more else names)
            clauses.append(f"{verb}: {items}" if "what" in verb else f"{verb} {items}")
    return clauses


def _select(candidates: list[EffectSize], used: list[EffectSize]) -> list[EffectSize]:
    """Return a few unused effect sizes of different columns; a column of labels may give two."""
    selected: list[EffectSize] = []
    columns: dict[str, int] = {}
    for effect_size in used:
        if effect_size.feature.kind != "label":
            columns[effect_size.feature.column] = 2
    for effect_size in candidates:
        column, allowed = effect_size.feature.column, 2 if effect_size.feature.kind == "label" else 1
        if effect_size in used or columns.get(column, 0) >= allowed:
            continue
        columns[column] = columns.get(column, 0) + 1
        selected.append(effect_size)
        if len(selected) == MAX_CLAUSES:
            break
    return selected


def _join_clauses(effect_sizes: list[EffectSize], min_people: int, words: DomainWords) -> str:
    return natural_list(
        [
            clause(e, min_people=min_people, brief=n > 0, words=words) + _distance_words(e)
            for n, e in enumerate(effect_sizes)
        ]
    )


def _distance_words(effect_size: EffectSize) -> str:
    """Return by how much numbers differ whose typical values are the same, so that no clause is without a figure."""
    if not has_same_value(effect_size):
        return ""
    return f" (by {abs(effect_size.difference):.2f} standard deviations)"


def find_interests(strongest: list[EffectSize]) -> tuple[str, ...]:
    """Return up to MAX_INTERESTS things that they like more often than everybody, from the group of interests first."""
    liked = [
        e for e in strongest if e.difference > 0 and interest_words(e) and (not e.is_share or e.cluster_value >= 0.1)
    ]
    preferred = [e for e in liked if e.group == INTERESTS] or liked
    return tuple(dict.fromkeys(interest_words(e) or "" for e in preferred))[:MAX_INTERESTS]


def write_portrait(
    strongest: list[EffectSize], interests: tuple[str, ...], min_people: int, words: DomainWords
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the headings of a fuller portrait and the lines below each."""
    answered = [e for e in strongest if e.feature.kind != "missing"]
    identity = _select_many(
        [e for e in answered if e.group == DEMOGRAPHICS] or [e for e in answered if e.feature.kind != "label"], 5
    )
    shared = _select_many(
        [e for e in answered if e.difference > 0 and (not e.is_share or e.cluster_value >= 0.3) and e not in identity],
        6,
        identity,
    )
    distinctive = _select_many([e for e in answered if e not in identity and e not in shared], 5, [*identity, *shared])
    portrait = {
        heading: tuple(
            capitalize_first(clause(e, min_people=min_people, words=words)) + _interval_words(e) + "."
            for e in effect_sizes
        )
        for heading, effect_sizes in (
            ("Who they are", identity),
            ("What they share", shared),
            ("What sets them apart", distinctive),
        )
    }
    if interests:
        portrait[words.opens_with] = (capitalize_first(natural_list(interests)) + ".",)
    return tuple((heading, lines) for heading, lines in portrait.items() if lines)


def _select_many(candidates: list[EffectSize], limit: int, used: Sequence[EffectSize] = ()) -> list[EffectSize]:
    """Return at most `limit` effect sizes of other columns than `used`, one per column, of a column of labels up to
    three.
    """
    columns = {e.feature.column: 1 for e in used if e.feature.kind != "label"}
    selected = []
    for effect_size in candidates:
        columns[effect_size.feature.column] = columns.get(effect_size.feature.column, 0) + 1
        if columns[effect_size.feature.column] <= (3 if effect_size.feature.kind == "label" else 1):
            selected.append(effect_size)
    return selected[:limit]


def _interval_words(effect_size: EffectSize) -> str:
    if effect_size.lift is not None and effect_size.lift_low is not None and effect_size.lift_high is not None:
        if effect_size.lift < 0.1:
            return ""
        times = [f"{value:.{1 if effect_size.lift >= 2.0 else 2}f}" for value in
                 (effect_size.lift, effect_size.lift_low, effect_size.lift_high)]  # fmt: skip
        return f": {times[0]} times as often ({times[1]} to {times[2]})"
    sign = "above" if effect_size.difference > 0 else "below"
    if effect_size.feature.scale:  # which may count down: 1 is excellent, 5 poor
        sign = f"towards {effect_size.feature.scale[-1 if effect_size.difference > 0 else 0][1]}"
    low, high = sorted((abs(effect_size.difference_low), abs(effect_size.difference_high)))
    return f": {abs(effect_size.difference):.2f} standard deviations {sign} ({low:.2f} to {high:.2f})"
