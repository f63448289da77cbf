"""Where each column's values go: a plan as arrays, ready for the kernels that encode a block.

    PlainRows  ->  EncodedRows: the numbers, and per row the hot columns (ones of one-hot, multi-hot and missing)
    EncodedRows  ->  X (n_rows, n_features)

Columns of X that are numbers are called dense, all others hot: a hot column of X is 0 or its one value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engine.backends.protocol import EncodedRows, Float64s
from engine.features.columnar_block import ANY_NUMBER, Labels, PlainRows, Reading
from engine.features.encoding_plan import DAYS_PER_YEAR, CategoryPlan, LabelPlan, NumberPlan, Plan
from engine.kernels.cpu.features import encode as kernels

Array = NDArray[Any]


class Layout:
    """First columns, scales and fills of a plan, one array entry a source column."""

    def __init__(self, plan: Plan) -> None:
        self.reference_day = plan.reference_day
        self.numbers = [c for c in plan.columns if isinstance(c, NumberPlan)]
        self.categories = [c for c in plan.columns if isinstance(c, CategoryPlan)]
        self.labels = [c for c in plan.columns if isinstance(c, LabelPlan)]
        self.readings: dict[str, Reading] = {c.column: _reading(c) for c in plan.columns}
        self._place(plan)
        self.number_arguments = self._numbers_as_arrays()

    def _place(self, plan: Plan) -> None:
        """Give every column of X its place among the dense or the hot columns."""
        dense: list[int] = []
        hot: list[int] = []
        values: list[float] = []
        self._first_hot: dict[str, int] = {}
        j = 0
        for column in plan.columns:
            factor = float(np.sqrt(column.weight))
            width, scale = 1, 0.0
            if isinstance(column, NumberPlan):
                dense.append(j)
                j, width, scale = j + 1, 0, column.indicator_scale
            else:
                width, scale = len(_names(column)) + 1, column.scale
            self._first_hot[column.column] = len(hot)
            for _ in range(width + column.indicator):
                hot.append(j)
                values.append(scale * factor)
                j += 1
        self.n_features = j
        self.dense_columns = np.array(dense, np.int64)
        self.hot_columns = np.array(hot, np.int64)
        self.hot_values = np.array(values, np.float32)

    def encode(self, plain: PlainRows) -> EncodedRows:
        """Encode a block that was read with `readings`, or with more."""
        dense = np.empty((plain.n_rows, len(self.numbers)), np.float32)
        gaps = np.empty(dense.shape, np.bool_)
        if self.numbers:
            fill, low, high, centre, scale, gap_column = self.number_arguments
            kernels.write_numbers(self._values(plain), fill, low, high, centre, scale, dense, gaps)
        else:
            gap_column = np.empty(0, np.int32)
        codes = plain.codes[[plain.text_columns.index(c.column) for c in self.categories]]
        lists = [plain.labels[c.column] for c in self.labels]
        tables = [self.table_of(c, plain.names[plain.text_columns.index(c.column)]) for c in self.categories]
        tables += [self.table_of(c, part.names) for c, part in zip(self.labels, lists, strict=True)]
        table, table_start = _joined(tables, np.int32)
        label_codes, label_base = _joined([part.codes for part in lists], np.int32)
        offsets, label_gaps = _stacked(lists, plain.n_rows)
        starts = np.empty(plain.n_rows + 1, np.int32)
        room = plain.n_rows * (int((gap_column >= 0).sum()) + len(codes) + len(lists)) + len(label_codes)
        hot = np.empty(room, np.int32)
        n_hot = kernels.list_hot(
            gaps, gap_column, codes, table, table_start, offsets, label_codes, label_base, label_gaps, starts, hot
        )
        return EncodedRows(dense, starts, hot[:n_hot].copy())

    def fill(self, rows: EncodedRows) -> NDArray[np.float32]:
        """Return X of encoded rows."""
        X = np.zeros((len(rows.dense), self.n_features), np.float32)
        kernels.fill(*rows, self.dense_columns, self.hot_columns, self.hot_values, X)
        return X

    def _values(self, plain: PlainRows) -> Float64s:
        """Return the numbers with dates as years back and heavy tails as log1p; missing values stay NaN."""
        values = plain.numbers[[plain.number_columns.index(c.column) for c in self.numbers]]
        for row, column in zip(values, self.numbers, strict=True):
            if column.role == "date":
                np.divide(np.subtract(self.reference_day, row, out=row), DAYS_PER_YEAR, out=row)
            if column.logarithm:
                np.log1p(np.maximum(row, 0.0, out=row), out=row)
        return values

    def table_of(self, column: CategoryPlan | LabelPlan, names: list[str] | None) -> Array:
        """Return the hot column of a missing value, then of each of a block's names; -1 for none."""
        first, kept = self._first_hot[column.column], _names(column)
        place: Mapping[str, int] = {name: first + k for k, name in enumerate(kept)}
        # Without an indicator, a missing category counts as the first, the most frequent; a missing list has no label.
        unmarked = first if isinstance(column, CategoryPlan) else -1
        missing = first + len(kept) + 1 if column.indicator else unmarked
        return np.array([missing, *(place.get(name, first + len(kept)) for name in names or ())], np.int32)

    def _numbers_as_arrays(self) -> tuple[Array, ...]:
        plans = self.numbers
        factor = np.sqrt([c.weight for c in plans])
        filled = [np.log1p(max(c.fill, 0.0)) if c.logarithm else c.fill for c in plans]
        return (
            np.array(filled, np.float64),
            np.array([c.low for c in plans], np.float64),
            np.array([c.high for c in plans], np.float64),
            np.array([c.centre for c in plans], np.float64),
            np.array([c.scale for c in plans], np.float64) * factor,
            np.array([self._first_hot[c.column] if c.indicator else -1 for c in plans], np.int32),
        )


def _reading(column: NumberPlan | CategoryPlan | LabelPlan) -> Reading:
    if isinstance(column, NumberPlan):
        return Reading("days" if column.role == "date" else "number")
    form: Literal["category", "labels"] = "category" if isinstance(column, CategoryPlan) else "labels"
    return Reading(form, getattr(column, "separator", None), max_distinct=ANY_NUMBER)


def _names(column: CategoryPlan | LabelPlan) -> tuple[str, ...]:
    return column.categories if isinstance(column, CategoryPlan) else column.labels


def _joined(parts: list[Array], kind: type[np.int32]) -> tuple[Array, Array]:
    """Return arrays one after another, and where each begins."""
    starts = np.zeros(len(parts) + 1, np.int64)
    np.cumsum([len(part) for part in parts], out=starts[1:])
    return np.concatenate([np.empty(0, kind), *parts]), starts[:-1]


def _stacked(lists: list[Labels], n_rows: int) -> tuple[Array, Array]:
    if not lists:
        return np.empty((0, n_rows + 1), np.int32), np.empty((0, n_rows), np.bool_)
    return np.stack([part.offsets for part in lists]), np.stack([part.missing for part in lists])
