"""Put conditions into words: a range of bins of a predicate reads "age < 27" or "plan is not Basic"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.explain.binning.predicates import YES, Predicate
from engine.utils.formatting import format_day, format_exact_quantity, is_plural, natural_list

MAX_LISTED = 3  # meanings of numbers that are listed one by one


@dataclass(frozen=True)
class Condition:
    """A condition of a rule: the bin of the predicate is from `low` to `high`, both included."""

    predicate: Predicate
    low: int
    high: int

    @property
    def at_least(self) -> float | None:
        """The bound that a value has to reach, or None."""
        return self.predicate.thresholds[self.low - 1] if self.low > 0 else None

    @property
    def below(self) -> float | None:
        """The bound that a value has to stay below, or None."""
        return self.predicate.thresholds[self.high] if self.high < len(self.predicate.thresholds) else None

    def words(self) -> str:
        """Return the condition as a person would say it: "age < 27"."""
        predicate = self.predicate
        name, value = predicate.name, predicate.value_words
        holds = self.low == YES
        if predicate.kind == "category":
            return f"{name} is {value}" if holds else f"{name} is not {value}"
        if predicate.kind == "label":
            verb = ("include" if holds else "do not include") if is_plural(name) else ("includes" if holds else "lacks")
            return f"{name} {verb} {value}"
        if predicate.kind == "rare category":
            return f"{name} is one of the rarer ones" if holds else f"{name} is none of the rarer ones"
        if predicate.kind == "missing":
            return f"{name} is not given" if holds else f"{name} is given"
        if predicate.kind == "truth":
            return truth_words(predicate, yes=holds)
        return _range_words(self, name)


def truth_words(predicate: Predicate, *, yes: bool) -> str:
    """Return "has kids profile", "has no kids profile", "smoker is yes", or "level is 2" of a column of two values."""
    name = predicate.name
    value = predicate.thresholds[0] if yes else predicate.lower_value
    meaning = predicate.meaning(value)
    if meaning is not None:
        return f"{name} is {meaning}"
    if (predicate.lower_value, predicate.thresholds[0]) != (0.0, 1.0):
        return f"{name} is {format_exact_quantity(value, predicate.unit, name)}"
    first, _, rest = name.partition(" ")
    if rest and first in ("has", "is"):
        return name if yes else f"{first} no {rest}" if first == "has" else f"{first} not {rest}"
    return f"{name} is yes" if yes else f"{name} is no"


def rule_words(conditions: Sequence[Condition], points: Sequence[int], needed: int) -> str:
    """Return a rule in words: what is needed always, joined by "and", and how much of the rest is.

    "age < 27 and at least 3 of these 4: …; …; …; …", with points where they are not all the same: "and at least 3 of
    these 5 points: … (2 points); … (1 point); …".

    Parameters
    ----------
    conditions : sequence of Condition
    points : sequence of int
        The points of each condition.
    needed : int
        The points that a person needs.
    """
    pairs = list(zip(conditions, points, strict=True))
    others = [pairs[:number] + pairs[number + 1 :] for number in range(len(pairs))]
    is_needed = [most_points(of_others) < needed for of_others in others]
    always = conjunction_words([c for (c, _), of_all in zip(pairs, is_needed, strict=True) if of_all])
    rest = [pair for pair, of_all in zip(pairs, is_needed, strict=True) if not of_all]
    left = needed - sum(n for (_, n), of_all in zip(pairs, is_needed, strict=True) if of_all)
    if not rest or left <= 0:
        return always
    sizes = {n for _, n in rest}
    if len(sizes) == 1:
        n_needed = -(-left // sizes.pop())
        enough = f"at least {n_needed} of these {len(rest)}: " + "; ".join(c.words() for c, _ in rest)
    else:
        listed = "; ".join(f"{c.words()} ({n} {'point' if n == 1 else 'points'})" for c, n in rest)
        enough = f"at least {left} of these {most_points(rest)} points: {listed}"
    return f"{always} and {enough}" if any(is_needed) else enough


def most_points(pairs: Sequence[tuple[Condition, int]]) -> int:
    """Return the most points that one person can have: conditions on one column may exclude each other.

    A number is in one bin, and one category is the person's. Labels and missing values exclude nothing.
    """
    groups: dict[tuple[str, int], list[tuple[Condition, int]]] = {}
    for number, (condition, n) in enumerate(pairs):
        alone = condition.predicate.kind in ("label", "missing")
        groups.setdefault((condition.predicate.column, number if alone else -1), []).append((condition, n))
    return sum(map(_most_points_of_column, groups.values()))


def _most_points_of_column(pairs: Sequence[tuple[Condition, int]]) -> int:
    """Return the most points of conditions on the bins of one number, on one person's category, or of a single one."""
    predicate = pairs[0][0].predicate
    if predicate.kind in ("label", "missing"):
        return sum(n for _, n in pairs)
    if predicate.kind not in ("category", "rare category"):
        bins = range(len(predicate.thresholds) + 1)
        return max(sum(n for c, n in pairs if c.low <= b <= c.high) for b in bins)
    rare, other = object(), object()
    values = [rare, other, *(c.predicate.value for c, _ in pairs if c.predicate.kind == "category")]

    def holds(condition: Condition, value: object) -> bool:
        named = rare if condition.predicate.kind == "rare category" else condition.predicate.value
        return (value == named) == (condition.low == YES)

    return max(sum(n for c, n in pairs if holds(c, value)) for value in values)


def conjunction_words(conditions: Sequence[Condition]) -> str:
    """Return conditions joined by "and"; denials of the same kind are joined, those of truths come last.

    "plan is neither Basic nor Family and age < 27 and none of stroke, diabetes and heavy drinking".
    """
    parts: list[str] = []
    flags: list[str] = []
    denials: dict[str, list[str]] = {}
    for condition in conditions:
        denials.setdefault(_denial_group(condition) or "", []).append(_denied_words(condition))
    for condition in conditions:
        group, words = _denial_group(condition), _denied_words(condition)
        denied = denials[group] if group is not None else []
        if len(denied) < 2:
            parts.append(condition.words())
        elif words == denied[0] and condition.predicate.kind == "category":
            parts.append(f"{condition.predicate.name} is neither {natural_list(denied, 'nor')}")
        elif words == denied[0]:
            both = len(denied) == 2
            flags.append(f"neither {natural_list(denied, 'nor')}" if both else f"none of {natural_list(denied)}")
    return " and ".join([*parts, *flags]) or "everybody"


def _denial_group(condition: Condition) -> str | None:
    """Return the group of denials that a condition is joined with: those of its column, or of all yes-no columns."""
    predicate = condition.predicate
    if condition.low == YES:
        return None
    if predicate.kind == "category":
        return f"category of {predicate.column}"
    is_yes_or_no = predicate.kind == "truth" and truth_words(predicate, yes=False) == f"{predicate.name} is no"
    return "truth" if is_yes_or_no else None


def _denied_words(condition: Condition) -> str:
    return condition.predicate.value_words if condition.predicate.kind == "category" else condition.predicate.name


def _range_words(condition: Condition, name: str) -> str:
    predicate, low, high = condition.predicate, condition.at_least, condition.below
    if predicate.kind == "date":
        if high is None:
            return f"{name} is {format_day(low or 0.0, whole=True)} or later"
        if low is None:
            return f"{name} is before {format_day(high, whole=True)}"
        return f"{name} is from {format_day(low, whole=True)} to before {format_day(high, whole=True)}"
    if _all_have_meanings(predicate):
        return f"{name} is {_meanings_between(predicate, low, high)}"
    bounds = [None if bound is None else _bound_words(predicate, bound) for bound in (low, high)]
    if high is None:
        return f"{name} ≥ {bounds[0]}"
    if low is None:
        return f"{name} < {bounds[1]}"
    if predicate.whole and high - low <= 1:
        return f"{name} is {bounds[0]}"
    return f"{bounds[0]} ≤ {name} < {bounds[1]}"


def _bound_words(predicate: Predicate, value: float) -> str:
    meaning = predicate.meaning(value)
    return format_exact_quantity(value, predicate.unit, predicate.name) + (f" ({meaning})" if meaning else "")


def _all_have_meanings(predicate: Predicate) -> bool:
    """Return whether every value has a meaning: then meanings say more than numbers, which may count down."""
    values = [value for value, _ in predicate.scale]
    steps = len(values) > 1 and values == [values[0] + step for step in range(len(values))]
    return steps and predicate.whole and values[0] < predicate.thresholds[0] and predicate.thresholds[-1] <= values[-1]


def _meanings_between(predicate: Predicate, low: float | None, high: float | None) -> str:
    """Return the meanings of the numbers in [low, high): "good, fair or poor", or the first and the last of many."""
    meanings = [
        words for value, words in predicate.scale if (low is None or value >= low) and (high is None or value < high)
    ]
    return natural_list(meanings, "or") if len(meanings) <= MAX_LISTED else f"{meanings[0]} … {meanings[-1]}"
