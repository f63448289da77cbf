"""Assignments as a table: id, cluster, distance, runner-up, margin and whether the row is an outlier.

    scores Z + centres  ->  one pyarrow Table a block  ->  Parquet parts, or one table in memory

An outlier is farther from its centre than its cluster's fence: Tukey's far-out fence, the third quartile plus three
interquartile ranges of the distances of a sample of the cluster's members at the time of the fit.

Source: Tukey, "Exploratory Data Analysis", 1977.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from engine.backends.protocol import Backend, Nearest
from engine.blocks import BLOCK_ROWS, Block, PartsTable, Table, row_count
from engine.execution.cluster import Run, in_parts
from engine.execution.passes import current
from engine.execution.threads import map_blocks
from engine.tables.unique_ids import ids_of
from engine.tsne.types import Placed
from engine.utils.atomic_files import written

ROW = "row"  # name of the id column of a table that has none
ROWS_PER_PART = 1 << 20
FENCE_SAMPLE = 100_000  # rows whose distances set the fences
FENCE_MEMBERS = 20  # sampled members below which a cluster has no fence: quartiles of fewer say nothing
FENCE_RANGES = 3.0


def fences(labels: NDArray[np.int32], distances: NDArray[np.float32], n_clusters: int) -> NDArray[np.float32]:
    """Return each cluster's largest ordinary distance, infinite for clusters with too few sampled members.

    Parameters
    ----------
    labels : int32 array of shape (n_sampled,)
    distances : float32 array of shape (n_sampled,)
        Euclidean distance of each sampled row to its centre.
    n_clusters : int
    """
    limits = np.full(n_clusters, np.inf, np.float32)
    order = np.argsort(labels, kind="stable")
    edges = np.searchsorted(labels[order], np.arange(n_clusters + 1))
    for cluster in range(n_clusters):
        members = distances[order[edges[cluster] : edges[cluster + 1]]]
        if len(members) >= FENCE_MEMBERS:
            q1, q3 = np.quantile(members.astype(np.float64), [0.25, 0.75])
            limits[cluster] = q3 + FENCE_RANGES * (q3 - q1)
    return limits


def assignment_table(
    ids: pa.Array | pa.ChunkedArray, id_name: str, found: Nearest, limits: NDArray[np.float32]
) -> pa.Table:
    """Return the assignments of one block of rows as a table."""
    return pa.table(
        {
            id_name: ids,
            "cluster": found.labels,
            "distance": found.distance,
            "runner_up": found.runner_up,
            "margin": found.margin(),
            "outlier": found.distance > limits[found.labels],
        }
    )


def with_places(part: pa.Table, placed: Placed) -> pa.Table:
    """Add the places of rows on the map to their assignments."""
    part = part.append_column("map_x", pa.array(placed.places[:, 0]))
    part = part.append_column("map_y", pa.array(placed.places[:, 1]))
    return part.append_column("map_doubtful", pa.array(placed.doubtful))


Note = TypeVar("Note")
WithPlaces: TypeAlias = Callable[[pa.Table, int], pa.Table]  # a part of the assignments, and its first row


class Tally(NamedTuple):
    """What a block adds to every cluster."""

    n_rows: int
    sizes: NDArray[np.int64]
    inertias: NDArray[np.float64]


@dataclass(frozen=True)
class Assigned:
    """Assigns blocks of a fitted table, whose scores are known: pure, so blocks may be anywhere."""

    Z: NDArray[np.float32]
    id: str | None
    centres: NDArray[np.float32]
    fences: NDArray[np.float32]
    backend: Backend
    with_places: WithPlaces | None

    def __call__(self, block: Block) -> tuple[pa.Table, Tally]:
        """Return the block's assignments, and what they add to every cluster."""
        found = self.backend.nearest_two(self.Z[block.start : block.start + len(block)], self.centres)
        squared = np.square(found.distance.astype(np.float64))
        part = assignment_table(ids_of(block, self.id), self.id or ROW, found, self.fences)
        part = part if self.with_places is None else self.with_places(part, block.start)
        counts = np.bincount(found.labels, minlength=len(self.centres)).astype(np.int64)
        sums = np.bincount(found.labels, squared, minlength=len(self.centres)).astype(np.float64)
        return part, Tally(part.num_rows, counts, sums)


def write_assignments(
    assign: Callable[[Block], tuple[pa.Table, Note]],
    table: Table,
    columns: Sequence[str],
    folder: Path,
    aside: Path,
    *,
    coded: bool = False,
) -> Iterator[Note]:
    """Write the parts of a table's assignments, here or on workers; yield what is noted of each block, in order.

    Parts are written in the folder `aside` and moved when they are whole: what is left of one lies there.
    """
    folder.mkdir(exist_ok=True)
    cluster = current()
    if cluster is not None:
        there = in_parts(table)
        task = partial(_assign_part, assign, there, list(columns), coded, folder, aside)
        n_parts, each = -(-row_count(there) // ROWS_PER_PART), ROWS_PER_PART // BLOCK_ROWS
        parts = [(number, Run(number * each, (number + 1) * each)) for number in range(n_parts)]
        for found in cluster.map(task, parts, "assign"):
            yield from found
        return
    notes: list[Note] = []
    assigned = map_blocks(assign, table.blocks(columns, coded=coded))
    for number, part in enumerate(_parts_of(_noted(assigned, notes))):
        write_part(part, folder, number, aside)
        yield from notes
        notes.clear()


def _assign_part(
    assign: Callable[[Block], tuple[pa.Table, Note]],
    table: PartsTable,
    columns: list[str],
    coded: bool,
    folder: Path,
    aside: Path,
    part: tuple[int, Run],
) -> list[Note]:
    number, run = part
    notes: list[Note] = []
    blocks = table.blocks(columns, coded=coded, first=run.first, stop=run.stop)
    write_part(_noted(map_blocks(assign, blocks), notes), folder, number, aside)
    return notes


def _noted(found: Iterable[tuple[pa.Table, Note]], notes: list[Note]) -> Iterator[pa.Table]:
    for part, note in found:
        notes.append(note)
        yield part


def write_parts(tables: Iterable[pa.Table], folder: Path) -> int:
    """Write tables as part-00000.parquet … of ROWS_PER_PART rows; return the number of rows."""
    folder.mkdir(exist_ok=True)
    return sum(write_part(part, folder, number, folder) for number, part in enumerate(_parts_of(tables)))


def write_part(tables: Iterable[pa.Table], folder: Path, number: int, aside: Path) -> int:
    """Write tables as one part of `folder`, whole or not at all, by way of `aside`; return the number of rows.

    Whoever writes it again writes the same bytes, so two may at once.
    """
    tables = iter(tables)
    first = next(tables)
    n_rows = 0
    with (
        written(folder / f"part-{number:05d}.parquet", aside=aside) as path,
        pq.ParquetWriter(path, first.schema, compression="zstd") as writer,
    ):
        for table in chain([first], tables):
            writer.write_table(table)
            n_rows += table.num_rows
    return n_rows


def _parts_of(tables: Iterable[pa.Table]) -> Iterator[Iterator[pa.Table]]:
    """Yield the tables of one part after the other: runs of ROWS_PER_PART rows."""
    tables = iter(tables)
    for first in tables:
        yield chain([first], _until(tables, ROWS_PER_PART - first.num_rows))


def _until(tables: Iterator[pa.Table], n_rows: int) -> Iterator[pa.Table]:
    while n_rows > 0 and (table := next(tables, None)) is not None:
        n_rows -= table.num_rows
        yield table
