"""Compute the statistics of all columns on a GPU in one pass, to the bits of column_statistics.py.

    chunks of columns on the device  ->  TableStatistics; the rows that observers pick

The device reads, converts, counts and adds up. The host gets the distinct values of each chunk (it spells and splits
them as everywhere, once each), the moments of each block of BLOCK_ROWS, and the sampled rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine.blocks import BLOCK_ROWS
from engine.execution.observers import RowObserver
from engine.features.column_statistics import (
    BlockSummary,
    ColumnMoments,
    ColumnStatistics,
    SampledRows,
    StatisticsTotals,
    TableStatistics,
)
from engine.features.columnar_block import ReadSpec, number_columns, read_labels, to_text
from engine.features.gpu_reader import GpuTableReader, pick_rows
from engine.features.gpu_values import count_codes, read_numbers
from engine.kernels.arrays.features.column_moments import BlockMoments, compute_moments
from engine.tables.device_columns import Array, DeviceColumns, DictionaryColumn
from engine.utils.row_sampling import row_keys


class _ColumnCounts(NamedTuple):
    """Statistics of a column of texts or labels in a chunk, and which of the sampled rows lack a value."""

    statistics: ColumnStatistics
    missing_sample: NDArray[np.bool_]


class _ChunkSummary(NamedTuple):
    """Statistics of a chunk, the moments of the blocks that end in it, and per observer the picked rows."""

    summary: BlockSummary
    moments: BlockMoments | None  # on the host
    picked: list[pa.Table | None]


def collect_on_device(
    reader: GpuTableReader,
    read_specs: Mapping[str, ReadSpec],
    *,
    seed: int,
    observers: Sequence[RowObserver] = (),
    progress: Callable[[int], None] | None = None,
) -> TableStatistics:
    """Compute the statistics of a table's columns in one pass; parameters and errors as in collect_statistics."""
    totals = StatisticsTotals(read_specs, reader.table.n_rows)
    chunks = _ChunkReader(reader, read_specs, seed, totals.cut, observers)
    for _, chunk in reader.map(chunks.summarize, list(read_specs)):
        totals.add(chunk.summary)
        _add_moments(totals, chunks.numbers, chunk.moments)
        for observer, rows in zip(observers, chunk.picked, strict=True):
            observer.collect(rows)
        if progress is not None:
            progress(chunk.summary.n_rows)
    _add_moments(totals, chunks.numbers, chunks.last_moments())
    return totals.result()


def _add_moments(totals: StatisticsTotals, names: Sequence[str], moments: BlockMoments | None) -> None:
    """Add the moments of blocks, column by column and in order."""
    if moments is None:
        return
    n, mean, m2, minimum, maximum = (part.tolist() for part in moments)
    for column, name in enumerate(names):
        for block in zip(n[column], mean[column], m2[column], minimum[column], maximum[column], strict=True):
            totals.add_moments(name, ColumnMoments(*block))


class _ChunkReader:
    """Summarizes the chunks of a table one after another, and keeps the numbers of the block that is not complete."""

    def __init__(
        self,
        reader: GpuTableReader,
        read_specs: Mapping[str, ReadSpec],
        seed: int,
        cut: np.uint64,
        observers: Sequence[RowObserver],
    ) -> None:
        self._device, self._read_specs = reader.device, read_specs
        self._schema = pa.schema([reader.table.schema.field(name) for name in read_specs])
        self._seed, self._cut, self._observers = seed, cut, observers
        self.numbers = number_columns(read_specs)
        self._rest: Array = self._device.xp.empty((len(self.numbers), 0))

    def summarize(self, start: int, columns: DeviceColumns) -> _ChunkSummary:
        """Return the summary of the rows from `start` on, which follow; after an error, they may come again."""
        xp, n_rows, n_rest = self._device.xp, len(columns), self._rest.shape[1]
        keys = row_keys(self._seed, xp.arange(start, start + n_rows))
        sampled = xp.flatnonzero(keys <= self._cut)
        values = xp.empty((len(self.numbers), n_rest + n_rows))
        values[:, :n_rest] = self._rest
        parts, missing = [], {}
        for row, name in enumerate(self.numbers):
            part = ColumnStatistics(name, self._read_specs[name], n_rows=n_rows)
            column = read_numbers(xp, columns, name, self._read_specs[name])
            part.n_missing, part.n_marked = int(xp.isnan(column.values).sum()), column.n_marked
            if column.parsed is not None:
                part.marks, part.n_unread = column.parsed.marks, column.parsed.n_unread
            values[row, n_rest:] = column.values
            parts.append(part)
        for name, read_spec in self._read_specs.items():
            if name not in self.numbers:
                count = self._count_texts if read_spec.form == "category" else self._count_labels
                part, missing[name] = count(columns, name, sampled)
                parts.append(part)
        to_host = self._device.to_host
        positions = to_host(sampled)
        rows = SampledRows(to_host(keys[sampled]), positions + start, to_host(values[:, n_rest + sampled]), missing)
        picked = [pick_rows(start, columns, observer.rows, self._schema) for observer in self._observers]
        n_whole = values.shape[1] // BLOCK_ROWS * BLOCK_ROWS
        moments = self._moments(values[:, :n_whole], BLOCK_ROWS) if n_whole else None
        self._rest = values[:, n_whole:].copy()
        return _ChunkSummary(BlockSummary(n_rows, parts, rows), moments, picked)

    def last_moments(self) -> BlockMoments | None:
        """Return the moments of the last block, if it is not complete."""
        n_rest = self._rest.shape[1]
        return self._moments(self._rest, n_rest) if n_rest else None

    def _moments(self, values: Array, n_block: int) -> BlockMoments | None:
        """Return the moments of blocks of `n_block` rows on the host."""
        if not self.numbers:
            return None
        blocks = values.reshape(len(self.numbers), -1, n_block)
        return BlockMoments(*map(self._device.to_host, compute_moments(self._device.xp, blocks)))

    def _count_texts(self, columns: DeviceColumns, name: str, sampled: Array) -> _ColumnCounts:
        """Count the rows of every category."""
        read_spec, encoded = self._read_specs[name], columns.dictionary(name)
        part = ColumnStatistics(name, read_spec, n_rows=len(columns))
        texts = to_text(encoded.dictionary).cast(pa.string())
        n_rows = count_codes(self._device.xp, encoded.codes, len(texts))
        is_mark = pc.is_in(texts, pa.array(read_spec.missing, pa.string())).to_numpy(zero_copy_only=False)
        is_missing = np.append(True, is_mark | texts.is_null().to_numpy(zero_copy_only=False))
        part.n_missing, part.n_marked = int(n_rows[is_missing].sum()), int(n_rows[1:][is_mark].sum())
        self._add_counts(part, texts, np.where(is_missing, 0, n_rows)[1:])
        if not part.overflow:
            marked = zip(texts.filter(pa.array(is_mark)).to_pylist(), n_rows[1:][is_mark].tolist(), strict=True)
            part.marks = Counter({mark: n for mark, n in marked if n})
        return _ColumnCounts(part, is_missing[self._device.to_host(encoded.codes[sampled]) + 1])

    def _count_labels(self, columns: DeviceColumns, name: str, sampled: Array) -> _ColumnCounts:
        """Count the mentions of every label."""
        read_spec = self._read_specs[name]
        part = ColumnStatistics(name, read_spec, n_rows=len(columns))
        if read_spec.separator is not None:
            missing = self._count_split(part, columns.dictionary(name), read_spec.separator)
        else:
            _, missing, elements = columns.lists(name)
            labels = to_text(elements.dictionary).cast(pa.string())
            mentions = count_codes(self._device.xp, elements.codes, len(labels))[1:]
            is_label = pc.fill_null(pc.not_equal(labels, ""), False).to_numpy(zero_copy_only=False)
            self._add_counts(part, labels, np.where(is_label, mentions, 0))
        part.n_missing = int(missing.sum())
        return _ColumnCounts(part, self._device.to_host(missing[sampled]))

    def _count_split(self, part: ColumnStatistics, encoded: DictionaryColumn, separator: str) -> Array:
        """Count the labels of texts, each distinct text split once; return which rows are missing."""
        n_rows = count_codes(self._device.xp, encoded.codes, len(encoded.dictionary))[1:]
        labels = read_labels(
            to_text(encoded.dictionary).cast(pa.string()), separator, part.read_spec.max_names, part.read_spec.missing
        )
        part.overflow = labels.names is None
        rows_of = dict(zip(encoded.dictionary.to_pylist(), n_rows.tolist(), strict=True))
        part.marks = Counter({mark: rows_of[mark] for mark in labels.marks if rows_of[mark]})
        part.n_marked = part.marks.total()
        if labels.names is not None:
            weights = np.repeat(n_rows, np.diff(labels.offsets))
            mentions = np.bincount(labels.codes + 1, weights, len(labels.names) + 1)[1:].astype(np.int64)
            self._add_counts(part, pa.array(labels.names, pa.string()), mentions)
        return self._device.xp.asarray(np.append(labels.missing, True))[encoded.codes]

    @staticmethod
    def _add_counts(part: ColumnStatistics, names: pa.Array, counts: NDArray[np.int64]) -> None:
        """Count every name, of which some may be the same; of too many names, none."""
        part.overflow = pc.count_distinct(names).as_py() > part.read_spec.max_names
        if not part.overflow:
            part.counts = Counter()
            for name, count in zip(names.to_pylist(), counts.tolist(), strict=True):
                if count:
                    part.counts[name] += count
