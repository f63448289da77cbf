"""Define the predicates that rules test, in the units people know: plan is Premium, age < 27.

    EncodingPlan, sampled rows  ->  predicates, each with its bins

A predicate divides the values of a column into bins, as scikit-learn's HistGradientBoosting bins columns. The bin of a
number is how many thresholds it has reached; a category, label or missing value has bin 1 where it holds, else 0.
Thresholds are numbers a person would choose (27, 0.18, March 2019), taken from a sample before any tree is grown, so
they never have to be rounded afterwards. Missing values without an indicator count as the typical value, as they did in
the clustering: predicates test what K-Means used, and nothing else. Rows are binned in binner.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.explain.binning.thresholds import day_thresholds, number_thresholds
from engine.features.columnar_block import ColumnarBlock
from engine.features.encoding_plan import DAYS_PER_YEAR, CategoryPlan, ColumnPlan, EncodingPlan, LabelPlan, NumberPlan
from engine.utils.formatting import Vocabulary, printable_text

Kind = Literal["number", "date", "truth", "category", "label", "rare category", "missing"]
YES = 1  # the bin of the rows for which a category, label, truth or missing value holds
_NUMBER = re.compile(r"-?\d+(\.\d+)?")


@dataclass(frozen=True)
class Predicate:
    """What rules can test of one column: the thresholds of a number, or whether a category, label or gap is there.

    A "truth" is a number with two values.

    Attributes
    ----------
    column : str
    name : str
        The column's name in words.
    kind : str
    value : str or None
        The category or label.
    thresholds : tuple of float
        Ascending, in the column's units (dates: days since 1970-01-01). A truth has one, its larger value; categories,
        labels and missing values have none.
    whole : bool
        Whether all values are whole numbers.
    unit : str or None
    lower_value : float
        The smaller value of a truth.
    meanings : tuple of (str, str)
        Values of the column and what the user calls them.
    """

    column: str
    name: str
    kind: Kind
    value: str | None = None
    thresholds: tuple[float, ...] = ()
    whole: bool = False
    unit: str | None = None
    lower_value: float = 0.0
    meanings: tuple[tuple[str, str], ...] = ()

    @property
    def value_words(self) -> str:
        """The category or label as a reader sees it."""
        return self.meaning(self.value or "") or printable_text(self.value or "")

    def meaning(self, value: str | float) -> str | None:
        """Return what the user calls a value, or None."""
        key = value if isinstance(value, str) else f"{value:.12g}"
        return dict(self.meanings).get(key)

    @property
    def scale(self) -> list[tuple[float, str]]:
        """The numbers that have a meaning, ascending, with their meanings."""
        return sorted((float(value), words) for value, words in self.meanings if _NUMBER.fullmatch(value))

    @property
    def n_bins(self) -> int:
        """The number of bins."""
        return len(self.thresholds) + 1 if self.thresholds else 2


def find_predicates(plan: EncodingPlan, rows: ColumnarBlock, words: Vocabulary) -> list[Predicate]:
    """Return all predicates in the order of the columns; thresholds of numbers are taken from these rows.

    Codes without a meaning in `words` are left out: rules are for readers.

    Parameters
    ----------
    plan : EncodingPlan
    rows : ColumnarBlock
        A sample, read with the layout of the plan.
    words : Vocabulary
    """
    predicates: list[Predicate] = []
    for column in plan.columns:
        meanings = words.meanings(column.column)
        if isinstance(column, CategoryPlan) and not meanings and _holds_codes(column):
            continue
        of_column = _column_predicates(column, words.names[column.column], rows)
        predicates += [replace(predicate, meanings=meanings) for predicate in of_column]
    return predicates


def _holds_codes(plan: CategoryPlan) -> bool:
    """Return whether categories are codes, such as "0090", which tell readers nothing: without a letter."""
    codes = [value for value in plan.categories if len(value) >= 3 and not any(map(str.isalpha, value))]
    return len(codes) == len(plan.categories) >= 3


def fill_value(plan: NumberPlan, reference_day: float) -> float:
    """Return the value that a missing number counts as, in the column's own units (a date: days since 1970-01-01)."""
    return reference_day - plan.fill * DAYS_PER_YEAR if plan.role == "date" else plan.fill


def missing_bin(predicate: Predicate, plan: ColumnPlan, reference_day: float) -> int:
    """Return the bin of a missing value."""
    if predicate.kind == "missing":
        return YES
    if isinstance(plan, NumberPlan):
        return int(np.searchsorted(predicate.thresholds, fill_value(plan, reference_day), side="right"))
    # Without an indicator, a missing category counts as the most frequent one.
    return int(isinstance(plan, CategoryPlan) and not plan.indicator and predicate.value == plan.categories[0])


def _column_predicates(plan: ColumnPlan, name: str, rows: ColumnarBlock) -> list[Predicate]:
    predicates: list[Predicate] = []
    if isinstance(plan, CategoryPlan):
        predicates = [Predicate(plan.column, name, "category", value) for value in plan.categories]
        predicates.append(Predicate(plan.column, name, "rare category"))
    elif isinstance(plan, LabelPlan):
        predicates = [Predicate(plan.column, name, "label", value) for value in plan.labels]
    else:
        predicates = _number_predicates(plan, name, rows.numbers[rows.number_rows[plan.column]])
    return [*predicates, Predicate(plan.column, name, "missing")] if plan.indicator else predicates


def _number_predicates(plan: NumberPlan, name: str, values: NDArray[np.float64]) -> list[Predicate]:
    values = values[~np.isnan(values)]
    if len(values) == 0:
        return []
    if plan.role == "date":
        thresholds = day_thresholds(values)
        return [Predicate(plan.column, name, "date", thresholds=thresholds)] if thresholds else []
    distinct = np.unique(values)
    if len(distinct) == 2:
        low, high = float(distinct[0]), float(distinct[1])
        return [Predicate(plan.column, name, "truth", thresholds=(high,), unit=plan.unit, lower_value=low)]
    whole = bool((values == np.rint(values)).all())
    thresholds = number_thresholds(values)
    if not thresholds:
        return []
    return [Predicate(plan.column, name, "number", thresholds=thresholds, whole=whole, unit=plan.unit)]
