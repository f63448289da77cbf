"""The SQL of a model in PostgreSQL and Spark, where they are: the same clusters as the model assigns.

ROOMS_TEST_POSTGRES is the address of a PostgreSQL server, as psql takes it. Spark needs pyspark and Java.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import engine
from engine.export.sql_cloud_dialects import DIALECTS
from engine.model.model import Model
from tests.export.tables import MARKS, ROLES, mixed, shifted

POSTGRES_TYPES = {
    "string": "text", "int64": "bigint", "int32": "integer", "double": "double precision", "float": "real",
    "bool": "boolean", "date32[day]": "date", "timestamp[us]": "timestamp",
    "timestamp[us, tz=Asia/Tokyo]": "timestamptz",
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    config = {"features": {"roles": ROLES, "missing": MARKS}}
    skip = ["map", "report", "explain"]
    out = tmp_path_factory.mktemp("servers") / "run"
    return engine.fit(mixed(), id="who", n_clusters=5, out=out, skip=skip, config=config, threads=1).model


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return shifted(mixed(800, seed=1), 1)


def assigned(model: Model, rows: pa.Table) -> dict[str, int]:
    found = model.assign(rows)
    return dict(zip(found["who"].to_pylist(), found["cluster"].to_pylist(), strict=True))


def test_postgres_assigns_rows_as_the_model_does(model: Model, rows: pa.Table) -> None:
    address = os.environ.get("ROOMS_TEST_POSTGRES")
    if address is None:
        pytest.skip("set ROOMS_TEST_POSTGRES to the address of a PostgreSQL server, as psql takes it")
    if shutil.which("psql") is None:
        pytest.fail("ROOMS_TEST_POSTGRES is set, but there is no psql on the PATH")
    name = DIALECTS["postgres"].identifier
    columns = ", ".join(f"{name(field.name)} {postgres_type(field.type)}" for field in rows.schema)
    values = ",\n".join(f"({', '.join(map(postgres_literal, row.values()))})" for row in rows.to_pylist())
    statement = str(model.export("sql", dialect="postgres", table=rows))
    script = (
        f"SET TimeZone = 'America/New_York'; CREATE TEMP TABLE profiles ({columns});\n"
        f"INSERT INTO profiles VALUES {values};\n{statement}"
    )
    command = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-", address]
    answer = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    found = dict(line.split("|") for line in answer.stdout.splitlines())
    assert {who: int(cluster) for who, cluster in found.items()} == assigned(model, rows)


def postgres_type(kind: pa.DataType) -> str:
    return f"{POSTGRES_TYPES[str(kind.value_type)]}[]" if pa.types.is_list(kind) else POSTGRES_TYPES[str(kind)]


def postgres_literal(cell: Any) -> str:
    if cell is None:
        return "NULL"
    if isinstance(cell, list):
        parts = ", ".join(map(postgres_literal, cell))
        kind = "text" if any(isinstance(part, str) for part in cell) else "real" if parts.count(".") else "bigint"
        return f"CAST(ARRAY[{parts}] AS {kind if cell else 'text'}[])"
    if isinstance(cell, str):
        return DIALECTS["postgres"].text(cell)
    if isinstance(cell, datetime) and cell.tzinfo is not None:
        return f"'{cell.isoformat()}'"
    return f"'{cell}'" if isinstance(cell, date | float) else str(cell)


def test_spark_assigns_rows_as_the_model_does(model: Model, rows: pa.Table, tmp_path: Path) -> None:
    pyspark = pytest.importorskip("pyspark.sql", reason="pyspark is not installed")
    if shutil.which("java") is None:
        pytest.skip("there is no Java on the PATH")
    statement = str(model.export("sql", dialect="spark", table=rows)).rstrip().rstrip(";")
    path = tmp_path / "profiles.parquet"
    pq.write_table(rows, path)
    builder = pyspark.SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    session = builder.config("spark.sql.session.timeZone", "America/New_York").getOrCreate()
    try:
        session.read.parquet(str(path)).createOrReplaceTempView("profiles")
        found = {row["who"]: row["cluster"] for row in session.sql(statement).collect()}
    finally:
        session.stop()
    assert found == assigned(model, rows)
    assert pc.any(pc.is_null(rows["spend"])).as_py()
