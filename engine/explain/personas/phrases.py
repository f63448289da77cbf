"""Contrasts in words: a tag for a name ("Anime", "younger"), a clause for a sentence, an entry of a typical member."""

from __future__ import annotations

import re
from collections.abc import Container

from engine.explain.personas.effect_sizes import Contrast
from engine.explain.rules.conditions import truth_words
from engine.utils.formatting import day, percent, plural, quantity

UNTELLING = re.compile(
    r"^(?:.{1,2}|yes|no|y|n|true|false|other|others|none|unknown|n/?a|[\d.,+<>= -]*)$", re.IGNORECASE
)
RARELY = 0.05  # share below which people are said to do something hardly ever
_MANY = re.compile(r"\b\w+[^s\W]s\b")
_SINCE = re.compile(r"^days since (?:the )?(.+)$")
_DURING = re.compile(r"^days (from .+ to .+)$")
_PRIVATE = re.compile(r"\b(?:race|ethnic\w*|gender|sex|sexual\w*|relig\w*|nationality|disabilit\w*)\b", re.IGNORECASE)
_OF_RATINGS = re.compile(r"^(.+) (share|affinity)$")


def tag(contrast: Contrast, ambiguous: Container[str] = ()) -> str:
    """Return a few words for a name; of values that several columns have (`ambiguous`), say the column too."""
    asked, more = contrast.about, contrast.difference > 0
    value, name = asked.said, asked.name
    if asked.kind == "label":
        return value if more else (f"no {value}" if contrast.here < RARELY else f"little {value}")
    if asked.kind == "category":
        said = f"{name} {value}" if UNTELLING.match(value) or value in ambiguous else value
        return said if more else f"not {said}"
    if asked.kind == "missing":
        return f"{name} not given" if more else f"{name} given"
    if asked.kind == "truth":
        if asked.meaning(asked.cuts[0]) and asked.meaning(asked.low):
            return asked.meaning(asked.cuts[0] if more else asked.low) or ""
        if (asked.low, asked.cuts[0]) == (0.0, 1.0) and not more and truth_words(asked, yes=False).endswith(" is no"):
            return f"no {name}"
        return truth_words(asked, yes=more).removesuffix(" is yes").removeprefix("has ")
    if asked.kind == "date":
        thing = name.removesuffix(" date")
        return f"{'recent' if more else 'early'} {thing}"
    towards = _on_scale(contrast)
    return f"{name} {towards}" if towards else _number_tag(name, more, whole=asked.whole)


def _on_scale(contrast: Contrast) -> str | None:
    """Return "very good" or "towards excellent" of a number whose values have names: what is low, only they say."""
    asked = contrast.about
    here, everybody = asked.meaning(contrast.here), asked.meaning(contrast.everybody)
    if here is not None and here != everybody:
        return here
    if not asked.scale:
        return None
    more = contrast.difference > 0
    further = [words for value, words in asked.scale if (value > contrast.here if more else value < contrast.here)]
    return f"towards {(further or [asked.scale[-1 if more else 0][1]])[0 if more else -1]}"


def _number_tag(name: str, more: bool, *, whole: bool) -> str:
    if name == "age":
        return "older" if more else "younger"
    during = _DURING.match(name)
    if during:
        return f"a {'long' if more else 'short'} time {during[1]}"
    since = _SINCE.match(name)
    if since:
        return f"{since[1]} long ago" if more else f"recent {since[1].removeprefix('last ')}"
    if name.startswith("number of "):
        return f"{'many' if more else 'few'} {name.removeprefix('number of ')}"
    taste = _OF_RATINGS.match(name)
    if taste and taste[2] == "affinity":
        return f"{'fond of' if more else 'cool on'} {taste[1]}"
    if taste and taste[1][:1].isupper():
        return taste[1] if more else f"little {taste[1]}"
    if taste and taste[1][:4].isdigit():
        return f"the {taste[1]}" if more else f"little of the {taste[1]}"
    if whole and _MANY.search(name):
        return f"{'many' if more else 'few'} {name}"
    return f"{'high' if more else 'low'} {name}"


def clause(contrast: Contrast, *, min_people: int, brief: bool = False) -> str:
    """Return what people of the cluster are like, against everybody: "72 % name Anime among their favourite genres".

    A share that fewer than `min_people` sampled people stand behind is said in words, without its figure. `brief`
    leaves out "of everybody", which a sentence says once.
    """
    asked = contrast.about
    value = asked.said
    if not contrast.is_share:
        here, all_of_them = (figure(contrast, v) for v in (contrast.here, contrast.everybody))
        if here == all_of_them:
            tends = "tend" if plural(asked.name) else "tends"
            how = f"to be {'higher' if contrast.difference > 0 else 'lower'} than others'"
            return f"their {asked.name} {tends} {_on_scale(contrast) or how}"
        verb = "are" if plural(asked.name) else "is"
        return f"their {asked.name} {verb} typically {here} ({'' if brief else 'everybody: '}{all_of_them})"
    many = percent(contrast.here) if contrast.n_people >= min_people else "hardly anybody"
    many = "all" if contrast.here == 1.0 else many
    against = f" ({'' if brief else 'everybody: '}{percent(contrast.everybody)})"
    if asked.kind == "label":
        names = "names" if many == "hardly anybody" else "name"
        return f"{many} {names} {value} among their {asked.name}{against}"
    if asked.kind == "category":
        return f"the {asked.name} is {value} for {many}{against}"
    if asked.kind == "missing":
        gives = "gives" if many == "hardly anybody" else "give"
        return f"{many} {gives} no {asked.name}{against}"
    return f"{_truth_clause(contrast, many)}{against}"


def figure(contrast: Contrast, value: float) -> str:
    """Return a typical value in words, with its unit."""
    asked = contrast.about
    if asked.kind == "date":
        return day(value)
    if contrast.is_share:
        return percent(value)
    meaning = asked.meaning(value)
    if meaning is not None:
        return meaning
    return quantity(value, asked.unit, asked.name, spread=contrast.spread, whole=asked.whole)


def title(contrast: Contrast) -> str:
    """Return what a contrast is about, as the head of a column: "favourite genres: Anime"."""
    asked = contrast.about
    if asked.kind in ("label", "category"):
        return f"{asked.name}: {asked.said}"
    if asked.kind == "missing":
        return f"{asked.name} not given"
    return truth_words(asked, yes=True) if asked.kind == "truth" else asked.name


def private(contrast: Contrast) -> bool:
    """Tell whether a contrast is about what people are not to be called by: race, gender, religion and their like."""
    return _PRIVATE.search(contrast.about.name) is not None


def interest(contrast: Contrast) -> str | None:
    """Return what a room could open with, or None if the contrast names no such thing: people are no topic."""
    asked = contrast.about
    if private(contrast):
        return None
    if asked.kind == "label":
        return asked.said
    taste = _OF_RATINGS.match(asked.name)
    if asked.kind == "number" and taste and (taste[1][:1].isupper() or taste[1][:4].isdigit()):
        return f"the {taste[1]}" if taste[1][:4].isdigit() else taste[1]
    return None


def _truth_clause(contrast: Contrast, many: str) -> str:
    words = truth_words(contrast.about, yes=True)
    first, _, rest = words.partition(" ")
    if first in ("has", "is") and " is " not in words:
        verbs = ("has", "is") if many == "hardly anybody" else ("have", "are")
        return f"{many} {verbs[0] if first == 'has' else verbs[1]} {rest}"
    thing, _, value = words.rpartition(" is ")
    if value == "yes":
        return f"{many} {'says' if many == 'hardly anybody' else 'say'} yes to {thing}"
    return f"{thing} is {value} for {many}"
