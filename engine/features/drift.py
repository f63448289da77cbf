"""Find columns whose values an encoder that was fitted on another table no longer tells apart.

    EncodingPlan, statistics of tonight's table  ->  DriftWarning, naming columns

An encoder clips numbers to the range that it was fitted on, and takes categories that it does not know for "other". A
few of them are as they should be; many mean that the table has changed and the encoder has to be fitted again.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np

from engine.features.column_statistics import ColumnStatistics, TableStatistics
from engine.features.encoding_plan import (
    DAYS_PER_YEAR,
    MIN_CATEGORY_SHARE,
    CategoryPlan,
    ColumnPlan,
    EncodingPlan,
    NumberPlan,
)
from engine.utils.formatting import format_percent

MOST_OUTSIDE = 0.05  # of a column's values: the limits of a fit leave out one in a hundred
MIN_OUTSIDE = 10.5  # values, for a share to mean something: the ends of a small table are always outside
SHOWN_COLUMNS = 5


class DriftWarning(UserWarning):
    """Warns of columns with many values that the encoder of the previous run was not fitted on."""


def warn_of_drift(plan: EncodingPlan, statistics: TableStatistics) -> None:
    """Warn of columns of which more than MOST_OUTSIDE of the values are clipped, or of unknown categories."""
    found = list(_drifted(plan, statistics))
    if found:
        more = f" and {len(found) - SHOWN_COLUMNS} more columns" if len(found) > SHOWN_COLUMNS else ""
        warnings.warn(
            f"Many values are not like those of the run that is continued: {'; '.join(found[:SHOWN_COLUMNS])}{more}. "
            "Clusters cannot tell them apart: --refit-features fits the encoder again.",
            DriftWarning,
            stacklevel=3,
        )


def _drifted(plan: EncodingPlan, statistics: TableStatistics) -> Iterator[str]:
    for column in plan.columns:
        tonight = statistics.columns[column.column]
        share = share_outside(column, tonight, plan.reference_day)
        if tonight.n_present == 0:
            yield f"{column.column!r} (no value in any row)"
        elif share > max(MOST_OUTSIDE, MIN_OUTSIDE / tonight.n_present):
            what = "beyond its limits" if isinstance(column, NumberPlan) else "not among its categories"
            yield f"{column.column!r} ({format_percent(share)} {what})"


def share_outside(column: ColumnPlan, tonight: ColumnStatistics, reference_day: float) -> float:
    """Return the share of a column's values that the plan clips, or does not know, beyond what it did when fitted.

    Only categories that the plan has no place for count: a plan leaves rare ones out on purpose, and one of a column
    with many rare categories knows few of them. Of these, the share is that of the rows above the plan's own.
    """
    if isinstance(column, NumberPlan):
        values = tonight.sorted_sample
        if len(values) == 0 or column.scale == 0.0:
            return 0.0
        if column.role == "date":
            values = (reference_day - values[::-1]) / DAYS_PER_YEAR
        elif column.logarithm:
            values = np.log1p(np.maximum(values, 0.0))
        inside = np.searchsorted(values, column.high, side="right") - np.searchsorted(values, column.low)
        return 1.0 - float(inside) / len(values)
    if tonight.overflow or not tonight.counts:
        return 0.0
    known = column.categories if isinstance(column, CategoryPlan) else column.labels
    total = sum(tonight.counts.values())
    unknown = [count for name, count in tonight.counts.items() if name not in known]
    # What tonight would get a place of its own: the most frequent of the unknown ones.
    # In a column that few rows have a value in, a plan leaves out what many of these have.
    limit = max(MOST_OUTSIDE * total, 2.0 * MIN_CATEGORY_SHARE * tonight.n_rows)
    return sum(count for count in unknown if count > limit) / total
