"""What a rule asks, in words: a range of answers to a question is a condition, "age < 27" or "plan is not Basic"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.explain.binning.predicates import YES, Question
from engine.utils.formatting import day, exact_quantity, listed, plural

FEW_NAMES = 3  # of numbers that are listed one by one


@dataclass(frozen=True)
class Condition:
    """Answers from `low` to `high` to a question fulfil it."""

    question: Question
    low: int
    high: int

    @property
    def at_least(self) -> float | None:
        """The bound that a value has to reach, None if there is none."""
        return self.question.cuts[self.low - 1] if self.low > 0 else None

    @property
    def below(self) -> float | None:
        """The bound that a value has to stay below, None if there is none."""
        return self.question.cuts[self.high] if self.high < len(self.question.cuts) else None

    def words(self) -> str:
        """Return the condition as a person would say it: "age < 27"."""
        asked = self.question
        name, value = asked.name, asked.said
        holds = self.low == YES
        if asked.kind == "category":
            return f"{name} is {value}" if holds else f"{name} is not {value}"
        if asked.kind == "label":
            verb = ("include" if holds else "do not include") if plural(name) else ("includes" if holds else "lacks")
            return f"{name} {verb} {value}"
        if asked.kind == "rare category":
            return f"{name} is one of the rarer ones" if holds else f"{name} is none of the rarer ones"
        if asked.kind == "missing":
            return f"{name} is not given" if holds else f"{name} is given"
        if asked.kind == "truth":
            return truth_words(asked, yes=holds)
        return _range_words(self, name)


def truth_words(asked: Question, *, yes: bool) -> str:
    """Return "has kids profile", "no kids profile", "smoker is yes", or "level is 2" of a column of two values."""
    name = asked.name
    meaning = asked.meaning(asked.cuts[0] if yes else asked.low)
    if meaning is not None:
        return f"{name} is {meaning}"
    if (asked.low, asked.cuts[0]) != (0.0, 1.0):
        return f"{name} is {exact_quantity(asked.cuts[0] if yes else asked.low, asked.unit, asked.name)}"
    first, _, rest = name.partition(" ")
    if rest and first in ("has", "is"):
        return name if yes else f"{first} no {rest}" if first == "has" else f"{first} not {rest}"
    return f"{name} is yes" if yes else f"{name} is no"


def rule_words(conditions: Sequence[Condition]) -> str:
    """Return conditions joined by "and"; what is denied is said once, flags last.

    "plan is neither Basic nor Family and age < 27 and none of stroke, diabetes and heavy drinking".
    """
    parts: list[str] = []
    flags: list[str] = []
    negated: dict[str, list[str]] = {}
    for condition in conditions:
        negated.setdefault(_denies(condition) or "", []).append(_denied(condition))
    for condition in conditions:
        what, said = _denies(condition), _denied(condition)
        denied = negated[what] if what is not None else []
        if len(denied) < 2:
            parts.append(condition.words())
        elif said == denied[0] and condition.question.kind == "category":
            parts.append(f"{condition.question.name} is neither {listed(denied, 'nor')}")
        elif said == denied[0]:
            flags.append(f"neither {listed(denied, 'nor')}" if len(denied) == 2 else f"none of {listed(denied)}")
    return " and ".join([*parts, *flags]) or "everybody"


def _denies(condition: Condition) -> str | None:
    """Return what denials are put together with: those of one column, or of whatever is answered by yes or no."""
    asked = condition.question
    if condition.low == YES:
        return None
    if asked.kind == "category":
        return f"category of {asked.column}"
    return "truth" if asked.kind == "truth" and truth_words(asked, yes=False) == f"{asked.name} is no" else None


def _denied(condition: Condition) -> str:
    return condition.question.said if condition.question.kind == "category" else condition.question.name


def _range_words(condition: Condition, name: str) -> str:
    asked, low, high = condition.question, condition.at_least, condition.below
    if asked.kind == "date":
        if high is None:
            return f"{name} is {day(low or 0.0, whole=True)} or later"
        if low is None:
            return f"{name} is before {day(high, whole=True)}"
        return f"{name} is from {day(low, whole=True)} to before {day(high, whole=True)}"
    if _all_named(asked):
        return f"{name} is {_on_scale(asked, low, high)}"
    said = [None if bound is None else _bound(asked, bound) for bound in (low, high)]
    if high is None:
        return f"{name} ≥ {said[0]}"
    if low is None:
        return f"{name} < {said[1]}"
    if asked.whole and high - low <= 1:
        return f"{name} is {said[0]}"
    return f"{said[0]} ≤ {name} < {said[1]}"


def _bound(asked: Question, value: float) -> str:
    meaning = asked.meaning(value)
    return exact_quantity(value, asked.unit, asked.name) + (f" ({meaning})" if meaning else "")


def _all_named(asked: Question) -> bool:
    """Tell whether every number that there is has a name: then names say more than numbers, which may count down."""
    values = [value for value, _ in asked.scale]
    steps = len(values) > 1 and values == [values[0] + step for step in range(len(values))]
    return steps and asked.whole and values[0] < asked.cuts[0] and asked.cuts[-1] <= values[-1]


def _on_scale(asked: Question, low: float | None, high: float | None) -> str:
    """Return the names of the numbers in [low, high): "good, fair or poor", or the first and the last of many."""
    names = [words for value, words in asked.scale if (low is None or value >= low) and (high is None or value < high)]
    return listed(names, "or") if len(names) <= FEW_NAMES else f"{names[0]} … {names[-1]}"
