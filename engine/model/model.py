"""The reusable model: an encoder, a PCA and cluster centres, which together assign new users.

    rows of a table  ->  X  ->  Z  ->  cluster, distance, runner-up, margin, outlier[, place on the map]

Reading and writing the files of a model is model/files.py; fitting one is fit.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from engine import backends
from engine.backends.protocol import Projection
from engine.config import ClusterConfig
from engine.errors import NotMappedError, OutputExistsError, UsageError
from engine.execution.threads import map_blocks
from engine.execution.worker_pool import workers_for
from engine.features.encoded_moments import projection
from engine.features.encoder import FeatureEncoder
from engine.features.encoding_plan import Plan
from engine.model.assignments import ROW, assignment_table, with_places, write_assignments, write_parts
from engine.model.files import read_model, write_model
from engine.pca.solver import Components
from engine.progress import Advance, Reporter, Silent
from engine.tables import Block, Table, open_table
from engine.tables.source_paths import format_of, parquet_path
from engine.tables.unique_ids import ids_of
from engine.tsne.device import place, placement_index
from engine.utils.atomic_directory import staged
from engine.utils.atomic_files import scratch_folder, written
from engine.utils.formatting import clean
from engine.utils.html_table import html_table

WORKER_MODULES = ("engine.model.model", "fsspec.implementations.local")  # what workers that assign rows need


class Landmarks(NamedTuple):
    """What places new rows on the map of a run."""

    scores: NDArray[np.float32]  # (n_landmarks, n_components)
    places: NDArray[np.float32]  # (n_landmarks, 2)


@dataclass(frozen=True)
class Model:
    """What `rooms fit` leaves behind to assign users it has not seen.

    Attributes
    ----------
    encoder : FeatureEncoder
    pca : Components
    centres : float32 array of shape (n_clusters, n_components)
    fences : float32 array of shape (n_clusters,)
        Distance beyond which a member of the cluster is an outlier.
    id : str or None
        Name of the id column of the table the model was fitted on.
    landmarks : Landmarks or None
        None where the run has no map, or the model has just been fitted.
    """

    encoder: FeatureEncoder
    pca: Components
    centres: NDArray[np.float32]
    fences: NDArray[np.float32]
    id: str | None
    landmarks: Landmarks | None = None

    @property
    def n_clusters(self) -> int:
        """The number of clusters."""
        return len(self.centres)

    def scores(self, rows: Any) -> NDArray[np.float32]:
        """Return the scores Z of rows, float32 of shape (n_rows, n_components)."""
        backend, _ = backends.resolve("auto")
        return backend.encoded_scores(self.encoder.encode_rows(rows), self.projection)

    @cached_property
    def projection(self) -> Projection:
        """What turns encoded rows into scores."""
        return projection(self.encoder.layout, self.pca.mean_, self.pca.components_.T)

    def centres_in_units(self) -> pa.Table:
        """Return the centres in the units people know, one row a cluster, one column a feature.

        A centre is mapped back through PCA, so what the components left out is at the average of all rows.
        """
        return self.encoder.decode(self.pca.inverse_transform(self.centres))

    def assign(
        self,
        source: Any,
        *,
        out: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
        place: bool = False,
        cluster: ClusterConfig | None = None,
        reporter: Reporter | None = None,
    ) -> pa.Table | Path:
        """Assign the rows of a table to clusters.

        Parameters
        ----------
        source : path, URL, list of them, or a pandas, polars or pyarrow table
            Must have the columns the model was fitted on, and the id column if there was one.
        out : path, optional
            One Parquet file if it ends in `.parquet`, else a folder of parts. Without it, everything is returned.
        overwrite : bool, default=False
            Whether `out` may be there already.
        place : bool, default=False
            Whether rows are placed on the map as well.
        cluster : ClusterConfig, optional
            Workers to share the work, as in engine.fit: they write the parts of the folder `out`.
        reporter : Reporter, optional
            Shows progress.

        Returns
        -------
        pyarrow.Table of id, cluster, distance, runner_up, margin, outlier, and with `place` map_x, map_y and
        map_doubtful; or the path written.

        Raises
        ------
        NotMappedError
            If rows are to be placed, but there is no map.
        UsageError
            If `out` ends like another format, or workers are to share what they cannot: a table that is not Parquet,
            or a single file to write.
        MissingColumnError, RetypedColumnError, OutputExistsError, DataError
        """
        if place and self.landmarks is None:
            raise NotMappedError("The model has no map to place rows on.", hint="fit again without --skip map.")
        path = None if out is None else parquet_path(out)
        table = open_table(source, id=self.id, types=self.encoder.csv_types())
        self.encoder.check(table.schema)
        cluster = cluster or ClusterConfig()
        in_parts = path is not None and path.suffix != ".parquet"
        if cluster.wanted and not in_parts:
            raise UsageError("Workers write parts: --out must be a folder.", hint="leave out the ending .parquet.")
        columns = list(dict.fromkeys([*([] if self.id is None else [self.id]), *self.encoder.columns]))
        assign = _NewRows(self, place)
        with (reporter or Silent()).stage("assign", table.n_rows) as advance:
            if path is not None and in_parts:
                return _write_parts(assign, table, columns, path, overwrite, cluster, advance)
            parts = _told(map_blocks(assign, table.blocks(columns, coded=True)), advance)
            return pa.concat_tables(list(parts)) if path is None else write_table(parts, path, overwrite=overwrite)

    def _repr_html_(self) -> str:
        """Return the model as a notebook shows it: what it takes, and what it gives."""
        encoder = self.encoder
        head = (
            f"Assigns to {self.n_clusters} clusters by {encoder.n_features} features "
            f"in {self.centres.shape[1]} components; id column: {self.id or 'none'}"
        )
        rows = [
            [escape(clean(plan.column)), plan.role, escape(clean(plan.unit or ""))] for plan in encoder.plan.columns
        ]
        return html_table("Model", head, ("column", "role", "unit"), rows)

    def write(self, folder: Path) -> None:
        """Write the model's files into `folder`, which must not be there."""
        facts = {"id": self.id, "plan": self.encoder.plan.model_dump(mode="json")}
        write_model(folder, facts, {"centres": self.centres, "fences": self.fences, **components_to(self.pca)})

    @classmethod
    def read(cls, folder: Path, map_folder: Path) -> Model:
        """Read a model that `write` wrote, and the landmarks of its map if there are any.

        Raises
        ------
        ModelNotReadableError
        """
        facts, arrays = read_model(folder)
        encoder = FeatureEncoder(Plan.model_validate(facts["plan"]))
        landmarks = None
        if map_folder.is_dir():
            placed = read_model(map_folder)[1]
            landmarks = Landmarks(placed["scores"], placed["places"])
        pca = components_from(arrays)
        return cls(encoder, pca, arrays["centres"], arrays["fences"], facts["id"], landmarks)


@dataclass(frozen=True)
class _NewRows:
    """Assigns blocks of a table that a model has not seen: pure, so blocks may be anywhere."""

    model: Model
    place: bool

    def __call__(self, block: Block) -> tuple[pa.Table, int]:
        """Return the block's assignments, and how many there are."""
        model, backend = self.model, backends.resolve("auto")[0]
        Z = model.scores(block.rows)
        found = backend.nearest_two(Z, model.centres)
        part = assignment_table(ids_of(block, model.id), model.id or ROW, found, model.fences)
        return (with_places(part, place(backend, Z, self._atlas)) if self.place else part), len(block)

    @cached_property
    def _atlas(self) -> Any:
        assert self.model.landmarks is not None
        return placement_index(backends.resolve("auto")[0], *self.model.landmarks)


def _told(found: Iterator[tuple[pa.Table, int]], advance: Advance) -> Iterator[pa.Table]:
    for part, n_rows in found:
        advance(n_rows)
        yield part


def _write_parts(
    assign: _NewRows,
    table: Table,
    columns: list[str],
    out: Path,
    overwrite: bool,
    cluster: ClusterConfig,
    advance: Advance,
) -> Path:
    """Write a folder of parts, here or on workers."""
    with (
        staged(out, overwrite=overwrite) as folder,
        scratch_folder(folder.parent) as aside,
        workers_for(cluster, table, aside, modules=WORKER_MODULES),
    ):
        for n_rows in write_assignments(assign, table, columns, folder, aside, coded=True):
            advance(n_rows)
    return out


_PCA_ARRAYS = ("mean_", "components_", "explained_variance_", "explained_variance_ratio_", "singular_values_")


def components_to(pca: Components) -> dict[str, NDArray[Any]]:
    """Return components as arrays of a file."""
    arrays = {f"pca.{name}": np.asarray(getattr(pca, name)) for name in _PCA_ARRAYS}
    return arrays | {
        "pca.noise_variance_": np.array([pca.noise_variance_]),
        "pca.n_samples_": np.array([pca.n_samples_]),
    }


def components_from(arrays: dict[str, NDArray[Any]]) -> Components:
    """Return the components that components_to has turned into arrays."""
    return Components(
        **{name: arrays[f"pca.{name}"] for name in _PCA_ARRAYS},
        noise_variance_=float(arrays["pca.noise_variance_"][0]),
        n_samples_=int(arrays["pca.n_samples_"][0]),
    )


def write_table(parts: Iterator[pa.Table], out: Path, *, overwrite: bool) -> Path:
    """Write a table that comes in parts: to one file if `out` ends in .parquet, else to a folder of parts."""
    if format_of(out.name) != "parquet":
        with staged(out, overwrite=overwrite) as folder:
            write_parts(parts, folder)
        return out
    if out.exists() and not overwrite:
        raise OutputExistsError(f"{out} is there already.", hint="choose another --out, or add --overwrite.")
    out.parent.mkdir(parents=True, exist_ok=True)
    with written(out) as path:
        first = next(parts)
        with pq.ParquetWriter(path, first.schema, compression="zstd") as writer:
            writer.write_table(first)
            for part in parts:
                writer.write_table(part)
    return out
