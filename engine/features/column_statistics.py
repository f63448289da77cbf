"""One streaming pass over a table: everything roles and encoders need to know about its columns.

    blocks  ->  TableStatistics: per column counts, float64 moments and extremes, or counts of texts and labels,
                and one uniform row sample shared by all columns

Blocks are summarised on threads and merged in block order, moments by Chan's formula; the sample is the rows with
the smallest (seed, row number) keys. So neither threads nor the split into files change a bit of the result.

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
from engine.errors import EmptyTableError
from engine.execution.block_cache import Shelf
from engine.execution.observers import BlockObserver, collect_all, functions_of
from engine.features.columnar_block import PlainRows, Reading, number_columns, read
from engine.features.compact_block import keep
from engine.kernels.cpu.features.column_moments import moments
from engine.utils.row_sampling import row_keys

SPARE = 1.05  # rows drawn for every row of the sample
SAMPLE_ROWS = 100_000  # the standard error of a quantile's rank is at most 0.16 %, of a standard deviation 0.22 %


@dataclass
class Moments:
    """Count, mean and sum of squared deviations of the values that are there, with their extremes; float64."""

    n: int = 0
    mean: float = 0.0
    m2: float = 0.0
    minimum: float = np.inf
    maximum: float = -np.inf

    @staticmethod
    def of(values: NDArray[np.float64]) -> Moments:
        """Return the moments of the values that are not NaN, shifted by their own mean."""
        return Moments(*moments(values))

    def merged(self, other: Moments) -> Moments:
        """Return the moments of both sets of values."""
        if self.n == 0 or other.n == 0:
            return other if self.n == 0 else self
        n, gap = self.n + other.n, other.mean - self.mean
        mean = self.mean + gap * (other.n / n)
        m2 = self.m2 + other.m2 + gap * gap * (self.n * (other.n / n))
        return Moments(n, mean, m2, min(self.minimum, other.minimum), max(self.maximum, other.maximum))

    @property
    def std(self) -> float:
        """The population standard deviation."""
        return float(np.sqrt(self.m2 / self.n)) if self.n else 0.0


@dataclass
class ColumnStatistics:
    """What one column holds over all rows."""

    name: str
    reading: Reading
    n_rows: int = 0
    n_missing: int = 0
    moments: Moments = field(default_factory=Moments)
    counts: Counter[str] = field(default_factory=Counter)  # rows per text; mentions per label for labels
    overflow: bool = False  # more than max_distinct texts: counts are incomplete
    sample: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))  # numbers of the sampled rows

    @cached_property
    def sorted_sample(self) -> NDArray[np.float64]:
        """The sampled numbers that are there, ascending: sorted once, for roles and plans alike."""
        return np.sort(self.sample[~np.isnan(self.sample)])

    @property
    def n_present(self) -> int:
        """Rows that have a value."""
        return self.n_rows - self.n_missing

    @property
    def missing_share(self) -> float:
        """Share of rows without a value."""
        return self.n_missing / self.n_rows if self.n_rows else 0.0


@dataclass
class TableStatistics:
    """Statistics of all columns, and which of the sampled rows lack a value in which."""

    n_rows: int
    columns: dict[str, ColumnStatistics]
    missing_sample: dict[str, NDArray[np.bool_]]


def collect(
    over: Callable[[Callable[[Block], Any]], Iterable[Any]],
    readings: Mapping[str, Reading],
    *,
    seed: int,
    n_rows: int | None = None,
    shelf: Shelf | None = None,
    observers: Sequence[BlockObserver[Block]] = (),
    progress: Callable[[int], None] | None = None,
) -> TableStatistics:
    """Summarise a table in one pass.

    Parameters
    ----------
    over : callable
        Takes a function of a block, and returns what it gives for every block of the table, in order.
    readings : mapping of column name to Reading
    seed : int
        Key of the row sample.
    n_rows : int, optional
        How many rows there are, if that is known: it spares drawing rows that the sample then has no room for.
    shelf : Shelf, optional
        Keeps the blocks' rows for the passes that follow.
    observers : sequence of BlockObserver
        They look at every block as it is read.
    progress : callable, optional
        Called with the number of rows done after every block.

    Raises
    ------
    EmptyTableError, NonFiniteValueError
    """
    sampler = _Sampler(SAMPLE_ROWS, n_rows)
    totals = {name: ColumnStatistics(name, reading) for name, reading in readings.items()}
    total_rows = 0
    for found in over(partial(_summarise, readings, seed, sampler.cut, functions_of(observers), shelf)):
        for part in found.columns:
            _merge(totals[part.name], part)
        sampler.add(found.sampled)
        collect_all(observers, found.observed)
        total_rows += found.n_rows
        if progress is not None:
            progress(found.n_rows)
    if not totals or total_rows == 0:
        raise EmptyTableError("The table has no rows, or no columns to read.")
    sample = sampler.result()
    missing = dict(sample.missing)
    for name, values in zip(number_columns(readings), sample.numbers, strict=True):
        totals[name].sample = values
        missing[name] = np.isnan(values)
    return TableStatistics(total_rows, totals, missing)


class _Found(NamedTuple):
    """What a block holds."""

    n_rows: int
    columns: list[ColumnStatistics]
    sampled: _SampledRows
    observed: list[Any]  # a result of every observer


def _summarise(
    readings: Mapping[str, Reading],
    seed: int,
    cut: np.uint64,
    observe: Sequence[Callable[[Block], Any]],
    shelf: Shelf | None,
    block: Block,
) -> _Found:
    plain = read(block.rows, readings)
    picked, keys = _drawn(seed, cut, block)
    observed = [function(block) for function in observe]
    if shelf is not None:
        keep(shelf, block.start, plain)
    return _Found(plain.n_rows, _summaries(plain, readings), _sampled(plain, picked, keys), observed)


def _summaries(plain: PlainRows, readings: Mapping[str, Reading]) -> list[ColumnStatistics]:
    """Return one block's statistics of every column."""
    found = []
    for name, values in zip(plain.number_columns, plain.numbers, strict=True):
        part = ColumnStatistics(name, readings[name], n_rows=plain.n_rows, moments=Moments.of(values))
        part.n_missing = plain.n_rows - part.moments.n
        found.append(part)
    for name, codes, texts in zip(plain.text_columns, plain.codes, plain.names, strict=True):
        part = ColumnStatistics(name, readings[name], n_rows=plain.n_rows)
        part.n_missing = _count(part, codes, texts)
        found.append(part)
    for name, labels in plain.labels.items():
        part = ColumnStatistics(name, readings[name], n_rows=plain.n_rows)
        _count(part, labels.codes, labels.names)
        part.n_missing = int(labels.missing.sum())
        found.append(part)
    return found


def _count(part: ColumnStatistics, codes: NDArray[np.int32], names: list[str] | None) -> int:
    """Count the rows, or mentions, of every text; return how many have none."""
    counts = np.bincount(codes + 1, minlength=1 if names is None else len(names) + 1)
    part.overflow = names is None
    if names is not None:
        part.counts = Counter({name: n for name, n in zip(names, counts[1:].tolist(), strict=True) if n})
    return int(counts[0])


def _sampled(plain: PlainRows, picked: NDArray[np.int64], keys: NDArray[np.uint64]) -> _SampledRows:
    missing = {name: codes[picked] < 0 for name, codes in zip(plain.text_columns, plain.codes, strict=True)}
    missing |= {name: labels.missing[picked] for name, labels in plain.labels.items()}
    return _SampledRows(keys, plain.numbers[:, picked], missing)


def _merge(total: ColumnStatistics, part: ColumnStatistics) -> None:
    total.n_rows += part.n_rows
    total.n_missing += part.n_missing
    total.moments = total.moments.merged(part.moments)
    total.overflow = total.overflow or part.overflow
    if not total.overflow:
        total.counts.update(part.counts)
        total.overflow = len(total.counts) > total.reading.max_distinct
    if total.overflow:
        total.counts.clear()


@dataclass
class _SampledRows:
    keys: NDArray[np.uint64]
    numbers: NDArray[np.float64]  # (n_numbers, n_sampled)
    missing: dict[str, NDArray[np.bool_]]  # of texts and labels


def _drawn(seed: int, cut: np.uint64, block: Block) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Return which rows of a block have keys up to the cut, and the keys."""
    keys = row_keys(seed, np.arange(block.start, block.start + len(block), dtype=np.int64))
    picked = np.flatnonzero(keys <= cut)
    return picked, keys[picked]


class _Sampler:
    """Keep the `size` rows with the smallest keys."""

    def __init__(self, size: int, n_rows: int | None) -> None:
        self.size = size
        # Keys are uniform, so of n_rows expected SPARE * size lie below this cut: fifteen deviations more than `size`.
        share = 1.0 if n_rows is None else min(SPARE * max(size, 10_000) / n_rows, 1.0)
        self.cut = np.uint64(min(int(share * 2.0**64), 2**64 - 1))
        self.parts: list[_SampledRows] = []

    def add(self, rows: _SampledRows) -> None:
        self.parts.append(rows)
        if sum(len(part.keys) for part in self.parts) > 2 * self.size:
            self.parts = [self.result()]

    def result(self) -> _SampledRows:
        keys = np.concatenate([part.keys for part in self.parts])
        order = np.argsort(keys, kind="stable")[: self.size]
        numbers = np.concatenate([part.numbers for part in self.parts], axis=1)[:, order]
        names = self.parts[0].missing
        missing = {name: np.concatenate([part.missing[name] for part in self.parts])[order] for name in names}
        return _SampledRows(keys[order], numbers, missing)
