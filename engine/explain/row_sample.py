"""Sample the rows of an explanation: a uniform sample, and further rows of clusters that it holds too few of.

    blocks of a pass over the table, labels  ->  RowSample: rows in their own units, cluster and weight of each

Rows are sampled by (seed, row number), so the sample depends on neither files, blocks nor threads. The weight of a row
is the number of people of its cluster that it stands for.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.blocks import normalize_id_type
from engine.execution.passes import over_table
from engine.explain.rules.decision_tree import Labels, Weights
from engine.tables import Block, Table
from engine.utils.row_sampling import count_labels, sample_members, sample_rows

if TYPE_CHECKING:
    from engine.features.gpu_reader import GpuTableReader

JOINED_BLOCKS = 64  # blocks whose picked rows are copied together


@dataclass(frozen=True)
class RowPicker:
    """Picks the rows with given numbers, ascending, from a block: a pure function, so blocks may be on any worker."""

    rows: NDArray[np.int64]

    def __call__(self, block: Block) -> pa.Table | None:
        """Return the picked rows of a block, or None if it has none."""
        first, last = np.searchsorted(self.rows, [block.start, block.start + len(block)])
        if first == last:
            return None
        picked = block.rows.take(pa.array(self.rows[first:last] - block.start))
        # Blocks have normalized types, but for texts that are dictionary-encoded, and ids.
        kinds = [field.with_type(normalize_id_type(field.type)) for field in picked.schema]
        return picked.cast(pa.schema(kinds))


class RowCollector:
    """Collects the rows with given numbers from the blocks of a pass: a BlockObserver."""

    def __init__(self, rows: NDArray[np.int64]) -> None:
        self.rows = rows
        self._parts: list[pa.Table] = []  # of many blocks each, and behind them those of the last blocks
        self._n_joined = 0  # parts that are of many blocks

    @classmethod
    def draw(cls, n_rows: int, size: int, seed: int) -> RowCollector:
        """Return the collector of a uniform sample of min(size, n_rows) rows."""
        return cls(sample_rows(n_rows, size, seed))

    @property
    def observe(self) -> RowPicker:
        """The function that picks these rows from a block."""
        return RowPicker(self.rows)

    def collect(self, picked: pa.Table | None) -> None:
        """Keep the rows that were picked from a block.

        A few rows of every block, kept apart, would hold the memory of the whole blocks among which they were
        allocated: 10 MB a million rows. So they are copied together.
        """
        if picked is None:
            return
        self._parts.append(picked)
        if len(self._parts) - self._n_joined == JOINED_BLOCKS:
            joined = pa.concat_tables(self._parts[self._n_joined :]).combine_chunks()
            self._parts[self._n_joined :] = [joined]
            self._n_joined += 1

    def state(self) -> dict[str, NDArray[np.uint8]]:
        """Return the picked rows as an Arrow stream."""
        stream, rows = io.BytesIO(), self.table()
        with pa.ipc.new_stream(stream, rows.schema) as writer:
            writer.write_table(rows)
        return {"rows": np.frombuffer(stream.getvalue(), np.uint8)}

    def restore(self, state: dict[str, NDArray[np.uint8]]) -> None:
        """Set the rows to those that `state` returned."""
        self._parts, self._n_joined = [pa.ipc.open_stream(io.BytesIO(state["rows"].tobytes())).read_all()], 1

    def table(self) -> pa.Table:
        """Return the rows in order."""
        if not self._parts:
            return pa.table({})
        return pa.concat_tables(self._parts).combine_chunks()


@dataclass(frozen=True)
class RowSample:
    """The sampled rows, with cluster and weight.

    Attributes
    ----------
    table : pyarrow.Table of n_sampled rows
    rows : int64 array of shape (n_sampled,), ascending row numbers
    labels : int32 array of shape (n_sampled,)
    weights : float64 array of shape (n_sampled,)
        The weights of a cluster's rows add up to its size.
    sizes : int64 array of shape (n_clusters,)
    """

    table: pa.Table
    rows: NDArray[np.int64]
    labels: Labels
    weights: Weights
    sizes: NDArray[np.int64]

    @property
    def n_clusters(self) -> int:
        """The number of clusters, empty ones too."""
        return len(self.sizes)


def stratified_sample(
    table: Table,
    collector: RowCollector,
    labels: Labels,
    n_clusters: int,
    *,
    quota: int,
    columns: Sequence[str],
    seed: int,
    reader: GpuTableReader | str = "pyarrow",
) -> RowSample:
    """Add rows of the clusters with fewer than `quota` sampled rows, reading the table once more for them.

    Parameters
    ----------
    table : Table
    collector : RowCollector
        Holds the uniform sample.
    labels : int32 array of shape (n_rows,)
    n_clusters : int
    quota : int
        Smallest number of rows per cluster; a smaller cluster gives all it has.
    columns : sequence of str
        Columns of the further rows.
    seed : int
        Key of the further sampling.
    reader : GpuTableReader or str, default="pyarrow"
        What reads the further rows.

    Returns
    -------
    RowSample
    """
    sizes = count_labels(labels, n_clusters)
    n_sampled = np.bincount(labels[collector.rows], minlength=n_clusters)
    rows, parts = [collector.rows], [collector.table().select(list(columns))]
    missing = np.maximum(np.minimum(quota, sizes) - n_sampled, 0)
    if missing.any():
        further = RowCollector(sample_members(labels, missing, seed, excluded=collector.rows))
        for part in _pick_rows(table, further, columns, reader):
            further.collect(part)
        rows.append(further.rows)
        parts.append(further.table())
    numbers = np.concatenate(rows)
    order = np.argsort(numbers, kind="stable")
    numbers = numbers[order]
    sample_labels = labels[numbers].astype(np.int32)
    weights = (sizes / np.maximum(np.bincount(sample_labels, minlength=n_clusters), 1))[sample_labels]
    sample_table = pa.concat_tables(parts).take(pa.array(order)).combine_chunks()
    return RowSample(sample_table, numbers, sample_labels, weights, sizes)


def _pick_rows(
    table: Table, collector: RowCollector, columns: Sequence[str], reader: GpuTableReader | str
) -> Iterable[pa.Table | None]:
    """Return the rows of a collector, block by block or chunk by chunk, read once more."""
    if not isinstance(reader, str) and reader.reads(columns):
        return reader.pick(collector.rows, columns)
    observe, name = collector.observe, "more rows to explain"
    return over_table(observe, table, list(columns), dictionary_encoded=True, pass_name=name)
