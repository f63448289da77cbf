"""What a rule may ask of a profile, in the units people know: is the plan Premium, is the age below 27?

    rows of a table  ->  answers (n_questions, n_rows) uint8

A number's answer is how many of its cuts it has reached; cuts are numbers a person would choose (27, 0.18, March
2019), taken from the sample before any tree is grown, so a threshold never has to be rounded afterwards. A category,
label or missing value is answered by 0 or 1. Missing values without an indicator count as the typical value, as they
did in the clustering: the answers see what K-Means saw, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.explain.cuts import day_cuts, number_cuts
from engine.explain.words import Vocabulary, clean
from engine.features.plain import MISSING_CODE, array_of, arrow_rows, codes_in, labels_of, values_of
from engine.features.plan import DAYS_PER_YEAR, CategoryPlan, ColumnPlan, LabelPlan, NumberPlan, Plan
from engine.kernels.cpu import answers as kernels

Kind = Literal["number", "date", "truth", "category", "label", "rare category", "missing"]
Answers = NDArray[np.uint8]
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
    def ends(self) -> tuple[str, str] | None:
        """What the lowest and the highest number with a name are called, None if none has one."""
        named = {float(value): words for value, words in self.meanings if _NUMBER.fullmatch(value)}
        return (named[min(named)], named[max(named)]) if named else None

    @property
    def n_answers(self) -> int:
        """How many answers there are."""
        return len(self.cuts) + 1 if self.cuts else 2


class Questions:
    """Questions about the columns of a plan, answered a block of rows at a time, on any thread."""

    def __init__(self, plan: Plan, asked: Sequence[Question]) -> None:
        self.plan = plan
        self.asked = tuple(asked)
        self._plans = {column.column: column for column in plan.columns}
        self._places: dict[str, list[int]] = {}
        for place, question in enumerate(self.asked):
            self._places.setdefault(question.column, []).append(place)

    def __len__(self) -> int:
        return len(self.asked)

    @property
    def columns(self) -> list[str]:
        """The columns a table must have."""
        return list(self._places)

    def needed_for(self, ranges: Iterable[tuple[int, int, int]]) -> tuple[Questions, dict[tuple[int, int], int]]:
        """Return what a few conditions need: their questions with their cuts only.

        Parameters
        ----------
        ranges : iterable of (question, low, high)
            Answers from low to high fulfil the condition.

        Returns
        -------
        questions : Questions
        answer_of : dict
            (question here, answer here) -> answer there, for every bound of a range.
        """
        bounds: dict[int, set[int]] = {}
        for number, low, high in ranges:
            bounds.setdefault(number, set()).update((low, high + 1))
        kept, answer_of = [], {}
        for number in sorted(bounds):
            question = self.asked[number]
            if question.cuts:
                inner = sorted(bound for bound in bounds[number] if 0 < bound < question.n_answers)
                kept.append(replace(question, cuts=tuple(question.cuts[bound - 1] for bound in inner)))
                for bound in bounds[number]:
                    answer_of[number, bound] = sum(edge <= bound for edge in inner) + (bound == question.n_answers)
            else:
                kept.append(question)
                answer_of.update({(number, bound): bound for bound in bounds[number]})
        return Questions(self.plan, kept), answer_of

    def answer(self, rows: Any) -> Answers:
        """Answer all questions for rows that hold at least `columns`; of shape (n_questions, n_rows)."""
        table = arrow_rows(rows)
        answers = np.zeros((len(self), len(table)), np.uint8)
        for name, places in self._places.items():
            column = self._plans[name]
            if isinstance(column, NumberPlan):
                self._answer_number(answers, places, column, table)
            elif isinstance(column, CategoryPlan):
                self._answer_category(answers, places, column, table)
            else:
                self._answer_labels(answers, places, column, table)
        return answers

    def _answer_number(self, out: Answers, places: list[int], plan: NumberPlan, rows: pa.Table) -> None:
        values = values_of(rows, plan.column, date=plan.role == "date")
        fill = fill_of(plan, self.plan.reference_day)
        for place in places:
            question = self.asked[place]
            if question.kind == "missing":
                out[place] = np.isnan(values)
            else:
                kernels.count_cuts(values, fill, np.array(question.cuts, np.float64), out[place])

    def _answer_category(self, out: Answers, places: list[int], plan: CategoryPlan, rows: pa.Table) -> None:
        asked = [self.asked[place] for place in places]
        rare = any(question.kind == "rare category" for question in asked)
        # With "another one than these" among the questions every category has to be told apart, else only those asked.
        known = plan.categories if rare else tuple(q.value or "" for q in asked if q.kind == "category")
        codes = codes_in(array_of(rows, plan.column), known)
        for place, question in zip(places, asked, strict=True):
            if question.kind == "missing":
                out[place] = codes == MISSING_CODE
            elif question.kind == "rare category":
                out[place] = codes == len(known)
            else:
                assert question.value is not None
                out[place] = codes == known.index(question.value)
                if not plan.indicator and question.value == plan.categories[0]:
                    out[place] |= codes == MISSING_CODE

    def _answer_labels(self, out: Answers, places: list[int], plan: LabelPlan, rows: pa.Table) -> None:
        asked = [self.asked[place] for place in places]
        known = tuple(question.value or "" for question in asked if question.kind == "label")
        offsets, codes, names, missing = labels_of(array_of(rows, plan.column), plan.separator)
        flags = np.zeros((len(known), len(missing)), np.uint8)
        flag = np.array([known.index(name) if name in known else -1 for name in names or ()], np.int32)
        kernels.flag_labels(offsets, codes, flag, flags)
        for place, question in zip(places, asked, strict=True):
            if question.kind == "missing":
                out[place] = missing
            else:
                out[place] = flags[known.index(question.value or "")]


def questions_of(plan: Plan, sample: Any, words: Vocabulary) -> tuple[Questions, Answers]:
    """Find the questions worth asking, those that not every sampled row answers alike, and the sample's answers.

    Parameters
    ----------
    plan : Plan
    sample : pyarrow.Table
    words : Vocabulary
    """
    asked: list[Question] = []
    for column in plan.columns:
        meanings = words.meanings(column.column)
        found = _questions(column, words.names[column.column], sample)
        asked += [replace(question, meanings=meanings) for question in found]
    answers = Questions(plan, asked).answer(sample)
    varied = np.flatnonzero(answers.min(axis=1, initial=255) < answers.max(axis=1, initial=0))
    return Questions(plan, [asked[number] for number in varied]), np.ascontiguousarray(answers[varied])


def fill_of(plan: NumberPlan, reference_day: float) -> float:
    """Return the value that a missing number counts as, in the column's own units (a date: days since 1970-01-01)."""
    return reference_day - plan.fill * DAYS_PER_YEAR if plan.role == "date" else plan.fill


def _questions(plan: ColumnPlan, name: str, rows: pa.Table) -> list[Question]:
    found: list[Question] = []
    if isinstance(plan, CategoryPlan):
        found = [Question(plan.column, name, "category", value) for value in plan.categories]
        found.append(Question(plan.column, name, "rare category"))
    elif isinstance(plan, LabelPlan):
        found = [Question(plan.column, name, "label", value) for value in plan.labels]
    else:
        found = _number_questions(plan, name, rows)
    return [*found, Question(plan.column, name, "missing")] if plan.indicator else found


def _number_questions(plan: NumberPlan, name: str, rows: pa.Table) -> list[Question]:
    values = values_of(rows, plan.column, date=plan.role == "date")
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
