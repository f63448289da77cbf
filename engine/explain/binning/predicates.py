"""What a rule may ask of a profile, in the units people know: is the plan Premium, is the age below 27?

    Plan, some rows  ->  questions

A number's answer is how many of its cuts it has reached; cuts are numbers a person would choose (27, 0.18, March
2019), taken from a sample before any tree is grown, so a threshold never has to be rounded afterwards. A category,
label or missing value is answered by 0 or 1. Missing values without an indicator count as the typical value, as they
did in the clustering: the answers see what K-Means saw, and nothing else. How rows are answered: binner.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.explain.binning.thresholds import day_cuts, number_cuts
from engine.features.columnar_block import PlainRows
from engine.features.encoding_plan import DAYS_PER_YEAR, CategoryPlan, ColumnPlan, LabelPlan, NumberPlan, Plan
from engine.utils.formatting import Vocabulary, clean

Kind = Literal["number", "date", "truth", "category", "label", "rare category", "missing"]
YES = 1
_NUMBER = re.compile(r"-?\d+(\.\d+)?")


@dataclass(frozen=True)
class Question:
    """One thing to ask. `cuts` are ascending, in units (dates: days since 1970-01-01); flags have none.

    A "truth" is a number of two values; its only cut is the larger one.
    """

    column: str
    name: str  # of the column, in words
    kind: Kind
    value: str | None = None
    cuts: tuple[float, ...] = ()
    whole: bool = False  # all values are whole numbers
    unit: str | None = None
    low: float = 0.0  # the smaller value of a truth
    meanings: tuple[tuple[str, str], ...] = ()  # what values of the column are called, as the user says

    @property
    def said(self) -> str:
        """The category or label as a reader sees it."""
        return self.meaning(self.value or "") or clean(self.value or "")

    def meaning(self, value: str | float) -> str | None:
        """Return what a value is called, None if nobody said."""
        key = value if isinstance(value, str) else f"{value:.12g}"
        return dict(self.meanings).get(key)

    @property
    def scale(self) -> list[tuple[float, str]]:
        """Numbers that have names, ascending, with their names."""
        return sorted((float(value), words) for value, words in self.meanings if _NUMBER.fullmatch(value))

    @property
    def n_answers(self) -> int:
        """How many answers there are."""
        return len(self.cuts) + 1 if self.cuts else 2


def questions_of(plan: Plan, rows: PlainRows, words: Vocabulary) -> list[Question]:
    """Return all that can be asked, in the order of the columns; cuts of numbers are taken from these rows.

    Parameters
    ----------
    plan : Plan
    rows : PlainRows
        A sample, read as the plan's layout says.
    words : Vocabulary
    """
    found: list[Question] = []
    for column in plan.columns:
        meanings = words.meanings(column.column)
        asked = _questions(column, words.names[column.column], rows)
        found += [replace(question, meanings=meanings) for question in asked]
    return found


def fill_of(plan: NumberPlan, reference_day: float) -> float:
    """Return the value that a missing number counts as, in the column's own units (a date: days since 1970-01-01)."""
    return reference_day - plan.fill * DAYS_PER_YEAR if plan.role == "date" else plan.fill


def _questions(plan: ColumnPlan, name: str, rows: PlainRows) -> list[Question]:
    found: list[Question] = []
    if isinstance(plan, CategoryPlan):
        found = [Question(plan.column, name, "category", value) for value in plan.categories]
        found.append(Question(plan.column, name, "rare category"))
    elif isinstance(plan, LabelPlan):
        found = [Question(plan.column, name, "label", value) for value in plan.labels]
    else:
        found = _number_questions(plan, name, rows.numbers[rows.number_columns.index(plan.column)])
    return [*found, Question(plan.column, name, "missing")] if plan.indicator else found


def _number_questions(plan: NumberPlan, name: str, values: NDArray[np.float64]) -> list[Question]:
    values = values[~np.isnan(values)]
    if len(values) == 0:
        return []
    if plan.role == "date":
        cuts = day_cuts(values)
        return [Question(plan.column, name, "date", cuts=cuts)] if cuts else []
    distinct = np.unique(values)
    if len(distinct) == 2:
        low, high = float(distinct[0]), float(distinct[1])
        return [Question(plan.column, name, "truth", cuts=(high,), unit=plan.unit, low=low)]
    whole = bool((values == np.rint(values)).all())
    cuts = number_cuts(values)
    return [Question(plan.column, name, "number", cuts=cuts, whole=whole, unit=plan.unit)] if cuts else []
