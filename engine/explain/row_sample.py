"""The rows an explanation looks at: a uniform draw, and more of the clusters that it holds too few of.

    kept as the pipeline reads the table anyway  ->  rows in their own units, cluster and weight of each

Rows are drawn by (seed, row number), so the draw depends on neither files, blocks nor threads. A weight is the number
of people of its cluster that a row stands for.
"""

from __future__ import annotations

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


class KeptRows:
    """Rows with given numbers, picked out of the blocks of a pass."""

    def __init__(self, rows: NDArray[np.int64]) -> None:
        self.rows = rows
        self._parts: list[pa.Table] = []

    @classmethod
    def drawn(cls, n_rows: int, size: int, seed: int) -> KeptRows:
        """Draw min(size, n_rows) row numbers."""
        return cls(sample_rows(n_rows, size, seed))

    @property
    def picker(self) -> Picker:
        """What picks these rows out of a block."""
        return Picker(self.rows)

    def add(self, picked: pa.Table | None) -> None:
        """Keep what was picked out of a block; blocks come in order."""
        if picked is not None:
            self._parts.append(picked)

    def put_back(self, table: pa.Table) -> None:
        """Take the rows that `table` has returned."""
        self._parts = [table]

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
    table: Table, kept: KeptRows, labels: Labels, n_clusters: int, *, quota: int, columns: Sequence[str], seed: int
) -> Sample:
    """Add rows of the clusters that have fewer than `quota` among the kept ones, reading the table once more for them.

    Parameters
    ----------
    table : Table
    kept : KeptRows
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
    there = np.bincount(labels[kept.rows], minlength=n_clusters)
    rows, parts = [kept.rows], [kept.table().select(list(columns))]
    missing = np.maximum(np.minimum(quota, sizes) - there, 0)
    if missing.any():
        extra = KeptRows(members_drawn(labels, missing, seed, without=kept.rows))
        for picked in over_table(extra.picker, table, list(columns), coded=True, what="more rows to explain"):
            extra.add(picked)
        rows.append(extra.rows)
        parts.append(extra.table())
    numbers = np.concatenate(rows)
    order = np.argsort(numbers, kind="stable")
    numbers = numbers[order]
    found = labels[numbers].astype(np.int32)
    weights = (sizes / np.maximum(np.bincount(found, minlength=n_clusters), 1))[found]
    return Sample(pa.concat_tables(parts).take(pa.array(order)).combine_chunks(), numbers, found, weights, sizes)
