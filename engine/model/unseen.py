"""Count the values of new rows that a model does not know, and say so where they are many.

    blocks of new rows  ->  UnseenCounts  ->  SeenRows adds them up  ->  a warning, or an error above a limit

A model keeps the frequent categories and labels of the table it was fitted on; all others count as "other". How many
rows were "other" in the fit is the mean of that column of X, which PCA keeps. What new rows have beyond it is unseen.
Numbers are known whatever they are: only a column without any value tells nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.errors import EmptyTableError, UnseenValuesError
from engine.features.columnar_block import ColumnarBlock, RaggedLabels
from engine.features.distributions import TableDistributions
from engine.features.encoder import FeatureEncoder
from engine.features.encoding_plan import MISSING_SHARE_RANGE, CategoryPlan, ColumnPlan, LabelPlan, NumberPlan
from engine.gate.scored_rows import ScoredRows, count_scored
from engine.model.directions import warn_without_direction
from engine.model.row_gate import RowGate
from engine.progress import Advance
from engine.utils.array_types import Float64s, Int64s
from engine.utils.formatting import format_percent

WARNED_SHARE = 0.2  # of the rows: from it on, unseen values are warned of
FAR_SHARE, MIN_FAR_ROWS = 0.01, 3  # rows of a column that lie far beyond all of the fit: fewer are outliers
ROUNDING = 1e-6  # of shares of the fit: X is float32
MAX_CHANCE = 0.001  # what as many rows as in the fit would do by chance in one of 1,000 tables is not reported


class UnseenValuesWarning(UserWarning):
    """Warns of columns whose values the model does not know, or that are empty."""


class UnseenCounts(NamedTuple):
    """Rows of new blocks whose values the model does not know, and rows without a value, per column of the plan.

    `far` counts rows whose number or date lies far beyond all of the fit, per column of the plan, 0 for others.
    `directionless` counts rows without direction, where the metric is cosine; `scored` has what the gate compares, None
    if the model knows nothing of the table of its fit.
    """

    n_rows: int
    unknown: Int64s
    missing: Int64s
    far: Int64s
    directionless: int = 0
    scored: ScoredRows | None = None

    def plus(self, other: UnseenCounts) -> UnseenCounts:
        """Return the counts of the rows of both."""
        return UnseenCounts(
            self.n_rows + other.n_rows,
            self.unknown + other.unknown,
            self.missing + other.missing,
            self.far + other.far,
            self.directionless + other.directionless,
            None if self.scored is None or other.scored is None else self.scored.plus(other.scored),
        )


class _Unseen(NamedTuple):
    """The share of the new rows whose values of a column the model does not know, beyond that of the fit; in words."""

    share: float
    column: str
    text: str


def count_unseen(
    block: ColumnarBlock, encoder: FeatureEncoder, fitted: TableDistributions | None = None
) -> UnseenCounts:
    """Count the rows of a block that the encoder's plan has no category or label for, and those without a value."""
    n_missing = dict(zip(block.number_columns, np.isnan(block.numbers).sum(axis=1).tolist(), strict=True))
    n_missing |= dict(zip(block.text_columns, (block.codes < 0).sum(axis=1).tolist(), strict=True))
    counts = [_count_column(block, column, encoder, n_missing) for column in encoder.plan.columns]
    unknown, missing = np.array(counts, np.int64).reshape(len(counts), 2).T
    scored = None if fitted is None else count_scored(block, fitted)
    return UnseenCounts(block.n_rows, unknown, missing, _count_far(block, encoder), scored=scored)


def _count_far(block: ColumnarBlock, encoder: FeatureEncoder) -> Int64s:
    """Return in how many rows a number or date lies far beyond all of the fit, per column of the plan."""
    layout = encoder.layout
    limits = layout.far_limits[[layout.number_positions[name] for name in block.number_columns]]
    far = (block.numbers < limits[:, :1]) | (block.numbers > limits[:, 1:])
    counts = dict(zip(block.number_columns, far.sum(axis=1).tolist(), strict=True))
    return np.array([counts.get(column.column, 0) for column in encoder.plan.columns], np.int64)


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
        warn_without_direction(self._total.directionless)
        limit = WARNED_SHARE if self._max_unseen is None else self._max_unseen
        found = _find_unseen(self._total, self._encoder, self._feature_means)
        found = [column for column in found if column.share > limit + ROUNDING]
        named = "; ".join(column.text for column in found)
        if named and self._max_unseen is not None:
            raise UnseenValuesError(
                f"More of the new rows is unknown to the model than --max-unseen {format_percent(limit)}: {named}.",
                hint="fit again on a table that has these values, or mend the columns.",
            )
        counts = self._total
        if self._gate is not None and counts.scored is not None:
            self._gate.check(counts.scored, counts.n_rows, counts.missing, {column.column for column in found})
        _warn_of_far_values(counts, self._encoder)
        if named:
            message = f"The model does not know what these columns say: {named}. Rows are assigned by the others."
            warnings.warn(message, UnseenValuesWarning, stacklevel=3)


def _warn_of_far_values(counts: UnseenCounts, encoder: FeatureEncoder) -> None:
    least = max(MIN_FAR_ROWS, FAR_SHARE * counts.n_rows)
    named = "; ".join(
        f"column {column.column!r} in {n:,} of {counts.n_rows:,} rows"
        for column, n in zip(encoder.plan.columns, counts.far.tolist(), strict=True)
        if n >= least and column.weight > 0.0
    )
    if named:
        message = f"Values lie far beyond all of the fit, and count as its smallest or largest: {named}."
        remedy = "If they mark missing ones, leave them empty, or fit again with --missing."
        warnings.warn(f"{message} {remedy}", UnseenValuesWarning, stacklevel=4)


def _find_unseen(counts: UnseenCounts, encoder: FeatureEncoder, feature_means: Float64s) -> list[_Unseen]:
    found, n_rows, first = [], counts.n_rows, 0
    if not counts.unknown.any() and not (counts.missing == n_rows).any():
        return []
    for number, column in enumerate(encoder.plan.columns):
        n_known = 0 if isinstance(column, NumberPlan) else len(_known(column))
        of_column = feature_means[first : first + n_known + 1 + column.indicator]
        first += len(of_column)
        if column.weight <= 0.0:
            continue
        n_unknown, n_missing = int(counts.unknown[number]), int(counts.missing[number])
        missing_before = _share_of_ones(of_column[-1], column) if column.indicator else 0.0
        if n_missing == n_rows and not _may_be_chance(n_rows, n_rows, max(missing_before, MISSING_SHARE_RANGE[0])):
            found.append(
                _Unseen(1.0, column.column, f"column {column.column!r} has no value in any of {n_rows:,} rows")
            )
        elif n_unknown:
            rare_before = _share_of_ones(of_column[n_known], column)
            if _may_be_chance(n_unknown, n_rows, rare_before):
                continue
            what = "labels" if isinstance(column, LabelPlan) else "a category"
            note = f" ({format_percent(rare_before)} in the fit)" if rare_before > 0 else ""
            text = (
                f"column {column.column!r} has {what} that the model does not know in {n_unknown:,} of {n_rows:,} rows"
            )
            found.append(_Unseen(n_unknown / n_rows - rare_before, column.column, text + note))
    return found


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


def _count_column(
    block: ColumnarBlock, column: ColumnPlan, encoder: FeatureEncoder, n_missing: Mapping[str, int]
) -> tuple[int, int]:
    """Return how many rows have a value that the plan does not know, and how many have none.

    `n_missing` has the missing numbers and codes of each column.
    """
    if isinstance(column, NumberPlan):
        return 0, n_missing[column.column]
    known = encoder.layout.names_of(column.column)
    if isinstance(column, LabelPlan):
        return _count_labels(block.labels[column.column], known)
    row = block.text_rows[column.column]
    codes, names = block.codes[row], block.names[row] or []
    n_marked = _count_codes(codes, names, set(column.missing), found=True) if column.missing else 0
    return _count_codes(codes, names, known, found=False), n_missing[column.column] + n_marked


def _count_labels(lists: RaggedLabels, known: Collection[str]) -> tuple[int, int]:
    """Return how many rows have labels but none that the plan knows, and how many have no list."""
    names, n_missing = lists.names or [], int(lists.missing.sum())
    if all(name in known for name in names):
        return 0, n_missing
    is_known = np.isin(lists.codes, _positions(names, known, found=True))
    n_known, n_labels = (_sums(flags, lists.offsets) for flags in (is_known, lists.codes >= 0))
    return int(((n_labels > 0) & (n_known == 0)).sum()), n_missing


def _count_codes(codes: NDArray[np.int32], names: list[str], some: Collection[str], *, found: bool) -> int:
    """Return how many codes stand for names that are found among some, or are not."""
    positions = _positions(names, some, found=found)
    return int(np.isin(codes, positions).sum()) if positions else 0


def _positions(names: list[str], some: Collection[str], *, found: bool) -> list[int]:
    """Return the positions of the names that are found among some, or of those that are not."""
    return [code for code, name in enumerate(names) if (name in some) == found]


def _sums(flags: NDArray[np.bool_], offsets: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return how many flags are set in each row of ragged lists."""
    total = np.concatenate([[0], np.cumsum(flags)])
    sums: NDArray[np.int64] = total[offsets[1:]] - total[offsets[:-1]]
    return sums
