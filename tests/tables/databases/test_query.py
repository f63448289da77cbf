"""Query: types and missing values come as the database has them, once, and no secret and no value is shown."""

from __future__ import annotations

import datetime as dt
import gc
import json
import logging
import subprocess
import sys
import uuid
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import engine
from engine.cli import app
from engine.config import FitConfig
from engine.errors import (
    DatabaseError,
    EmptyTableError,
    RoomsError,
    SchemaMismatchError,
    SourceFormatError,
    SourceNotFoundError,
    UsageError,
)
from engine.tables import open_table
from engine.tables.databases import python_rows
from engine.tables.snapshot import open_temporary_snapshot, snapshot
from tests.postgresql_server import PASSWORD
from tests.tables.databases.conftest import run_sql

UUID = uuid.UUID("6c7692b5-9302-4e79-8808-4879ad1889eb")
# Column: what makes it in each database, its type and its values in Python.
COLUMNS = {
    "whole": ("BIGINT", "9007199254740993", pa.int64(), 9007199254740993),
    "real": ("DOUBLE PRECISION", "0.1", pa.float64(), 0.1),
    "money": ("NUMERIC(12, 2)", "1234.05", pa.float64(), 1234.05),
    "flag": ("BOOLEAN", "true", pa.bool_(), True),
    "born": ("DATE", "'1990-02-28'", pa.date32(), dt.date(1990, 2, 28)),
    "seen": ("TIMESTAMP", "'2026-03-29 02:30:00'", pa.timestamp("us"), dt.datetime(2026, 3, 29, 2, 30)),
    "name": ("TEXT", "'Zoë; DROP'", pa.string(), "Zoë; DROP"),
}


def read(query: engine.Query, id: str | None = None) -> pa.Table:
    return pa.concat_tables([block.rows for block in open_table(query, id=id).blocks()])


def test_types_and_missing_values_are_those_of_the_database(database: str) -> None:
    columns = ", ".join(f"{name} {kind}" for name, (kind, *_) in COLUMNS.items())
    run_sql(database, f"CREATE TABLE people ({columns})")
    run_sql(database, f"INSERT INTO people VALUES ({', '.join(value for _, value, *_ in COLUMNS.values())})")
    run_sql(database, f"INSERT INTO people VALUES ({', '.join(['NULL'] * len(COLUMNS))})")
    rows = read(engine.Query(database, "SELECT * FROM people ORDER BY whole IS NULL;\n"))
    for name, (_, _, kind, value) in COLUMNS.items():
        assert rows.schema.field(name).type == kind, name
        assert rows[name].to_pylist() == [value, None], name


def test_postgresql_keeps_what_only_it_has(server: str) -> None:
    sql = (
        "SELECT * FROM (VALUES (123456789012345678901::numeric, 'NaN'::float8, 'NaN'::numeric, timestamptz "
        f"'2026-03-29 02:30:00+02', '{UUID}'::uuid, array['a', NULL], NULL::int), (2, NULL, NULL, NULL, NULL, NULL, 5)"
        ") AS v(id, real, money, seen, device, likes, n)"
    )
    rows = read(engine.Query(server, sql), id="id")
    assert rows["id"].to_pylist() == [Decimal("123456789012345678901"), Decimal(2)]
    for name in ("real", "money"):  # NaN is a number that is none, and NULL is missing
        assert np.isnan(rows[name][0].as_py())
        assert rows[name][1].as_py() is None
    assert rows["seen"].to_pylist() == [dt.datetime(2026, 3, 29, 0, 30, tzinfo=dt.UTC), None]
    assert rows["device"].to_pylist() == [UUID, None]
    assert rows["likes"].to_pylist() == [["a", None], None]
    assert rows["n"].to_pylist() == [None, 5]
    if "+" not in server:  # the driver gives texts, and an id that is not whole is none
        with pytest.raises(SourceFormatError, match=r"'id' .*numeric"):
            read(engine.Query(server, "SELECT 1.5::numeric AS id"), id="id")
    with pytest.raises(SourceFormatError, match=r"'ip' .*(inet|unknown)"):
        read(engine.Query(server, "SELECT '10.0.0.1'::inet AS ip"))
    with pytest.raises(SourceFormatError, match=r"'age' .*(interval|unknown)"):
        read(engine.Query(server, "SELECT interval '1 day' AS age"))
    words = read(
        engine.Query(server, "SELECT w, length(w) % 2 AS odd FROM (VALUES ('a%b'), ('c')) AS v(w) WHERE w LIKE '%b'")
    )
    assert words.to_pylist() == [{"w": "a%b", "odd": 1}]


WRITING = [
    "DELETE FROM stays RETURNING a",
    "WITH gone AS (SELECT 1) DELETE FROM stays RETURNING a",
    "DROP TABLE stays",
    "CREATE TABLE more AS SELECT 1 AS a",
    "SELECT a FROM stays; DROP TABLE stays",
    "; DROP TABLE stays",
    "-- SELECT\n/* SELECT */ DROP TABLE stays",
    "EXPLAIN ANALYZE DELETE FROM stays",
    "BEGIN",
    "COPY (SELECT 1 AS a) TO '{file}'",
    "COPY stays TO '{file}'",
    "COPY (PIVOT stays ON a USING sum(a)) TO '{file}'",
    "SELECT * FROM enable_logging('QueryLog', storage='file', storage_path='{file}.log')",
    "EXPORT DATABASE '{file}'",
    "ATTACH '{file}' AS other",
    "VACUUM INTO '{file}'",
    "PRAGMA user_version = 5",
    "SET memory_limit = '3GiB'",
]


def test_a_query_only_reads(database: str, tmp_path: Path) -> None:
    run_sql(database, "CREATE TABLE stays AS SELECT 1 AS a")
    (tmp_path / "kept.parquet").write_text("kept")
    for sql in WRITING:
        with pytest.raises(RoomsError):
            read(engine.Query(database, sql.format(file=tmp_path / "kept.parquet")))
        assert (tmp_path / "kept.parquet").read_text() == "kept", sql
    assert run_sql(database, "SELECT a FROM stays") == [(1,)]
    assert {path.name for path in tmp_path.iterdir()} <= {"kept.parquet", "members.db"}


def test_what_is_no_select_is_told(database: str) -> None:
    run_sql(database, "CREATE TABLE stays AS SELECT 1 AS a")
    for sql in ("DROP TABLE stays", "DELETE FROM stays", "EXPLAIN SELECT a FROM stays"):
        if not (database.startswith("sqlite") and sql.startswith("EXPLAIN")):  # a syntax error, after our EXPLAIN
            with pytest.raises(UsageError, match="only reading is allowed"):
                read(engine.Query(database, sql))
    with pytest.raises(RoomsError, match=r"several statements|multiple commands"):
        read(engine.Query(database, "SELECT a FROM stays; SELECT a FROM stays"))


def test_a_refused_query_prints_its_error_alone(tmp_path: Path) -> None:
    url = f"duckdb:///{tmp_path / 'a.duckdb'}"
    run_sql(url, "CREATE TABLE m AS SELECT 1 AS a")
    for sql, reason in {"DROP TABLE m": "only reading is allowed", "SELECT b FROM m": '"b" not found'}.items():
        arguments = ["fit", url, "--query", sql, "--out", str(tmp_path / "run")]
        done = subprocess.run([sys.executable, "-m", "engine", *arguments], capture_output=True, text=True, check=False)
        assert reason in done.stderr
        assert done.stderr.count("\n") == 2, done.stderr  # the error and its hint


def test_every_form_of_a_select_is_read(database: str, tmp_path: Path) -> None:
    run_sql(database, "CREATE TABLE stays AS SELECT 1 AS a")
    forms = ["-- ; a remark\nSELECT a FROM stays;", "/* x */ WITH b AS (SELECT a FROM stays) SELECT a FROM b -- end"]
    forms += ["SELECT a FROM stays WHERE 'x; DROP' <> ''", "VALUES (1)"]
    forms += [] if database.startswith("sqlite") else ["(SELECT a FROM stays)", "TABLE stays"]
    if database.startswith("duckdb"):
        pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
        forms += ["FROM stays", f"SELECT a FROM '{tmp_path / 'a.parquet'}'", "SELECT 1 FROM (SUMMARIZE stays)"]
    for sql in forms:
        assert [row.popitem()[1] for row in read(engine.Query(database, sql)).to_pylist()] == [1], sql


@pytest.mark.parametrize("n_chunk", [1, 2, 100])
def test_columns_of_python_rows_have_one_type_in_all_chunks(
    n_chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(python_rows, "VALUES_AT_ONCE", 3 * n_chunk)
    url = f"sqlite:///{tmp_path / 'a.db'}"
    run_sql(url, "CREATE TABLE t (late, whole, none)")
    run_sql(url, "INSERT INTO t VALUES (NULL, 1, NULL), (NULL, 2.5, NULL), ('x', 3, NULL), (NULL, 4, NULL)")
    rows = read(engine.Query(url, "SELECT * FROM t"))
    assert rows["late"].to_pylist() == [None, None, "x", None]
    assert rows["whole"].to_pylist() == [1.0, 2.5, 3.0, 4.0]
    assert rows["none"].null_count == 4
    run_sql(url, "INSERT INTO t VALUES (5, 1, NULL)")
    with pytest.raises(SourceFormatError, match="'late'"):
        read(engine.Query(url, "SELECT * FROM t"))


def test_values_of_several_types_are_refused() -> None:
    for values in ([1, "a"], [b"a", "a"], [dt.date(2020, 1, 1), "x"], [{"a": 1}, 2], [2**70, 1]):
        with pytest.raises(SourceFormatError, match="'mixed'"):
            python_rows.batch_of_rows(["mixed"], [(value,) for value in values], [""])
    kept = [1.5, float("nan"), None, Decimal("0.10"), UUID, b"a", dt.time(1, 2)]
    for value in kept:
        column = python_rows.batch_of_rows(["a"], [(value,), (None,)], [""])["a"]
        assert repr(column.to_pylist()) == repr([value, None])


def test_rows_are_read_once_and_stay_the_same(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    run_sql(url, "CREATE TABLE t AS SELECT 1 AS a")
    query = engine.Query(url, "SELECT a, random() AS r FROM t")
    table = open_table(query)
    first = [block.rows for block in table.blocks()]
    run_sql(url, "INSERT INTO t VALUES (2)")
    assert [block.rows for block in table.blocks()] == first
    assert table.n_rows == 1
    assert open_table(query).n_rows == 2
    assert open_table(query).fingerprint()["sha256"] != table.fingerprint()["sha256"]


def test_snapshots_are_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pa.table({"a": [1, 2, 3]})
    with snapshot(rows.to_reader(), id=None, parent=tmp_path) as table:
        assert len(list(tmp_path.iterdir())) == 1
        assert table.n_rows == 3
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    kept = open_temporary_snapshot(rows.to_reader(), id=None)
    assert len(list(tmp_path.iterdir())) == 1
    assert kept.n_rows == 3
    del kept
    gc.collect()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(EmptyTableError):
        open_table(rows.slice(0, 0).to_reader())
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def batches(rows: pa.Table) -> Iterator[pa.RecordBatch]:
    yield from rows.to_batches(max_chunksize=7)


def test_every_source_of_batches_gives_the_same_snapshot(tmp_path: Path) -> None:
    rows = pa.table({"a": range(100), "b": [f"{i}" if i % 3 else None for i in range(100)]})
    pq.write_table(rows, tmp_path / "rows.parquet")
    files = ds.dataset(tmp_path / "rows.parquet")
    relation = duckdb.connect().from_arrow(rows)
    found = [
        open_table(source)
        for source in (rows.to_reader(9), batches(rows), iter([rows]), files, files.scanner(), relation)
    ]
    assert len({json.dumps(table.fingerprint()) for table in found}) == 1
    for table in found:
        assert pa.concat_tables([block.rows for block in table.blocks()]).equals(rows)
    with pytest.raises(UsageError, match="gave a dict"):
        open_table(iter([{"a": 1}]))
    with pytest.raises(SourceFormatError, match="'a'"):
        open_table(iter([pa.table({"a": [1]}), pa.table({"a": ["x"]})]))
    with pytest.raises(SourceFormatError, match="'b'"):
        open_table(iter([pa.table({"a": [1]}), pa.table({"a": [1], "b": [1]})]))
    with pytest.raises(SchemaMismatchError, match="'a'"):
        open_table(pa.RecordBatchReader.from_batches(pa.schema([("a", pa.int8())] * 2), []))


def test_fits_of_a_query_a_reader_and_a_file_are_the_same(
    tmp_path: Path, lean: FitConfig, caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(0)
    rows = pa.table({"who": range(300), "x": rng.normal(size=300), "y": rng.normal(size=300) + np.arange(300) % 2 * 9})
    pq.write_table(rows, tmp_path / "rows.parquet")
    path = tmp_path / "rows.duckdb"
    run_sql(f"duckdb:///{path}", f"CREATE TABLE t AS SELECT * FROM '{tmp_path / 'rows.parquet'}'")
    query = engine.Query(f"duckdb:///{path}", "SELECT * FROM t ORDER BY who")
    with caplog.at_level(logging.INFO):
        runs = [
            engine.fit(source, out=tmp_path / f"run-{i}", id="who", n_clusters=2, config=lean)
            for i, source in enumerate((tmp_path / "rows.parquet", query, rows.to_reader()))
        ]
    assert f"Read 300 rows of the query of duckdb:///{path}." in caplog.messages
    assert runs[0].assignments.equals(runs[1].assignments)
    assert runs[0].assignments.equals(runs[2].assignments)
    assert runs[1].model.assign(query).equals(runs[1].model.assign(rows.to_reader()))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["rows.duckdb", "rows.parquet", "run-0", "run-1", "run-2"]
    recorded = runs[1].manifest["input"]
    assert recorded["query"] == query.sql
    assert recorded["rows"] == 300
    assert "files" not in recorded
    with pytest.raises(UsageError, match="was made of a query"):
        engine.similar(runs[1], 5)
    assert engine.similar(runs[1], 5, table=query).num_rows == 10


def test_no_secret_and_no_value_is_shown(
    server: str, tmp_path: Path, lean: FitConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DB_PASSWORD", PASSWORD)
    url = f"{server.partition(chr(58))[0]}://reader:${{DB_PASSWORD}}@{server.partition('@')[2]}"
    rows = "SELECT g AS id, g % 2 * 9 + random() AS x, 'Anna' AS name FROM generate_series(1, 50) AS g"
    shown = [caplog.text]
    for address in (url, server):
        out = tmp_path / f"run-{len(shown)}"
        run = engine.fit(engine.Query(address, rows), out=out, id="id", n_clusters=2, config=lean)
        shown.append((run.path / "manifest.json").read_text())
        shown.append(repr(engine.Query(address, rows)))
    queries = ["SELECT 'Anna'::int", "SELECT 1 / (g - 3) FROM generate_series(1, 9) AS g", "SELECT 'Anna' FROM nowhere"]
    queries += ["SELECT 1 AS a, dblink('host=x password=Anna')"]
    for sql in queries:
        with pytest.raises(DatabaseError) as caught:
            read(engine.Query(server, sql))
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
        shown.append(str(caught.value))
    for broken in (url.replace("${DB_", "x${DB_"), server.replace("/postgres", "/Nowhere?password=Geheim")):
        with pytest.raises(RoomsError) as caught_too:
            read(engine.Query(broken, "SELECT 1"))
        shown.append(str(caught_too.value))
    for text in [*shown, caplog.text]:
        assert "Geheim" not in text, text
        assert "Anna" not in text.replace("'Anna' AS name", ""), text


BROKEN = [
    "postgresql://reader:Geheim/1@host/db",
    "postgresql://reader:Geheim#1@host/db",
    "postgresql://reader:Geheim?1@host/db",
    "postgresql://reader:12?Geheim@host/db",
    "postgresql://reader:Geheim@host:port/db",
    "mysql+nothing://reader:Geheim@host/db?token=Geheim",
    "nothing://reader:Geheim@host/db",
    "postgresql://reader:p@Geheim@host/db",
    "mysql+nothing://reader:p@Geheim@host/db",
    "postgresql//reader:Geheim@host/db",
    "postgresql:/reader:Geheim@host/db",
    "postgresql:reader:/Geheim 1@host/db",
    "reader:Geheim@host/db",
    "host=host password=Geheim",
    "postgresql//host/db?password=Geheim",
    "duckdb://Geheim",
    "sqlite:///",
    "Geheim",
]


@pytest.mark.parametrize("url", BROKEN)
def test_a_url_that_cannot_be_used_is_not_shown(url: str) -> None:
    with pytest.raises(RoomsError) as caught:
        read(engine.Query(url, "SELECT 1"))
    assert "Geheim" not in str(caught.value).replace("Geheim is no URL", "")


@pytest.mark.parametrize("command", ["source", "query", "out", "fit out", "to", "previous", "model"])
def test_no_option_shows_a_password(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("who,x\n1,2\n")
    rows, run = str(tmp_path / "rows.csv"), str(tmp_path / "run")
    urls = ["postgresql://reader:Geheim@127.0.0.1:1/db", "postgresql//reader:Geheim@h/db", "${ROOMS_URL}"]
    for url in [*urls, "postgresql:/reader:Geheim@h/db", "postgresql://reader:a@Geheim@127.0.0.1:1/db"]:
        arguments = {
            "source": ["fit", url, "--out", run],
            "query": ["fit", url, "--query", "SELECT 1", "--out", run],
            "out": ["assign", rows, "--model", run, "--out", url],
            "fit out": ["fit", rows, "--id", "who", "--out", url],
            "to": ["assign", rows, "--model", run, "--to", url, "--table", "people"],
            "previous": ["fit", rows, "--id", "who", "--previous", url, "--out", run],
            "model": ["show", url],
        }[command]
        if url.startswith("$") and command == "fit out":  # the name of a folder
            continue
        environment = {"ROOMS_URL": "postgresql://reader:a@Geheim@127.0.0.1:1/db"}
        result = CliRunner().invoke(app, [*arguments, "--debug", "--json"], env=environment)
        assert result.exit_code not in (0, 70)
        assert "error: " in result.output
        assert "Geheim" not in result.output, (url, result.output)


def test_databases_without_a_query_are_named_without_their_password(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="add --query") as caught:
        open_table("postgresql://reader:Geheim@host/db")
    assert "postgresql://host/db" in str(caught.value)
    assert "Geheim" not in str(caught.value)
    with pytest.raises(RoomsError) as caught_too:
        open_table("unheard://reader:Geheim@host/file.parquet")
    assert "Geheim" not in str(caught_too.value)
    with pytest.raises(UsageError, match="NOT_SET"):
        engine.Query("postgresql://reader:${NOT_SET}@host/db", "SELECT 1")
    with pytest.raises(UsageError, match="empty"):
        engine.Query("duckdb:///a", " ; ")
    with pytest.raises(SourceNotFoundError, match="no file"):
        read(engine.Query(f"sqlite:///{tmp_path / 'none.db'}", "SELECT 1"))
    assert not (tmp_path / "none.db").exists()
    (tmp_path / "text.db").write_text("not a database" * 100)
    for scheme in ("sqlite", "duckdb"):
        with pytest.raises(DatabaseError, match=r"text\.db"):
            read(engine.Query(f"{scheme}:///{tmp_path / 'text.db'}", "SELECT 1"))


def test_a_query_names_tables_and_no_variables(tmp_path: Path) -> None:
    url = f"duckdb:///{tmp_path / 'a.duckdb'}"
    run_sql(url, "CREATE TABLE t AS SELECT 1 AS a")
    relation = pa.table({"a": [5]})
    with pytest.raises(DatabaseError, match="relation"):
        read(engine.Query(url, "SELECT * FROM relation"))
    assert relation.num_rows == 1


def test_duckdb_reads_with_bounded_memory(tmp_path: Path) -> None:
    url = f"duckdb:///{tmp_path / 'a.duckdb'}"
    run_sql(url, "CREATE TABLE t AS SELECT 1 AS a")
    (row,) = read(engine.Query(url, "SELECT current_setting('memory_limit') AS m")).to_pylist()
    assert row == {"m": "1.0 GiB"}


def test_a_missing_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.duckdb").touch()
    for module, url in {
        "duckdb": f"duckdb:///{tmp_path / 'a.duckdb'}",
        "adbc_driver_postgresql": "postgresql://host/db",
        "sqlalchemy": "mysql://host/db",
    }.items():
        monkeypatch.setitem(__import__("sys").modules, module, None)
        with pytest.raises(UsageError, match=rf"'databases', and {module}"):
            read(engine.Query(url, "SELECT 1"))


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """A generator of 256 MiB is written with a few batches in memory."""
    numbers = pa.array(np.zeros(1 << 20))
    before = pa.total_allocated_bytes()
    peak = 0

    def rows() -> Iterator[pa.RecordBatch]:
        nonlocal peak
        for _ in range(32):
            peak = max(peak, pa.total_allocated_bytes() - before)
            yield pa.record_batch({"x": numbers})

    with snapshot(rows(), id=None, parent=tmp_path) as table:
        assert table.n_rows == 32 << 20
    assert peak < 48 << 20
