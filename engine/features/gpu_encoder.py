"""The rows of a table, read in chunks and encoded by a device: encoded_table.py where rows are its arrays.

    chunks of columns on the device  ->  encoded rows there, to the bits of layout.py  ->  moments, scores

What words decide is decided on the host by the CPU's own functions, once for every different value of a chunk: how a
value is spelled, where a text is split, what goes to "other". So is log1p, whose last bit differs between devices. All
else is arithmetic on arrays, kernels/arrays/features/encode.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa

from engine.backends.chunked import SMALLER, TRIES, Chunks
from engine.backends.protocol import Backend, EncodedMoments, EncodedRows, Moments
from engine.blocks import BLOCK_ROWS, Table
from engine.errors import InputChangedError, NonFiniteValueError, OutOfResourcesError
from engine.execution.observers import BlockObserver
from engine.features.columnar_block import as_text, labels_of
from engine.features.encoded_moments import added, moments_of
from engine.features.encoding_plan import DAYS_PER_YEAR, CategoryPlan, LabelPlan, NumberPlan
from engine.features.layout import Layout
from engine.kernels.arrays.features import encode as kernels
from engine.tables.device_columns import Array, Coded, Columns, Ticks

if TYPE_CHECKING:
    from engine.features.encoder import FeatureEncoder

Result = TypeVar("Result")

CHUNK_BYTES = 1 << 28  # decoded at a time; of the order of what a GPU decodes in tens of milliseconds. Not measured yet
KEPT_SHARE = 0.35  # of the free memory that encoded rows may take from one pass to the next; scores come beside them
MILLISECONDS = {"D": 86_400_000, "s": 1000, "ms": 1, "us": -1000, "ns": -1_000_000}  # of a tick; negative: ticks in one
logger = logging.getLogger(__name__)


class DeviceEncoder:
    """Encodes chunks by a layout."""

    def __init__(self, layout: Layout, device: Chunks) -> None:
        self.layout, self.device = layout, device

    def encode(self, columns: Columns) -> EncodedRows:
        """Return a chunk's rows encoded, on the device.

        Raises
        ------
        NonFiniteValueError
            If a number is infinite.
        """
        xp, layout = self.device.xp, self.layout
        dense = xp.empty((len(columns), len(layout.numbers)), np.float32)
        *scaling, gap_columns = layout.number_arguments
        candidates = []
        for c, plan in enumerate(layout.numbers):
            arguments = [float(argument[c]) for argument in scaling]
            dense[:, c], gaps = kernels.standardised(xp, self._values(columns, plan), *arguments)
            if gap_columns[c] >= 0:
                candidates.append(xp.where(gaps, int(gap_columns[c]), -1))
        for category in layout.categories:
            values = columns.coded(category.column)
            candidates.append(xp.asarray(self._hot_of(category, values.distinct))[values.codes + 1])
        there = xp.full((len(columns), len(candidates)), -1, np.int32)
        for slot, column in enumerate(candidates):
            there[:, slot] = column
        labels = [self._items(columns, plan) for plan in layout.labels]
        return EncodedRows(dense, *kernels.list_hot(xp, there, labels))

    def _values(self, columns: Columns, plan: NumberPlan) -> Array:
        """Return the numbers with dates as years back and heavy tails as log1p; missing values are NaN."""
        xp = self.device.xp
        if plan.role == "date":
            values = self._days(columns.ticks(plan.column))
            return (self.layout.reference_day - values) / DAYS_PER_YEAR
        values = columns.numbers(plan.column)
        infinite = int(xp.isinf(values).sum())
        if infinite:
            raise NonFiniteValueError(f"Column {plan.column!r} holds {infinite} infinite values.")
        if plan.logarithm:
            gaps = xp.isnan(values)
            values[gaps] = 0.0
            distinct, places = xp.unique(xp.maximum(values, 0.0), return_inverse=True)
            values = xp.asarray(np.log1p(self.device.host(distinct)))[places]
            values[gaps] = np.nan
        return values

    def _days(self, times: Ticks) -> Array:
        """Return times as days, by way of whole milliseconds, as plain.days does."""
        factor, ticks = MILLISECONDS[times.unit], times.counts
        if factor > 0:
            milliseconds = ticks * factor
        else:
            milliseconds = ticks // -factor
            milliseconds += (ticks < 0) & (milliseconds * -factor != ticks)  # towards zero, as Arrow does
        values = milliseconds / MILLISECONDS["D"]
        values[times.missing] = np.nan
        return values

    def _hot_of(self, plan: CategoryPlan | LabelPlan, distinct: pa.Array) -> Any:
        """Return the hot column of a missing value, then of each different one; -1 for none."""
        names = as_text(distinct).to_pylist()
        table = self.layout.table_of(plan, names)
        table[[k for k, name in enumerate(names, 1) if name is None]] = table[0]  # NaN
        return table

    def _items(self, columns: Columns, plan: LabelPlan) -> kernels.Items:
        """Return the hot columns of every row's labels."""
        if plan.separator is not None:
            return self._split_items(columns.coded(plan.column), plan)
        xp = self.device.xp
        lengths, missing, values = columns.lists(plan.column)
        hot = self._hot_of(plan, values.distinct)
        no_label = [name == "" for name in as_text(values.distinct).to_pylist()]
        missing_column = int(hot[0])
        hot[0] = -1  # of an element that is missing
        hot[1:][no_label] = -1
        offsets = xp.zeros(len(columns) + 1, np.int64)
        offsets[1:] = xp.cumsum(lengths)
        return kernels.Items(offsets, xp.asarray(hot)[values.codes + 1], missing, missing_column)

    def _split_items(self, texts: Coded, plan: LabelPlan) -> kernels.Items:
        """Split every different text once, and give each row what its text has."""
        xp = self.device.xp
        labels = labels_of(texts.distinct.cast(pa.string()), plan.separator)
        hot = self.layout.table_of(plan, labels.names)
        of_items = np.where(labels.codes >= 0, hot[labels.codes + 1], -1).astype(np.int32)
        begins = xp.asarray(labels.offsets.astype(np.int64))
        rows = xp.maximum(texts.codes, 0)
        missing = texts.codes < 0
        offsets = xp.zeros(len(rows) + 1, np.int64)
        if len(texts.distinct):
            offsets[1:] = xp.cumsum(xp.where(missing, 0, begins[rows + 1] - begins[rows]))
        items = xp.arange(int(offsets[-1]))
        row_of = xp.searchsorted(offsets, items, side="right") - 1
        places = items - offsets[row_of] + begins[rows[row_of]]
        return kernels.Items(offsets, xp.asarray(of_items)[places], missing, int(hot[0]))


@dataclass(frozen=True)
class DeviceReader:
    """What reads a table for a device.

    Attributes
    ----------
    name : str
        Of the library.
    table : Table
    unreadable : dict of column to reason
        What the library reads otherwise than the CPU does, or not at all.
    chunks : callable
        Takes names of columns and bytes, and yields chunks of about that size, of all rows in order.
    device : Chunks
    """

    name: str
    table: Table
    unreadable: dict[str, str]
    chunks: Callable[[Sequence[str], int], Iterator[Columns]]
    device: Chunks

    def rows(self, encoder: FeatureEncoder) -> DeviceTable | str:
        """Return the rows of the table as the encoder encodes them; or, in words, what has to read them, and why."""
        for column in encoder.columns:
            if column in self.unreadable:
                return f"pyarrow, because {self.name} does not read column {column!r}: {self.unreadable[column]}"
        return DeviceTable(self, encoder)


class DeviceTable:
    """The rows of a table as an encoder encodes them, on a device: what EncodedTable is on the host.

    They are read once if they fit on the device from the first pass to the last, else for every pass.
    """

    def __init__(self, source: DeviceReader, encoder: FeatureEncoder) -> None:
        self.reader = source.name
        self._source, self._encoder = source, encoder
        self._kept: list[EncodedRows | None] | None = None

    def map(
        self, function: Callable[[int, EncodedRows], Result], what: str = "rows", *, last: bool = False
    ) -> Iterator[Result]:
        """Yield function(first row, rows) of runs of rows, in order; after the `last` pass, no rows are kept."""
        start = 0
        for rows in self._runs(last):
            yield function(start, rows)
            start += len(rows.dense)

    def moments(
        self, backend: Backend, advance: Callable[[int], None], observers: Sequence[BlockObserver[Any]] = ()
    ) -> Moments:
        """Return count, mean and scatter of X over all rows; of BLOCK_ROWS together, whatever chunks they come in.

        Observers look at rows of the host, and there are none: they are left to read the table themselves.
        """
        layout = self._encoder.layout
        n_hot = len(layout.hot_columns)
        total: EncodedMoments | None = None
        for rows in in_blocks(self._source.device.xp, self._runs(last=False), BLOCK_ROWS):
            part = backend.encoded_moments(rows, n_hot)
            total = part if total is None else added(total, part)
            advance(part.n_rows)
        assert total is not None  # the pass of statistics has seen rows
        return moments_of(total, layout)

    def _runs(self, last: bool) -> Iterator[EncodedRows]:
        """Yield all rows, and keep them if there is room and another pass comes."""
        if self._kept is not None:
            kept = self._kept
            for number, rows in enumerate(kept):
                assert rows is not None
                kept[number] = None if last else rows
                yield rows
            self._kept = None if last else kept
            return
        free, n_bytes = self._source.device.free_memory(), 0
        keep: list[EncodedRows | None] | None = None if last else []
        for rows in self._read():
            n_bytes += sum(array.nbytes for array in rows)
            if keep is not None:
                keep.append(rows)
                keep = keep if free is None or n_bytes <= KEPT_SHARE * free else None
            yield rows
        self._kept = keep

    def _read(self) -> Iterator[EncodedRows]:
        """Yield all rows from the table; where memory runs out, those that are left in smaller chunks."""
        source, done, chunk_bytes = self._source, 0, CHUNK_BYTES
        encoder = DeviceEncoder(self._encoder.layout, source.device)
        for _ in range(1 + TRIES):
            try:
                for rows in _beyond(done, map(encoder.encode, source.chunks(self._encoder.columns, chunk_bytes))):
                    yield rows
                    done += len(rows.dense)
                if done != source.table.n_rows:
                    raise InputChangedError(
                        f"The table had {source.table.n_rows} rows when it was opened, but {source.name} read {done}."
                    )
                return
            except MemoryError as error:
                reason = str(error).split("\n", 1)[0] or "no reason given"
            source.device.release()
            logger.warning("Out of memory on %s, reading %d MiB: %s.", source.device.name, chunk_bytes >> 20, reason)
            chunk_bytes //= SMALLER
        if source.device.spare is None:
            raise OutOfResourcesError(
                f"Out of memory on device {source.device.name!r}, reading chunks of {chunk_bytes * SMALLER >> 20} MiB.",
                hint="free memory on the device, or use --device auto, which goes on on the CPU.",
            )
        logger.warning("Out of memory on %s: the CPU reads the rows from %d on.", source.device.name, done)
        blocks = source.table.blocks(self._encoder.columns, coded=True)
        for rows in _beyond(done, (self._encoder.encode_rows(block.rows) for block in blocks)):
            yield EncodedRows(*map(source.device.xp.asarray, rows))


def _beyond(n_rows: int, runs: Iterator[EncodedRows]) -> Iterator[EncodedRows]:
    """Yield runs of rows without the first `n_rows`."""
    for rows in runs:
        here = len(rows.dense)
        if n_rows == 0:
            yield rows
        elif n_rows < here:
            yield EncodedRows(*kernels.run_of(rows, n_rows, here))
        n_rows -= min(n_rows, here)


def in_blocks(xp: Any, runs: Iterator[EncodedRows], n_rows: int) -> Iterator[EncodedRows]:
    """Yield the same rows in runs of exactly `n_rows`; the last one is shorter."""
    waiting: list[EncodedRows] = []
    for rows in runs:
        begin, here = 0, len(rows.dense)
        wanted = n_rows - sum(len(part.dense) for part in waiting)
        while here - begin >= wanted:
            waiting.append(EncodedRows(*kernels.run_of(rows, begin, begin + wanted)))
            yield EncodedRows(*kernels.joined(xp, waiting))
            begin, wanted, waiting = begin + wanted, n_rows, []
        if begin < here:
            waiting.append(EncodedRows(*kernels.run_of(rows, begin, here)))
    if waiting:
        yield EncodedRows(*kernels.joined(xp, waiting))
