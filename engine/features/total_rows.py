"""Find rows that are no people, as reports and spreadsheets end with: totals of all others, and rows without a value.

    statistics  ->  a warning that names the columns whose largest number is the sum of all others
                ->  a warning that counts the rows without any value

Such rows are taken as people, who have more of everything than all others together, or nothing at all. Nothing but the
statistics is needed: where one number is the sum of the others, twice that number is the sum of all.
"""

from __future__ import annotations

import warnings

import numpy as np

from engine.features.column_statistics import ColumnStatistics, TableStatistics

MIN_ROWS = 10  # with a number; fewer numbers may add up by chance
MIN_DIFFERENT = 5  # numbers: a flag that two people have adds up
ROUNDING = 1e-9  # relative difference of the sums


class TotalRowWarning(UserWarning):
    """Warns of a row that looks like the totals of the others."""


class EmptyRowsWarning(UserWarning):
    """Warns of rows that have no value in any column."""


def warn_of_empty_rows(statistics: TableStatistics) -> None:
    """Warn of rows, among the sampled ones, that have no value in any of at least two columns."""
    missing = list(statistics.missing_sample.values())
    n_empty = int(np.logical_and.reduce(missing).sum()) if len(missing) > 1 else 0
    if n_empty:
        n_rows = len(statistics.sampled_rows)
        of_all = "" if n_rows == statistics.n_rows else " that were looked at"
        warnings.warn(
            f"{n_empty:,} of the {n_rows:,} rows{of_all} have no value in any column. They are taken as people; leave "
            "them out of the table if they are blank lines.",
            EmptyRowsWarning,
            stacklevel=3,
        )


def warn_of_total_row(statistics: TableStatistics) -> None:
    """Warn if the largest number of a column is the sum of all others."""
    named = [repr(name) for name, column in statistics.columns.items() if _ends_in_total(column)]
    if named:
        warnings.warn(
            f"A row looks like the totals of all others: it has the sum of their numbers in {', '.join(named)}. It is "
            "taken as a person; leave it out of the table.",
            TotalRowWarning,
            stacklevel=3,
        )


def _ends_in_total(column: ColumnStatistics) -> bool:
    moments, sample = column.moments, column.sorted_sample
    if column.read_spec.form != "number" or moments.n < MIN_ROWS or moments.minimum < 0:
        return False
    total = moments.n * moments.mean
    n_different = 1 + int((sample[1:] != sample[:-1]).sum())
    return total > 0 and n_different >= MIN_DIFFERENT and abs(2 * moments.maximum - total) <= ROUNDING * total
