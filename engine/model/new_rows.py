"""Assign the rows of a new table, block by block, with the further columns that were asked for.

    block, Model  ->  assignments [+ map_x, map_y, map_doubtful] [+ cluster_2, cluster_2_odds, …] [+ names, run, model]

The odds of a further cluster are those that it wins against each of the clusters before it, by the odds of the
runner-up (kmeans/stability.py): so those of cluster_2 are the runner-up's, and they fall from one cluster to the next.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from engine import backends
from engine.backends.protocol import Backend, TwoNearest
from engine.config import ClusterConfig
from engine.errors import ModelNotReadableError, NotMappedError, UsageError
from engine.execution.threads import row_blocks
from engine.execution.worker_pool import run_on_workers
from engine.features.columnar_block import ColumnarBlock, read_block
from engine.features.distributions import TableDistributions
from engine.features.number_columns import warn_of_parsed_texts
from engine.kmeans.stability import runner_up_odds
from engine.model.assignments import ROW, add_map_columns, assignment_table, write_assignments
from engine.model.directions import count_without_direction
from engine.model.files import model_version
from engine.model.unseen import SeenRows, UnseenCounts, count_unseen
from engine.tables import Block, Table
from engine.tables.unique_ids import read_ids
from engine.tables.vector_columns import expand_records
from engine.tsne.device import build_placement_index, place_rows
from engine.utils.array_types import Float32s, Int32s
from engine.utils.atomic_directory import write_directory_atomically
from engine.utils.atomic_files import scratch_folder

if TYPE_CHECKING:
    from engine.model.model import Model

WORKER_MODULES = (
    "engine.model.model",
    "fsspec.implementations.local",
)  # the fork server imports them for workers that assign rows
RANKED_ROWS = 4096  # rows whose distances to all centers are in memory at a time
NAME, RUN, MODEL = "cluster_name", "run", "model"
COLUMNS_WITH = {"name": (NAME,), "run": (RUN, MODEL)}


@dataclass(frozen=True)
class AddedColumns:
    """The columns that are added to the assignments of new rows.

    Attributes
    ----------
    place : bool
        Whether places on the map are.
    top : int
        How many of the nearest clusters are named.
    names : tuple of str or None
        The name of each cluster, in their order, if names are added.
    run : tuple of (str, str) or None
        The id of the run and the version of the model, if they are added.
    """

    place: bool = False
    top: int = 1
    names: tuple[str, ...] | None = None
    run: tuple[str, str] | None = None

    @classmethod
    def choose(cls, model: Model, *, place: bool, top: int, with_columns: Sequence[str]) -> AddedColumns:
        """Check what was asked for.

        Raises
        ------
        NotMappedError, NotExplainedError
            If the run has no map, or its clusters no names.
        UsageError
            If the model does not have so many clusters, a name in `with_columns` is unknown, or the id column is named
            like an added column.
        ModelNotReadableError
            If the model was read from no run, or the run has no id.
        """
        if place and model.landmarks is None:
            raise NotMappedError("The model has no map to place rows on.", hint="fit again without --skip map.")
        if not 1 <= top <= model.n_clusters:
            raise UsageError(f"--top {top} must be between 1 and the number of clusters, {model.n_clusters}.")
        unknown = [name for name in with_columns if name not in COLUMNS_WITH]
        if unknown:
            raise UsageError(f"--with {unknown[0]} is unknown.", hint=f"choose from {', '.join(COLUMNS_WITH)}.")
        added = [name for asked in with_columns for name in COLUMNS_WITH[asked]]
        added += [name for rank in range(2, top + 1) for name in _rank_columns(rank)]
        if model.id in added:
            raise UsageError(
                f"The id column is named {model.id!r}, as a column that is added.", hint="leave --with or --top out."
            )
        names = model.cluster_names if "name" in with_columns else None
        run = (
            (_run_id(run_folder(model)), model_version(run_folder(model) / "model")) if "run" in with_columns else None
        )
        return cls(place, top, names, run)


def run_folder(model: Model) -> Path:
    """Return the folder of the run that a model was read from; raises ModelNotReadableError if it was from none."""
    if model.run_folder is None:
        raise ModelNotReadableError("The model was read from no run.", hint="load it by engine.load.")
    return model.run_folder.absolute()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a run; raise ModelNotReadableError if it is missing or damaged."""
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelNotReadableError(f"manifest.json of {folder} cannot be read.", hint="fit again.") from error
    return manifest


def read_cluster_names(folder: Path) -> tuple[str, ...] | None:
    """Return the names of a run's clusters, in their order; None if it was made without an explanation."""
    path = folder / "clusters.parquet"
    if "persona" not in pq.read_schema(path).names:
        return None
    return tuple(pq.read_table(path, columns=["persona"])["persona"].to_pylist())


def read_vector_lengths(folder: Path, used: Collection[str]) -> dict[str, int]:
    """Return the length of each vector column of a run that has an element among the used columns."""
    columns = read_manifest(folder).get("columns", []) if (folder / "manifest.json").is_file() else []
    names = {column["column"] for column in columns}  # elements that were constant are no longer marked as elements
    vectors = {column.get("vector") for column in columns if column["column"] in used} - {None}
    return {vector: next(k for k in count() if f"{vector}[{k}]" not in names) for vector in sorted(vectors)}


def _run_id(folder: Path) -> str:
    run_id = read_manifest(folder).get("run_id")
    if run_id is None:
        raise ModelNotReadableError(f"{folder} was made before runs had ids.", hint="fit it again.")
    return str(run_id)


def _rank_columns(rank: int) -> tuple[str, str]:
    return f"cluster_{rank}", f"cluster_{rank}_odds"


class ScoredBlock(NamedTuple):
    """Rows that are read, checked and scored, and the counts of what the model does not know of them."""

    Z: Float32s  # (n_rows, n_components)
    ids: pa.Array | pa.ChunkedArray
    counts: UnseenCounts


@dataclass(frozen=True)
class NewRowAssigner:
    """Assigns the blocks of a new table: a pure function of a block, on any thread or worker, by a device there."""

    model: Model
    added: AddedColumns
    device: str = "auto"

    def __call__(self, block: Block) -> tuple[pa.Table, UnseenCounts]:
        """Return the block's assignments, and the counts of what the model does not know."""
        counted = self.model.distributions
        read = self._score(self.model.read_block(block.rows), read_ids(block, self.model.id), counted)
        return self.assign_scores(read.Z, read.ids), read.counts

    def read_records(self, records: Sequence[Mapping[str, Any]], *, compared: bool) -> ScoredBlock:
        """Read and score rows that are dicts; what the gate compares is counted only if they are compared."""
        records = expand_records(records, self.model.vectors)
        columns, id = self.model.encoder.record_columns(records), self.model.id
        rows = read_block(columns, self.model.encoder.layout.read_specs)
        warn_of_parsed_texts(rows)
        ids = pa.array(range(len(records)), pa.int64()) if id is None else columns.ids(id)
        return self._score(rows, ids, self.model.distributions if compared else None)

    def _score(
        self, rows: ColumnarBlock, ids: pa.Array | pa.ChunkedArray, counted: TableDistributions | None
    ) -> ScoredBlock:
        Z = self.model.block_scores(rows, device=self._backend)
        directionless = count_without_direction(Z) if self.model.metric == "cosine" else 0
        counts = count_unseen(rows, self.model.encoder, counted)._replace(directionless=directionless)
        return ScoredBlock(Z, ids, counts)

    def assign_scores(self, Z: Float32s, ids: pa.Array | pa.ChunkedArray) -> pa.Table:
        """Return the assignments of rows by their scores."""
        model, backend = self.model, self._backend
        nearest = backend.nearest_two(Z, model.centers)
        check_finite(nearest.distances)
        table = assignment_table(ids, model.id or ROW, nearest, model.fences, model.odds, model.cluster_numbers)
        if self.added.place:
            table = add_map_columns(table, place_rows(backend, Z, self._placement_index))
        return self._add_names(self._add_ranked(table, Z, nearest), nearest)

    def _add_ranked(self, table: pa.Table, Z: Float32s, nearest: TwoNearest) -> pa.Table:
        """Add the second nearest cluster, the third and so on, with their odds."""
        if self.added.top == 1:
            return table
        labels, distances = rank_clusters(Z, self.model.centers, nearest, self.added.top)
        for rank in range(2, self.added.top + 1):
            cluster = pa.array(self.model.cluster_numbers[labels[rank - 1]])
            odds = pa.nulls(len(cluster), pa.float32())
            if self.model.odds is not None:
                odds = pa.array(odds_of_rank(self.model.odds, labels, distances, rank))
            for name, values in zip(_rank_columns(rank), (cluster, odds), strict=True):
                table = table.append_column(name, values)
        return table

    def _add_names(self, table: pa.Table, nearest: TwoNearest) -> pa.Table:
        """Add the cluster's name, the run's id and the model's version."""
        if self.added.names is not None:
            table = table.append_column(NAME, pa.array(self.added.names).take(pa.array(nearest.labels)))
        for name, value in zip((RUN, MODEL), self.added.run or (), strict=False):
            table = table.append_column(name, pa.repeat(value, table.num_rows))
        return table

    @cached_property
    def _placement_index(self) -> Any:
        assert self.model.landmarks is not None
        return build_placement_index(self._backend, *self.model.landmarks)

    @cached_property
    def _backend(self) -> Backend:
        return backends.resolve(self.device)[0]


def rank_clusters(Z: Float32s, centers: Float32s, nearest: TwoNearest, top: int) -> tuple[Int32s, Float32s]:
    """Return the `top` nearest centers of each row, the nearest first, and their distances; both (top, n_rows)."""
    labels, distances = np.empty((top, len(Z)), np.int32), np.empty((top, len(Z)), np.float32)
    labels[0], distances[0] = nearest.labels, nearest.distances
    labels[1], distances[1] = nearest.second_labels, nearest.second_distances
    targets = centers.astype(np.float64)
    for rows in row_blocks(len(Z), RANKED_ROWS) if top > 2 else ():
        part = np.asarray(Z[rows], np.float64)
        squares = np.stack([np.square(part - center).sum(axis=1) for center in targets], axis=1)
        for known in (nearest.labels, nearest.second_labels):
            np.put_along_axis(squares, known[rows, None].astype(np.int64), -1.0, axis=1)
        order = np.argsort(squares, axis=1, kind="stable")[:, 2:top]
        labels[2:, rows] = order.T
        distances[2:, rows] = np.sqrt(np.take_along_axis(squares, order, axis=1)).T
    return labels, distances


def odds_of_rank(odds: Float32s, labels: Int32s, distances: Float32s, rank: int) -> Float32s:
    """Return the odds of the `rank`-th nearest cluster of each row: that it wins against each of those before it."""
    product = np.ones(labels.shape[1], np.float32)
    for before in range(rank - 1):
        ratio = np.ones_like(product)
        np.divide(distances[before], distances[rank - 1], out=ratio, where=distances[rank - 1] > 0)
        product *= runner_up_odds(odds, labels[before], np.float32(1) - ratio)
    return product


def check_finite(values: NDArray[np.float32]) -> None:
    """Raise ModelNotReadableError if scores or distances are infinite or NaN."""
    if not np.isfinite(values).all():
        raise ModelNotReadableError(
            "The model's numbers are so large that rows have no finite distance to a cluster.", hint="fit it again."
        )


def write_new_rows(
    assign: NewRowAssigner,
    table: Table,
    columns: list[str],
    out: Path,
    overwrite: bool,
    cluster: ClusterConfig,
    seen: SeenRows,
) -> Path:
    """Write the assignments of a new table as a folder of parts, here or on workers."""
    with (
        write_directory_atomically(out, overwrite=overwrite) as folder,
        scratch_folder(folder.parent) as temporary_folder,
        run_on_workers(cluster, table, temporary_folder, modules=WORKER_MODULES),
    ):
        for counts in write_assignments(assign, table, columns, folder, temporary_folder, dictionary_encoded=True):
            seen.add(counts)
        seen.report()
    return out
