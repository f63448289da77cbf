"""Export a model: what engine/export needs of it, where its table is found, and what may differ by rounding.

Model, table  ->  SQL; rows of a check  ->  clusters, and which rows rounding to float32 can decide
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine import backends
from engine.blocks import COUNTS, Block, Table
from engine.errors import ExportDiffersError, UsageError
from engine.export.onnx_graph import inputs_of, to_onnx
from engine.export.sklearn_pipeline import to_pipeline
from engine.export.sql_check import CHECKED_ROW, Difference, compare_rows
from engine.export.sql_cloud_dialects import DIALECTS
from engine.export.sql_databases import TABLE as CHECKED_TABLE
from engine.export.sql_databases import open_database
from engine.export.sql_dialect import SqlDialect
from engine.export.sql_model import SqlModel
from engine.model.new_rows import read_cluster_names, read_manifest, run_folder
from engine.progress import Reporter, Silent
from engine.tables.output_paths import check_apart, check_new_file
from engine.tables.recorded_table import open_recorded_table
from engine.tables.vector_columns import VectorTable, vector_name
from engine.utils.array_types import Int32s
from engine.utils.atomic_files import write_atomically

if TYPE_CHECKING:
    from engine.model.model import Model

TARGETS = ("sql", "onnx", "sklearn")  # of a model; rules are of a run
DEADLINE = 600.0  # seconds of a check
UNIT_ROUNDOFF = 2.0**-24  # of float32
ANY_VECTOR = pa.list_(pa.float64())
SLACK = 1.01  # for the rounding of the bound itself
DOUBLE_ROUNDING = 2.0**-40  # of sums of up to some thousand terms in double precision, relative to their terms


def find_dialect(name: str) -> SqlDialect:
    """Return a dialect by its name; raises UsageError."""
    if name not in DIALECTS:
        raise UsageError(f"--dialect {name} is unknown.", hint=f"choose from {', '.join(DIALECTS)}.")
    return DIALECTS[name]


def open_typed_table(model: Model, table: Any) -> Table:
    """Open the table that says of which type each column is; by default the one that the run was made of."""
    if table is not None:
        return model.open_table(table, id=None)
    folder, types = run_folder(model), model.encoder.csv_types()
    opened = open_recorded_table(read_manifest(folder)["input"], str(folder), id=model.id, types=types)
    model.encoder.check_schema(opened.schema)
    return opened


def sql_model(model: Model) -> SqlModel:
    """Return what writes a model as SQL, with the names of its clusters if it was explained."""
    names = None if model.run_folder is None else read_cluster_names(model.run_folder)
    by_number = None if names is None else dict(zip(model.cluster_numbers.tolist(), names, strict=True))
    return SqlModel(model.encoder, model.projection, model.centers, model.cluster_numbers, by_number)


def check_export_path(out: Path, folder: Path | None, *tables: Any, overwrite: bool) -> None:
    """Check the file of an export: it may replace one that exists, but nothing that is read, or that a run consists of.

    Raises
    ------
    UsageError, OutputExistsError
        See check_new_file.
    OutputOverlapError
        If it is, or lies in, one of the tables, the run in `folder`, or the files that the run was made of.
    """
    files = [] if folder is None else [file["path"] for file in read_manifest(folder)["input"].get("files") or ()]
    check_apart(out, folder, files, *tables)
    check_new_file(out, overwrite=overwrite)


def export_model(
    model: Model, to: str, out: str | os.PathLike[str] | None, overwrite: bool, *, table: Any, **settings: Any
) -> Any:
    """Return what is exported, or write it to `out` and return the path; see Model.export."""
    path = None if out is None else Path(out)
    if path is not None:
        check_export_path(path, model.run_folder, table, overwrite=overwrite)
    if to not in TARGETS:
        raise UsageError(f"--to {to} is unknown.", hint=f"choose from {', '.join(TARGETS)}.")
    exported: Any = export_sql(model, table=table, **settings) if to == "sql" else _exported(model, to, table)
    if path is None:
        return exported
    with write_atomically(path) as temporary:
        if to == "onnx":
            temporary.write_bytes(exported.SerializeToString())
        else:
            temporary.write_bytes(exported.encode() if to == "sql" else pickle.dumps(exported))
    return path


def _exported(model: Model, to: str, table: Any) -> Any:
    """Return the model as a Pipeline of scikit-learn or an onnx.ModelProto."""
    encoder, schema = model.encoder, open_typed_table(model, table).schema
    if to == "onnx":
        return to_onnx(encoder, schema, model.projection, model.centers, model.cluster_numbers)
    return to_pipeline(encoder, schema, model.pca.mean_, model.projection, model.centers, model.cluster_numbers)


def onnx_inputs(model: Model, rows: Any) -> dict[str, NDArray[Any]]:
    """Return rows of a table as the inputs of the exported graph: see Model.onnx_inputs."""
    table = model.open_table(rows, id=None)
    whole = pa.concat_tables([block.rows for block in table.blocks(model.encoder.columns)])
    return inputs_of(model.read_block(whole), model.encoder, table.schema)


def export_sql(model: Model, dialect: str, table: Any, relation: str, id: str | None) -> str:
    """Return the statement that assigns the rows of a table of a database; for errors see Model.export."""
    chosen, id = find_dialect(dialect), model.id if id is None else id
    if id is None:
        raise UsageError(
            "The model has no id column, so nothing tells which row a cluster belongs to.", hint="name a column: --id."
        )
    return sql_model(model).write(chosen, open_typed_table(model, table).schema, id, relation)


def check_sql(
    model: Model,
    source: Any,
    dialect: str,
    *,
    database: str | None = None,
    deadline: float = DEADLINE,
    reporter: Reporter | None = None,
) -> Difference:
    """Run the statement of a model on a table, and compare its clusters with those of `assign`.

    Parameters
    ----------
    model : Model
    source : path, URL, list of them, a pandas, polars or pyarrow table
    dialect : {"duckdb", "sqlite", "postgres", "spark"}
    database : str, optional
        URL of the server, for "postgres". Rows go to a temporary table there.
    deadline : float
        Seconds.
    reporter : Reporter, optional

    Raises
    ------
    ExportDiffersError
        If a row has another cluster, and rounding is not the cause.
    UsageError
        If the dialect cannot be run here.
    DatabaseError
        If the server cannot be reached, or refuses the statement.
    OutOfResourcesError
        If the deadline passes.
    """
    table = model.open_table(source, id=None)
    schema = pa.schema([field.remove_metadata() if _is_counted(field) else field for field in table.schema])
    statement = sql_model(model).write(find_dialect(dialect), schema, CHECKED_ROW, CHECKED_TABLE)
    runner, judge = open_database(dialect, database), RoundingJudge(model, table)
    with (reporter or Silent()).stage("check", table.n_rows) as advance:
        found = compare_rows(runner, statement, judge.blocks(), judge, deadline, advance)
    if found.differing > found.within_rounding:
        raise ExportDiffersError(
            f"{found.differing - found.within_rounding:,} of {found.rows:,} rows have another cluster in {dialect} "
            f"than the model assigns; rounding explains {found.within_rounding:,} more.",
            hint="do not use the export for this table, and report it.",
        )
    return found


def _is_counted(field: pa.Field) -> bool:
    """Tell whether a column has durations that other readers of its file take for numbers; the check gets intervals."""
    return COUNTS in (field.metadata or {})


class RoundingJudge:
    """Assigns rows by a model, and tells which of them rounding to float32 can decide."""

    def __init__(self, model: Model, table: Table) -> None:
        self.model, self.table = model, table

    def blocks(self) -> Iterator[pa.Table]:
        """Yield the rows of the table, with vectors as they are; those without any value and type are lists."""
        source, vectors = self.table, dict[str, int]()
        if isinstance(self.table, VectorTable):
            source, vectors = self.table.table, self.table.lengths
        names = dict.fromkeys(vector_name(field) or field.name for field in self._fields())
        for block in source.blocks(list(names)):
            schema = block.rows.schema
            untyped = (field.name in vectors and pa.types.is_null(field.type) for field in schema)
            kinds = [field.with_type(ANY_VECTOR) if no else field for field, no in zip(schema, untyped, strict=True)]
            yield block.rows.cast(pa.schema(kinds))

    def assign(self, rows: pa.Table) -> Int32s:
        """Return the numbers of the rows' clusters."""
        backend, _ = backends.resolve("cpu")
        nearest = backend.nearest_two(self.model.scores(self._expanded(rows), device=backend), self.model.centers)
        numbers: Int32s = self.model.cluster_numbers[nearest.labels]
        return numbers

    def within_rounding(self, rows: pa.Table, assigned: Int32s, exported: Int32s) -> NDArray[np.bool_]:
        """Tell which rows are so near to both clusters that rounding can decide.

        An encoded value and a score are each rounded once to float32, and the components are orthonormal. So the scores
        are off by at most 2⁻²⁴ (|x| + |z|), and the difference of two squared distances by 2 |a − b| times that.
        """
        model = self.model
        expanded, (backend, _) = self._expanded(rows), backends.resolve("cpu")
        encoded = model.encoder.encode_rows(expanded)
        x = np.linalg.norm(model.encoder.layout.to_matrix(encoded).astype(np.float64), axis=1)
        scores = backend.encoded_scores(encoded, model.projection._replace(shortest=None))
        lengths = np.linalg.norm(scores.astype(np.float64), axis=1)
        off = SLACK * UNIT_ROUNDOFF * (x + lengths)
        if model.metric == "cosine":
            off = off / np.maximum(lengths, model.projection.shortest or 0.0) + UNIT_ROUNDOFF
        Z, centers = model.scores(expanded).astype(np.float64), model.centers.astype(np.float64)
        a, b = (centers[np.searchsorted(model.cluster_numbers, numbers)] for numbers in (assigned, exported))
        gap = np.square(Z - b).sum(axis=1) - np.square(Z - a).sum(axis=1)
        size = np.square(Z).sum(axis=1) + np.square(a).sum(axis=1) + np.square(b).sum(axis=1) + np.square(x)
        near: NDArray[np.bool_] = gap <= 2.0 * np.linalg.norm(a - b, axis=1) * off + DOUBLE_ROUNDING * size
        return near

    def _expanded(self, rows: pa.Table) -> pa.Table:
        return self.table.expand(Block(0, rows), self._fields()) if isinstance(self.table, VectorTable) else rows

    def _fields(self) -> list[pa.Field]:
        return [self.table.schema.field(name) for name in self.model.encoder.columns]
