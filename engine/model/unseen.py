"""Count the values of new rows that a model does not know, and say so where they are many.

    blocks of new rows  ->  UnseenCounts  ->  SeenRows adds them up  ->  a warning, or an error above a limit

A model keeps the frequent categories and labels of the table it was fitted on; all others count as "other". How many
rows were "other" in the fit is the mean of that column of X, which PCA keeps. What new rows have beyond it is unseen.
Numbers are known whatever they are: only a column without any value tells nothing. Those that lie far beyond all of the
fit are told if many rows have them, and marks of missing values that the fit did not have, such as -999, in any number.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.errors import EmptyTableError, UnseenValuesError
from engine.features.columnar_block import ColumnarBlock, RaggedLabels
from engine.features.distributions import TableDistributions
from engine.features.encoder import FeatureEncoder
from engine.features.encoding_plan import MISSING_SHARE_RANGE, CategoryPlan, ColumnPlan, LabelPlan, NumberPlan
from engine.features.missing_marks import format_mark, looks_like_mark
from engine.gate.scored_rows import ScoredRows, count_scored
from engine.model.directions import NoDirectionWarning, describe_rows_without_direction
from engine.model.row_gate import RowGate
from engine.progress import Advance
from engine.utils.array_types import Bools, Float64s, Int32s, Int64s
from engine.utils.formatting import format_percent

WARNED_SHARE = 0.2  # of the rows: from it on, unseen values are warned of
FAR_SHARE, MIN_FAR_ROWS = 0.01, 3  # rows of a column that lie far beyond all of the fit: fewer are outliers
HEAP_RANGES, HEAP_RANGES_OF_FEW = 0.15, 0.5  # of the fit between it and a mark that many rows have, or one of few rows
MIN_HEAP_ROWS = 20  # fewer are few
ROUNDING = 1e-6  # of shares of the fit: X is float32
MAX_CHANCE = 0.001  # what as many rows as in the fit would do by chance in one of 1,000 tables is not reported


class UnseenValuesWarning(UserWarning):
    """Warns of columns whose values the model does not know, or that are empty."""


class UnseenCounts(NamedTuple):
    """Rows of new blocks whose values the model does not know, and rows without a value, per column of the plan.

    `far` counts rows whose number or date lies far beyond all of the fit, per column of the plan, 0 for others, and
    `marks` the rows with each of those that look like marks of missing values, by number of the column.
    `directionless` counts rows without direction, where the metric is cosine; `scored` has what the gate compares, None
    if the model knows nothing of the table of its fit.
    """

    n_rows: int
    unknown: Int64s
    missing: Int64s
    far: Int64s
    marks: Mapping[int, Counter[float]] = {}
    directionless: int = 0
    scored: ScoredRows | None = None

    def plus(self, other: UnseenCounts) -> UnseenCounts:
        """Return the counts of the rows of both."""
        return UnseenCounts(
            self.n_rows + other.n_rows,
            self.unknown + other.unknown,
            self.missing + other.missing,
            self.far + other.far,
            {
                column: self.marks.get(column, Counter()) + other.marks.get(column, Counter())
                for column in self.marks.keys() | other.marks.keys()
            },
            self.directionless + other.directionless,
            None if self.scored is None or other.scored is None else self.scored.plus(other.scored),
        )


class _Unseen(NamedTuple):
    """The share of the new rows whose values of a column the model does not know, beyond that of the fit; in words."""

    share: float
    column: str
    text: str


class FoundMarks(NamedTuple):
    """Numbers and days of a block that look like marks of missing values, and of which the fit had none alike.

    Each is (n_marks,): the number of the column in the plan, the row, and the value.
    """

    columns: Int64s
    rows: Int64s
    values: Float64s

    def counts(self, first: int, end: int) -> dict[int, Counter[float]]:
        """Return how many of the rows from `first` up to `end` have each mark, by column."""
        found: dict[int, Counter[float]] = {}
        inside = (self.rows >= first) & (self.rows < end)
        for column in np.unique(self.columns[inside]).tolist():
            values, counts = np.unique(self.values[inside & (self.columns == column)], return_counts=True)
            found[column] = Counter(dict(zip(values.tolist(), counts.tolist(), strict=True)))
        return found

    @staticmethod
    def join(parts: Sequence[FoundMarks], n_rows: Sequence[int]) -> FoundMarks:
        """Return the marks of blocks that follow each other and have these numbers of rows."""
        if not parts:
            return FoundMarks(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
        starts = np.cumsum([0, *n_rows])
        rows = [part.rows + start for part, start in zip(parts, starts, strict=False)]
        return FoundMarks(
            np.concatenate([part.columns for part in parts]),
            np.concatenate(rows),
            np.concatenate([part.values for part in parts]),
        )


class UnseenFlags(NamedTuple):
    """Which rows of a block have values that the model does not know, none, or one that lies far beyond all of the fit.

    The first three are (n_columns, n_rows), by column of the plan; far are numbers and dates. `marks` are those far
    ones that look like marks of missing values.
    """

    unknown: Bools
    missing: Bools
    far: Bools
    marks: FoundMarks


def find_unseen(block: ColumnarBlock, encoder: FeatureEncoder) -> UnseenFlags:
    """Tell which values of a block the encoder's plan has no category or label for, are missing, or lie far away."""
    shape, layout = (len(encoder.plan.columns), block.n_rows), encoder.layout
    unknown, missing, far = np.zeros(shape, np.bool_), np.empty(shape, np.bool_), np.zeros(shape, np.bool_)
    marks: list[FoundMarks] = []
    no_number, no_text = np.isnan(block.numbers), block.codes < 0
    for row, column in enumerate(encoder.plan.columns):
        if isinstance(column, NumberPlan):
            number_row = block.number_rows[column.column]
            missing[row] = no_number[number_row]
            far[row], found = _find_far(block.numbers[number_row], column, encoder, row)
            marks += found
            continue
        known = layout.names_of(column.column)
        if isinstance(column, LabelPlan):
            lists = block.labels[column.column]
            missing[row] = lists.missing
            if not all(name in known for name in lists.names or []):
                unknown[row] = _without_known_label(lists, known)
            continue
        text_row = block.text_rows[column.column]
        codes, names = block.codes[text_row], block.names[text_row] or []
        missing[row] = no_text[text_row]
        if column.missing:
            missing[row] |= _is_among(codes, names, set(column.missing))
        if not all(name in known for name in names):
            unknown[row] = ~no_text[text_row] & ~_is_among(codes, names, known)
    return UnseenFlags(unknown, missing, far, FoundMarks.join(marks, [0] * len(marks)))


def _find_far(
    values: Float64s, column: NumberPlan, encoder: FeatureEncoder, number: int
) -> tuple[Bools, list[FoundMarks]]:
    """Tell which numbers or days lie far beyond those of the fit, and which of these look like marks.

    A mark below 0, such as -1, is far from numbers that are all at least 0; one above them is nearer than other
    numbers (_heaped_marks).
    """
    layout = encoder.layout
    least, greatest = layout.far_limits[layout.number_positions[column.column]]
    far: Bools = (values < least) | (values > greatest)
    is_date = column.role == "date"
    may_be_mark = far if is_date or column.low < 0.0 or column.below_zero else far | (values < 0.0)
    if not is_date and not column.logarithm:
        may_be_mark = may_be_mark | _heaped_marks(values, column)
    if not may_be_mark.any():
        return far, []
    distinct = np.unique(values[may_be_mark])
    looks_so = [looks_like_mark(value, is_date=is_date) for value in distinct.tolist()]
    rows = np.flatnonzero(may_be_mark)
    rows = rows[np.isin(values[rows], distinct[looks_so])]
    far[rows] = True
    return far, [FoundMarks(np.full(len(rows), number), rows, values[rows])] if len(rows) else []


def _heaped_marks(values: Float64s, column: NumberPlan) -> Bools:
    """Tell which numbers are marks such as 99 after ages of 18 to 65: more frequent than all between them and the fit.

    Of few rows, which tell nothing about that, marks have to lie farther away.
    """
    few = len(values) < MIN_HEAP_ROWS
    nearest = column.high + (HEAP_RANGES_OF_FEW if few else HEAP_RANGES) * (column.high - column.low)
    heaped = np.zeros(len(values), np.bool_)
    if not column.high > column.low or not (values > nearest).any():
        return heaped
    beyond = values[values > column.high]
    distinct, counts = np.unique(beyond, return_counts=True)
    n_before = np.cumsum(counts) - counts
    for value, count, n_nearer in zip(distinct.tolist(), counts.tolist(), n_before.tolist(), strict=True):
        if (
            value > nearest
            and looks_like_mark(value, is_date=False)
            and (few or count > max(n_nearer, MIN_FAR_ROWS - 1))
        ):
            heaped |= values == value
    return heaped


def count_unseen(
    block: ColumnarBlock, encoder: FeatureEncoder, fitted: TableDistributions | None = None
) -> UnseenCounts:
    """Count the rows of a block that the encoder's plan has no category or label for, and those without a value."""
    flags = find_unseen(block, encoder)
    scored = None if fitted is None else count_scored(block, fitted)
    unknown, missing, far = (of_rows.sum(axis=1) for of_rows in flags[:3])
    return UnseenCounts(block.n_rows, unknown, missing, far, flags.marks.counts(0, block.n_rows), scored=scored)


class SeenRows:
    """Counts what a model does not know of new rows, block by block, and reports it before anything is published.

    Parameters
    ----------
    encoder : FeatureEncoder
    feature_means : float64 array of shape (n_features,)
        Means of X in the fit.
    max_unseen : float or None
        The largest share of the rows, beyond that of the fit, that is accepted in a column; None only warns.
    advance : callable
        Called with the number of rows of every block.
    gate : RowGate, optional
        Compares the rows with the table of the fit.
    """

    def __init__(
        self,
        encoder: FeatureEncoder,
        feature_means: Float64s,
        max_unseen: float | None,
        advance: Advance,
        gate: RowGate | None = None,
    ) -> None:
        self._gate = gate
        self._encoder, self._feature_means, self._max_unseen, self._advance = (
            encoder,
            feature_means,
            max_unseen,
            advance,
        )
        self._total: UnseenCounts | None = None

    def add(self, counts: UnseenCounts) -> None:
        """Count a block."""
        self._advance(counts.n_rows)
        self._total = counts if self._total is None else self._total.plus(counts)

    def watch(self, assignments: Iterator[tuple[pa.Table, UnseenCounts]]) -> Iterator[pa.Table]:
        """Yield the assignments of all blocks, and report."""
        for table, counts in assignments:
            self.add(counts)
            yield table
        self.report()

    def report(self) -> None:
        """Warn of columns whose values the model does not know, or that are empty.

        Raises
        ------
        EmptyTableError
            If there was no block.
        UnseenValuesError
            If a column has more than `max_unseen`, or is empty. It names all of them.
        GateStoppedError
            If rows are not like those of the fit, and the gate stops them.
        """
        if self._total is None:
            raise EmptyTableError("The table has no rows.")
        limit = WARNED_SHARE if self._max_unseen is None else self._max_unseen
        found = _unseen_columns(self._total, FittedShares.of(self._encoder, self._feature_means))
        found = [column for column in found if column.share > limit + ROUNDING]
        if found and self._max_unseen is not None:
            named = "; ".join(column.text for column in found)
            raise UnseenValuesError(
                f"More of the new rows is unknown to the model than --max-unseen {format_percent(limit)}: {named}.",
                hint="fit again on a table that has these values, or mend the columns.",
            )
        counts = self._total
        if self._gate is not None and counts.scored is not None:
            self._gate.check(counts.scored, counts.n_rows, counts.missing, {column.column for column in found})
        for category, message in _describe(counts, self._encoder.plan.columns, found):
            warnings.warn(message, category, stacklevel=3)


class FittedShares(NamedTuple):
    """The shares of the rows of the fit without a known value and without any, each (n_columns,); 0 for numbers."""

    columns: tuple[ColumnPlan, ...]
    rare: Float64s
    missing: Float64s

    @classmethod
    def of(cls, encoder: FeatureEncoder, feature_means: Float64s) -> FittedShares:
        """Return the shares by the means of X in the fit."""
        rare, missing, first = [], [], 0
        for column in encoder.plan.columns:
            n_known = 0 if isinstance(column, NumberPlan) else len(_known(column))
            of_column = feature_means[first : first + n_known + 1 + column.indicator]
            first += len(of_column)
            rare.append(0.0 if isinstance(column, NumberPlan) else _share_of_ones(of_column[n_known], column))
            missing.append(_share_of_ones(of_column[-1], column) if column.indicator else 0.0)
        return cls(tuple(encoder.plan.columns), np.array(rare), np.array(missing))


def _unseen_columns(counts: UnseenCounts, shares: FittedShares) -> list[_Unseen]:
    """Return the columns with more values that the model does not know than in the fit, beyond chance."""
    found, n_rows = [], counts.n_rows
    for number in np.flatnonzero((counts.unknown > 0) | (counts.missing == n_rows)).tolist():
        column, n_unknown, n_missing = shares.columns[number], int(counts.unknown[number]), int(counts.missing[number])
        if column.weight <= 0.0:
            continue
        if n_missing == n_rows:
            if not _may_be_chance(n_rows, n_rows, max(shares.missing[number], MISSING_SHARE_RANGE[0])):
                text = f"column {column.column!r} has no value in any of {n_rows:,} rows"
                found.append(_Unseen(1.0, column.column, text))
            continue
        rare_before = float(shares.rare[number])
        if _may_be_chance(n_unknown, n_rows, rare_before):
            continue
        what = "labels" if isinstance(column, LabelPlan) else "a category"
        note = f" ({format_percent(rare_before)} in the fit)" if rare_before > 0 else ""
        text = f"column {column.column!r} has {what} that the model does not know in {n_unknown:,} of {n_rows:,} rows"
        found.append(_Unseen(n_unknown / n_rows - rare_before, column.column, text + note))
    return found


def describe_unseen(counts: UnseenCounts, shares: FittedShares) -> list[tuple[type[UserWarning], str]]:
    """Return warnings of rows without direction, and of columns with many rows that are unknown or far from the fit."""
    found = [column for column in _unseen_columns(counts, shares) if column.share > WARNED_SHARE + ROUNDING]
    return _describe(counts, shares.columns, found)


def _describe(
    counts: UnseenCounts, columns: Sequence[ColumnPlan], unknown: Sequence[_Unseen]
) -> list[tuple[type[UserWarning], str]]:
    """Return what to warn of, with its category."""
    described: list[tuple[type[UserWarning], str]] = []
    if counts.directionless:
        described.append((NoDirectionWarning, describe_rows_without_direction(counts.directionless)))
    far = [
        f"column {column.column!r} in {n:,} of {counts.n_rows:,} rows"
        + _marks_in_words(counts.marks.get(number), is_date=isinstance(column, NumberPlan) and column.role == "date")
        for number, (column, n) in enumerate(zip(columns, counts.far.tolist(), strict=True))
        if column.weight > 0.0 and (number in counts.marks or n >= max(MIN_FAR_ROWS, FAR_SHARE * counts.n_rows))
    ]
    if far:
        message = f"Values lie far beyond all of the fit, and count as its smallest or largest: {'; '.join(far)}."
        remedy = "If they mark missing ones, leave them empty, or fit again with --missing."
        described.append((UnseenValuesWarning, f"{message} {remedy}"))
    if unknown:
        named = "; ".join(column.text for column in unknown)
        message = f"The model does not know what these columns say: {named}. Rows are assigned by the others."
        described.append((UnseenValuesWarning, message))
    return described


def _marks_in_words(marks: Counter[float] | None, *, is_date: bool) -> str:
    if not marks:
        return ""
    return f" ({', '.join(f'{format_mark(mark, is_date=is_date)} in {n:,}' for mark, n in sorted(marks.items()))})"


def _may_be_chance(n_found: int, n_rows: int, share: float) -> bool:
    """Tell whether so many of the rows may have what this share of all rows has, by Chernoff's bound."""
    found = n_found / n_rows
    if share <= 0.0 or found <= share:
        return found <= share
    rest = (1.0 - found) * np.log((1.0 - found) / (1.0 - share)) if found < 1.0 else 0.0
    return bool(np.exp(-n_rows * (found * np.log(found / share) + rest)) > MAX_CHANCE)


def _known(column: CategoryPlan | LabelPlan) -> tuple[str, ...]:
    return column.categories if isinstance(column, CategoryPlan) else column.labels


def _share_of_ones(mean: float, column: ColumnPlan) -> float:
    """Return the share of rows in which a column of X was not 0, given its mean."""
    scale = column.indicator_scale if isinstance(column, NumberPlan) else column.scale
    return float(min(max(mean / (scale * np.sqrt(column.weight)), 0.0), 1.0)) if scale > 0 else 0.0


def _without_known_label(lists: RaggedLabels, known: Collection[str]) -> Bools:
    """Tell which rows have labels but none that the plan knows."""
    is_known = _is_among(lists.codes, lists.names or [], known)
    n_known, n_labels = (_sums(flags, lists.offsets) for flags in (is_known, lists.codes >= 0))
    unknown: Bools = (n_labels > 0) & (n_known == 0)
    return unknown


def _is_among(codes: Int32s, names: Sequence[str], some: Collection[str]) -> Bools:
    """Tell which codes stand for names that are found among some; a missing value is not."""
    flags: Bools = np.array([False, *(name in some for name in names)])[codes + 1]
    return flags


def _sums(flags: NDArray[np.bool_], offsets: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return how many flags are set in each row of ragged lists."""
    total = np.concatenate([[0], np.cumsum(flags)])
    sums: NDArray[np.int64] = total[offsets[1:]] - total[offsets[:-1]]
    return sums
