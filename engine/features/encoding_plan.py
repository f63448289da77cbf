"""How each column becomes columns of X: fill, transform, clip, scale and weight, as plain data.

    roles + statistics  ->  Plan: one NumberPlan, CategoryPlan or LabelPlan a column

Every source column has total variance 1 before its weight, whatever its width: numbers are standardised, one-hot
and multi-hot blocks are divided by the square root of their summed variance. So the width of a block does not
decide the clusters. A column that is missing in a share m of rows keeps 1 - m for its value, and m goes to the
indicator. The plan is what a model file stores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from engine.config import Role
from engine.execution.threads import map_blocks
from engine.features.column_roles import RoleOf
from engine.features.column_statistics import ColumnStatistics, TableStatistics

CLIPPED_SHARE = 0.005  # of the rows at either end: beyond, values are taken as the quantile
RAREST_VARIANCE = 0.05 * 0.95  # a flag rarer than 5 % is not blown up as if it were worth a whole column
MAX_CATEGORIES = 20
MAX_LABELS = 50
RAREST_CATEGORY = 0.005  # share of rows below which a category or label goes to "other"
INFORMATIVE_MISSING = (0.01, 0.99)  # shares of missing rows between which an indicator is worth a column
SAME_INDICATOR = 0.95  # correlation from which an indicator says what another one said before
DAYS_PER_YEAR = 365.25
OTHER, MISSING = "other", "(missing)"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NumberPlan(_Frozen):
    """A number, count, boolean or date: X = (clip(log1p?(fill(v))) - centre) * scale * sqrt(weight)."""

    form: Literal["number"] = "number"
    column: str
    role: Role
    unit: str | None = None
    weight: float = 1.0
    fill: float
    logarithm: bool = False
    low: float
    high: float
    centre: float
    scale: float
    indicator: bool = False
    indicator_scale: float = 0.0


class CategoryPlan(_Frozen):
    """One answer of few: one column of X a category, one for "other", one for missing values if they inform."""

    form: Literal["category"] = "category"
    column: str
    role: Role = "categorical"
    unit: str | None = None
    weight: float = 1.0
    categories: tuple[str, ...]
    indicator: bool = False
    scale: float


class LabelPlan(_Frozen):
    """Several answers of few: one column of X a label, one for "other", one for missing values if they inform."""

    form: Literal["labels"] = "labels"
    column: str
    role: Role = "multilabel"
    unit: str | None = None
    weight: float = 1.0
    separator: str | None = None
    labels: tuple[str, ...]
    indicator: bool = False
    scale: float


ColumnPlan = Annotated[NumberPlan | CategoryPlan | LabelPlan, Field(discriminator="form")]


class Plan(_Frozen):
    """Plans of all columns in the order of the table, and the day that dates are counted back from."""

    columns: tuple[ColumnPlan, ...]
    reference_day: float = 0.0  # days since 1970-01-01


def make_plan(
    statistics: TableStatistics,
    roles: Sequence[RoleOf],
    schema: pa.Schema,
    weights: Mapping[str, float],
    reference_day: float | None,
) -> Plan:
    """Decide how every column that has a role is encoded.

    Parameters
    ----------
    statistics : TableStatistics
    roles : sequence of RoleOf
    schema : pyarrow.Schema
        Field metadata `rooms.unit` gives a column's unit.
    weights : mapping of column name to float
        Share of the total variance, 1 for an ordinary column.
    reference_day : float or None
        Days since 1970-01-01 that dates are counted back from; None is the latest date in the table.
    """
    used = [role for role in roles if role.role != "ignore"]
    informing = informative_indicators(statistics, [role.column for role in used])
    dates = [statistics.columns[role.column].moments.maximum for role in used if role.role == "date"]
    day = reference_day if reference_day is not None else max(dates, default=0.0)

    def plan_of(role: RoleOf) -> NumberPlan | CategoryPlan | LabelPlan:
        found = statistics.columns[role.column]
        metadata = schema.field(role.column).metadata or {}
        unit = metadata.get(b"rooms.unit", b"").decode() or None
        weight, indicator = weights.get(role.column, 1.0), role.column in informing
        if role.role == "categorical":
            return _category_plan(found, unit, weight, indicator)
        if role.role == "multilabel":
            return _label_plan(found, unit, weight, indicator)
        return _number_plan(found, role.role, unit, weight, indicator, day)

    return Plan(columns=tuple(map_blocks(plan_of, used)), reference_day=day)


def informative_indicators(statistics: TableStatistics, names: Sequence[str]) -> set[str]:
    """Return the columns whose missing values say something that no earlier column's missing values said."""
    low, high = INFORMATIVE_MISSING
    candidates = [name for name in names if low <= statistics.columns[name].missing_share <= high]
    if not candidates:
        return set()
    patterns = np.stack([statistics.missing_sample[name] for name in candidates]).astype(np.float32)
    patterns -= patterns.mean(axis=1, keepdims=True)
    lengths = np.sqrt(np.square(patterns).sum(axis=1))
    patterns /= np.where(lengths > 0, lengths, 1.0)[:, None]
    likeness = np.abs(patterns @ patterns.T)
    chosen: list[int] = []
    for number in np.flatnonzero(lengths > 0):
        if all(likeness[number, other] < SAME_INDICATOR for other in chosen):
            chosen.append(int(number))
    return {candidates[number] for number in chosen}


def _number_plan(
    found: ColumnStatistics, role: Role, unit: str | None, weight: float, indicator: bool, day: float
) -> NumberPlan:
    values = found.sorted_sample  # and so is every monotone function of it: quantiles are looked up
    smallest, largest = found.moments.minimum, found.moments.maximum
    if role == "date":
        values, unit = (day - values[::-1]) / DAYS_PER_YEAR, "years ago"
        smallest, largest = (day - largest) / DAYS_PER_YEAR, (day - smallest) / DAYS_PER_YEAR
    fill = _most_frequent(values) if role == "boolean" else _quantile(values, 0.5)
    transform: Callable[[NDArray[np.float64]], NDArray[np.float64]] = np.log1p if role == "count" else np.asarray
    bounds = np.array([smallest, largest]) if role != "count" else np.maximum([smallest, largest], 0.0)
    changed = transform(np.maximum(values, 0.0) if role == "count" else values)
    low, high = (float(v) for v in transform(bounds))
    if role != "boolean":
        clip = _quantile(changed, CLIPPED_SHARE), _quantile(changed, 1 - CLIPPED_SHARE)
        if clip[0] < clip[1]:
            low, high = clip
    clipped = np.clip(changed, low, high)
    spread = float(clipped.std())
    if role == "boolean" and high > low:
        spread = max(spread, float(np.sqrt(RAREST_VARIANCE)) * (high - low))
    share = found.missing_share
    return NumberPlan(
        column=found.name, role=role, unit=unit, weight=weight, fill=fill, logarithm=role == "count",
        low=low, high=high, centre=float(clipped.mean()), scale=1.0 / spread if spread > 0 else 0.0,
        indicator=indicator, indicator_scale=_block_scale([share]) * float(np.sqrt(share)),
    )  # fmt: skip


def _quantile(ascending: NDArray[np.float64], q: float) -> float:
    """Return a quantile of sorted values, between two of them by linear interpolation."""
    place = q * (len(ascending) - 1)
    below = int(place)
    above = min(below + 1, len(ascending) - 1)
    return float(ascending[below] + (ascending[above] - ascending[below]) * (place - below))


def _most_frequent(values: NDArray[np.float64]) -> float:
    distinct, counts = np.unique(values, return_counts=True)
    return float(distinct[counts.argmax()])


def _category_plan(found: ColumnStatistics, unit: str | None, weight: float, indicator: bool) -> CategoryPlan:
    kept = _kept(found, MAX_CATEGORIES)
    counts = [found.counts[name] for name in kept]
    counts.append(sum(found.counts.values()) - sum(counts))
    if indicator:
        counts.append(found.n_missing)
    else:
        counts[0] += found.n_missing
    scale = _block_scale([count / found.n_rows for count in counts])
    return CategoryPlan(
        column=found.name, unit=unit, weight=weight, categories=kept, indicator=indicator, scale=scale
    )  # fmt: skip


def _label_plan(found: ColumnStatistics, unit: str | None, weight: float, indicator: bool) -> LabelPlan:
    kept = _kept(found, MAX_LABELS)
    counts = [found.counts[name] for name in kept]
    counts.append(sum(found.counts.values()) - sum(counts))
    if indicator:
        counts.append(found.n_missing)
    return LabelPlan(
        column=found.name, unit=unit, weight=weight, separator=found.reading.separator, labels=kept,
        indicator=indicator, scale=_block_scale([min(count / found.n_rows, 1.0) for count in counts]),
    )  # fmt: skip


def _kept(found: ColumnStatistics, limit: int) -> tuple[str, ...]:
    """Return the most frequent texts, ties by name; always one, at most `limit`, none rarer than RAREST_CATEGORY."""
    ordered = sorted(found.counts, key=lambda name: (-found.counts[name], name))
    frequent = [name for name in ordered[:limit] if found.counts[name] >= RAREST_CATEGORY * found.n_rows]
    return tuple(frequent or ordered[:1])


def _block_scale(shares: Sequence[float]) -> float:
    """Return the factor that gives a block of 0/1 columns with these shares of ones a total variance of 1."""
    return 1.0 / float(np.sqrt(max(sum(p * (1.0 - p) for p in shares), RAREST_VARIANCE)))
