"""The SQL of a model in PostgreSQL and Spark, where they are: the same clusters as the model assigns.

PostgreSQL is a server that the tests start; Spark needs pyspark and Java.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import engine
from engine.cli import app
from engine.errors import DatabaseError, ExportDiffersError, OutOfResourcesError, UsageError
from engine.export.sql_databases import Database
from engine.features.encoder import FeatureEncoder
from engine.model.export import check_sql
from engine.model.model import Model
from tests.export.databases import postgres_in_zone, spark_in_zone
from tests.export.tables import MARKS, ROLES, mixed, shifted


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> engine.Run:
    config = {"features": {"roles": ROLES, "missing": MARKS}}
    skip = ["map", "report", "explain"]
    out = tmp_path_factory.mktemp("servers") / "run"
    return engine.fit(mixed(), id="who", n_clusters=5, out=out, skip=skip, config=config, threads=1)


@pytest.fixture(scope="module")
def model(run: engine.Run) -> Model:
    return run.model


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return shifted(mixed(800, seed=1), 1)


@pytest.fixture(scope="module")
def postgres(postgresql: str) -> Iterator[Database]:
    yield from postgres_in_zone(postgresql, "America/New_York")


@pytest.fixture(scope="module")
def spark() -> Iterator[Database]:
    yield from spark_in_zone("America/New_York")


@pytest.mark.parametrize("dialect", ["postgres", "spark"])
def test_a_server_assigns_rows_as_the_model_does(
    model: Model, rows: pa.Table, dialect: str, request: pytest.FixtureRequest
) -> None:
    database = request.getfixturevalue(dialect)
    found = database.select(str(model.export("sql", dialect=dialect, table=rows)), rows).sort_by("who")
    assigned = model.assign(rows).sort_by("who")
    assert found["who"].to_pylist() == assigned["who"].to_pylist()
    assert found["cluster"].to_pylist() == assigned["cluster"].to_pylist()
    assert rows["spend"].null_count > 0


@pytest.mark.parametrize("dialect", ["postgres", "spark"])
def test_a_check_counts_differences(
    run: engine.Run, rows: pa.Table, dialect: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(dialect)
    server = ["--database", request.getfixturevalue("postgresql")] if dialect == "postgres" else []
    pq.write_table(rows, tmp_path / "rows.parquet")
    command = ["export", str(run.path), "--dialect", dialect, "--check", str(tmp_path / "rows.parquet"), "--json"]
    answer = CliRunner().invoke(app, [*command, *server])
    assert answer.exit_code == 0, answer.output
    facts = json.loads(answer.stdout)
    assert (facts["rows"], facts["differing"], facts["within_rounding"]) == (800, 0, 0)


def test_a_difference_that_rounding_does_not_explain_is_an_error_in_postgres(
    model: Model, rows: pa.Table, postgresql: str
) -> None:
    encoder = FeatureEncoder(model.encoder.plan)
    assert encoder.layout is encoder.layout  # the model goes on with this plan, and the export gets another one
    age, *others = encoder.plan.columns
    encoder.plan = encoder.plan.model_copy(update={"columns": (age.model_copy(update={"fill": 69.0}), *others)})
    changed = Model(encoder, model.pca, model.centers, model.fences, "who")
    gone = rows.set_column(1, "age", pa.nulls(len(rows), pa.int64()))
    with pytest.raises(ExportDiffersError, match="of 800 rows have another cluster in postgres"):
        check_sql(changed, gone, "postgres", database=postgresql)


def test_a_check_in_postgres_ends_at_its_deadline(model: Model, rows: pa.Table, postgresql: str) -> None:
    with pytest.raises(OutOfResourcesError, match="longer than"):
        check_sql(model, rows, "postgres", database=postgresql, deadline=0.001)


def test_a_check_in_a_server_needs_its_url_and_tells_no_password(model: Model, rows: pa.Table) -> None:
    with pytest.raises(UsageError, match="needs a server"):
        check_sql(model, rows, "postgres")
    with pytest.raises(UsageError, match="is no URL of PostgreSQL"):
        check_sql(model, rows, "postgres", database="sqlite:///x.db")
    with pytest.raises(UsageError, match="duckdb needs none"):
        check_sql(model, rows, "duckdb", database="postgresql://host/name")
    with pytest.raises(UsageError, match="not in bigquery"):
        check_sql(model, rows, "bigquery")
    with pytest.raises(DatabaseError) as caught:
        check_sql(model, rows, "postgres", database="postgresql://reader:hunter2@127.0.0.1:1/none")
    assert "127.0.0.1:1/none" in caught.value.message
    assert "hunter2" not in str(caught.value)
