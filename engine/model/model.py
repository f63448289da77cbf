"""The fitted model: an encoder, a PCA and cluster centers, which together assign new rows.

    rows of a table  ->  X  ->  Z  ->  cluster, distance, second cluster, margin, outlier[, map coordinates]

model/files.py reads and writes the files of a model; pipeline/fit.py fits one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from engine import backends
from engine.backends.protocol import Backend, Projection
from engine.config import ClusterConfig, Metric, ScoringLimits
from engine.errors import ModelNotReadableError, NotExplainedError, RoomsError, UsageError
from engine.execution.threads import map_blocks
from engine.features.columnar_block import ColumnarBlock
from engine.features.distributions import TableDistributions
from engine.features.encoder import FeatureEncoder
from engine.features.encoding_plan import EncodingPlan
from engine.features.number_columns import warn_of_parsed_texts
from engine.kmeans.stability import MARGIN_EDGES
from engine.model.assignments import check_id_name, write_parts
from engine.model.directions import score_projection
from engine.model.export import export_model
from engine.model.files import METRIC_FORMAT, read_model, write_model
from engine.model.new_rows import (
    AddedColumns,
    NewRowAssigner,
    check_finite,
    read_cluster_names,
    read_vector_lengths,
    run_folder,
    write_new_rows,
)
from engine.model.requests import RequestAssigner
from engine.model.row_gate import RowGate
from engine.model.unseen import SeenRows
from engine.pca.solver import Components
from engine.progress import Reporter, Silent
from engine.tables import BLOCK_ROWS, Table, open_table
from engine.tables.output_paths import check_apart, check_new_file, parquet_path
from engine.tables.records import is_records, table_of_records
from engine.tables.snapshot import snapshot
from engine.tables.source_paths import infer_format
from engine.tables.vector_columns import expand_records
from engine.utils.atomic_directory import check_target, write_directory_atomically
from engine.utils.atomic_files import write_atomically
from engine.utils.formatting import printable_text
from engine.utils.html_table import html_table
from engine.utils.units import parse_share


class Landmarks(NamedTuple):
    """The embedded landmarks of a map, for the placement of new rows."""

    scores: NDArray[np.float32]  # (n_landmarks, n_components)
    embedding: NDArray[np.float32]  # (n_landmarks, 2)


@dataclass(frozen=True)
class Model:
    """A fitted model, which assigns new rows to clusters.

    Attributes
    ----------
    encoder : FeatureEncoder
    pca : Components
    centers : float32 array of shape (n_clusters, n_components)
    fences : float32 array of shape (n_clusters,)
        Distance to the center above which a member of the cluster is an outlier.
    id : str or None
        Name of the id column of the table the model was fitted on.
    odds : float32 array of shape (n_clusters, n_bins) or None
        Odds of the runner-up by the margin (kmeans/stability.py); None in models of version 0.1.
    numbers : int32 array of shape (n_clusters,) or None
        The number of each cluster, ascending; None stands for 0, 1, … (lineage/history.py).
    landmarks : Landmarks or None
        None if the run has no map, or has not been written yet.
    run_folder : Path or None
        The run that the model was read from.
    metric : {"euclidean", "cosine"}
        With "cosine", scores have unit length: clusters, distances and the map are those of directions from the mean.
    distributions : TableDistributions or None
        How the columns of its table were distributed; None in models of version 0.1.
    """

    encoder: FeatureEncoder
    pca: Components
    centers: NDArray[np.float32]
    fences: NDArray[np.float32]
    id: str | None
    odds: NDArray[np.float32] | None = None
    numbers: NDArray[np.int32] | None = None
    landmarks: Landmarks | None = None
    run_folder: Path | None = None
    metric: Metric = "euclidean"
    distributions: TableDistributions | None = None

    @property
    def n_clusters(self) -> int:
        """The number of clusters."""
        return len(self.centers)

    @property
    def _table_columns(self) -> list[str]:
        """The id column, if there is one, and those of the encoder."""
        return list(dict.fromkeys([*([] if self.id is None else [self.id]), *self.encoder.columns]))

    @property
    def cluster_numbers(self) -> NDArray[np.int32]:
        """The number of each cluster, int32 of shape (n_clusters,), ascending."""
        return np.arange(self.n_clusters, dtype=np.int32) if self.numbers is None else self.numbers

    @cached_property
    def vectors(self) -> dict[str, int]:
        """The length of each vector column that the model uses, as its run says."""
        return {} if self.run_folder is None else read_vector_lengths(self.run_folder, self.encoder.columns)

    @cached_property
    def cluster_names(self) -> tuple[str, ...]:
        """The name of each cluster, in their order, as they were when the model was read.

        Raises
        ------
        ModelNotReadableError, NotExplainedError
            If the model was read from no run, or its clusters have no names.
        """
        names = read_cluster_names(run_folder(self))
        if names is None:
            raise NotExplainedError(f"{run_folder(self)} was made with --skip explain: its clusters have no names.")
        return names

    def open_table(self, source: Any, *, id: str | None) -> Table:
        """Open a table whose columns are what they were in the fit: those of CSV files, and vectors without a value.

        Raises
        ------
        MissingColumnError, RetypedColumnError
            If the table has not all columns of the model, in their types.
        SourceNotFoundError, DataError, UsageError
            As engine.tables.open_table.
        """
        table = open_table(source, id=id, types=self.encoder.csv_types(), vectors=self.vectors)
        self.encoder.check_schema(table.schema)
        return table

    def scores(self, rows: Any, *, device: str | Backend = "auto") -> NDArray[np.float32]:
        """Compute the scores Z of rows on a device, float32 of shape (n_rows, n_components).

        Raises
        ------
        ModelNotReadableError
            If they are infinite or NaN. Values are clipped to the range they had in the fit, so the model is at fault.
        """
        return self.block_scores(self.read_block(rows), device=device)

    def read_block(self, rows: Any) -> ColumnarBlock:
        """Read rows for `block_scores`; raise RetypedColumnError if too many texts are no numbers."""
        block = self.encoder.read_block(rows)
        warn_of_parsed_texts(block)
        return block

    def block_scores(self, block: ColumnarBlock, *, device: str | Backend = "auto") -> NDArray[np.float32]:
        """Compute the scores Z of rows that `read_block` has read."""
        backend = backends.backend_of(device)
        Z = backend.encoded_scores(self.encoder.encode_block(block), self.projection)
        check_finite(Z)
        return Z

    @cached_property
    def projection(self) -> Projection:
        """The projection of encoded rows to scores."""
        return score_projection(self.encoder, self.pca, self.metric)

    def centers_in_units(self) -> pa.Table:
        """Return the centers in the units of the table, one row a cluster, one column a feature.

        Centers are mapped back through PCA: directions that the components left out are at the average of all rows.
        Those of directions are put as far from the mean as rows are on average, for a length of 1 has no unit.
        """
        length = self.pca.mean_length if self.metric == "cosine" else 1.0
        return self.encoder.decode(self.pca.inverse_transform(self.centers * np.float32(length)))

    def assign(
        self,
        source: Any,
        *,
        out: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
        place: bool = False,
        top: int = 1,
        with_columns: Sequence[str] = (),
        max_unseen: float | str | None = None,
        gate: bool = False,
        limits: ScoringLimits | None = None,
        device: str = "auto",
        cluster: ClusterConfig | None = None,
        reporter: Reporter | None = None,
    ) -> pa.Table | Path:
        """Assign the rows of a table to clusters.

        Parameters
        ----------
        source : path, URL, list of them, a pandas, polars or pyarrow table, a Query, a dict or a list of dicts
            With the columns that the model was fitted on, and the id column if there was one. A dict is a row.
        out : path, optional
            One Parquet file if it ends in `.parquet`, else a folder of parts. Without it, everything is returned.
        overwrite : bool, default=False
            Whether an existing `out` is replaced.
        place : bool, default=False
            Whether rows are placed on the map as well.
        top : int, default=1
            How many of the nearest clusters are named: from 2 on with the columns cluster_2, cluster_2_odds and so on.
        with_columns : sequence of "name" and "run", optional
            "name" adds the name of the cluster as `cluster_name`; "run" adds the run's id and the model's version, by
            which whoever reads the assignments knows what made them, as `run` and `model`.
        max_unseen : float or str, optional
            The largest share of the rows, such as 0.05 or "5%", whose categories or labels in a column may be unknown
            to the model, beyond those that were rare in the fit. A column without any value counts as unknown in all.
            Without it, columns with more than 20 % are named in a warning.
        gate : bool, default=False
            Whether rows that are not like those of the fit are an error, not a warning; nothing is written then. Rows
            given as dicts are compared with them only with `gate` or `limits`, for a few rows tell nothing.
        limits : ScoringLimits, optional
            How far columns may differ.
        device : {"auto", "cpu", "cuda"}, default="auto"
            What computes scores, distances and places; the bits are the same. "auto" takes the CPU for up to 32,768
            dicts, and for tables a GPU if there is one, or the CPU where the GPU fails.
        cluster : ClusterConfig, optional
            Workers to share the work, as in engine.fit: they write the parts of the folder `out`.
        reporter : Reporter, optional
            Shows progress.

        Returns
        -------
        pyarrow.Table of id, cluster, distance, runner_up, margin, runner_up_odds, outlier, and with `place` map_x,
        map_y and map_doubtful, and the columns of `top` and `with_columns`; or the path written.

        Raises
        ------
        NotMappedError
            If `place` is set, but there is no map.
        UsageError
            If the id column is named like another column, `out` has the ending of another format, `top` is more than
            there are clusters, or workers cannot share the work: the table is not Parquet, or `out` is a single file.
        OutputExistsError, OutputOverlapError
            If `out` exists already, or overlaps the table or the run of the model.
        UnseenValuesError
            If a column has more unknown values than `max_unseen`. It names all of them, and nothing is written.
        GateStoppedError
            If `gate` is set, and columns differ too much from those of the fit. It names all of them.
        ModelNotReadableError
            If `gate` is set, and the model knows nothing of the table of its fit.
        DeviceNotAvailableError, OutOfResourcesError
            If `device` is "cuda", and there is no GPU, or it fails.
        MissingColumnError, RetypedColumnError, DataError

        Warns
        -----
        UnseenValuesWarning
            Naming columns whose values the model does not know, or that are empty.
        DriftedRowsWarning
            Naming columns that differ too much from those of the fit.
        NoDirectionWarning
            If the metric is cosine, and rows are at the mean.
        """
        accepted = None if max_unseen is None else parse_share(max_unseen)
        check_id_name(self.id)
        added = AddedColumns.choose(self, place=place, top=top, with_columns=with_columns)
        row_gate = RowGate.of(self.distributions, limits, stops=gate)
        assign = NewRowAssigner(self, added, device)
        if is_records(source):
            records = [source] if isinstance(source, Mapping) else source
            row_gate = row_gate if gate or limits is not None else None
            if out is None and len(records) <= BLOCK_ROWS:
                assign = replace(assign, device="cpu") if device == "auto" else assign
                return self._assign_records(records, assign, accepted, row_gate)
            records = expand_records(records, self.vectors)
            source = table_of_records(records, self._table_columns)  # a column has one type in all blocks
        path = None if out is None else parquet_path(out)
        if path is not None:
            check_apart(path, source, self.run_folder)
            check_table_target(path, overwrite=overwrite)
        cluster = cluster or ClusterConfig()
        in_parts = path is not None and path.suffix != ".parquet"
        if cluster.uses_workers and not in_parts:
            raise UsageError("Workers write parts: --out must be a folder.", hint="leave out the ending .parquet.")
        if not cluster.uses_workers:
            backends.resolve(device)  # raises before any work
        with snapshot(source, id=self.id) as rows:
            return self._assign_table(rows, path, overwrite, assign, accepted, row_gate, cluster, reporter or Silent())

    def assign_each(
        self,
        requests: Sequence[Sequence[Mapping[str, Any]]],
        *,
        with_columns: Sequence[str] = (),
        warned: Callable[[int, str], None] | None = None,
    ) -> list[list[dict[str, Any]] | RoomsError]:
        """Assign several lists of dicts, such as the requests that wait at a server, in less time than one by one.

        Parameters
        ----------
        requests : sequence of lists of dicts
            Each is read and checked by itself: what one says changes nothing for another.
        with_columns : sequence of "name" and "run", optional
        warned : callable, optional
            Called with the number of a list and the text of each of its warnings, instead of raising them.

        Returns
        -------
        list of what `assign` returns for each list alone, as dicts, or of the error that it raises.

        Raises
        ------
        UsageError, NotExplainedError, ModelNotReadableError
            As `assign`, of `with_columns` and the model.

        Warns
        -----
        UnseenValuesWarning, NoDirectionWarning, NumberTextsWarning
            As `assign` does for each list alone.
        """
        chosen = tuple(with_columns)
        if chosen not in self._request_assigners:
            self._request_assigners[chosen] = RequestAssigner(self, chosen)
        return self._request_assigners[chosen](requests, warned)

    @cached_property
    def _request_assigners(self) -> dict[tuple[str, ...], RequestAssigner]:
        return {}

    def _assign_records(
        self,
        records: Sequence[Mapping[str, Any]],
        assign: NewRowAssigner,
        accepted: float | None,
        row_gate: RowGate | None,
    ) -> pa.Table:
        """Assign a block of rows that are dicts."""
        seen = SeenRows(self.encoder, self.pca.mean_, accepted, lambda _: None, row_gate)
        block = assign.read_records(records, compared=row_gate is not None)
        seen.add(block.counts)
        table = assign.assign_scores(block.Z, block.ids)
        seen.report()
        return table

    def _assign_table(
        self,
        source: Any,
        path: Path | None,
        overwrite: bool,
        assign: NewRowAssigner,
        accepted: float | None,
        row_gate: RowGate | None,
        cluster: ClusterConfig,
        reporter: Reporter,
    ) -> pa.Table | Path:
        """Assign the rows of a table that can be read several times."""
        table = self.open_table(source, id=self.id)
        columns = self._table_columns
        with reporter.stage("assign", table.n_rows) as advance:
            seen = SeenRows(self.encoder, self.pca.mean_, accepted, advance, row_gate)
            if path is not None and path.suffix != ".parquet":
                return write_new_rows(assign, table, columns, path, overwrite, cluster, seen)
            parts = seen.watch(map_blocks(assign, table.blocks(columns, dictionary_encoded=True)))
            return pa.concat_tables(list(parts)) if path is None else write_table(parts, path, overwrite=overwrite)

    def export(
        self,
        to: str = "sql",
        *,
        out: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
        dialect: str = "duckdb",
        table: Any = None,
        relation: str = "profiles",
        id: str | None = None,
    ) -> Any:
        """Export the model to score rows where they are: docs/export.md.

        Parameters
        ----------
        to : {"sql", "onnx", "sklearn"}
            A SELECT of id, cluster and, where the run was explained, cluster_name; an onnx.ModelProto; or a fitted
            sklearn Pipeline, which predicts numbers of clusters and is unpickled without rooms engine.
        out : path, optional
            The file to write, a pickle of a pipeline; without it what is exported is returned.
        overwrite : bool, default=False
        dialect : {"duckdb", "postgres", "sqlite", "spark", "bigquery", "snowflake"}
        table : path, URL, list of them, a pandas, polars or pyarrow table, optional
            Tells the type of each column; by default the files that the run was made of, unchanged.
        relation : str, default="profiles"
            The table in the database, written into the statement as it is.
        id : str, optional
            The column that a SELECT passes through, by default the id column of the model.

        Raises
        ------
        UsageError
            If an argument is unknown, there is no id, or columns cannot be written; it names all of them.
        OutputOverlapError
            If `out` is the table, or a file of the run or of those that it was made of.
        OutputExistsError, SourceNotFoundError, InputChangedError, DataError
        """
        return export_model(self, to, out, overwrite, dialect=dialect, table=table, relation=relation, id=id)

    def to_sklearn(self, table: Any = None) -> Any:
        """Return the model as a fitted Pipeline of scikit-learn; the same as export("sklearn", table=table)."""
        return self.export("sklearn", table=table)

    def _repr_html_(self) -> str:
        """Return the model's columns as HTML, for notebooks."""
        encoder = self.encoder
        head = (
            f"Assigns to {self.n_clusters} clusters by {encoder.n_features} features "
            f"in {self.centers.shape[1]} components; id column: {self.id or 'none'}"
        )
        rows = [
            [escape(printable_text(plan.column)), plan.role, escape(printable_text(plan.unit or ""))]
            for plan in encoder.plan.columns
        ]
        return html_table("Model", head, ("column", "role", "unit"), rows)

    def write(self, folder: Path) -> None:
        """Write the model's files into `folder`; an earlier model there is replaced."""
        facts: dict[str, Any] = {"id": self.id, "plan": self.encoder.plan.model_dump(mode="json")}
        odds = {} if self.odds is None else {"odds": self.odds}
        numbers = {} if self.numbers is None else {"numbers": self.numbers}
        arrays = {"centres": self.centers, "fences": self.fences, **odds, **numbers, **components_to_arrays(self.pca)}
        if self.distributions is not None:
            facts["distributions"] = self.distributions.facts()
            arrays |= self.distributions.arrays()
        if self.metric == "euclidean":
            write_model(folder, facts, arrays)
        else:  # in a format that versions without metrics refuse
            write_model(folder, facts | {"metric": self.metric}, arrays, format=METRIC_FORMAT)

    @classmethod
    def read(cls, folder: Path, map_folder: Path) -> Model:
        """Read a model that `write` wrote, and the landmarks of its map if there is one.

        Raises
        ------
        ModelNotReadableError
            If a file is missing, damaged, of another format version, or says what no model can say.
        """
        facts, arrays = read_model(folder)
        map_arrays = read_model(map_folder)[1] if map_folder.is_dir() else None
        try:
            encoder = FeatureEncoder(EncodingPlan.model_validate(facts["plan"]))
            landmarks = None if map_arrays is None else Landmarks(map_arrays["scores"], map_arrays["places"])
            pca, centers, fences = components_from_arrays(arrays), arrays["centres"], arrays["fences"]
            odds, numbers = arrays.get("odds"), arrays.get("numbers")
            metric = facts.get("metric", "euclidean")
            known = facts.get("distributions")
            distributions = None if known is None else TableDistributions.from_parts(known, arrays)
            model = cls(
                encoder,
                pca,
                centers,
                fences,
                facts["id"],
                odds,
                numbers,
                landmarks,
                folder.parent,
                metric,
                distributions,
            )
            _check_model(model)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ModelNotReadableError(
                f"{folder} holds no model that can be used: {type(error).__name__}.", hint="fit it again."
            ) from error
        return model


def _check_model(model: Model) -> None:
    """Raise ValueError if a model's parts do not fit together, or hold NaN."""
    n_features, (n_components, n_inputs) = model.encoder.n_features, model.pca.components_.shape
    shapes = {"centers": (model.n_clusters, n_components), "fences": (model.n_clusters,)}
    arrays: dict[str, NDArray[Any]] = {"centers": model.centers, "fences": model.fences}
    if model.odds is not None:
        arrays["odds"], shapes["odds"] = model.odds, (model.n_clusters, len(MARGIN_EDGES) + 1)
    if model.landmarks is not None:
        n_landmarks = len(model.landmarks.scores)
        arrays |= {"scores": model.landmarks.scores, "embedding": model.landmarks.embedding}
        shapes |= {"scores": (n_landmarks, n_components), "embedding": (n_landmarks, 2)}
    if n_inputs != n_features or model.pca.mean_.shape != (n_features,) or n_features == 0:
        raise ValueError("the components are of other features")
    if not model.n_clusters or any(a.shape != shapes[n] or a.dtype != np.float32 for n, a in arrays.items()):
        raise ValueError("an array has another shape or type")
    if not all(np.isfinite(a).all() for n, a in arrays.items() if n != "fences") or np.isnan(model.fences).any():
        raise ValueError("an array holds NaN")
    if not np.isfinite(model.pca.components_).all() or not np.isfinite(model.pca.mean_).all():
        raise ValueError("the components hold NaN")
    numbers = model.cluster_numbers
    if numbers.shape != (model.n_clusters,) or numbers.dtype != np.int32:
        raise ValueError("the numbers of clusters have another shape or type")
    if numbers[0] < 0 or (np.diff(numbers) <= 0).any():
        raise ValueError("the numbers of clusters do not ascend")
    if model.distributions is not None:
        model.distributions.check(model.encoder.plan)
    if not isinstance(model.id, str | None):
        raise TypeError("the id is no name")
    if model.metric not in get_args(Metric):
        raise ValueError("the metric is unknown")


_PCA_ARRAYS = ("mean_", "components_", "explained_variance_", "explained_variance_ratio_", "singular_values_")


def components_to_arrays(pca: Components) -> dict[str, NDArray[Any]]:
    """Return the arrays of components, as they are stored in files."""
    arrays = {f"pca.{name}": np.asarray(getattr(pca, name)) for name in _PCA_ARRAYS}
    return arrays | {
        "pca.noise_variance_": np.array([pca.noise_variance_]),
        "pca.n_samples_": np.array([pca.n_samples_]),
    }


def components_from_arrays(arrays: dict[str, NDArray[Any]]) -> Components:
    """Return the components of the arrays that components_to_arrays returned."""
    return Components(
        **{name: arrays[f"pca.{name}"] for name in _PCA_ARRAYS},
        noise_variance_=float(arrays["pca.noise_variance_"][0]),
        n_samples_=int(arrays["pca.n_samples_"][0]),
    )


def check_table_target(out: Path, *, overwrite: bool) -> None:
    """Check before any work that `write_table` can write to `out`; raises OutputExistsError and UsageError."""
    if infer_format(out.name) == "parquet":
        check_new_file(out, overwrite=overwrite)
    else:
        check_target(out, overwrite=overwrite)


def write_table(parts: Iterator[pa.Table], out: Path, *, overwrite: bool) -> Path:
    """Write the parts of a table: to one file if `out` ends in .parquet, else to a folder of parts."""
    check_table_target(out, overwrite=overwrite)
    if infer_format(out.name) != "parquet":
        with write_directory_atomically(out, overwrite=overwrite) as folder:
            write_parts(parts, folder)
        return out
    with write_atomically(out) as path:
        first = next(parts)
        with pq.ParquetWriter(path, first.schema, compression="zstd") as writer:
            writer.write_table(first)
            for part in parts:
                writer.write_table(part)
    return out
