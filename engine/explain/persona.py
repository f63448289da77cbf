"""Personas: what the people of each cluster are like, for somebody who has to remember them and talk about them.

    contrasts, sizes  ->  a short name, unique in the run, three sentences, a typical member, and what a room opens with

Everything is about many: no figure has fewer than `min_people` sampled people behind it, a cluster of fewer people
has no portrait, and the typical member is put together from medians and most frequent values, so it is nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.explain.contrast import Contrast
from engine.explain.phrases import clause, figure, interest, tag
from engine.explain.rules import truth_words
from engine.explain.sample import Sample
from engine.explain.words import capitalised, listed, people, percent

NOTABLE = 0.2  # standardised difference from which a contrast is worth a word: Cohen's "small"
TRIVIAL = 0.1  # … and below which people are like everybody
LEAST_SHARE = 0.01  # of everybody that the community persona must have: strange and tiny is not a community
CLAUSES = 3  # a sentence; more cannot be listened to
N_INTERESTS = 5
TOLD = 12  # contrasts a persona keeps
LONG_TAG = 36  # characters; a name is two tags
LEFT_BLANK = "many questions left open"
WHO = "demographics"
INTERESTS = "interests"


@dataclass(frozen=True)
class Persona:
    """A readable description of one cluster.

    Attributes
    ----------
    cluster, size, share : int, int, float
    name : str
        Short, unique in the run.
    sentences : tuple of str
        Three, to be read out: who they are, what they share, what sets them apart. One if there are too few people.
    typical : tuple of (str, str)
        A typical member: what, and its typical value. Composite, no real person.
    interests : tuple of str
        What a room for them would open with.
    contrasts : tuple of Contrast
        The strongest first, one a row of the report's table.
    portrait : tuple of (str, tuple of str)
        Of the community persona only: headings, and what there is to say.
    strength : float
        Root mean square of the standardised differences, a column counting once: 0 is like everybody.
    """

    cluster: int
    size: int
    share: float
    name: str
    sentences: tuple[str, ...]
    typical: tuple[tuple[str, str], ...]
    interests: tuple[str, ...]
    contrasts: tuple[Contrast, ...]
    strength: float
    portrait: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def is_community(self) -> bool:
        """Whether this is the run's community persona."""
        return bool(self.portrait)


def personas(sample: Sample, found: list[list[Contrast]], *, min_people: int) -> list[Persona]:
    """Describe every cluster, in the order of the clusters.

    Parameters
    ----------
    sample : Sample
    found : list of lists of Contrast
        As engine.explain.contrast.contrasts returns them.
    min_people : int
        People behind a figure, at least.
    """
    total = int(sample.sizes.sum())
    sampled = np.bincount(sample.labels, minlength=sample.n_clusters)
    ranked = [_ranked(part, min_people) for part in found]
    shown = [sampled[c] >= min_people for c in range(sample.n_clusters)]
    names = _names(ranked, shown, sample)
    strengths = [_strength(part) if shown[c] else 0.0 for c, part in enumerate(found)]
    described = []
    for c, strongest in enumerate(ranked):
        size = int(sample.sizes[c])
        share = size / total
        if not shown[c]:
            empty = "Nobody is in this cluster." if size == 0 else (
                f"{capitalised(people(size))}, too few to portray without portraying persons: "
                f"figures need {min_people}."
            )  # fmt: skip
            described.append(Persona(c, size, share, names[c], (empty,), (), (), (), 0.0))
            continue
        sentences = _sentences(strongest, size, share, min_people)
        described.append(
            Persona(c, size, share, names[c], sentences, _typical(found[c], min_people), _interests(strongest),
                    tuple(strongest[:TOLD]), strengths[c])
        )  # fmt: skip
    return _with_community(described, ranked, min_people)


def _ranked(part: list[Contrast], min_people: int) -> list[Contrast]:
    """Return the contrasts worth telling, strongest first; of those with too few people behind, only what is rare."""
    worth = [
        c for c in part
        if c.n_known >= min_people and c.strength >= TRIVIAL and (c.n_people >= min_people or c.difference < 0)
    ]  # fmt: skip
    # Of "is F" and "is not M" the first is said.
    return sorted(worth, key=lambda c: -c.strength * (0.75 if c.is_share and c.difference < 0 else 1.0))


def _strength(part: list[Contrast]) -> float:
    """Return the root mean square difference: per column of the table the largest of its contrasts' strengths."""
    best: dict[str, float] = {}
    for contrast in part:
        best[contrast.about.column] = max(best.get(contrast.about.column, 0.0), contrast.strength)
    return float(np.sqrt(np.mean(np.square(list(best.values()))))) if best else 0.0


def _names(ranked: list[list[Contrast]], shown: Sequence[bool], sample: Sample) -> list[str]:
    """Name clusters by their strongest contrasts, larger clusters first; another one is added until a name is new."""
    names: dict[int, str] = {}
    columns: dict[str, set[str]] = {}
    for contrast in (c for part in ranked for c in part if c.about.kind == "category"):
        columns.setdefault(contrast.about.said, set()).add(contrast.about.column)
    ambiguous = {value for value, homes in columns.items() if len(homes) > 1}
    for c in np.argsort(-sample.sizes, kind="stable").tolist():
        if not shown[c]:
            base, tags = ("Empty cluster" if sample.sizes[c] == 0 else "A few people"), []
        else:
            tags = _tags(ranked[c], ambiguous)
            base = "Much like everybody" if len(ranked) > 1 else "Everybody"
        options = [capitalised(listed(tags[:n])) for n in range(min(2, len(tags)), len(tags) + 1) if n]
        name = next((option for option in options if option not in names.values()), options[-1] if options else base)
        number, unique = 1, name
        while unique in names.values():
            number += 1
            unique = f"{name} ({number})"
        names[c] = unique
    return [names[c] for c in range(len(ranked))]


def _tags(strongest: list[Contrast], ambiguous: set[str]) -> list[str]:
    """Return tags, the most telling first; what people like comes in if it is notable, and no column speaks twice."""
    answered = [c for c in strongest if c.about.kind != "missing"]
    preferred = sorted(answered, key=lambda c: -c.strength * _telling(c, ambiguous))
    liked = next((c for c in preferred if c.difference > 0 and interest(c) and c.strength >= NOTABLE), None)
    if liked is not None and liked not in preferred[:2]:
        preferred.insert(1, liked)
    tags = [LEFT_BLANK] if _leaves_blank(strongest) else []
    spoken: set[str] = set()
    for contrast in preferred:
        column, said = contrast.about.column, tag(contrast, ambiguous)
        if (column in spoken and contrast.about.kind != "label") or any(_same(said, other) for other in tags):
            continue
        spoken.add(column)
        tags.append(said)
        if len(tags) == 4:
            break
    return tags


def _leaves_blank(strongest: list[Contrast]) -> bool:
    """Tell whether not answering is what marks a cluster most."""
    return sum(c.about.kind == "missing" and c.difference > 0 and c.strength >= 0.5 for c in strongest) >= 10


def _telling(contrast: Contrast, ambiguous: set[str]) -> float:
    """Return what a contrast is worth in a name: what people like says most, what they are not or a long text least."""
    short = 1.0 if len(tag(contrast, ambiguous)) <= LONG_TAG else 0.4
    if contrast.difference > 0 and interest(contrast):
        return 1.5 * short
    return (0.6 if contrast.difference < 0 and contrast.is_share else 1.0) * short


def _same(a: str, b: str) -> bool:
    """Tell whether two tags share their main word: "Anime" and "fond of Anime" say one thing."""
    first, second = ({word.lower() for word in text.split() if len(word) > 3} for text in (a, b))
    return bool(first & second)


def _sentences(strongest: list[Contrast], size: int, share: float, min_people: int) -> tuple[str, ...]:
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


def _typical(part: list[Contrast], min_people: int) -> tuple[tuple[str, str], ...]:
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
    who = [entry for entry in sorted(found) if not entry[0]][:6]
    rest = [entry for entry in sorted(found) if entry[0]][: 12 - len(who)]
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


def _interests(strongest: list[Contrast]) -> tuple[str, ...]:
    """Return what more of them like than of everybody, interests before other columns of labels, at most a few."""
    liked = [c for c in strongest if c.difference > 0 and interest(c) and (not c.is_share or c.here >= 0.1)]
    in_group = [c for c in liked if c.group == INTERESTS] or liked
    return tuple(dict.fromkeys(interest(c) or "" for c in in_group))[:N_INTERESTS]


def _with_community(described: list[Persona], ranked: list[list[Contrast]], min_people: int) -> list[Persona]:
    """Give the persona with the strongest differences its portrait; with a single cluster there is none."""
    able = [p for p in described if p.contrasts and p.share >= LEAST_SHARE]
    if len(described) < 2 or not able:
        return described
    chosen = max(able, key=lambda p: p.strength)
    parts = [c for c in ranked[chosen.cluster] if c.about.kind != "missing"]
    who = _picked_many([c for c in parts if c.group == WHO] or [c for c in parts if c.about.kind != "label"], 5)
    shared = _picked_many(
        [c for c in parts if c.difference > 0 and (not c.is_share or c.here >= 0.3) and c not in who], 6
    )
    apart = _picked_many([c for c in parts if c not in who and c not in shared], 5)
    said = {
        heading: tuple(capitalised(clause(c, min_people=min_people)) + _interval(c) + "." for c in some)
        for heading, some in (("Who they are", who), ("What they share", shared), ("What sets them apart", apart))
    }
    if chosen.interests:
        said["A room for them would open with"] = (capitalised(listed(chosen.interests)) + ".",)
    portrait = tuple((heading, lines) for heading, lines in said.items() if lines)
    return [Persona(**{**vars(p), "portrait": portrait}) if p is chosen else p for p in described]


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
        return f": {contrast.lift:.1f} times as often ({contrast.lift_low:.1f} to {contrast.lift_high:.1f})"
    sign = "above" if contrast.difference > 0 else "below"
    low, high = sorted((abs(contrast.low), abs(contrast.high)))
    return f": {abs(contrast.difference):.2f} standard deviations {sign} ({low:.2f} to {high:.2f})"
