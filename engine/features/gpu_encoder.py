"""Read a table in chunks and encode it on a GPU: the counterpart of encoded_table.py with arrays on the device.

    chunks of columns on the device  ->  encoded rows on the device, the same bits as layout.py's  ->  moments, scores

Text is handled on the host by the CPU's own functions, once for every distinct value of a chunk: how a value is
spelled, where a text is split, what goes to "other". log1p is computed there too, because its last bit differs between
devices. Everything else is arithmetic on arrays in kernels/arrays/features/encode.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa

from engine.backends.array_pca import ArrayPCA
from engine.backends.chunked import ChunkedDevice
from engine.backends.protocol import Backend, EncodedMoments, EncodedRows, Moments
from engine.blocks import BLOCK_ROWS
from engine.execution.observers import BlockObserver, DeviceObserver
from engine.features.columnar_block import read_labels, to_text
from engine.features.encoded_moments import feature_moments
from engine.features.encoding_plan import DAYS_PER_YEAR, CategoryPlan, LabelPlan, NumberPlan
from engine.features.gpu_values import read_numbers
from engine.features.layout import Layout
from engine.kernels.arrays.features import encode as kernels
from engine.tables.device_columns import Array, DeviceColumns, DictionaryColumn
from engine.utils.array_types import Float32s

if TYPE_CHECKING:
    from engine.features.encoder import FeatureEncoder
    from engine.features.gpu_reader import GpuTableReader

Result = TypeVar("Result")

MOMENT_BLOCKS = 16  # blocks whose moments are computed together, and copied to the host at once
CACHE_SHARE = 0.35  # of free device memory, for encoded rows kept between passes; the scores need memory beside them


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
        values = read_numbers(xp, columns, plan.column, self.layout.read_specs[plan.column]).values
        if plan.role == "date":
            return (self.layout.reference_day - values) / DAYS_PER_YEAR
        if plan.logarithm:
            gaps = xp.isnan(values)
            values[gaps] = 0.0
            distinct, positions = xp.unique(xp.maximum(values, 0.0), return_inverse=True)
            values = xp.asarray(np.log1p(self.device.to_host(distinct)))[positions]
            values[gaps] = np.nan
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
        labels = read_labels(texts.dictionary.cast(pa.string()), plan.separator, marks=plan.missing)
        hot = self.layout.hot_lookup(plan, labels.names)
        hot_of_labels = np.where(labels.codes >= 0, hot[labels.codes + 1], -1).astype(np.int32)
        begins = xp.asarray(labels.offsets.astype(np.int64))
        rows = xp.maximum(texts.codes, 0)
        missing = xp.asarray(np.append(labels.missing, True))[texts.codes]
        offsets = xp.zeros(len(rows) + 1, np.int64)
        if len(texts.dictionary):
            offsets[1:] = xp.cumsum(xp.where(missing, 0, begins[rows + 1] - begins[rows]))
        items = xp.arange(int(offsets[-1]))
        item_rows = xp.searchsorted(offsets, items, side="right") - 1
        positions = items - offsets[item_rows] + begins[rows[item_rows]]
        return kernels.HotColumnLists(offsets, xp.asarray(hot_of_labels)[positions], missing, int(hot[0]))


class GpuEncodedTable:
    """The encoded rows of a table on a device: the counterpart of EncodedTable on the host.

    The table is read once if its encoded rows fit on the device from the first pass to the last, else in every pass.
    """

    def __init__(self, source: GpuTableReader, encoder: FeatureEncoder) -> None:
        self.reader = source.describe(encoder.columns)
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

        A pass that reads the table calls the observers that take columns on a device; others need rows on the host,
        and read the table themselves.
        """
        start = 0
        for rows in self._iter_runs(last, observers):
            yield function(start, rows)
            start += len(rows.dense)

    def compute_moments(
        self, backend: Backend, advance: Callable[[int], None], observers: Sequence[BlockObserver[Any]] = ()
    ) -> Moments:
        """Compute count, mean and scatter of X over all rows, by blocks of BLOCK_ROWS whatever chunks they come in.

        Another backend than the device's gets the rows on the host. Observers are those of `map`.
        """
        layout, device = self._encoder.layout, self._source.device
        n_hot, runs = len(layout.hot_columns), self._iter_runs(False, observers)
        total: EncodedMoments | None = None
        if isinstance(backend, ArrayPCA):
            for rows in rebatch_rows(device.xp, runs, MOMENT_BLOCKS * BLOCK_ROWS):
                total = backend.add_moments_of_blocks(total, rows, n_hot)
                advance(len(rows.dense))
        else:
            for rows in rebatch_rows(device.xp, runs, BLOCK_ROWS):
                part = backend.encoded_moments(EncodedRows(*map(device.to_host, rows)), n_hot)
                total = part if total is None else total.plus(part)
                advance(part.n_rows)
        assert total is not None  # the statistics pass raises EmptyTableError where there are no rows
        return feature_moments(total, layout)

    def collect_matrix(self, advance: Callable[[int], None], observers: Sequence[BlockObserver[Any]] = ()) -> Float32s:
        """Return X of all rows (n_rows, n_features) on the host; observers as in `compute_moments`."""
        parts = []
        for rows in self._iter_runs(False, observers):
            parts.append(self._encoder.layout.to_matrix(EncodedRows(*map(self._source.device.to_host, rows))))
            advance(len(rows.dense))
        return np.concatenate(parts)

    def _iter_runs(self, last: bool, observers: Sequence[BlockObserver[Any]] = ()) -> Iterator[EncodedRows]:
        """Yield all encoded rows; keep them for the next pass if there is one and they fit."""
        if self._cached is not None:
            runs = self._cached
            for number, rows in enumerate(runs):
                assert rows is not None
                runs[number] = None if last else rows
                yield rows
            self._cached = None if last else runs
            return
        source = self._source
        free, n_bytes = source.device.free_memory(), 0
        collected: list[EncodedRows | None] | None = None if last else []
        for rows in self._read_rows(observers):
            n_bytes += sum(array.nbytes for array in rows)
            if collected is not None:
                collected.append(rows)
                collected = collected if free is None or n_bytes <= CACHE_SHARE * free else None
            yield rows
        self._cached = collected

    def _read_rows(self, observers: Sequence[BlockObserver[Any]]) -> Iterator[EncodedRows]:
        """Read and encode all rows, and show their columns to the observers that take them on a device."""
        source, encoder = self._source, GpuEncoder(self._encoder.layout, self._source.device)
        on_device = [observer for observer in observers if isinstance(observer, DeviceObserver)]

        def read(_: int, columns: DeviceColumns) -> tuple[EncodedRows, list[Any]]:
            return encoder.encode(columns), [each.observe_on_device(columns, source.device) for each in on_device]

        for start, (rows, observed) in source.map(read, self._encoder.columns):
            for observer, result in zip(on_device, observed, strict=True):
                observer.collect_from_device(start, result)
            yield rows


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
