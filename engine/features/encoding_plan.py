"""Plan how each column is encoded as columns of X: imputation, transform, clipping, scale and weight, as plain data.

    roles, statistics  ->  EncodingPlan: one NumberPlan, CategoryPlan or LabelPlan a column

Every source column has total variance 1 before its weight, whatever its width: numbers are standardised, one-hot
and multi-hot blocks are divided by the square root of their summed variance. The width of a block therefore does not
decide the clusters. What fewer than 5 % of the rows have has less: flags, categories, and numbers that are alike for
all others are not scaled up, or a few rows would be a cluster (decision 0028). A column that is missing in a share m of
rows keeps 1 - m for its value, and m goes to the indicator. A model file stores the plan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from engine.config import Role
from engine.execution.threads import map_blocks
from engine.features.column_roles import ColumnRole, is_constant
from engine.features.column_statistics import ColumnStatistics, TableStatistics
from engine.features.columnar_block import physical_kind
from engine.features.typed_categories import CategoryKind, category_kind
from engine.tables.date_texts import DateFormat
from engine.tables.number_texts import NumberFormat
from engine.utils.name_words import unit_in_name

CLIP_QUANTILE = 0.005  # numbers are clipped to this quantile and to 1 minus it
MIN_VARIANCE = 0.05 * 0.95  # of a flag set in 5 % of rows: what rarer rows have is not scaled up to a whole variance
MEASURED_ROLES = ("numeric", "count", "boolean")  # whose columns may have a unit by their name
MAX_CATEGORIES = 20
MAX_LABELS = 50
MIN_CATEGORY_SHARE = 0.005  # of rows; a rarer category or label goes to "other"
MISSING_SHARE_RANGE = (0.01, 0.99)  # of rows: a column missing in such a share may get an indicator
MAX_INDICATOR_CORRELATION = 0.95  # from it on, an indicator repeats an earlier one and is left out
DAYS_PER_YEAR = 365.25
OTHER, MISSING = "other", "(missing)"
_RARE = ("number_format", "date_format", "in_seconds", "missing", "kind")  # fields of plans
_UNUSED: tuple[Any, ...] = (None, False, "text", (), [])


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_serializer(mode="wrap")
    def _leave_out_unused(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Store what few columns have only for them: the models of other tables are the same as before it came."""
        stored: dict[str, Any] = serialize(self)
        return {name: value for name, value in stored.items() if name not in _RARE or value not in _UNUSED}


class NumberPlan(_Frozen):
    """Plan of a number, count, boolean or date: X = (clip(log1p?(fill(v))) - centre) * scale * sqrt(weight).

    `number_format` and `date_format` say how the numbers or dates of a text column are written, `in_seconds` that they
    were durations or times of the day; values in `missing` (of dates: days since 1970-01-01) are missing. `below_zero`
    says that values below 0, whose logarithm is that of 0, were among those of the fit.
    """

    form: Literal["number"] = "number"
    column: str
    role: Role
    unit: str | None = None
    weight: float = 1.0
    fill: float
    logarithm: bool = False
    below_zero: bool = False
    low: float
    high: float
    centre: float
    scale: float
    indicator: bool = False
    indicator_scale: float = 0.0
    number_format: NumberFormat | None = None
    date_format: DateFormat | None = None
    in_seconds: bool = False
    missing: tuple[float, ...] = ()


class CategoryPlan(_Frozen):
    """One-hot plan: one column of X a category, one for "other", and one for missing values if they are informative.

    The texts in `missing` are missing values. `kind` says what the categories were in the table: new rows may have them
    as numbers, truth values or texts.
    """

    form: Literal["category"] = "category"
    column: str
    role: Role = "categorical"
    unit: str | None = None
    weight: float = 1.0
    categories: tuple[str, ...]
    indicator: bool = False
    scale: float
    missing: tuple[str, ...] = ()
    kind: CategoryKind = "text"


class LabelPlan(_Frozen):
    """Multi-hot plan: one column of X a label, one for "other", and one for missing values if they are informative.

    The texts in `missing` are missing values, where the labels of a row are one text.
    """

    form: Literal["labels"] = "labels"
    column: str
    role: Role = "multilabel"
    unit: str | None = None
    weight: float = 1.0
    separator: str | None = None
    labels: tuple[str, ...]
    indicator: bool = False
    scale: float
    missing: tuple[str, ...] = ()


ColumnPlan = Annotated[NumberPlan | CategoryPlan | LabelPlan, Field(discriminator="form")]


class EncodingPlan(_Frozen):
    """The plans of all columns in the order of the table, and the day that dates are counted back from."""

    columns: tuple[ColumnPlan, ...]
    reference_day: float = 0.0  # days since 1970-01-01

    @property
    def measured(self) -> frozenset[str]:
        """The columns of numbers that have a unit."""
        return frozenset(plan.column for plan in self.columns if isinstance(plan, NumberPlan) and plan.unit is not None)

    def weighted(self, weights: Mapping[str, float]) -> EncodingPlan:
        """Return the plan with weights by column name: factors of the columns' variances."""
        columns = [column.model_copy(update={"weight": weights[column.column]}) for column in self.columns]
        return self.model_copy(update={"columns": tuple(columns)})


def make_plan(
    statistics: TableStatistics,
    roles: Sequence[ColumnRole],
    schema: pa.Schema,
    reference_day: float | None,
) -> EncodingPlan:
    """Plan the encoding of every column whose role is not "ignore"; every weight is 1.

    Parameters
    ----------
    statistics : TableStatistics
    roles : sequence of ColumnRole
    schema : pyarrow.Schema
        Field metadata `rooms.unit` gives a column's unit.
    reference_day : float or None
        Days since 1970-01-01 that dates are counted back from; None is the latest date in the table.
    """
    used = [role for role in roles if role.role != "ignore"]
    indicators = select_indicators(statistics, [role.column for role in used])
    dates = [statistics.columns[role.column].moments.maximum for role in used if role.role == "date"]
    day = reference_day if reference_day is not None else max(dates, default=0.0)

    def plan_column(role: ColumnRole) -> NumberPlan | CategoryPlan | LabelPlan:
        column = statistics.columns[role.column]
        metadata = schema.field(role.column).metadata or {}
        number_format = column.read_spec.number_format
        written_unit = None if number_format is None else number_format.unit
        named_unit = unit_in_name(role.column, column.moments.minimum, column.moments.maximum)
        in_seconds = physical_kind(schema.field(role.column).type) == "seconds"
        unit = metadata.get(b"rooms.unit", b"").decode() or written_unit or ("s" if in_seconds else None)
        is_flag = role.role == "boolean" and (column.moments.minimum, column.moments.maximum) == (0.0, 1.0)
        unit = unit or (named_unit if role.role in MEASURED_ROLES and not is_flag else None)
        indicator = role.column in indicators
        if role.role == "categorical":
            kind = category_kind(schema.field(role.column).type)
            return _plan_categories(column, unit, indicator).model_copy(update={"kind": kind})
        if role.role == "multilabel":
            return _plan_labels(column, unit, indicator)
        hardly_varies = is_constant(column, schema.field(role.column).type)
        may_be_rare = role.vector is None  # distances within a vector stay what they were
        plan = _plan_number(column, role.role, unit, indicator, day, may_be_rare=may_be_rare)
        return plan.model_copy(update={"in_seconds": in_seconds} | ({"scale": 0.0} if hardly_varies else {}))

    return EncodingPlan(columns=tuple(map_blocks(plan_column, used)), reference_day=day)


def select_indicators(statistics: TableStatistics, names: Sequence[str]) -> set[str]:
    """Return the columns that get a missing indicator: those whose missing values no earlier indicator repeats."""
    low, high = MISSING_SHARE_RANGE
    candidates = [name for name in names if low <= statistics.columns[name].missing_share <= high]
    if not candidates:
        return set()
    patterns = np.stack([statistics.missing_sample[name] for name in candidates]).astype(np.float32)
    patterns -= patterns.mean(axis=1, keepdims=True)
    lengths = np.sqrt(np.square(patterns).sum(axis=1))
    patterns /= np.where(lengths > 0, lengths, 1.0)[:, None]
    correlations = np.abs(patterns @ patterns.T)
    chosen: list[int] = []
    for number in np.flatnonzero(lengths > 0):
        if all(correlations[number, earlier] < MAX_INDICATOR_CORRELATION for earlier in chosen):
            chosen.append(int(number))
    return {candidates[number] for number in chosen}


def _plan_number(
    column: ColumnStatistics,
    role: Role,
    unit: str | None,
    indicator: bool,
    day: float,
    *,
    may_be_rare: bool,
) -> NumberPlan:
    values = column.sorted_sample  # sorted, as is every monotone function of it: quantiles are looked up
    smallest, largest = column.moments.minimum, column.moments.maximum
    if role == "date":
        values, unit = (day - values[::-1]) / DAYS_PER_YEAR, "years ago"
        smallest, largest = (day - largest) / DAYS_PER_YEAR, (day - smallest) / DAYS_PER_YEAR
    fill = _most_frequent(values) if role == "boolean" else _quantile(values, 0.5)
    transform: Callable[[NDArray[np.float64]], NDArray[np.float64]] = np.log1p if role == "count" else np.asarray
    bounds = np.array([smallest, largest]) if role != "count" else np.maximum([smallest, largest], 0.0)
    transformed = transform(np.maximum(values, 0.0) if role == "count" else values)
    low, high = (float(v) for v in transform(bounds))
    if role != "boolean":
        clip = _quantile(transformed, CLIP_QUANTILE), _quantile(transformed, 1 - CLIP_QUANTILE)
        if clip[0] < clip[1]:
            low, high = clip
    clipped = np.clip(transformed, low, high)
    deviation = float(clipped.std())
    if role == "boolean" and high > low:
        deviation = max(deviation, float(np.sqrt(MIN_VARIANCE)) * (high - low))
    elif may_be_rare and deviation > 0:
        deviation *= _rarity_factor(clipped, deviation)
    share = column.missing_share
    return NumberPlan(
        column=column.name, role=role, unit=unit, fill=fill, logarithm=role == "count",
        below_zero=role == "count" and smallest < 0.0,
        low=low, high=high, centre=float(clipped.mean()), scale=1.0 / deviation if deviation > 0 else 0.0,
        indicator=indicator, indicator_scale=_block_scale([share]) * float(np.sqrt(share)),
        number_format=column.read_spec.number_format, date_format=column.read_spec.date_format,
        missing=tuple(map(float, column.read_spec.missing)),
    )  # fmt: skip


def _rarity_factor(ascending: NDArray[np.float64], deviation: float) -> float:
    """Return the factor of the deviation of numbers that hardly vary, 1 for others.

    If only a share p < 5 % of the values are a standard deviation away from the mean, they have made that deviation.
    The column then gets the variance of a flag that is set in this share of the rows, p (1 - p) / MIN_VARIANCE.
    """
    mean, reach = ascending.mean(), deviation * (1.0 - 1e-9)  # the farthest value is never nearer than the deviation
    below = int(np.searchsorted(ascending, mean - reach, side="right"))
    above = len(ascending) - int(np.searchsorted(ascending, mean + reach, side="left"))
    share = (below + above) / len(ascending)
    return float(np.sqrt(max(MIN_VARIANCE / (share * (1.0 - share)), 1.0))) if 0.0 < share < 0.05 else 1.0


def _quantile(ascending: NDArray[np.float64], q: float) -> float:
    """Return a quantile of sorted values, by linear interpolation between the two nearest."""
    position = q * (len(ascending) - 1)
    below = int(position)
    above = min(below + 1, len(ascending) - 1)
    return float(ascending[below] + (ascending[above] - ascending[below]) * (position - below))


def _most_frequent(values: NDArray[np.float64]) -> float:
    distinct, counts = np.unique(values, return_counts=True)
    return float(distinct[counts.argmax()])


def _plan_categories(column: ColumnStatistics, unit: str | None, indicator: bool) -> CategoryPlan:
    categories = _frequent_texts(column, MAX_CATEGORIES)
    counts = [column.counts[name] for name in categories]
    counts.append(sum(column.counts.values()) - sum(counts))
    if indicator:
        counts.append(column.n_missing)
    else:
        counts[0] += column.n_missing
    scale = _block_scale([count / column.n_rows for count in counts])
    return CategoryPlan(
        column=column.name, unit=unit, categories=categories, indicator=indicator, scale=scale,
        missing=tuple(map(str, column.read_spec.missing)),
    )  # fmt: skip


def _plan_labels(column: ColumnStatistics, unit: str | None, indicator: bool) -> LabelPlan:
    labels = _frequent_texts(column, MAX_LABELS)
    counts = [column.counts[name] for name in labels]
    counts.append(sum(column.counts.values()) - sum(counts))
    if indicator:
        counts.append(column.n_missing)
    return LabelPlan(
        column=column.name, unit=unit, separator=column.read_spec.separator, labels=labels,
        indicator=indicator, scale=_block_scale([min(count / column.n_rows, 1.0) for count in counts]),
        missing=tuple(map(str, column.read_spec.missing)),
    )  # fmt: skip


def _frequent_texts(column: ColumnStatistics, limit: int) -> tuple[str, ...]:
    """Return up to `limit` most frequent texts, ties by name: those at MIN_CATEGORY_SHARE or above, at least one."""
    ordered = sorted(column.counts, key=lambda name: (-column.counts[name], name))
    frequent = [name for name in ordered[:limit] if column.counts[name] >= MIN_CATEGORY_SHARE * column.n_rows]
    return tuple(frequent or ordered[:1])


def _block_scale(shares: Sequence[float]) -> float:
    """Return the factor that gives a block of 0/1 columns with these shares of ones a total variance of 1."""
    return 1.0 / float(np.sqrt(max(sum(p * (1.0 - p) for p in shares), MIN_VARIANCE)))
