"""Name clusters: two tags of the strongest effects that hold for most of the cluster, unique in the run.

effect sizes of every cluster, strongest first  ->  "Comedy and high mobile share"
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from engine.explain.personas.effect_sizes import SMALL_EFFECT, EffectSize
from engine.explain.personas.phrases import has_same_value, interest_words, is_sensitive, name_tag
from engine.explain.personas.related_columns import series_name
from engine.utils.domain_words import DEFAULT_WORDS, DomainWords
from engine.utils.formatting import capitalize_first, natural_list
from engine.utils.name_words import without_number

LONG_TAG = 36  # characters from which a tag is long: a name is two tags
DIRECTIONS = {
    "high",
    "many",
    "little",
    "recent",
    "earlier",
    "later",
    "towards",
    "fond",
}  # words of a tag beside its subject
MAX_TAGS = 4  # of a name
MIN_LACKED = 0.25  # share of everybody with what a name says a cluster lacks
MAX_POSSIBLE_TAGS = 8  # of those that a kept name may be made of
LEFT_BLANK = "many questions left open"


def name_clusters(
    ranked: list[list[EffectSize]],
    shown: Sequence[bool],
    sizes: NDArray[np.int64],
    earlier: Sequence[str | None] = (),
    given: Sequence[str | None] = (),
    words: DomainWords = DEFAULT_WORDS,
) -> list[str]:
    """Name clusters by their strongest effects, larger clusters first; tags are added until a name is new.

    A name in `given` is taken as it is. One in `earlier` is kept if each of its tags still describes the cluster.
    """
    ranked = [_without_numbers_of_series(of_cluster) for of_cluster in ranked]
    names = {c: name for c, name in enumerate(given) if name is not None}
    used: set[frozenset[str]] = set()
    columns: dict[str, set[str]] = {}
    for effect_size in (e for of_cluster in ranked for e in of_cluster if e.feature.kind in ("category", "label")):
        columns.setdefault(effect_size.feature.value_words, set()).add(effect_size.feature.column)
    ambiguous = {value for value, of_value in columns.items() if len(of_value) > 1}
    for c, name in enumerate(earlier):
        if name is not None and c not in names and shown[c]:
            kept = _tags_of_name(name, [name_tag(e, ambiguous) for e in ranked[c]])
            if kept and name not in names.values():
                names[c] = name
                used.add(frozenset(kept))
    for c in np.argsort(-sizes, kind="stable").tolist():
        if c in names:
            continue
        if not shown[c]:
            base, tags = ("Empty cluster" if sizes[c] == 0 else f"A few {words.plural}"), []
        else:
            tags = _tags(ranked[c], ambiguous)
            base = f"Much like {words.everybody}" if len(ranked) > 1 else capitalize_first(words.everybody)
        choices = [tags[:n] for n in range(min(2, len(tags)), len(tags) + 1) if n]
        unused = (choice for choice in choices if frozenset(choice) not in used)
        chosen = next(unused, choices[-1] if choices else [])
        used.add(frozenset(chosen))  # "the 1990s and older" is the same name as "older and the 1990s"
        name = capitalize_first(natural_list(chosen)) or base
        number, unique = 1, name
        while unique in names.values():
            number += 1
            unique = f"{name} ({number})"
        names[c] = unique
    return [names[c] for c in range(len(ranked))]


def _without_numbers_of_series(strongest: list[EffectSize]) -> list[EffectSize]:
    """Return effect sizes of which those of a series, all more or all less, are named by what its columns share."""
    series: dict[str, dict[str, bool]] = {}  # whether a cluster has more, by column
    for effect_size in strongest:
        if effect_size.feature.kind == "number":
            column = effect_size.feature.column
            series.setdefault(series_name(column), {})[column] = effect_size.difference > 0

    def rename(effect_size: EffectSize) -> EffectSize:
        feature = effect_size.feature
        directions = series.get(series_name(feature.column), {}) if feature.kind == "number" else {}
        if len(directions) < 2 or len(set(directions.values())) > 1:
            return effect_size
        return replace(effect_size, feature=replace(feature, name=without_number(feature.name)))

    return [rename(effect_size) for effect_size in strongest]


def _tags_of_name(name: str, tags: Sequence[str]) -> tuple[str, ...]:
    """Return those of a cluster's tags that make up a name, none if no choice of them does."""
    base = re.sub(r" \(\d+\)$", "", name)  # the number of a name that another cluster had as well
    possible = [tag for tag in dict.fromkeys([LEFT_BLANK, *tags]) if tag.lower() in base.lower()][:MAX_POSSIBLE_TAGS]
    for n in range(1, MAX_TAGS + 1):
        for choice in permutations(possible, n):
            if capitalize_first(natural_list(choice)) == base:
                return choice
    return ()


def _tags(strongest: list[EffectSize], ambiguous: set[str]) -> list[str]:
    """Return up to four tags, the most informative first, one per column; a notable interest is among the first two.

    They hold for most of the cluster; only where none does, what it has more often than others is named as such.
    """
    answered = [e for e in strongest if e.feature.kind != "missing" and _holds_for_most(e)]
    answered = [e for e in answered if _tells_apart(e)] or answered
    if not answered and not _leaves_blank(strongest):
        more = [e for e in strongest if e.feature.kind != "missing" and e.difference > 0]
        answered, often = more[:1], "often "
    else:
        often = ""
    preferred = sorted(answered, key=lambda e: -e.strength * _informativeness(e, ambiguous))
    interest = next(
        (e for e in preferred if e.difference > 0 and interest_words(e) and e.strength >= SMALL_EFFECT), None
    )
    if interest is not None and interest not in preferred[:2]:
        preferred.insert(1, interest)
    tags = [LEFT_BLANK] if _leaves_blank(strongest) else []
    used_columns: set[str] = set()
    for effect_size in preferred:
        column, tag = effect_size.feature.column, often + name_tag(effect_size, ambiguous)
        if (column in used_columns and effect_size.feature.kind != "label") or any(
            _same_subject(tag, other) for other in tags
        ):
            continue
        used_columns.add(column)
        tags.append(tag)
        if len(tags) == MAX_TAGS:
            break
    return tags


def _holds_for_most(effect_size: EffectSize) -> bool:
    """Return whether what the tag says is true of most of the cluster, and so of its typical member."""
    if effect_size.is_share:
        return (effect_size.cluster_value >= 0.5) == (effect_size.difference > 0)
    return effect_size.position != 0.5 and (effect_size.position > 0.5) == (effect_size.difference > 0)


def _tells_apart(effect_size: EffectSize) -> bool:
    """Return whether a tag says more than a slight tendency, or the lack of what few have."""
    if effect_size.is_share:
        return effect_size.difference > 0 or effect_size.overall_value >= MIN_LACKED
    return not has_same_value(effect_size)


def _leaves_blank(strongest: list[EffectSize]) -> bool:
    """Return whether missing answers characterize a cluster most: ten columns or more with a difference of 0.5."""
    return sum(e.feature.kind == "missing" and e.difference > 0 and e.strength >= 0.5 for e in strongest) >= 10


def _informativeness(effect_size: EffectSize, ambiguous: set[str]) -> float:
    """Return the weight of an effect in a name: interests count most, absent things and long texts least.

    Dates count half, and a sensitive attribute appears only where little else distinguishes a cluster.
    """
    weight = 1.0 if len(name_tag(effect_size, ambiguous)) <= LONG_TAG else 0.4
    weight *= 0.5 if effect_size.feature.kind == "date" else 1.0
    weight *= 0.3 if is_sensitive(effect_size) else 1.0
    if effect_size.difference > 0 and interest_words(effect_size):
        return 1.5 * weight
    return (0.6 if effect_size.difference < 0 and effect_size.is_share else 1.0) * weight


def _same_subject(a: str, b: str) -> bool:
    """Return whether two tags share their main word, as "Anime" and "fond of Anime" do."""
    first, second = ({word.lower() for word in text.split() if len(word) > 3} - DIRECTIONS for text in (a, b))
    return bool(first & second)
