"""Find the columns that hold one answer in several notations: other words, codes, numbers, or yes/no columns.

    plans of columns, their statistics, first rows  ->  RenamedColumns: the notations of each answer

In the first rows, each value of one notation comes with one value of the other; over all rows, the values are as
frequent. A category may come as a country and its code, as `education` and the years of it, as F and M beside
`is_female`, or as a plan beside the yes/no columns of its values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.blocks import Block
from engine.features.column_statistics import ColumnStatistics, TableStatistics
from engine.features.columnar_block import ColumnarBlock, read_block
from engine.features.encoding_plan import CategoryPlan, EncodingPlan, NumberPlan

MIN_ROWS = 20  # with fewer, chance makes columns alike
MIN_OTHER_ROWS = 3  # rows without the most frequent value: two columns of a rare value are alike by chance
MAX_FLAGGED_VALUES = 100  # of a category that is compared with yes/no columns
MAX_UNFLAGGED = 0.05  # share of the rows without the most frequent value whose values have no yes/no column
MAX_STEP = 3  # from one number of a category to the next, on average: populations and prices are no names of places
MEAN_TOLERANCE = 1e-9  # of two means of the same numbers, relative to their range


@dataclass(frozen=True)
class RenamedColumns:
    """One answer in several notations: columns that each hold all of it, and its yes/no columns, if it has any."""

    columns: tuple[str, ...]
    flags: tuple[str, ...] = ()


def find_renamed_columns(
    plan: EncodingPlan, statistics: TableStatistics, first: Block | None, owners: Mapping[str, str]
) -> list[RenamedColumns]:
    """Find the answers that a table holds in several notations; each has at least one category.

    Parameters
    ----------
    plan : EncodingPlan
    statistics : TableStatistics
    first : Block or None
        The first rows: only they show which values come together. None if there are none to compare.
    owners : mapping of column name to str
        Only columns of one owner are compared; columns without an owner are not.

    Returns
    -------
    list of RenamedColumns; no column is in two of them.
    """
    if first is None:
        return []
    known = {column.column: column for column in plan.columns if column.column in owners}
    known = {name: column for name, column in known.items() if first.has_column(name)}
    categories = [name for name, column in known.items() if isinstance(column, CategoryPlan)]
    if not categories:
        return []
    most = max(len(statistics.columns[name].counts) for name in categories)
    numbers = {name: column for name, column in known.items() if isinstance(column, NumberPlan) and column.scale > 0}
    flags = [name for name, column in numbers.items() if is_flag(column, statistics.columns[name])]
    scores = [name for name in numbers if name not in flags and _is_code(statistics.columns[name], most)]
    wanted = {*categories, *flags, *scores}
    specs = {name: statistics.columns[name].read_spec for name in known if name in wanted}
    block = read_block(first.rows.select(list(specs)), specs)
    if block.n_rows < MIN_ROWS:
        return []
    codes = {name: block.codes[block.text_rows[name]] for name in categories}
    codes |= {name: _codes(block.numbers[block.number_rows[name]]) for name in scores}
    found = []
    taken: set[str] = set()
    for columns in _find_alike(codes, owners):
        category = next((name for name in columns if name in categories), None)
        if category is None:
            continue
        others = [name for name in columns if name != category and _agree(statistics, block, category, name)]
        matched = _find_flags(statistics, block, category, [f for f in flags if f not in taken], owners)
        if others or matched:
            alike = tuple(name for name in columns if name == category or name in others)
            found.append(RenamedColumns(alike, tuple(matched)))
            taken.update(matched)
    return found


def is_flag(column: NumberPlan, statistics: ColumnStatistics) -> bool:
    """Tell whether a column holds 0 and 1."""
    return column.role == "boolean" and (statistics.moments.minimum, statistics.moments.maximum) == (0.0, 1.0)


def _is_code(column: ColumnStatistics, most: int) -> bool:
    """Tell whether numbers may be those of at most so many categories: whole, and near to each other."""
    if not column.moments.maximum - column.moments.minimum <= MAX_STEP * most:
        return False
    values = column.sorted_sample
    n_values = np.count_nonzero(np.diff(values)) + 1
    span = column.moments.maximum - column.moments.minimum
    return bool(n_values <= most and span <= MAX_STEP * n_values and (values == np.rint(values)).all())


def _codes(numbers: NDArray[np.float64]) -> NDArray[np.int32]:
    codes = np.unique(numbers, return_inverse=True)[1].astype(np.int32)
    return np.where(np.isnan(numbers), np.int32(-1), codes)


def _find_alike(codes: Mapping[str, NDArray[np.int32]], owners: Mapping[str, str]) -> Iterator[list[str]]:
    """Yield columns of one owner, in sets whose values come together: alone, if no other column is like it."""
    alike: dict[tuple[str, bytes], list[str]] = {}
    for name, column in codes.items():
        in_order = pa.array(column, mask=column < 0).dictionary_encode().indices.fill_null(-1).to_numpy()
        counts = np.bincount(in_order[in_order >= 0]) if (in_order >= 0).any() else np.zeros(1, np.int64)
        if int(counts.sum() - counts.max()) >= MIN_OTHER_ROWS:
            alike.setdefault((owners[name], in_order.tobytes()), []).append(name)
    yield from alike.values()


def _agree(statistics: TableStatistics, block: ColumnarBlock, category: str, other: str) -> bool:
    """Tell whether the values of two columns that come together in the first rows are as frequent over all rows."""
    texts, codes = block.names[block.text_rows[category]], block.codes[block.text_rows[category]]
    mine, its = statistics.columns[category], statistics.columns[other]
    if texts is None or mine.n_missing != its.n_missing:
        return False
    seen, rows = np.unique(codes, return_index=True)
    seen, rows = seen[seen >= 0], rows[seen >= 0]
    counts = np.array([mine.counts[texts[code]] for code in seen], np.float64)
    if other in block.text_rows:
        names = block.names[block.text_rows[other]]
        partners = block.codes[block.text_rows[other]][rows]
        known = names is not None and counts.tolist() == [its.counts[names[code]] for code in partners]
        return known and sorted(mine.counts.values()) == sorted(its.counts.values())
    values = block.numbers[block.number_rows[other]][rows]
    limits = its.moments.minimum, its.moments.maximum
    n_unseen = its.moments.n - counts.sum()
    tolerance = MEAN_TOLERANCE * (limits[1] - limits[0])
    low, high = ((counts @ values + n_unseen * limit) / its.moments.n for limit in limits)
    return bool(low - tolerance <= its.moments.mean <= high + tolerance)


def _find_flags(
    statistics: TableStatistics,
    block: ColumnarBlock,
    category: str,
    flags: Sequence[str],
    owners: Mapping[str, str],
) -> list[str]:
    """Return the yes/no columns of a category's values; none if they leave more than one frequent value out."""
    texts, codes = block.names[block.text_rows[category]], block.codes[block.text_rows[category]]
    left = dict(statistics.columns[category].counts)
    if texts is None or len(left) > MAX_FLAGGED_VALUES:
        return []
    text_of = {np.packbits(codes == code).tobytes(): text for code, text in enumerate(texts) if text in left}
    matched = []
    for name in flags:
        moments = statistics.columns[name].moments
        n_ones = round(moments.mean * moments.n)
        if owners[name] != owners[category] or n_ones not in left.values():
            continue
        text = text_of.get(np.packbits(block.numbers[block.number_rows[name]] == 1.0).tobytes())
        if text is not None and left.get(text) == n_ones:
            matched.append(name)
            del left[text]
    n_left = sum(left.values()) - max(left.values(), default=0)
    counts = statistics.columns[category].counts.values()
    return matched if n_left <= MAX_UNFLAGGED * (sum(counts) - max(counts)) else []
