"""Where each column's values go in X: the plan as arrays, ready for the kernels that write a block."""

from __future__ import annotations

from typing import Any

import narwhals as nw
import numpy as np
from numpy.typing import NDArray

from engine.features import columns
from engine.features.plan import DAYS_PER_YEAR, CategoryPlan, LabelPlan, NumberPlan, Plan
from engine.kernels.cpu import encode as kernels


class Layout:
    """First columns, scales and fills of a plan, one array entry a source column."""

    def __init__(self, plan: Plan) -> None:
        self.reference_day = plan.reference_day
        self.numbers = [c for c in plan.columns if isinstance(c, NumberPlan)]
        self.categories = [c for c in plan.columns if isinstance(c, CategoryPlan)]
        self.labels = [c for c in plan.columns if isinstance(c, LabelPlan)]
        self.first: dict[str, int] = {}
        j = 0
        for column in plan.columns:
            self.first[column.column] = j
            j += _width(column)
        self._number_arguments = self._numbers_as_arrays()
        self._category_arguments = self._categories_as_arrays()

    def write(self, X: NDArray[np.float32], frame: nw.DataFrame[Any]) -> None:
        """Write all columns of `frame` into X, which must hold zeros."""
        if self.numbers:
            values = np.stack([self._values(column, frame[column.column]) for column in self.numbers])
            kernels.write_numbers(X, self._number_arguments[0], values, *self._number_arguments[1:])
        if self.categories:
            codes = np.stack([self._codes(column, frame[column.column]) for column in self.categories])
            kernels.write_one_hot(X, codes, *self._category_arguments)
        for column in self.labels:
            self._write_labels(X, column, frame[column.column])

    def _values(self, column: NumberPlan, series: nw.Series[Any]) -> NDArray[np.float64]:
        if series.dtype == nw.Unknown:  # a column of a new table that holds nothing but nulls
            return np.full(len(series), np.nan)
        if column.role == "date":
            return (self.reference_day - columns.days(series)) / DAYS_PER_YEAR
        return columns.numbers(series)

    def _codes(self, column: CategoryPlan, series: nw.Series[Any]) -> NDArray[np.int32]:
        if series.dtype == nw.Unknown:
            return np.full(len(series), columns.MISSING_CODE, np.int32)
        return columns.codes(columns.as_text(series), column.categories)

    def _write_labels(self, X: NDArray[np.float32], column: LabelPlan, series: nw.Series[Any]) -> None:
        if series.dtype == nw.Unknown:
            offsets, codes = np.zeros(len(series) + 1, np.int64), np.empty(0, np.int32)
            missing = np.ones(len(series), bool)
        else:
            offsets, flat, missing = columns.labels(series, column.separator)
            codes = columns.codes(flat, column.labels)
            codes[(flat == "").to_numpy()] = columns.MISSING_CODE
        first, width = self.first[column.column], len(column.labels)
        kernels.write_multi_hot(
            X, offsets, codes, missing, first, width, first + width,
            first + width + 1 if column.indicator else -1, column.scale * np.sqrt(column.weight),
        )  # fmt: skip

    def _numbers_as_arrays(self) -> tuple[NDArray[Any], ...]:
        plans = self.numbers
        factor = np.sqrt([c.weight for c in plans])
        first = np.array([self.first[c.column] for c in plans], np.int64)
        indicator = np.array([self.first[c.column] + 1 if c.indicator else -1 for c in plans], np.int64)
        return (
            first,
            np.array([c.fill for c in plans], np.float64),
            np.array([c.low for c in plans], np.float64),
            np.array([c.high for c in plans], np.float64),
            np.array([c.logarithm for c in plans], np.bool_),
            np.array([c.centre for c in plans], np.float64),
            np.array([c.scale for c in plans], np.float64) * factor,
            indicator,
            np.array([c.indicator_scale for c in plans], np.float64) * factor,
        )

    def _categories_as_arrays(self) -> tuple[NDArray[Any], ...]:
        plans = self.categories
        first = np.array([self.first[c.column] for c in plans], np.int64)
        n_categories = np.array([len(c.categories) for c in plans], np.int64)
        # A missing value without an indicator counts as the most frequent category, which is the first one.
        missing = np.where([c.indicator for c in plans], first + n_categories + 1, first)
        other = np.stack([n_categories, first + n_categories], axis=1) if plans else np.empty((0, 2), np.int64)
        scale = np.array([c.scale * np.sqrt(c.weight) for c in plans], np.float64)
        return first, missing.astype(np.int64), other, scale


def _width(column: NumberPlan | CategoryPlan | LabelPlan) -> int:
    if isinstance(column, NumberPlan):
        return 1 + column.indicator
    values = column.categories if isinstance(column, CategoryPlan) else column.labels
    return len(values) + 1 + column.indicator
