"""Assign rows to clusters: a table of id, cluster, distance, second cluster, margin, odds and outlier flag.

    scores Z + centers  ->  one pyarrow Table a block  ->  Parquet parts, or one table in memory

An outlier is farther from its center than its cluster's fence: Tukey's far-out fence, the third quartile plus three
interquartile ranges of the distances of a sample of the cluster's members, at the time of the fit.

Source: Tukey, "Exploratory Data Analysis", 1977.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from engine.backends.chunked import ChunkedDevice
from engine.backends.protocol import Backend, TwoNearest
from engine.blocks import BLOCK_ROWS, Block, RandomAccessTable, Table, count_rows
from engine.errors import UsageError
from engine.execution.cluster import BlockRange, require_random_access
from engine.execution.passes import current_cluster
from engine.execution.threads import map_blocks
from engine.kmeans.stability import runner_up_odds
from engine.tables.unique_ids import read_ids
from engine.tsne.types import Placement
from engine.utils.atomic_files import write_atomically

ROW = "row"  # name of the id column of a table that has none
COLUMNS = ("cluster", "distance", "runner_up", "margin", "runner_up_odds", "outlier")  # beside the id
MAP_COLUMNS = ("map_x", "map_y", "map_doubtful")
ROWS_PER_PART = 1 << 20
KEPT_PARTS = 8  # whose nearest centers a device has found: 16 MiB each; the blocks of as many may be in flight
FENCE_SAMPLE = 100_000  # rows whose distances set the fences
FENCE_MEMBERS = 20  # sampled members below which a cluster has no fence: quartiles of fewer say nothing
FENCE_RANGES = 3.0


def compute_fences(labels: NDArray[np.int32], distances: NDArray[np.float32], n_clusters: int) -> NDArray[np.float32]:
    """Compute each cluster's fence: distances above it are outliers. Infinite with too few sampled members.

    Parameters
    ----------
    labels : int32 array of shape (n_sampled,)
    distances : float32 array of shape (n_sampled,)
        Euclidean distance of each sampled row to its center.
    n_clusters : int
    """
    fences = np.full(n_clusters, np.inf, np.float32)
    order = np.argsort(labels, kind="stable")
    edges = np.searchsorted(labels[order], np.arange(n_clusters + 1))
    for cluster in range(n_clusters):
        members = distances[order[edges[cluster] : edges[cluster + 1]]]
        if len(members) >= FENCE_MEMBERS:
            q1, q3 = np.quantile(members.astype(np.float64), [0.25, 0.75])
            fences[cluster] = q3 + FENCE_RANGES * (q3 - q1)
    return fences


def check_id_name(id: str | None) -> None:
    """Raise UsageError if the id column is named like another column of the assignments: one would replace the other.

    The names of the map's columns are refused without a map as well, because `rooms assign --place` adds them later.
    """
    if id in (*COLUMNS, *MAP_COLUMNS):
        raise UsageError(
            f"The id column cannot be named {id!r}: the assignments have a column of that name beside the ids.",
            hint="rename the column in the table, for example to 'user_id'.",
        )


def assignment_values(
    nearest: TwoNearest, fences: NDArray[np.float32], odds: NDArray[np.float32] | None, numbers: NDArray[np.int32]
) -> tuple[NDArray[Any] | None, ...]:
    """Return the values of COLUMNS for some rows; without `odds`, None for those of the runner-up.

    `numbers` (n_clusters,) has the number of the cluster that each label stands for.
    """
    outliers, margins = nearest.distances > fences[nearest.labels], nearest.margin()
    of_runner_up = None if odds is None else runner_up_odds(odds, nearest.labels, margins)
    # There is no runner-up, -1, where there is one cluster.
    runner_up = numbers[nearest.second_labels] if len(numbers) > 1 else nearest.second_labels
    return numbers[nearest.labels], nearest.distances, runner_up, margins, of_runner_up, outliers


def assignment_table(
    ids: pa.Array | pa.ChunkedArray,
    id_name: str,
    nearest: TwoNearest,
    fences: NDArray[np.float32],
    odds: NDArray[np.float32] | None,
    numbers: NDArray[np.int32],
) -> pa.Table:
    """Return the assignments of one block of rows as a table; without `odds`, those of the runner-up are null."""
    values = assignment_values(nearest, fences, odds, numbers)
    arrays = [pa.nulls(len(ids), pa.float32()) if column is None else pa.array(column) for column in values]
    return pa.table([ids, *arrays], names=[id_name, *COLUMNS])


def add_map_columns(table: pa.Table, placement: Placement) -> pa.Table:
    """Add the map coordinates of rows to their assignments."""
    for name, values in zip(MAP_COLUMNS, (*placement.coordinates.T, placement.uncertain), strict=True):
        table = table.append_column(name, pa.array(values))
    return table


BlockSummary = TypeVar("BlockSummary")
AddMapColumns: TypeAlias = Callable[[pa.Table, int], pa.Table]  # assignments of some rows, number of the first row


class ClusterTotals(NamedTuple):
    """Number of rows of a block, and its share of each cluster's size and inertia."""

    n_rows: int
    sizes: NDArray[np.int64]
    inertias: NDArray[np.float64]


class NearestTwoByPart:
    """The two nearest centers of runs of rows: on a device from calls for the rows of a part, elsewhere run by run.

    A call of a device takes as many launches for the rows of one block as for many of them. Threads share the results.
    """

    def __init__(self, backend: Backend, Z: NDArray[np.float32], centers: NDArray[np.float32]) -> None:
        self.backend, self.Z, self.centers = backend, Z, centers
        self._lock = threading.Lock()
        self._parts: dict[int, TwoNearest] = {}  # by number

    def __reduce__(self) -> tuple[Any, ...]:
        return NearestTwoByPart, (self.backend, self.Z, self.centers)  # every process finds its own

    def __call__(self, start: int, stop: int) -> TwoNearest:
        """Return the two nearest centers of rows `start` up to `stop`, and the distances to them."""
        if not isinstance(self.backend, ChunkedDevice):
            return self.backend.nearest_two(self.Z[start:stop], self.centers)
        n_rows = min(self.backend.rows_per_block(len(self.Z)), ROWS_PER_PART)
        runs = []
        for number in range(start // n_rows, max(stop - 1, start) // n_rows + 1):
            run = slice(max(start - number * n_rows, 0), min(stop - number * n_rows, n_rows))
            runs.append([column[run] for column in self._part(number, n_rows)])
        return TwoNearest(*(np.concatenate(columns) for columns in zip(*runs, strict=True)))

    def _part(self, number: int, n_rows: int) -> TwoNearest:
        with self._lock:
            nearest = self._parts.pop(number, None)
            if nearest is None:
                nearest = self.backend.nearest_two(self.Z[number * n_rows : (number + 1) * n_rows], self.centers)
                if len(self._parts) == KEPT_PARTS:
                    del self._parts[min(self._parts)]
            self._parts[number] = nearest
            return nearest


@dataclass(frozen=True)
class FittedRowAssigner:
    """Assigns the blocks of a fitted table from their scores: a pure function of a block, on any thread or worker."""

    nearest_two: NearestTwoByPart
    id: str | None
    fences: NDArray[np.float32]
    odds: NDArray[np.float32] | None
    numbers: NDArray[np.int32]
    add_map_columns: AddMapColumns | None

    def __call__(self, block: Block) -> tuple[pa.Table, ClusterTotals]:
        """Return the block's assignments, and its share of every cluster."""
        nearest, n_clusters = self.nearest_two(block.start, block.start + len(block)), len(self.numbers)
        squared = np.square(nearest.distances.astype(np.float64))
        table = assignment_table(
            read_ids(block, self.id), self.id or ROW, nearest, self.fences, self.odds, self.numbers
        )
        table = table if self.add_map_columns is None else self.add_map_columns(table, block.start)
        sizes = np.bincount(nearest.labels, minlength=n_clusters).astype(np.int64)
        inertias = np.bincount(nearest.labels, squared, minlength=n_clusters).astype(np.float64)
        return table, ClusterTotals(table.num_rows, sizes, inertias)


def write_assignments(
    assign: Callable[[Block], tuple[pa.Table, BlockSummary]],
    table: Table,
    columns: Sequence[str],
    folder: Path,
    temporary_folder: Path,
    *,
    dictionary_encoded: bool = False,
) -> Iterator[BlockSummary]:
    """Write the parts of a table's assignments, here or on workers; yield the summary of each block, in order.

    `assign` returns the assignments of a block and its summary. Parts are written in `temporary_folder` and moved when
    they are complete, so what an interrupt leaves of one lies there.
    """
    folder.mkdir(exist_ok=True)
    cluster = current_cluster()
    if cluster is not None:
        table = require_random_access(table)
        task = partial(_assign_part, assign, table, list(columns), dictionary_encoded, folder, temporary_folder)
        n_parts, n_blocks = -(-count_rows(table) // ROWS_PER_PART), ROWS_PER_PART // BLOCK_ROWS
        parts = [(number, BlockRange(number * n_blocks, (number + 1) * n_blocks)) for number in range(n_parts)]
        for part_summaries in cluster.map(task, parts, "assign"):
            yield from part_summaries
        return
    summaries: list[BlockSummary] = []
    assignments = map_blocks(assign, table.blocks(columns, dictionary_encoded=dictionary_encoded))
    for number, part in enumerate(_group_into_parts(_collect_summaries(assignments, summaries))):
        write_part(part, folder, number, temporary_folder)
        yield from summaries
        summaries.clear()


def _assign_part(
    assign: Callable[[Block], tuple[pa.Table, BlockSummary]],
    table: RandomAccessTable,
    columns: list[str],
    dictionary_encoded: bool,
    folder: Path,
    temporary_folder: Path,
    part: tuple[int, BlockRange],
) -> list[BlockSummary]:
    number, block_range = part
    summaries: list[BlockSummary] = []
    blocks = table.blocks(
        columns, dictionary_encoded=dictionary_encoded, first=block_range.first, stop=block_range.stop
    )
    write_part(_collect_summaries(map_blocks(assign, blocks), summaries), folder, number, temporary_folder)
    return summaries


def _collect_summaries(
    assignments: Iterable[tuple[pa.Table, BlockSummary]], summaries: list[BlockSummary]
) -> Iterator[pa.Table]:
    """Yield the assignments, and append the summaries to a list."""
    for table, summary in assignments:
        summaries.append(summary)
        yield table


def write_parts(tables: Iterable[pa.Table], folder: Path) -> int:
    """Write tables as part-00000.parquet … of ROWS_PER_PART rows; return the number of rows."""
    folder.mkdir(exist_ok=True)
    return sum(write_part(part, folder, number, folder) for number, part in enumerate(_group_into_parts(tables)))


def write_part(tables: Iterable[pa.Table], folder: Path, number: int, temporary_folder: Path) -> int:
    """Write tables as one part of `folder` atomically, by way of `temporary_folder`; return the number of rows.

    Every process writes the same bytes, so two may write the same part at once.
    """
    tables = iter(tables)
    first = next(tables)
    n_rows = 0
    with (
        write_atomically(folder / f"part-{number:05d}.parquet", staging_folder=temporary_folder) as path,
        pq.ParquetWriter(path, first.schema, compression="zstd") as writer,
    ):
        for table in chain([first], tables):
            writer.write_table(table)
            n_rows += table.num_rows
    return n_rows


def _group_into_parts(tables: Iterable[pa.Table]) -> Iterator[Iterator[pa.Table]]:
    """Yield the tables of each part, ROWS_PER_PART rows together."""
    tables = iter(tables)
    for first in tables:
        yield chain([first], _take_rows(tables, ROWS_PER_PART - first.num_rows))


def _take_rows(tables: Iterator[pa.Table], n_rows: int) -> Iterator[pa.Table]:
    while n_rows > 0 and (table := next(tables, None)) is not None:
        n_rows -= table.num_rows
        yield table
