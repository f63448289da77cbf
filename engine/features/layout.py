"""Layout: an EncodingPlan as arrays, for the kernels that encode a block.

    ColumnarBlock  ->  EncodedRows: the numbers, and per row the hot columns (ones of one-hot, multi-hot and missing)
    EncodedRows  ->  X (n_rows, n_features)

Columns of X that are numbers are called dense, all others hot: a hot column of X is 0 or its one value.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engine.backends.protocol import EncodedRows
from engine.features.columnar_block import UNLIMITED, ColumnarBlock, RaggedLabels, ReadSpec
from engine.features.encoding_plan import DAYS_PER_YEAR, CategoryPlan, EncodingPlan, LabelPlan, NumberPlan
from engine.kernels.cpu.features import encode as kernels
from engine.utils.array_types import Float64s

Array = NDArray[Any]
FAR_RANGES = 2.0  # of the values that are not clipped, beyond which a number is far from all of them
FAR_YEARS = 20.0  # after the reference day, up to which dates are not far


class Layout:
    """The arrays of an EncodingPlan: first columns, scales and fills, one entry a source column."""

    def __init__(self, plan: EncodingPlan) -> None:
        self.reference_day = plan.reference_day
        self.numbers = [c for c in plan.columns if isinstance(c, NumberPlan)]
        self.categories = [c for c in plan.columns if isinstance(c, CategoryPlan)]
        self.labels = [c for c in plan.columns if isinstance(c, LabelPlan)]
        self.read_specs: dict[str, ReadSpec] = {c.column: _read_spec(c) for c in plan.columns}
        self.plain_numbers = [c.column for c in self.numbers if c.role != "date"]
        self._assign_columns(plan)
        self.number_arguments = self._number_arrays()
        self.number_positions = {column.column: position for position, column in enumerate(self.numbers)}
        self.far_limits = far_limits(self.numbers, self.reference_day)
        self._hot_columns = {c.column: self._hot_columns_of(c) for c in plan.columns if not isinstance(c, NumberPlan)}

    def _assign_columns(self, plan: EncodingPlan) -> None:
        """Assign every column of X to the dense or the hot columns."""
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

    def encode(self, block: ColumnarBlock) -> EncodedRows:
        """Encode a block that has at least the columns of `read_specs`."""
        dense = np.empty((block.n_rows, len(self.numbers)), np.float32)
        gaps = np.empty(dense.shape, np.bool_)
        if self.numbers:
            fill, low, high, centre, scale, gap_column = self.number_arguments
            kernels.encode_numbers(self._values(block), fill, low, high, centre, scale, dense, gaps)
        else:
            gap_column = np.empty(0, np.int32)
        codes = block.codes[[block.text_rows[c.column] for c in self.categories]]
        lists = [block.labels[c.column] for c in self.labels]
        lookups = [self.hot_lookup(c, block.names[block.text_rows[c.column]]) for c in self.categories]
        lookups += [self.hot_lookup(c, part.names) for c, part in zip(self.labels, lists, strict=True)]
        lookup, lookup_start = _concatenate(lookups, np.int32)
        label_codes, label_base = _concatenate([part.codes for part in lists], np.int32)
        offsets, label_gaps = _stack_lists(lists, block.n_rows)
        starts = np.empty(block.n_rows + 1, np.int32)
        capacity = block.n_rows * (int((gap_column >= 0).sum()) + len(codes) + len(lists)) + len(label_codes)
        hot = np.empty(capacity, np.int32)
        n_hot = kernels.list_hot_columns(
            gaps, gap_column, codes, lookup, lookup_start, offsets, label_codes, label_base, label_gaps, starts, hot
        )
        return EncodedRows(dense, starts, hot[:n_hot].copy())

    def to_matrix(self, rows: EncodedRows) -> NDArray[np.float32]:
        """Return encoded rows as X, a dense matrix."""
        X = np.zeros((len(rows.dense), self.n_features), np.float32)
        kernels.fill_matrix(*rows, self.dense_columns, self.hot_columns, self.hot_values, X)
        return X

    def _values(self, block: ColumnarBlock) -> Float64s:
        """Return the numbers: dates as years before the reference day, heavy tails as log1p, missing as NaN."""
        values = block.numbers[[block.number_rows[c.column] for c in self.numbers]]
        for row, column in zip(values, self.numbers, strict=True):
            if column.role == "date":
                np.divide(np.subtract(self.reference_day, row, out=row), DAYS_PER_YEAR, out=row)
            if column.logarithm:
                np.log1p(np.maximum(row, 0.0, out=row), out=row)
        return values

    def hot_lookup(self, column: CategoryPlan | LabelPlan, names: list[str] | None) -> Array:
        """Return the hot column of a missing value, then of each of a block's names; -1 for none."""
        missing, other, hot_column = self._hot_columns[column.column]
        return np.array([missing, *(hot_column.get(name, other) for name in names or ())], np.int32)

    def names_of(self, column: str) -> Collection[str]:
        """Return the categories, with the marks of missing ones, or the labels that the plan knows of a column."""
        return self._hot_columns[column][2]

    def _hot_columns_of(self, column: CategoryPlan | LabelPlan) -> tuple[int, int, dict[str, int]]:
        """Return the hot columns of a missing value, of a name that the plan lacks, and of those that it has."""
        first, known = self._first_hot[column.column], _names(column)
        hot_column = {name: first + k for k, name in enumerate(known)}
        # Without an indicator, a missing category counts as the first, the most frequent; a missing list has no label.
        unmarked = first if isinstance(column, CategoryPlan) else -1
        missing = first + len(known) + 1 if column.indicator else unmarked
        if isinstance(column, CategoryPlan):  # of labels, whole texts are marks, and read as missing
            hot_column |= dict.fromkeys(column.missing, missing)
        return missing, first + len(known), hot_column

    def _number_arrays(self) -> tuple[Array, ...]:
        plans = self.numbers
        factor = np.sqrt([c.weight for c in plans])
        fills = [np.log1p(max(c.fill, 0.0)) if c.logarithm else c.fill for c in plans]
        return (
            np.array(fills, np.float64),
            np.array([c.low for c in plans], np.float64),
            np.array([c.high for c in plans], np.float64),
            np.array([c.centre for c in plans], np.float64),
            np.array([c.scale for c in plans], np.float64) * factor,
            np.array([self._first_hot[c.column] if c.indicator else -1 for c in plans], np.int32),
        )


def far_limits(columns: Sequence[NumberPlan], reference_day: float) -> Array:
    """Return the values of numbers, and of dates in days, from which on they are far from all of the fit, two a column.

    Between FAR_RANGES ranges below and above those that are not clipped; float64 array of shape (n_columns, 2).
    """
    limits = np.empty((len(columns), 2))
    for column, row in zip(columns, limits, strict=True):
        beyond = FAR_RANGES * (column.high - column.low) if column.high > column.low else np.inf
        ends = np.array([column.low - beyond, column.high + beyond])
        if column.role == "date":
            ends = reference_day - ends[::-1] * DAYS_PER_YEAR
            ends[1] = max(ends[1], reference_day + FAR_YEARS * DAYS_PER_YEAR)  # time goes on by itself
        elif column.logarithm:
            with np.errstate(over="ignore"):
                greatest = np.expm1(ends[1])
            ends = np.array([-greatest if column.below_zero else -1.0, greatest])
        row[:] = ends
    return limits


def number_read_spec(column: NumberPlan) -> ReadSpec:
    """Return how the numbers or days of a column are read."""
    form: Literal["number", "days"] = "days" if column.role == "date" else "number"
    return ReadSpec(form, number_format=column.number_format, date_format=column.date_format, missing=column.missing)


def _read_spec(column: NumberPlan | CategoryPlan | LabelPlan) -> ReadSpec:
    if isinstance(column, NumberPlan):
        return number_read_spec(column)
    form: Literal["category", "labels"] = "category" if isinstance(column, CategoryPlan) else "labels"
    return ReadSpec(
        form, getattr(column, "separator", None), max_distinct=UNLIMITED, missing=getattr(column, "missing", ()),
        category_kind=column.kind if isinstance(column, CategoryPlan) else "text",
    )  # fmt: skip


def _names(column: CategoryPlan | LabelPlan) -> tuple[str, ...]:
    return column.categories if isinstance(column, CategoryPlan) else column.labels


def _concatenate(parts: list[Array], kind: type[np.int32]) -> tuple[Array, Array]:
    """Concatenate arrays; return the result and where each array begins."""
    starts = np.zeros(len(parts) + 1, np.int64)
    np.cumsum([len(part) for part in parts], out=starts[1:])
    return np.concatenate([np.empty(0, kind), *parts]), starts[:-1]


def _stack_lists(lists: list[RaggedLabels], n_rows: int) -> tuple[Array, Array]:
    if not lists:
        return np.empty((0, n_rows + 1), np.int32), np.empty((0, n_rows), np.bool_)
    return np.stack([part.offsets for part in lists]), np.stack([part.missing for part in lists])
