"""Put effect sizes into words: a tag for a name ("Anime", "younger"), a clause for a sentence, a formatted value.

EffectSize  ->  words
"""

from __future__ import annotations

import re
from collections.abc import Container

from engine.explain.personas.effect_sizes import EffectSize
from engine.explain.rules.conditions import truth_words
from engine.utils.domain_words import DEFAULT_WORDS, DomainWords
from engine.utils.formatting import format_day, format_percent, format_quantity, is_plural, is_year

UNINFORMATIVE = re.compile(
    r"^(?:.{1,2}|yes|no|y|n|true|false|other|others|none|unknown|n/?a|[\d.,+<>= -]*)$", re.IGNORECASE
)
_YES = {"yes", "ja", "oui", "sí", "sì", "si", "sim"}
_NO = {"no", "nein", "nee", "nej", "nei", "non", "não"}  # "nie" is no in Polish, but never in German
RARE_SHARE = 0.05  # share below which a label is said to be absent
_AMOUNTS = {
    "little", "some", "much", "a little", "low", "medium", "moderate", "high", "very low", "very high", "strong",
    "weak",
}  # fmt: skip
MAX_CODE = 3  # letters of a value that may be a code: "M", "USA"
_PLURAL_NOUN = re.compile(r"\b\w+[^siu\W]s\b")
_AGE = re.compile(r"^age(?: group| band| class)?$")
_DAYS_SINCE = re.compile(r"^days since (?:the )?(.+)$")
_DAYS_FROM_TO = re.compile(r"^days (from .+ to .+)$")
_SENSITIVE = re.compile(r"\b(?:race|ethnic\w*|gender|sex|sexual\w*|relig\w*|nationality|disabilit\w*)\b", re.IGNORECASE)
_SHARE_OR_AFFINITY = re.compile(r"^(.+) (share|affinity)$")


def name_tag(effect_size: EffectSize, ambiguous: Container[str] = ()) -> str:
    """Return a few words for a name; with the column for values that several columns have (`ambiguous`)."""
    feature, more = effect_size.feature, effect_size.difference > 0
    value, name = feature.value_words, feature.name
    if feature.kind == "label":
        value = f"{value} in {name}" if value in ambiguous else value
        return value if more else (f"no {value}" if effect_size.cluster_value < RARE_SHARE else f"little {value}")
    if feature.kind == "category":
        answer = _yes_or_no(value)
        if answer and more:
            return _answer_tag(name, yes=answer == "yes")
        if answer or UNINFORMATIVE.match(value) or value in ambiguous:
            return _named_value(name, value, more)
        return value if more else f"not {value}"
    if feature.kind == "missing":
        return f"{name} not given" if more else f"{name} given"
    if feature.kind == "truth":
        if feature.meaning(feature.thresholds[0]) and feature.meaning(feature.lower_value):
            return feature.meaning(feature.thresholds[0] if more else feature.lower_value) or ""
        if (
            (feature.lower_value, feature.thresholds[0]) == (0.0, 1.0)
            and not more
            and truth_words(feature, yes=False).endswith(" is no")
        ):
            return f"not {name}" if name.startswith("having ") else f"no {name.removeprefix('any ')}"
        words = truth_words(feature, yes=more).removesuffix(" is yes").removeprefix("has ")
        is_code = (feature.lower_value, feature.thresholds[0]) != (0.0, 1.0) and words.startswith(f"{name} is ")
        return f"{name} {words.removeprefix(f'{name} is ')}" if is_code else words
    if feature.kind == "date":
        event = name.removesuffix(" date")
        return f"{'recent' if more else 'early'} {event}"
    if is_year(effect_size.cluster_value, name):
        return f"{'later' if more else 'earlier'} {'years' if name == 'year' else name}"
    towards = None if _AGE.match(name) else _scale_words(effect_size)
    return f"{name} {towards}" if towards else _number_tag(name, more, whole=feature.whole)


def _yes_or_no(value: str) -> str | None:
    """Return "yes" or "no" for an answer that says so in a common language ("Ja", "oui"), else None."""
    lowered = value.lower()
    return "yes" if lowered in _YES else "no" if lowered in _NO else None


def _answer_tag(name: str, *, yes: bool) -> str:
    """Return what an answer of yes or no says of a column: "owner" or "no owner", "active" or "not active"."""
    first, _, rest = name.partition(" ")
    if rest and first in ("has", "is"):
        return rest if yes else f"{'no' if first == 'has' else 'not'} {rest}"
    return name if yes else f"no {name.removeprefix('any ')}"


def _named_value(name: str, value: str, more: bool) -> str:
    """Return a value that says nothing without its column: "gender F", "no say in databases", "little say"."""
    lowered = value.lower()
    if lowered == "none":
        return f"no {name}" if more else f"some {name}"
    if lowered in _AMOUNTS:
        return f"{'' if more else 'not '}{lowered} {name}"
    is_phrase = len(value) > MAX_CODE and value[:1].isupper() and not value.isupper()
    return f"{'' if more else 'not '}{name}{':' if is_phrase else ''} {value}"


def _scale_words(effect_size: EffectSize) -> str | None:
    """Return "fair or poor", "up to $25,000" or "towards excellent" for a number whose values have meanings, or None.

    High and low say nothing of such a number, which may count down. Half of the cluster lie from its median to the end
    of the scale; the median alone may be the value of few.
    """
    feature, more = effect_size.feature, effect_size.difference > 0
    here, everybody = feature.meaning(effect_size.cluster_value), feature.meaning(effect_size.overall_value)
    if here is not None and here != everybody:
        further = _further_on_scale(effect_size)
        if len(further) < 2:
            return " or ".join([here, *further] if more else [*further, here])
        return f"from {here} up" if more else f"up to {here}"
    if not feature.scale:
        return None
    further = _further_on_scale(effect_size)
    return f"towards {(further or [feature.scale[-1 if more else 0][1]])[0 if more else -1]}"


def _further_on_scale(effect_size: EffectSize) -> list[str]:
    """Return the meanings of the values that lie beyond the cluster's, away from everybody's, ascending."""
    here, more = effect_size.cluster_value, effect_size.difference > 0
    return [words for value, words in effect_size.feature.scale if (value > here if more else value < here)]


def _number_tag(name: str, more: bool, *, whole: bool) -> str:
    if _AGE.match(name):
        return "older" if more else "younger"
    period = _DAYS_FROM_TO.match(name)
    if period:
        return f"a {'long' if more else 'short'} time {period[1]}"
    since = _DAYS_SINCE.match(name)
    if since:
        return f"{since[1]} long ago" if more else f"recent {since[1].removeprefix('last ')}"
    if name.startswith("number of "):
        return f"{'many' if more else 'few'} {name.removeprefix('number of ')}"
    ratings = _SHARE_OR_AFFINITY.match(name)
    if ratings and ratings[2] == "affinity":
        return f"{'fond of' if more else 'cool on'} {ratings[1]}"
    if ratings and ratings[1][:1].isupper():
        return ratings[1] if more else f"little {ratings[1]}"
    if ratings and ratings[1][:4].isdigit():
        return f"the {ratings[1]}" if more else f"little of the {ratings[1]}"
    if whole and _PLURAL_NOUN.search(name):
        return f"{'many' if more else 'few'} {name}"
    return f"{'high' if more else 'low'} {name}"


def clause(effect_size: EffectSize, *, min_people: int, brief: bool = False, words: DomainWords = DEFAULT_WORDS) -> str:
    """Return a clause that compares the cluster with everybody: "72 % name Anime among their favourite genres".

    A share with fewer than `min_people` sampled people behind it is put into words, without its figure. `brief` leaves
    out "everybody:", which a sentence says once.
    """
    everybody, few = f"{words.everybody}: ", words.hardly_anybody
    feature = effect_size.feature
    value = feature.value_words
    if not effect_size.is_share:
        if has_same_value(effect_size):
            tends = "tend" if is_plural(feature.name) else "tends"
            ends = ("earlier", "later") if is_year(effect_size.cluster_value, feature.name) else ("lower", "higher")
            comparison = f"to be {ends[effect_size.difference > 0]} than others'"
            return f"their {feature.name} {tends} {_scale_words(effect_size) or comparison}"
        verb = "are" if is_plural(feature.name) else "is"
        value_here, value_overall = _typical_values(effect_size)
        return f"their {feature.name} {verb} typically {value_here} ({'' if brief else everybody}{value_overall})"
    share = format_percent(effect_size.cluster_value) if effect_size.n_people >= min_people else few
    share = "all" if effect_size.cluster_value == 1.0 else share
    against = f" ({'' if brief else everybody}{format_percent(effect_size.overall_value)})"
    if feature.kind == "label":
        names = "names" if share == few else "name"
        return f"{share} {names} {value} among their {feature.name}{against}"
    if feature.kind == "category":
        answer = _yes_or_no(value)
        if answer:
            return f"{_answer_clause(feature.name, answer, share, single=share == few)}{against}"
        verb = "are" if is_plural(feature.name) else "is"
        return f"the {feature.name} {verb} {value} for {share}{against}"
    if feature.kind == "missing":
        gives = "gives" if share == few else "give"
        return f"{share} {gives} no {feature.name}{against}"
    return f"{_truth_clause(effect_size, share, few)}{against}"


def has_same_value(effect_size: EffectSize) -> bool:
    """Return whether a number's typical value, as it is shown, is everybody's, too."""
    return not effect_size.is_share and len(set(_typical_values(effect_size))) == 1


def _typical_values(effect_size: EffectSize) -> tuple[str, str]:
    here, overall = effect_size.cluster_value, effect_size.overall_value
    return format_value(effect_size, here), format_value(effect_size, overall)


def format_value(effect_size: EffectSize, value: float) -> str:
    """Format a value of the feature, with its unit."""
    feature = effect_size.feature
    if feature.kind == "date":
        return format_day(value)
    if effect_size.is_share:
        return format_percent(value)
    meaning = feature.meaning(value)
    if meaning is not None:
        return meaning
    below = [words for number, words in feature.scale if number < value]
    above = [words for number, words in feature.scale if number > value]
    if below and above and value != round(value):  # a median of two codes
        return f"between {below[-1]} and {above[0]}"
    return format_quantity(value, feature.unit, feature.name, spread=effect_size.spread, whole=feature.whole)


def feature_title(effect_size: EffectSize) -> str:
    """Return the feature as a column title: "favourite genres: Anime"."""
    feature = effect_size.feature
    if feature.kind in ("label", "category"):
        return f"{feature.name}: {feature.value_words}"
    if feature.kind == "missing":
        return f"{feature.name} not given"
    if feature.kind != "truth":
        return feature.name
    meaning = feature.meaning(feature.thresholds[0])
    if meaning is not None and meaning.lower() != "yes":
        return f"{feature.name}: {meaning}"
    return truth_words(feature, yes=True).removesuffix(" is yes")


def is_sensitive(effect_size: EffectSize) -> bool:
    """Return whether the feature is a sensitive attribute, which people are not named by: race, gender, religion, …"""
    return _SENSITIVE.search(effect_size.feature.name) is not None


def interest_words(effect_size: EffectSize) -> str | None:
    """Return the topic that the feature names, or None; sensitive attributes are no topics."""
    feature = effect_size.feature
    if is_sensitive(effect_size):
        return None
    if feature.kind == "label":
        return feature.value_words
    ratings = _SHARE_OR_AFFINITY.match(feature.name)
    if feature.kind == "number" and ratings and (ratings[1][:1].isupper() or ratings[1][:4].isdigit()):
        return f"the {ratings[1]}" if ratings[1][:4].isdigit() else ratings[1]
    return None


def _answer_clause(name: str, answer: str, share: str, *, single: bool) -> str:
    """Return "home owner is yes for 9 %", "9 % have no kids" or "9 % are not active"; `single` for "hardly anybody"."""
    first, _, rest = name.partition(" ")
    if rest and first in ("has", "is"):
        verb = first if single else {"has": "have", "is": "are"}[first]
        denied = "" if answer == "yes" else ("no " if first == "has" else "not ")
        return f"{share} {verb} {denied}{rest}"
    return f"{name} is {answer} for {share}"


def _truth_clause(effect_size: EffectSize, share: str, few: str) -> str:
    words = truth_words(effect_size.feature, yes=True)
    first, _, rest = words.partition(" ")
    if first in ("has", "is") and " is " not in words:
        verbs = ("has", "is") if share == few else ("have", "are")
        return f"{share} {verbs[0] if first == 'has' else verbs[1]} {rest}"
    name, _, value = words.rpartition(" is ")
    return f"{'' if value == 'yes' else 'the '}{name} is {value} for {share}"
