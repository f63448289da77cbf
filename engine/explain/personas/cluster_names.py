"""Names of clusters: two tags of what tells a cluster apart most, unique in the run.

contrasts of every cluster, strongest first  ->  "Comedy and high mobile share"
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.explain.personas.effect_sizes import NOTABLE, Contrast
from engine.explain.personas.phrases import interest, private, tag
from engine.utils.formatting import capitalised, listed

LONG_TAG = 36  # characters; a name is two tags
DIRECTIONS = {"high", "many", "little", "recent", "towards", "fond"}  # words of a tag that say nothing of its subject
LEFT_BLANK = "many questions left open"


def names_of(ranked: list[list[Contrast]], shown: Sequence[bool], sizes: NDArray[np.int64]) -> list[str]:
    """Name clusters by their strongest contrasts, larger clusters first; another one is added until a name is new."""
    names: dict[int, str] = {}
    taken: set[frozenset[str]] = set()
    columns: dict[str, set[str]] = {}
    for contrast in (c for part in ranked for c in part if c.about.kind == "category"):
        columns.setdefault(contrast.about.said, set()).add(contrast.about.column)
    ambiguous = {value for value, homes in columns.items() if len(homes) > 1}
    for c in np.argsort(-sizes, kind="stable").tolist():
        if not shown[c]:
            base, tags = ("Empty cluster" if sizes[c] == 0 else "A few people"), []
        else:
            tags = _tags(ranked[c], ambiguous)
            base = "Much like everybody" if len(ranked) > 1 else "Everybody"
        choices = [tags[:n] for n in range(min(2, len(tags)), len(tags) + 1) if n]
        chosen = next((some for some in choices if frozenset(some) not in taken), choices[-1] if choices else [])
        taken.add(frozenset(chosen))  # "the 1990s and older" is no other name than "older and the 1990s"
        name = capitalised(listed(chosen)) or base
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
    """Return what a contrast is worth in a name: what people like says most, what they are not or a long text least.

    What is private comes where little else tells a cluster apart.
    """
    fit = 1.0 if len(tag(contrast, ambiguous)) <= LONG_TAG else 0.4
    fit *= 0.3 if private(contrast) else 1.0
    if contrast.difference > 0 and interest(contrast):
        return 1.5 * fit
    return (0.6 if contrast.difference < 0 and contrast.is_share else 1.0) * fit


def _same(a: str, b: str) -> bool:
    """Tell whether two tags share their main word: "Anime" and "fond of Anime" say one thing."""
    first, second = ({word.lower() for word in text.split() if len(word) > 3} - DIRECTIONS for text in (a, b))
    return bool(first & second)
