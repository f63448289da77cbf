"""Find a row that holds the totals of all others, as reports and spreadsheets end with.

    statistics  ->  a warning that names the columns whose largest number is the sum of all others

Such a row is taken as a person, who has more of everything than all others together. Nothing but the statistics is
needed: where one number is the sum of the others, twice that number is the sum of all.
"""

from __future__ import annotations

import warnings

from engine.features.column_statistics import ColumnStatistics, TableStatistics

MIN_ROWS = 10  # with a number; fewer numbers may add up by chance
MIN_DIFFERENT = 5  # numbers: a flag that two people have adds up
ROUNDING = 1e-9  # relative difference of the sums


class TotalRowWarning(UserWarning):
    """Warns of a row that looks like the totals of the others."""


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
