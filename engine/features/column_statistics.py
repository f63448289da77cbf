"""Compute the statistics of all columns in one streaming pass: moments, value counts, missing values, a row sample.

    blocks  ->  TableStatistics: per column counts, float64 moments and extremes, or counts of texts and labels,
                and one uniform row sample shared by all columns

Blocks are summarised on threads and merged in block order, moments by Chan's formula; the sample is the rows with
the smallest (seed, row number) keys. Neither the threads nor the split into files change a bit of the result.

Source: Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.blocks import Block
from engine.errors import EmptyTableError, NonFiniteValueError
from engine.execution.block_cache import BlockCache
from engine.execution.observers import BlockObserver, collect_all, observe_functions
from engine.execution.threads import map_blocks
from engine.features.columnar_block import ColumnarBlock, ReadSpec, number_columns, read_block
from engine.features.compact_block import cache_block
from engine.kernels.cpu.features.column_moments import compute_moments
from engine.utils.row_sampling import row_keys

OVERSAMPLING = 1.05  # rows drawn per row of the sample
SAMPLE_ROWS = 100_000  # the standard error of a quantile's rank is at most 0.16 %, of a standard deviation 0.22 %

LARGEST_NUMBER = 1e100  # cubes of numbers up to this can be added up in float64, and its reciprocal's are not 0


@dataclass
class ColumnMoments:
    """Count, mean, sum of squared deviations (m2), minimum and maximum of a column's values, in float64."""

    n: int = 0
    mean: float = 0.0
    m2: float = 0.0
    minimum: float = np.inf
    maximum: float = -np.inf

    @staticmethod
    def from_values(values: NDArray[np.float64]) -> ColumnMoments:
        """Compute the moments of the values that are not NaN; deviations are taken from their own mean."""
        return ColumnMoments(*compute_moments(values))

    def merge(self, other: ColumnMoments) -> ColumnMoments:
        """Return the moments of both sets of values together, by Chan's formula."""
        if self.n == 0 or other.n == 0:
            return other if self.n == 0 else self
        n, gap = self.n + other.n, other.mean - self.mean
        mean = self.mean + gap * (other.n / n)
        m2 = self.m2 + other.m2 + gap * gap * (self.n * (other.n / n))
        return ColumnMoments(n, mean, m2, min(self.minimum, other.minimum), max(self.maximum, other.maximum))

    @property
    def std(self) -> float:
        """The population standard deviation."""
        return float(np.sqrt(self.m2 / self.n)) if self.n else 0.0


@dataclass
class ColumnStatistics:
    """Statistics of one column: missing values, and moments of its numbers or counts of its texts or labels."""

    name: str
    read_spec: ReadSpec
    n_rows: int = 0
    n_missing: int = 0
    moments: ColumnMoments = field(default_factory=ColumnMoments)
    counts: Counter[str] = field(default_factory=Counter)  # rows per text, or mentions per label
    marks: Counter[str] = field(default_factory=Counter)  # rows per text that marks a missing value
    n_unread: int = 0  # rows with another text that is no number, which count as missing
    n_marked: int = 0  # rows with a mark of a missing value, as the read spec has them
    overflow: bool = False  # there are more than max_distinct texts, and counts is empty
    sample: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))  # numbers of the sampled rows

    @cached_property
    def sorted_sample(self) -> NDArray[np.float64]:
        """The sampled numbers that are not missing, ascending; sorted once for roles and plans."""
        return np.sort(self.sample[~np.isnan(self.sample)])

    @property
    def n_present(self) -> int:
        """The number of rows that have a value."""
        return self.n_rows - self.n_missing

    @property
    def missing_share(self) -> float:
        """The share of rows that have no value."""
        return self.n_missing / self.n_rows if self.n_rows else 0.0


@dataclass
class TableStatistics:
    """Statistics of all columns, and for each column which of the sampled rows lack a value."""

    n_rows: int
    columns: dict[str, ColumnStatistics]
    missing_sample: dict[str, NDArray[np.bool_]]
    sampled_rows: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))  # their numbers

    def in_row_order(self, name: str) -> NDArray[np.float64]:
        """Return the sampled numbers of a column that are not missing, in the order of their rows."""
        values = self.columns[name].sample[np.argsort(self.sampled_rows)]
        return values[~np.isnan(values)]


def collect_statistics(
    map_table: Callable[[Callable[[Block], Any]], Iterable[Any]],
    read_specs: Mapping[str, ReadSpec],
    *,
    seed: int,
    n_rows: int | None = None,
    cache: BlockCache | None = None,
    observers: Sequence[BlockObserver[Block]] = (),
    progress: Callable[[int], None] | None = None,
) -> TableStatistics:
    """Compute the statistics of a table's columns in one pass.

    Parameters
    ----------
    map_table : callable
        Takes a function of a block, and yields its result for every block of the table, in order.
    read_specs : mapping of column name to ReadSpec
    seed : int
        Key of the row sample.
    n_rows : int, optional
        The number of rows, if it is known: fewer rows are then drawn that do not enter the sample.
    cache : BlockCache, optional
        It keeps the blocks for the passes that follow.
    observers : sequence of BlockObserver
        Called with every block as it is read.
    progress : callable, optional
        Called with the number of rows done after every block.

    Raises
    ------
    EmptyTableError, NonFiniteValueError
    """
    totals = StatisticsTotals(read_specs, n_rows)
    for summary in map_table(
        partial(_summarize_block, read_specs, seed, totals.cut, observe_functions(observers), cache)
    ):
        totals.add(summary)
        collect_all(observers, summary.observed)
        if progress is not None:
            progress(summary.n_rows)
    return totals.result()


class StatisticsTotals:
    """The statistics of all columns of the rows so far.

    Attributes
    ----------
    cut : uint64
        Rows with keys up to this one may enter the sample.
    """

    def __init__(self, read_specs: Mapping[str, ReadSpec], n_rows: int | None) -> None:
        self._sampler = _RowSampler(SAMPLE_ROWS, n_rows)
        self._numbers = number_columns(read_specs)
        self._columns = {name: ColumnStatistics(name, reading) for name, reading in read_specs.items()}
        self._n_rows = 0
        self.cut = self._sampler.cut

    def add(self, summary: BlockSummary) -> None:
        """Add the rows that follow."""
        for part in summary.columns:
            _add_block(self._columns[part.name], part)
        self._sampler.add(summary.sampled)
        self._n_rows += summary.n_rows

    def add_moments(self, name: str, moments: ColumnMoments) -> None:
        """Add the moments of the block of a column that follows."""
        self._columns[name].moments = self._columns[name].moments.merge(moments)

    def result(self) -> TableStatistics:
        """Return the statistics of all rows.

        Raises
        ------
        EmptyTableError, NonFiniteValueError
        """
        if not self._columns or self._n_rows == 0:
            raise EmptyTableError("The table has no rows, or no columns to read.")
        _refuse_extreme_numbers(self._columns.values())
        sample = self._sampler.result()
        missing = dict(sample.missing)
        for name, values in zip(self._numbers, sample.numbers, strict=True):
            self._columns[name].sample = values
            missing[name] = np.isnan(values)
        for _ in map_blocks(lambda name: self._columns[name].sorted_sample, self._numbers):
            pass  # sorted on all threads, where roles and plans would sort one column after the other
        return TableStatistics(self._n_rows, self._columns, missing, sample.rows)


def _refuse_extreme_numbers(columns: Iterable[ColumnStatistics]) -> None:
    """Raise NonFiniteValueError if cubes of a column's numbers would overflow in a sum, or its squares vanish."""
    for name, m in ((column.name, column.moments) for column in columns):
        if m.n == 0 or m.minimum == m.maximum:
            continue
        largest = max(-m.minimum, m.maximum)
        if largest > LARGEST_NUMBER:
            raise NonFiniteValueError(
                f"Column {name!r} holds numbers beyond {LARGEST_NUMBER:.0e}, whose squares and cubes overflow.",
                hint="replace them by missing values, divide the column, or set its role to 'ignore'.",
            )
        if largest < 1 / LARGEST_NUMBER:
            raise NonFiniteValueError(
                f"Column {name!r} holds nothing but numbers below {1 / LARGEST_NUMBER:.0e}, whose squares vanish.",
                hint="multiply the column, or set its role to 'ignore'.",
            )


class BlockSummary(NamedTuple):
    """Statistics of some rows, those of them that are sampled, and the observers' results."""

    n_rows: int
    columns: list[ColumnStatistics]
    sampled: SampledRows
    observed: Sequence[Any] = ()  # one result per observer


def _summarize_block(
    read_specs: Mapping[str, ReadSpec],
    seed: int,
    cut: np.uint64,
    observe: Sequence[Callable[[Block], Any]],
    cache: BlockCache | None,
    block: Block,
) -> BlockSummary:
    columnar = read_block(block.rows, read_specs)
    sampled, keys = _draw_rows(seed, cut, block)
    observed = [function(block) for function in observe]
    if cache is not None:
        cache_block(cache, block.start, columnar)
    return BlockSummary(
        columnar.n_rows,
        _column_statistics(columnar, read_specs),
        _sample_rows(columnar, sampled, block.start, keys),
        observed,
    )


def _column_statistics(columnar: ColumnarBlock, read_specs: Mapping[str, ReadSpec]) -> list[ColumnStatistics]:
    """Compute one block's statistics of every column."""
    parts = []
    for name, values in zip(columnar.number_columns, columnar.numbers, strict=True):
        part = ColumnStatistics(
            name, read_specs[name], n_rows=columnar.n_rows, moments=ColumnMoments.from_values(values)
        )
        part.n_missing = columnar.n_rows - part.moments.n
        if name in columnar.parsed:
            part.marks, part.n_unread = columnar.parsed[name].marks, columnar.parsed[name].n_unread
        parts.append(part)
    for name, codes, texts in zip(columnar.text_columns, columnar.codes, columnar.names, strict=True):
        part = ColumnStatistics(name, read_specs[name], n_rows=columnar.n_rows)
        part.n_missing, part.marks = _count_texts(part, codes, texts), columnar.marks.get(name, Counter())
        parts.append(part)
    for name, labels in columnar.labels.items():
        part = ColumnStatistics(name, read_specs[name], n_rows=columnar.n_rows)
        _count_texts(part, labels.codes, labels.names)
        part.n_missing, part.marks = int(labels.missing.sum()), Counter(labels.marks)
        part.n_marked = part.marks.total()
        parts.append(part)
    for part in parts:
        part.n_marked += columnar.n_marked.get(part.name, 0)
    return parts


def _count_texts(part: ColumnStatistics, codes: NDArray[np.int32], names: list[str] | None) -> int:
    """Count the rows, or mentions, of every text into `part`; return the number of rows or mentions without one."""
    counts = np.bincount(codes + 1, minlength=1 if names is None else len(names) + 1)
    part.overflow = names is None
    if names is not None:
        part.counts = Counter({name: n for name, n in zip(names, counts[1:].tolist(), strict=True) if n})
    return int(counts[0])


def _sample_rows(
    columnar: ColumnarBlock, sampled: NDArray[np.int64], start: int, keys: NDArray[np.uint64]
) -> SampledRows:
    missing = {name: codes[sampled] < 0 for name, codes in zip(columnar.text_columns, columnar.codes, strict=True)}
    missing |= {name: labels.missing[sampled] for name, labels in columnar.labels.items()}
    return SampledRows(keys, sampled + start, columnar.numbers[:, sampled], missing)


def _add_block(total: ColumnStatistics, part: ColumnStatistics) -> None:
    total.n_rows += part.n_rows
    total.n_missing += part.n_missing
    total.moments = total.moments.merge(part.moments)
    total.marks.update(part.marks)
    total.n_unread += part.n_unread
    total.n_marked += part.n_marked
    total.overflow = total.overflow or part.overflow
    if not total.overflow:
        total.counts.update(part.counts)
        total.overflow = len(total.counts) > total.read_spec.max_distinct
    if total.overflow:  # texts of blocks that have too many are not known
        total.counts.clear()
        total.marks.clear()


@dataclass
class SampledRows:
    """Sampled rows of one or several blocks, with the keys they were drawn by."""

    keys: NDArray[np.uint64]
    rows: NDArray[np.int64]
    numbers: NDArray[np.float64]  # (n_numbers, n_sampled)
    missing: dict[str, NDArray[np.bool_]]  # of text and label columns


def _draw_rows(seed: int, cut: np.uint64, block: Block) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Return the positions of a block's rows whose keys are at most the cut, and the keys."""
    keys = row_keys(seed, np.arange(block.start, block.start + len(block), dtype=np.int64))
    sampled = np.flatnonzero(keys <= cut)
    return sampled, keys[sampled]


class _RowSampler:
    """Keep the `size` rows with the smallest keys."""

    def __init__(self, size: int, n_rows: int | None) -> None:
        self.size = size
        # Keys are uniform, so about OVERSAMPLING * size lie below this cut: 15 standard deviations above `size`.
        share = 1.0 if n_rows is None else min(OVERSAMPLING * max(size, 10_000) / n_rows, 1.0)
        self.cut = np.uint64(min(int(share * 2.0**64), 2**64 - 1))
        self.parts: list[SampledRows] = []

    def add(self, rows: SampledRows) -> None:
        self.parts.append(rows)
        if sum(len(part.keys) for part in self.parts) > 2 * self.size:
            self.parts = [self.result()]

    def result(self) -> SampledRows:
        keys = np.concatenate([part.keys for part in self.parts])
        order = np.argsort(keys, kind="stable")[: self.size]
        rows = np.concatenate([part.rows for part in self.parts])[order]
        numbers = np.concatenate([part.numbers for part in self.parts], axis=1)[:, order]
        names = self.parts[0].missing
        missing = {name: np.concatenate([part.missing[name] for part in self.parts])[order] for name in names}
        return SampledRows(keys[order], rows, numbers, missing)
