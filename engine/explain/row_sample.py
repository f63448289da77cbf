"""The rows an explanation looks at: a uniform draw, and more of the clusters that it holds too few of.

    kept as the pipeline reads the table anyway  ->  rows in their own units, cluster and weight of each

Rows are drawn by (seed, row number), so the draw depends on neither files, blocks nor threads. A weight is the number
of people of its cluster that a row stands for.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.blocks import plain_schema
from engine.execution.passes import over_table
from engine.explain.rules.decision_tree import Labels, Weights
from engine.tables import Block, Table
from engine.utils.row_sampling import counts_of, members_drawn, sample_rows


@dataclass(frozen=True)
class Picker:
    """Picks the rows with given numbers, ascending, out of a block: pure, so blocks may be anywhere."""

    rows: NDArray[np.int64]

    def __call__(self, block: Block) -> pa.Table | None:
        """Return the wanted rows of a block, None if it has none."""
        first, last = np.searchsorted(self.rows, [block.start, block.start + len(block)])
        if first == last:
            return None
        wanted = block.rows.take(pa.array(self.rows[first:last] - block.start))
        return wanted.cast(plain_schema(wanted.schema))


class PickedRows:
    """Rows with given numbers, picked out of the blocks of a pass: a BlockObserver."""

    def __init__(self, rows: NDArray[np.int64]) -> None:
        self.rows = rows
        self._parts: list[pa.Table] = []

    @classmethod
    def drawn(cls, n_rows: int, size: int, seed: int) -> PickedRows:
        """Draw min(size, n_rows) row numbers."""
        return cls(sample_rows(n_rows, size, seed))

    @property
    def observe(self) -> Picker:
        """What picks these rows out of a block."""
        return Picker(self.rows)

    def collect(self, picked: pa.Table | None) -> None:
        """Keep what was picked out of a block."""
        if picked is not None:
            self._parts.append(picked)

    def state(self) -> dict[str, NDArray[np.uint8]]:
        """Return the picked rows as an Arrow stream."""
        stream, rows = io.BytesIO(), self.table()
        with pa.ipc.new_stream(stream, rows.schema) as writer:
            writer.write_table(rows)
        return {"rows": np.frombuffer(stream.getvalue(), np.uint8)}

    def restore(self, state: dict[str, NDArray[np.uint8]]) -> None:
        """Take the rows that `state` has returned."""
        self._parts = [pa.ipc.open_stream(io.BytesIO(state["rows"].tobytes())).read_all()]

    def table(self) -> pa.Table:
        """Return the rows in order."""
        if not self._parts:
            return pa.table({})
        return pa.concat_tables(self._parts).combine_chunks()


@dataclass(frozen=True)
class Sample:
    """Sampled people.

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


def stratified(
    table: Table, picked: PickedRows, labels: Labels, n_clusters: int, *, quota: int, columns: Sequence[str], seed: int
) -> Sample:
    """Add rows of the clusters with fewer than `quota` among the picked ones, reading the table once more for them.

    Parameters
    ----------
    table : Table
    picked : PickedRows
    labels : int32 array of shape (n_rows,)
    n_clusters : int
    quota : int
        Rows per cluster, or all it has.
    columns : sequence of str
        What the rows must hold.
    seed : int
        Key of the further draws.
    """
    sizes = counts_of(labels, n_clusters)
    n_picked = np.bincount(labels[picked.rows], minlength=n_clusters)
    rows, parts = [picked.rows], [picked.table().select(list(columns))]
    missing = np.maximum(np.minimum(quota, sizes) - n_picked, 0)
    if missing.any():
        extra = PickedRows(members_drawn(labels, missing, seed, without=picked.rows))
        for part in over_table(extra.observe, table, list(columns), coded=True, what="more rows to explain"):
            extra.collect(part)
        rows.append(extra.rows)
        parts.append(extra.table())
    numbers = np.concatenate(rows)
    order = np.argsort(numbers, kind="stable")
    numbers = numbers[order]
    found = labels[numbers].astype(np.int32)
    weights = (sizes / np.maximum(np.bincount(found, minlength=n_clusters), 1))[found]
    return Sample(pa.concat_tables(parts).take(pa.array(order)).combine_chunks(), numbers, found, weights, sizes)
