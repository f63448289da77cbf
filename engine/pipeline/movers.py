"""Write the people whose cluster has another number than the night before: movers.parquet, one row an event.

    Z, earlier and new clusters, table  ->  movers.parquet, and facts for the manifest

Rows come in the order of the table, and only blocks with movers are read again, one after the other. The columns of an
event are those by which the person is nearer to the new center than to the old one: the difference of both squared
distances is a sum over features (about the middle of both centers), and so over columns. What a person was like the
night before is not known.

Moves between two clusters that fewer people made than a floor are counted, and not told: a handful is noise, and would
single out persons.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from engine.backends.protocol import Backend
from engine.blocks import BLOCK_ROWS, Block, Table, has_random_access
from engine.execution.threads import map_blocks, row_blocks
from engine.lineage.people import NEWCOMER
from engine.lineage.previous import MOVER_COLUMNS, PreviousRun
from engine.model.assignments import ROW, assignment_table
from engine.model.model import Model
from engine.pipeline.night import NumberedClusters, means_of
from engine.tables.unique_ids import read_ids
from engine.utils.array_types import Float32s, Float64s, Int32s, Int64s, Rows

FILE = "movers.parquet"
N_COLUMNS = 3  # of an event
CHUNK_VALUES = 1 << 22  # values of X in memory at a time


@dataclass(frozen=True)
class Movers:
    """Who moved, and what their events say.

    Attributes
    ----------
    Z : float32 array of shape (n_rows, n_components)
    labels, earlier : int32 arrays of shape (n_rows,)
        Positions of the clusters of both nights; NEWCOMER for people who were not there.
    model : Model
    backend : Backend
    numbered : NumberedClusters
    previous : PreviousRun
    names : list of str or None
        Of tonight's clusters.
    floor : int
        Fewest people who made a move for it to be told.
    run, time : str, datetime
        The id of the run, and when it was made.
    """

    Z: Rows
    labels: Int32s
    earlier: Int32s
    model: Model
    backend: Backend
    numbered: NumberedClusters
    previous: PreviousRun
    names: list[str] | None
    floor: int
    run: str
    time: datetime

    @cached_property
    def told(self) -> NDArray[np.bool_]:
        """The moves that are told, bool of shape (n_before, n_clusters)."""
        told: NDArray[np.bool_] = self._is_move & (self.numbered.moves >= self.floor)
        return told

    @cached_property
    def _is_move(self) -> NDArray[np.bool_]:
        before, now = self.previous.model.cluster_numbers, self.numbered.numbers
        return np.asarray(before[:, None] != now)

    def facts(self) -> dict[str, int]:
        """Return how many people's moves are told, how many are left out, and the floor."""
        moves = self.numbered.moves
        n_told = int(moves[self.told].sum())
        return {"told": n_told, "left_out": int(moves[self._is_move].sum()) - n_told, "floor": self.floor}

    def write(self, folder: Path, table: Table) -> None:
        """Write movers.parquet."""
        id = self.model.id
        assert id is not None
        columns = list(dict.fromkeys([id, *self.model.encoder.columns]))
        with pq.ParquetWriter((folder / FILE).absolute(), self._schema(table), compression="zstd") as writer:
            for events in map_blocks(self._events, _blocks(table, columns, self._blocks_with_movers())):
                if events is not None:
                    writer.write_table(events)

    def _schema(self, table: Table) -> pa.Schema:
        kinds = (
            pa.string(), pa.int32(), pa.int32(), pa.string(), pa.string(), pa.float32(), pa.int32(), pa.float32(),
            pa.list_(pa.string()), pa.string(), pa.string(), pa.timestamp("s", "UTC"),
        )  # fmt: skip
        id = self.model.id
        fields = [pa.field(name, kind) for name, kind in zip(MOVER_COLUMNS, kinds, strict=True)]
        return pa.schema([fields[0], pa.field(id, table.schema.field(id).type), *fields[1:]])

    def _movers_of(self, rows: slice) -> Int64s:
        """Return the movers among some rows, counted from the first of these."""
        earlier, labels = self.earlier[rows], self.labels[rows]
        return np.flatnonzero((earlier != NEWCOMER) & self.told[np.maximum(earlier, 0), labels])

    def _blocks_with_movers(self) -> list[int]:
        return [
            number for number, rows in enumerate(row_blocks(len(self.labels), BLOCK_ROWS)) if len(self._movers_of(rows))
        ]

    def _events(self, block: Block) -> pa.Table | None:
        """Return the events of a block, None if it has none."""
        movers = self._movers_of(slice(block.start, block.start + len(block)))
        if not len(movers):
            return None
        id, model, numbers = self.model.id or ROW, self.model, self.numbered.numbers
        rows, n = block.start + movers, len(movers)
        nearest = self.backend.nearest_two(np.ascontiguousarray(self.Z[rows]), model.centers)
        assigned = assignment_table(pa.array(rows), ROW, nearest, model.fences, model.odds, numbers)
        before, now = self.earlier[rows], self.labels[rows]
        taken = block.rows.take(pa.array(movers))
        old_numbers = self.previous.model.cluster_numbers
        by_number = self.previous.names
        old_names = [by_number.get(number) for number in old_numbers[before].tolist()]
        new_names = [None if self.names is None else self.names[label] for label in now.tolist()]
        values = [
            pa.array([f"{self.run}-{row}" for row in rows.tolist()]), read_ids(Block(block.start, taken), id),
            pa.array(old_numbers[before]), pa.array(numbers[now]),
            pa.array(old_names, pa.string()), pa.array(new_names, pa.string()),
            assigned["margin"], assigned["runner_up"], assigned["runner_up_odds"],
            pa.array(self._columns(taken, before, now), pa.list_(pa.string())), pa.repeat(self.run, n),
            pa.array([self.previous.run_id] * n, pa.string()),
            pa.array([self.time] * n, pa.timestamp("s", "UTC")),
        ]  # fmt: skip
        return pa.table(values, names=[MOVER_COLUMNS[0], id, *MOVER_COLUMNS[1:]])

    def _columns(self, rows: pa.Table, before: Int32s, now: Int32s) -> list[list[str]]:
        """Return the columns that speak most for the new cluster and against the old one, for each row."""
        columns, first = _first_features(self.model)
        found: list[list[str]] = []
        for part in row_blocks(len(before), max(CHUNK_VALUES // self.model.encoder.n_features, 1)):
            X = self.model.encoder.encode(rows.slice(part.start, part.stop - part.start))
            new, old = self.model.centers[now[part]], self._old_centers[before[part]]
            by_column = np.add.reduceat(contributions(self.model, X, old, new), first, axis=1)
            order = np.argsort(-by_column, axis=1, kind="stable")[:, :N_COLUMNS]
            for row, best in zip(by_column, order, strict=True):
                found.append([columns[column] for column in best.tolist() if row[column] > 0])
        return found

    @cached_property
    def _old_centers(self) -> Float64s:
        """The centers of the earlier clusters tonight: of the same number, or of the people who were in them."""
        before, now = self.previous.model.cluster_numbers, self.numbered.numbers
        centers = np.zeros((len(before), self.Z.shape[1]))
        position = np.searchsorted(now, before).clip(max=len(now) - 1)
        alive = now[position] == before
        centers[alive] = self.model.centers[position[alive]]
        if not alive.all():
            centers[~alive] = means_of(self.Z, self.earlier, len(before))[~alive]
        return centers


def _blocks(table: Table, columns: Sequence[str], numbers: list[int]) -> Iterator[Block]:
    """Yield the blocks of some numbers; a table without random access is read from the beginning."""
    if has_random_access(table):
        for number in numbers:
            yield from table.blocks(columns, first=number, stop=number + 1)
    elif numbers:
        yield from table.blocks(columns)


def _first_features(model: Model) -> tuple[list[str], Int64s]:
    """Return the columns of the plan, and the first feature of each."""
    of_feature = [feature.column for feature in model.encoder.features]
    columns = list(dict.fromkeys(of_feature))
    return columns, np.array([of_feature.index(column) for column in columns], np.int64)


def contributions(model: Model, X: Float32s, old: Float64s, new: Float32s) -> Float64s:
    """Return what each feature adds to how much nearer a row is to its new center than to its old one.

    Parameters
    ----------
    model : Model
    X : float32 array of shape (n_rows, n_features)
    old, new : arrays of shape (n_rows, n_components)
        The centers of each row.

    Returns
    -------
    float64 array of shape (n_rows, n_features)
        The sum of a row is |z - old|^2 - |z - new|^2.
    """
    axes = model.pca.components_
    centered = X.astype(np.float64) - model.pca.mean_
    if model.metric == "cosine":
        length = np.linalg.norm(centered @ axes.T, axis=1, keepdims=True)
        centered /= np.maximum(length, model.projection.shortest or 0.0)
    middle, way = (new.astype(np.float64) + old) / 2, new.astype(np.float64) - old
    added: Float64s = 2 * (centered - middle @ axes) * (way @ axes)
    return added


def write_movers(
    folder: Path,
    table: Table,
    Z: Rows,
    labels: Int32s,
    model: Model,
    backend: Backend,
    previous: PreviousRun,
    numbered: NumberedClusters,
    names: list[str] | None,
    floor: int,
) -> dict[str, Any]:
    """Write movers.parquet into the folder of a run whose manifest is written; return facts for the manifest.

    Without ids in common nobody is known to have moved, and there is no such file.
    """
    if not numbered.earlier.by_id:
        return {"movers": None}
    manifest = json.loads((folder / "manifest.json").read_text())
    time = datetime.fromisoformat(manifest["created"])
    movers = Movers(
        Z, labels, numbered.earlier.labels, model, backend, numbered, previous, names, floor, manifest["run_id"], time
    )
    movers.write(folder, table)
    return {"movers": movers.facts()}
