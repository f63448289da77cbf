"""Read a table in chunks and encode it on a GPU: the counterpart of encoded_table.py with arrays on the device.

    chunks of columns on the device  ->  encoded rows on the device, the same bits as layout.py's  ->  moments, scores

Text is handled on the host by the CPU's own functions, once for every distinct value of a chunk: how a value is
spelled, where a text is split, what goes to "other". log1p is computed there too, because its last bit differs between
devices. Everything else is arithmetic on arrays in kernels/arrays/features/encode.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa

from engine.backends.chunked import N_RETRIES, SHRINK_FACTOR, ChunkedDevice
from engine.backends.protocol import Backend, EncodedMoments, EncodedRows, Moments
from engine.blocks import BLOCK_ROWS, Table
from engine.errors import InputChangedError, NonFiniteValueError, OutOfResourcesError
from engine.execution.observers import BlockObserver
from engine.features.columnar_block import day_limits, read_labels, refuse_infinite_days, to_text
from engine.features.encoded_moments import add_encoded_moments, feature_moments
from engine.features.encoding_plan import DAYS_PER_YEAR, CategoryPlan, LabelPlan, NumberPlan
from engine.features.layout import Layout
from engine.kernels.arrays.features import encode as kernels
from engine.tables.date_texts import parse_dates
from engine.tables.device_columns import Array, DeviceColumns, DictionaryColumn, TimeColumn
from engine.tables.number_texts import parse_texts
from engine.utils.array_types import Float32s

if TYPE_CHECKING:
    from engine.features.encoder import FeatureEncoder

Result = TypeVar("Result")

# Bytes decoded at a time: about what a GPU decodes in tens of milliseconds. Not measured yet.
CHUNK_BYTES = 1 << 28
CACHE_SHARE = 0.35  # of free device memory, for encoded rows kept between passes; the scores need memory beside them
# Milliseconds in a tick of each unit; a negative number is the ticks in a millisecond.
MILLISECONDS = {"D": 86_400_000, "s": 1000, "ms": 1, "us": -1000, "ns": -1_000_000}
logger = logging.getLogger(__name__)


class GpuEncoder:
    """Encode chunks of device columns by a Layout."""

    def __init__(self, layout: Layout, device: ChunkedDevice) -> None:
        self.layout, self.device = layout, device

    def encode(self, columns: DeviceColumns) -> EncodedRows:
        """Encode a chunk; the encoded rows stay on the device.

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
            dense[:, c], gaps = kernels.standardize(xp, self._values(columns, plan), *arguments)
            if gap_columns[c] >= 0:
                candidates.append(xp.where(gaps, int(gap_columns[c]), -1))
        for category in layout.categories:
            values = columns.dictionary(category.column)
            candidates.append(xp.asarray(self._hot_lookup(category, values.dictionary))[values.codes + 1])
        hot_candidates = xp.full((len(columns), len(candidates)), -1, np.int32)
        for slot, column in enumerate(candidates):
            hot_candidates[:, slot] = column
        labels = [self._items(columns, plan) for plan in layout.labels]
        return EncodedRows(dense, *kernels.list_hot_columns(xp, hot_candidates, labels))

    def _values(self, columns: DeviceColumns, plan: NumberPlan) -> Array:
        """Return a column's numbers: a date as years before reference_day, a heavy tail as log1p, missing as NaN."""
        xp = self.device.xp
        if plan.date_format is not None:
            days = self._without_marks(self._parsed(columns, plan), plan)
            return (self.layout.reference_day - days) / DAYS_PER_YEAR
        if plan.role == "date":
            times = columns.times(plan.column)
            values = self._days(times)
            first, end = day_limits(times.unit)
            refuse_infinite_days(int(((values <= first) | (values >= end)).sum()), plan.column)
            return (self.layout.reference_day - self._without_marks(values, plan)) / DAYS_PER_YEAR
        values = columns.numbers(plan.column) if plan.number_format is None else self._parsed(columns, plan)
        infinite = int(xp.isinf(values).sum())
        if infinite:
            raise NonFiniteValueError(f"Column {plan.column!r} holds {infinite} infinite values.")
        values = self._without_marks(values, plan)
        if plan.logarithm:
            gaps = xp.isnan(values)
            values[gaps] = 0.0
            distinct, positions = xp.unique(xp.maximum(values, 0.0), return_inverse=True)
            values = xp.asarray(np.log1p(self.device.to_host(distinct)))[positions]
            values[gaps] = np.nan
        return values

    def _without_marks(self, values: Array, plan: NumberPlan) -> Array:
        """Set the values that mark missing ones to NaN; those of dates are days."""
        compared = self.device.xp.floor(values) if plan.missing and plan.role == "date" else values
        for mark in plan.missing:
            values[compared == mark] = np.nan
        return values

    def _parsed(self, columns: DeviceColumns, plan: NumberPlan) -> Array:
        """Return the numbers or days of a text column; every distinct text is parsed once, on the host."""
        encoded = columns.dictionary(plan.column)
        texts = to_text(encoded.dictionary)
        if plan.date_format is not None:
            parsed = parse_dates(texts, plan.date_format)
        else:
            assert plan.number_format is not None
            parsed = parse_texts(texts, plan.number_format)
        return self.device.xp.asarray(np.append(np.nan, parsed.values))[encoded.codes + 1]

    def _days(self, times: TimeColumn) -> Array:
        """Convert times to days, by way of whole milliseconds as days_since_epoch does."""
        factor, ticks = MILLISECONDS[times.unit], times.counts
        if factor > 0:
            milliseconds = ticks * factor
        else:
            milliseconds = ticks // -factor
            milliseconds += (ticks < 0) & (milliseconds * -factor != ticks)  # round towards zero, as Arrow does
        values = milliseconds / MILLISECONDS["D"]
        values[times.missing] = np.nan
        return values

    def _hot_lookup(self, plan: CategoryPlan | LabelPlan, distinct: pa.Array) -> Any:
        """Return the hot column of a missing value, then of each distinct value; -1 for none."""
        names = to_text(distinct).to_pylist()
        lookup = self.layout.hot_lookup(plan, names)
        lookup[[k for k, name in enumerate(names, 1) if name is None]] = lookup[0]  # NaN is missing
        return lookup

    def _items(self, columns: DeviceColumns, plan: LabelPlan) -> kernels.HotColumnLists:
        """Return the hot columns of every row's labels."""
        if plan.separator is not None:
            return self._split_items(columns.dictionary(plan.column), plan)
        xp = self.device.xp
        lengths, missing, values = columns.lists(plan.column)
        hot = self._hot_lookup(plan, values.dictionary)
        is_empty = [name == "" for name in to_text(values.dictionary).to_pylist()]
        missing_column = int(hot[0])
        hot[0] = -1  # a missing element has no hot column
        hot[1:][is_empty] = -1
        offsets = xp.zeros(len(columns) + 1, np.int64)
        offsets[1:] = xp.cumsum(lengths)
        return kernels.HotColumnLists(offsets, xp.asarray(hot)[values.codes + 1], missing, missing_column)

    def _split_items(self, texts: DictionaryColumn, plan: LabelPlan) -> kernels.HotColumnLists:
        """Split every distinct text once, and return the hot columns of every row's labels."""
        xp = self.device.xp
        labels = read_labels(texts.dictionary.cast(pa.string()), plan.separator)
        hot = self.layout.hot_lookup(plan, labels.names)
        hot_of_labels = np.where(labels.codes >= 0, hot[labels.codes + 1], -1).astype(np.int32)
        begins = xp.asarray(labels.offsets.astype(np.int64))
        rows = xp.maximum(texts.codes, 0)
        missing = texts.codes < 0
        offsets = xp.zeros(len(rows) + 1, np.int64)
        if len(texts.dictionary):
            offsets[1:] = xp.cumsum(xp.where(missing, 0, begins[rows + 1] - begins[rows]))
        items = xp.arange(int(offsets[-1]))
        item_rows = xp.searchsorted(offsets, items, side="right") - 1
        positions = items - offsets[item_rows] + begins[rows[item_rows]]
        return kernels.HotColumnLists(offsets, xp.asarray(hot_of_labels)[positions], missing, int(hot[0]))


@dataclass(frozen=True)
class GpuTableReader:
    """Reader that yields a table as chunks of device columns.

    Attributes
    ----------
    name : str
        The name of the library that reads.
    table : Table
    unreadable : dict of column to reason
        Columns that the library does not read to the same values as the CPU.
    chunks : callable
        Takes column names and a number of bytes, and yields all rows in order, in chunks of about that size.
    device : ChunkedDevice
    """

    name: str
    table: Table
    unreadable: dict[str, str]
    chunks: Callable[[Sequence[str], int], Iterator[DeviceColumns]]
    device: ChunkedDevice

    def encoded_table(self, encoder: FeatureEncoder) -> GpuEncodedTable | str:
        """Return the table as an encoder encodes it, or a text that names the reader needed instead and the reason."""
        for column in encoder.columns:
            if column in self.unreadable:
                return f"pyarrow, because {self.name} does not read column {column!r}: {self.unreadable[column]}"
        return GpuEncodedTable(self, encoder)

    def encode_chunks(self, encoder: GpuEncoder, columns: Sequence[str], chunk_bytes: int) -> Iterator[EncodedRows]:
        """Yield all rows of the table encoded, chunk by chunk; what the library raises becomes LibraryError."""
        chunks = self.chunks(columns, chunk_bytes)
        while True:
            with self.device.library_call(self.name):
                chunk = next(chunks, None)
                if chunk is None:
                    return
                rows = encoder.encode(chunk)
            yield rows


class GpuEncodedTable:
    """The encoded rows of a table on a device: the counterpart of EncodedTable on the host.

    The table is read once if its encoded rows fit on the device from the first pass to the last, else in every pass.
    """

    def __init__(self, source: GpuTableReader, encoder: FeatureEncoder) -> None:
        self.reader = source.name
        self._source, self._encoder = source, encoder
        self._cached: list[EncodedRows | None] | None = None

    def map(
        self,
        function: Callable[[int, EncodedRows], Result],
        pass_name: str = "rows",
        *,
        observers: Sequence[BlockObserver[Any]] = (),
        last: bool = False,
    ) -> Iterator[Result]:
        """Yield function(first row, encoded rows) of runs of rows, in order; the `last` pass frees them as it goes.

        Observers are not called: they need rows on the host, and read the table themselves.
        """
        start = 0
        for rows in self._iter_runs(last):
            yield function(start, rows)
            start += len(rows.dense)

    def compute_moments(
        self, backend: Backend, advance: Callable[[int], None], observers: Sequence[BlockObserver[Any]] = ()
    ) -> Moments:
        """Compute count, mean and scatter of X over all rows, by blocks of BLOCK_ROWS whatever chunks they come in.

        Another backend than the device's gets the rows on the host. Observers are not called, as in `map`.
        """
        layout, device = self._encoder.layout, self._source.device
        n_hot = len(layout.hot_columns)
        total: EncodedMoments | None = None
        for rows in rebatch_rows(device.xp, self._iter_runs(last=False), BLOCK_ROWS):
            rows = rows if isinstance(backend, ChunkedDevice) else EncodedRows(*map(device.to_host, rows))
            part = backend.encoded_moments(rows, n_hot)
            total = part if total is None else add_encoded_moments(total, part)
            advance(part.n_rows)
        assert total is not None  # the statistics pass raises EmptyTableError where there are no rows
        return feature_moments(total, layout)

    def collect_matrix(self, advance: Callable[[int], None], observers: Sequence[BlockObserver[Any]] = ()) -> Float32s:
        """Return X of all rows (n_rows, n_features) on the host; observers as in `compute_moments`."""
        parts = []
        for rows in self._iter_runs(last=False):
            parts.append(self._encoder.layout.to_matrix(EncodedRows(*map(self._source.device.to_host, rows))))
            advance(len(rows.dense))
        return np.concatenate(parts)

    def _iter_runs(self, last: bool) -> Iterator[EncodedRows]:
        """Yield all encoded rows; keep them for the next pass if there is one and they fit."""
        if self._cached is not None:
            runs = self._cached
            for number, rows in enumerate(runs):
                assert rows is not None
                runs[number] = None if last else rows
                yield rows
            self._cached = None if last else runs
            return
        free, n_bytes = self._source.device.free_memory(), 0
        collected: list[EncodedRows | None] | None = None if last else []
        for rows in self._read_rows():
            n_bytes += sum(array.nbytes for array in rows)
            if collected is not None:
                collected.append(rows)
                collected = collected if free is None or n_bytes <= CACHE_SHARE * free else None
            yield rows
        self._cached = collected

    def _read_rows(self) -> Iterator[EncodedRows]:
        """Read and encode all rows; where device memory runs out, retry the rest in smaller chunks, then on the CPU."""
        source, n_done, chunk_bytes = self._source, 0, CHUNK_BYTES
        encoder = GpuEncoder(self._encoder.layout, source.device)
        for _ in range(1 + N_RETRIES):
            try:
                for rows in _skip_rows(n_done, source.encode_chunks(encoder, self._encoder.columns, chunk_bytes)):
                    yield rows
                    n_done += len(rows.dense)
                if n_done != source.table.n_rows:
                    raise InputChangedError(
                        f"The table had {source.table.n_rows} rows when it was opened, but {source.name} read {n_done}."
                    )
                return
            except MemoryError as error:
                reason = str(error).split("\n", 1)[0] or "no reason given"
            source.device.free_unused_memory()
            logger.warning("Out of memory on %s, reading %d MiB: %s.", source.device.name, chunk_bytes >> 20, reason)
            chunk_bytes //= SHRINK_FACTOR
        if source.device.fallback is None:
            raise OutOfResourcesError(
                f"Out of memory on device {source.device.name!r}, "
                f"reading chunks of {chunk_bytes * SHRINK_FACTOR >> 20} MiB.",
                hint="free memory on the device, or use --device auto, which falls back to the CPU.",
            )
        logger.warning("Out of memory on %s: the CPU reads the rows from %d on.", source.device.name, n_done)
        blocks = source.table.blocks(self._encoder.columns, dictionary_encoded=True)
        for rows in _skip_rows(n_done, (self._encoder.encode_rows(block.rows) for block in blocks)):
            yield EncodedRows(*map(source.device.xp.asarray, rows))


def _skip_rows(n_rows: int, runs: Iterator[EncodedRows]) -> Iterator[EncodedRows]:
    """Yield the runs of rows after the first `n_rows` rows."""
    for rows in runs:
        n_run = len(rows.dense)
        if n_rows == 0:
            yield rows
        elif n_rows < n_run:
            yield EncodedRows(*kernels.slice_rows(rows, n_rows, n_run))
        n_rows -= min(n_rows, n_run)


def rebatch_rows(xp: Any, runs: Iterator[EncodedRows], n_rows: int) -> Iterator[EncodedRows]:
    """Yield the same rows in runs of exactly `n_rows`; the last run is shorter."""
    pending: list[EncodedRows] = []
    for rows in runs:
        begin, n_run = 0, len(rows.dense)
        n_needed = n_rows - sum(len(part.dense) for part in pending)
        while n_run - begin >= n_needed:
            pending.append(EncodedRows(*kernels.slice_rows(rows, begin, begin + n_needed)))
            yield EncodedRows(*kernels.concatenate_rows(xp, pending))
            begin, n_needed, pending = begin + n_needed, n_rows, []
        if begin < n_run:
            pending.append(EncodedRows(*kernels.slice_rows(rows, begin, n_run)))
    if pending:
        yield EncodedRows(*kernels.concatenate_rows(xp, pending))
