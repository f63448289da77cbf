"""Every row as a few bytes from which any question can be answered: a line of bytes a column, a bit a label.

    PlainRows                    ->  codes (n_lines, n_rows) uint8        while a pass has the rows at hand
    codes, numbers of questions  ->  answers (n_questions, n_rows) uint8  once there is something to ask

What will be asked is known only when clusters are, and then rows are gone. As codes, all that could be asked takes
a sixth of what plain rows take, so nothing has to be read again. A number's code is how many of its question's cuts it
has reached, a category's is its place among those of the plan; 255 is a missing value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.explain.binning.predicates import YES, Question, fill_of, questions_of
from engine.features.columnar_block import PlainRows
from engine.features.encoding_plan import CategoryPlan, ColumnPlan, LabelPlan, NumberPlan, Plan
from engine.kernels.cpu.explain import predicates as kernels
from engine.kernels.cpu.explain.bucketize import MISSING, Grid, count_cuts, grid_of
from engine.utils.formatting import Vocabulary

Answers = NDArray[np.uint8]
Codes = NDArray[np.uint8]
BITS = 8


@dataclass(frozen=True)
class _Column:
    """A column's lines among the codes, and the questions about it."""

    plan: ColumnPlan
    first_line: int
    n_lines: int
    places: tuple[int, ...]  # of its questions
    grid: Grid | None  # of a number's cuts


class Codebook:
    """Questions about the columns of a plan, and how rows are coded so that each can be answered.

    Parameters
    ----------
    plan : Plan
    questions : sequence of Question
    """

    def __init__(self, plan: Plan, questions: Sequence[Question]) -> None:
        self.plan, self.questions = plan, tuple(questions)
        places: dict[str, list[int]] = {}
        for place, question in enumerate(self.questions):
            places.setdefault(question.column, []).append(place)
        self._columns: list[_Column] = []
        self.n_lines = 0
        for column in plan.columns:
            asked = tuple(places.get(column.column, ()))
            n_lines = min(len(asked), -(-len(asked) // BITS) if isinstance(column, LabelPlan) else 1)
            grid = self._grid(asked) if isinstance(column, NumberPlan) else None
            self._columns.append(_Column(column, self.n_lines, n_lines, asked, grid))
            self.n_lines += n_lines
        self._lines, self._tables = self._meanings()

    @classmethod
    def of(cls, plan: Plan, rows: PlainRows, words: Vocabulary) -> Codebook:
        """Return a book of the questions that not all of these sampled rows answer alike."""
        every = cls(plan, questions_of(plan, rows, words))
        answers = every.answers(every.coded(rows))
        varied = np.flatnonzero(answers.min(axis=1, initial=255) < answers.max(axis=1, initial=0))
        return cls(plan, [every.questions[number] for number in varied])

    def coded(self, rows: PlainRows) -> Codes:
        """Return the codes of rows."""
        codes = np.empty((self.n_lines, rows.n_rows), np.uint8)
        self.code(rows, codes)
        return codes

    def code(self, rows: PlainRows, out: Codes) -> None:
        """Write the codes of rows, of shape (n_lines, n_rows)."""
        for column in self._columns:
            if not column.places:
                continue
            lines, name = out[column.first_line : column.first_line + column.n_lines], column.plan.column
            if column.grid is not None:
                count_cuts(rows.numbers[rows.number_columns.index(name)], column.grid, lines[0])
            elif isinstance(column.plan, CategoryPlan):
                number = rows.text_columns.index(name)
                table = _places(rows.names[number] or [], column.plan.categories)
                kernels.look_up(rows.codes[number], table, lines[0])
            else:
                labels = rows.labels[name]
                asked = {self.questions[place].value: bit for bit, place in enumerate(column.places)}
                bit_of = np.array([asked.get(label, -1) for label in labels.names or ()], np.int32)
                kernels.mark_labels(labels.offsets, labels.codes, bit_of, labels.missing, asked.get(None, -1), lines)

    def answers(self, codes: Codes, asked: Sequence[int] | None = None) -> Answers:
        """Answer questions, all by default, of coded rows; of shape (n_asked, n_rows)."""
        numbers = np.arange(len(self.questions)) if asked is None else np.asarray(asked, np.int64)
        answers = np.empty((len(numbers), codes.shape[1]), np.uint8)
        kernels.answer(codes, self._lines[numbers], self._tables[numbers], answers)
        return answers

    def _grid(self, places: Sequence[int]) -> Grid:
        """Return the grid of a number's cuts, which one of the questions about it has."""
        return grid_of(np.array([cut for place in places for cut in self.questions[place].cuts], np.float64))

    def _meanings(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Return the line that each question looks at, and the answer to each code there."""
        lines = np.zeros(len(self.questions), np.int64)
        tables = np.zeros((len(self.questions), 256), np.uint8)
        for column in self._columns:
            for number, place in enumerate(column.places):
                bit = number if isinstance(column.plan, LabelPlan) else 0
                lines[place] = column.first_line + bit // BITS
                if isinstance(column.plan, LabelPlan):
                    tables[place] = np.arange(256) >> (bit % BITS) & 1
                else:
                    tables[place] = self._meaning(self.questions[place], column.plan)
        return lines, tables

    def _meaning(self, question: Question, plan: NumberPlan | CategoryPlan) -> NDArray[np.uint8]:
        """Return the answer to each code of a number or category."""
        table = np.zeros(256, np.uint8)
        if question.kind == "missing":
            table[MISSING] = YES
        elif isinstance(plan, NumberPlan):
            table[:] = np.arange(256)
            table[MISSING] = np.searchsorted(question.cuts, fill_of(plan, self.plan.reference_day), side="right")
        elif question.kind == "rare category":
            table[len(plan.categories)] = YES
        else:
            table[plan.categories.index(question.value or "")] = YES
            if not plan.indicator and question.value == plan.categories[0]:  # what a missing value counts as
                table[MISSING] = YES
        return table


def _places(names: list[str], known: Sequence[str]) -> NDArray[np.uint8]:
    """Return the code of a missing value, then of each of a block's names."""
    place = {name: code for code, name in enumerate(known)}
    return np.array([MISSING, *(place.get(name, len(known)) for name in names)], np.uint8)
