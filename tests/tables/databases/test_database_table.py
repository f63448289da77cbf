"""DatabaseTable: all rows are written or none, and what is there stays unless something else is said."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import engine
from engine.cli import app
from engine.errors import DatabaseError, OutputExistsError, OutputOverlapError, RoomsError, UsageError
from engine.tables.databases.address import parse_address
from tests.postgresql_server import PASSWORD
from tests.tables.databases.conftest import run_sql

ROWS = pa.table(
    {
        "who": ["a", "b\x27; --", "ü"],
        "cluster": pa.array([0, 1, 1], pa.int32()),
        "distance": pa.array([0.5, 1.25, None], pa.float32()),
        "outlier": [True, False, None],
    }
)


def written(url: str, name: str = "people") -> list[tuple[object, ...]]:
    return sorted(run_sql(url, f"SELECT who, cluster, distance, outlier FROM {name}"), key=str)


def same(rows: pa.Table) -> list[tuple[object, ...]]:
    return sorted(zip(*(column.to_pylist() for column in rows.columns), strict=True), key=str)


def test_rows_are_written_replaced_and_added(database: str, tmp_path: Path) -> None:
    table = engine.DatabaseTable(database, "people")
    table.check(overwrite=False)
    table.write(ROWS)
    assert written(database) == same(ROWS)
    with pytest.raises(OutputExistsError, match="people"):
        table.check(overwrite=False)
    with pytest.raises(OutputExistsError, match="--append"):
        table.write(ROWS.slice(0, 1))
    assert written(database) == same(ROWS)
    table.write(ROWS.slice(0, 2), overwrite=True)
    assert written(database) == same(ROWS.slice(0, 2))
    pq.write_table(ROWS.slice(2), tmp_path / "last.parquet")
    engine.DatabaseTable(database, "people", append=True).write(ds.dataset(tmp_path / "last.parquet"))
    assert written(database) == same(ROWS)
    with pytest.raises(UsageError, match="either"):
        engine.DatabaseTable(database, "people", append=True).check(overwrite=True)


def test_what_is_no_assignments_is_not_replaced(database: str) -> None:
    run_sql(database, "CREATE TABLE members AS SELECT 1 AS who, 30 AS age")
    table = engine.DatabaseTable(database, "members")
    with pytest.raises(OutputExistsError, match="no column 'cluster'"):
        table.check(overwrite=True)
    with pytest.raises(OutputExistsError, match="no column 'cluster'"):
        table.write(ROWS, overwrite=True)
    if not database.startswith("postgresql"):  # where names differ by case
        with pytest.raises(OutputExistsError):
            engine.DatabaseTable(database, "MEMBERS").write(ROWS)
    assert run_sql(database, "SELECT who, age FROM members") == [(1, 30)]


READING = {
    "any": [
        "SELECT * FROM people",
        "SELECT 1 AS a FROM people WHERE 1 = 0",
        "SELECT 'people' AS a FROM seen_people",
        "WITH p AS (SELECT * FROM people) SELECT * FROM p",
        "SELECT (SELECT max(cluster) FROM people) AS a",
        "SELECT count(*) AS a FROM others WHERE EXISTS (SELECT 1 FROM people) -- end",
        "SELECT * FROM others UNION ALL SELECT who FROM people",
    ],
    "duckdb": [
        "FROM PEOPLE",
        "SELECT * FROM main.people",
        "SELECT * FROM query_table('people')",
        "FROM members.people",
    ],
    "sqlite": ["SELECT * FROM PEOPLE", "SELECT * FROM main.people"],
    "postgresql": ["SELECT * FROM public.people", "TABLE people"],
}


def test_a_table_that_the_query_reads_is_not_replaced(database: str) -> None:
    table = engine.DatabaseTable(database, "people")
    table.write(ROWS)
    run_sql(database, "CREATE VIEW seen_people AS SELECT who, cluster FROM people")
    run_sql(database, "CREATE TABLE others AS SELECT who FROM people")
    kind = database.partition(":")[0].partition("+")[0]
    targets = [table] + ([] if kind == "sqlite" else [engine.DatabaseTable(database, f"{schema_of(kind)}.people")])
    for sql in READING["any"] + READING[kind]:
        for target in targets:
            with pytest.raises(OutputOverlapError, match="--overwrite would replace it"):
                target.check(overwrite=True, source=engine.Query(database, sql))
    if "+" in database:  # SQLAlchemy cannot tell what a query reads
        return
    for sql in (
        "SELECT who AS people FROM others",
        "SELECT 'people' AS a",
        "SELECT a AS cluster FROM (SELECT 1 AS a) p",
    ):
        table.check(overwrite=True, source=engine.Query(database, sql))
    table.check(overwrite=True, source=["people.parquet"])
    engine.DatabaseTable(database, "people", append=True).check(
        overwrite=False, source=engine.Query(database, READING["any"][0])
    )
    with pytest.raises(UsageError, match="only reading"):
        table.check(overwrite=True, source=engine.Query(database, "DROP TABLE people"))
    assert written(database) == same(ROWS)


def schema_of(kind: str) -> str:
    return {"duckdb": "main", "postgresql": "public"}[kind]


def test_a_file_is_known_by_every_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for kind in ("duckdb", "sqlite"):
        engine.DatabaseTable(f"{kind}:///{kind}.db", "people").write(ROWS)
        engine.DatabaseTable(f"{kind}:///{kind}-2.db", "people").write(ROWS)
        (tmp_path / f"{kind}.link").symlink_to(f"{kind}.db")
        query = engine.Query(f"{kind}:///{tmp_path}/{kind}.link", "SELECT * FROM people")
        with pytest.raises(OutputOverlapError):
            engine.DatabaseTable(f"{kind}:///{kind}.db", "people").check(overwrite=True, source=query)
        engine.DatabaseTable(f"{kind}:///{kind}-2.db", "people").check(overwrite=True, source=query)


def test_a_database_that_cannot_tell_may_read_every_table() -> None:
    query = engine.Query("mysql+pymysql://a@host/members", "SELECT 1")
    for url in ("mysql://b@127.0.0.1/other", "mariadb+x://host/members"):
        assert query.may_read(parse_address(url), None, "people")
    for url in ("postgresql://host/members", "sqlite:///members.db", "snowflake://host/members"):
        assert not query.may_read(parse_address(url), None, "people")


class SourceFailedError(Exception):
    pass


def failing() -> Iterator[pa.RecordBatch]:
    yield from ROWS.to_batches(max_chunksize=1)[:2]
    raise SourceFailedError


@pytest.mark.parametrize("before", ["nothing", "rows to replace", "rows to add to"])
def test_a_failure_leaves_what_was_there(database: str, before: str) -> None:
    if before != "nothing":
        engine.DatabaseTable(database, "people").write(ROWS)
    table = engine.DatabaseTable(database, "people", append=before == "rows to add to")
    overwrite = before == "rows to replace"
    with pytest.raises((SourceFailedError, RoomsError)):
        table.write(pa.RecordBatchReader.from_batches(ROWS.schema, failing()), overwrite=overwrite)
    if before == "nothing":
        table.check(overwrite=False)  # there is no table
    else:
        assert written(database) == same(ROWS)
    if before == "rows to add to":
        with pytest.raises(DatabaseError):  # another column
            table.write(ROWS.append_column("more", pa.array([1, 2, 3])))
        assert written(database) == same(ROWS)


def test_ids_of_every_type_come_back_as_they_were(database: str) -> None:
    device = uuid.uuid4()
    ids = {
        "n": pa.array([2**62], pa.uint64()),
        "money": pa.array([Decimal("12345678901234567890.10")]),
        "device": pa.ExtensionArray.from_storage(pa.uuid(), pa.array([device.bytes], pa.binary(16))),
        "raw": pa.array([b"\x00\xff"]),
        "view": pa.array(["x"], pa.string_view()),
    }
    engine.DatabaseTable(database, "people").write(pa.table(ids))
    found = run_sql(database, "SELECT n, money, device, raw, view FROM people")
    assert found == [(2**62, "12345678901234567890.10", str(device), b"\x00\xff", "x")]
    run_sql(database, "DROP TABLE people")
    days = pa.table({"born": [dt.date(1990, 2, 28)], "seen": [dt.datetime(2026, 3, 29, 2, 30)]})
    engine.DatabaseTable(database, "people").write(days)
    found = run_sql(database, "SELECT CAST(born AS TEXT), CAST(seen AS TEXT) FROM people")
    assert [text.removesuffix(".000000") for text in found[0]] == ["1990-02-28", "2026-03-29 02:30:00"]
    run_sql(database, "DROP TABLE people")
    with pytest.raises(DatabaseError):
        engine.DatabaseTable(database, "people").write(pa.table({"n": pa.array([2**63], pa.uint64())}))


def test_schemas_are_named_before_a_dot(database: str) -> None:
    table = engine.DatabaseTable(database, "nightly.people")
    if not database.startswith(("duckdb", "postgresql")):
        with pytest.raises(RoomsError):
            table.write(ROWS)
        return
    run_sql(database, "DROP SCHEMA IF EXISTS nightly CASCADE")
    run_sql(database, "CREATE SCHEMA nightly")
    table.write(ROWS)
    with pytest.raises(OutputExistsError):
        table.write(ROWS)
    table.write(ROWS, overwrite=True)
    assert written(database, "nightly.people") == same(ROWS)


@pytest.mark.parametrize("name", ["", "people; DROP TABLE a", 'a"b', "a.b.c", "a b"])
def test_names_are_plain(name: str) -> None:
    with pytest.raises(UsageError, match="name of a table"):
        engine.DatabaseTable("duckdb:///a", name)


def test_a_password_is_not_shown(server: str) -> None:
    place = server.rpartition("/")[0]
    table = engine.DatabaseTable(f"{place}/nowhere", "people")
    with pytest.raises(DatabaseError) as caught:
        table.check(overwrite=False)
    for text in (str(caught.value), repr(table)):
        assert PASSWORD not in text and "Geheim" not in text  # noqa: PT018
    assert 'database "nowhere" does not exist' in str(caught.value)


@pytest.fixture
def rooms() -> Callable[..., str]:
    """Return a function that runs a command, checks its exit code and returns what it prints."""

    def run(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == code, result.output
        return result.stdout

    return run


def test_the_command_line_reads_and_writes_databases(rooms: Callable[..., str], tmp_path: Path) -> None:
    database, rng = f"duckdb:///{tmp_path / 'members.db'}", np.random.default_rng(0)
    x = rng.normal(size=300) + np.arange(300) % 2 * 9
    members = pa.table({"who": np.arange(300), "x": x, "y": rng.normal(size=300)})
    engine.DatabaseTable(database, "members").write(members)
    out = str(tmp_path / "run")
    source = (database, "--query", "SELECT * FROM members ORDER BY who")
    fit = ("fit", *source, "--id", "who", "-k", "2", "--skip", "explain,map,report")
    assert json.loads(rooms(*fit, "--dry-run", "--json"))["rows"] == 300
    rooms(*fit, "--out", out)
    expected = engine.load(out).assign(members)
    assert expected.equals(engine.Run(out).assignments)
    assign = ("assign", *source, "--model", out)
    to = ("--to", database, "--table", "assigned")
    facts = json.loads(rooms(*assign, *to, "--json"))
    assert facts["rows"] == 300
    assert facts["out"].startswith("table assigned of ")
    found = run_sql(database, "SELECT who, cluster, distance FROM assigned ORDER BY who")
    assert found == list(zip(*(expected[name].to_pylist() for name in ("who", "cluster", "distance")), strict=True))
    rooms(*assign, *to, code=5)
    rooms(*assign, *to, "--append")
    assert run_sql(database, "SELECT count(*) FROM assigned") == [(600,)]
    rooms(*assign, *to, "--overwrite")
    assert run_sql(database, "SELECT count(*) FROM assigned") == [(300,)]
    members_before = run_sql(database, "SELECT * FROM members ORDER BY who")
    rooms(*assign, "--to", database, "--table", "members", "--overwrite", code=5)
    again = ("assign", database, "--query", "SELECT who, cluster AS x, cluster AS y FROM assigned", "--model", out)
    rooms(*again, *to, "--overwrite", code=5)
    assert run_sql(database, "SELECT count(*) FROM assigned") == [(300,)]
    assert run_sql(database, "SELECT * FROM members ORDER BY who") == members_before
    for wrong in (to[:2], to[2:], (), ("--out", "x", *to), ("--out", "x", "--append")):
        rooms(*assign, *wrong, code=2)
    rooms("assign", "a.parquet", "b.parquet", "--query", "SELECT 1", "--model", out, "--out", "x", code=2)
    rooms("fit", database, "--out", str(tmp_path / "other"), code=2)


def test_profiles_are_made_of_three_queries(rooms: Callable[..., str], tmp_path: Path) -> None:
    database, rng = f"duckdb:///{tmp_path / 'ratings.db'}", np.random.default_rng(0)
    tables = {
        "ratings": pa.table(
            {
                "user_id": rng.integers(0, 9, 99),
                "item_id": rng.integers(0, 5, 99),
                "rating": rng.integers(1, 6, 99).astype(float),
            }
        ),
        "items": pa.table({"item_id": range(5), "title": list("abcde"), "genres": ["Drama", "War"] * 2 + ["War"]}),
        "users": pa.table({"user_id": range(9), "age": range(20, 29)}),
    }
    options = ["--source", database]
    for name, table in tables.items():
        engine.DatabaseTable(database, name).write(table, overwrite=True)
        options += [f"--{name}", f"SELECT * FROM {name}"]
    rooms("profiles", *options, "--out", str(tmp_path / "profiles.parquet"))
    expected = engine.profiles_from_ratings(*tables.values()).table
    assert pq.read_table(tmp_path / "profiles.parquet").equals(expected)
