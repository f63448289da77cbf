"""Conditions and rules.sql in the dialects of other databases select exactly the rows that the engine selects.

PostgreSQL is a server that the tests start; Spark needs pyspark and Java.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import engine
from engine.cli import app
from engine.config import FitConfig
from engine.errors import NotExplainedError, OutputExistsError, UsageError
from engine.export.sql_cloud_dialects import DIALECTS
from engine.export.sql_databases import Database
from engine.tables import open_table
from tests.explain.columns import COLUMNS, LISTS, MARKS, ZONES, column_of, conditions_of
from tests.explain.people import people
from tests.export.databases import postgres_in_zone, spark_in_zone, sqlite_database
from tests.export.tables import ROLES, mixed

NUMBERS_IN_LISTS = {"tags", "codes"}
VECTORS = {"vector", "half vector"}
BRACKETED = set(LISTS) - {"blanks", "commas"}
# SQLite has no lists, and its integers end at 2^63.
IN_SQLITE = sorted(set(COLUMNS) - NUMBERS_IN_LISTS - VECTORS - BRACKETED - {"unsigned"})
# The files that Spark reads have neither half floats nor nanoseconds.
IN_SPARK = sorted(set(COLUMNS) - {"zoned ns"})


def check_conditions(
    database: Database, dialect: str, name: str, rows: pa.Table, marks: tuple[str, ...] | None
) -> None:
    """Check that every condition on a column selects the rows that the engine selects."""
    conditions = list(conditions_of(open_table(rows), name, marks, DIALECTS[dialect]))
    flags = [f"CASE WHEN {sql} THEN 1 ELSE 0 END AS c{number}" for number, (_, _, sql) in enumerate(conditions)]
    key = DIALECTS[dialect].identifier("row")
    found = database.select(f"SELECT {', '.join([key, *flags])} FROM profiles ORDER BY {key}", rows)
    for number, (_, expected, sql) in enumerate(conditions):
        assert [flag == 1 for flag in found[f"c{number}"].to_pylist()] == expected, sql


def in_whole_milliseconds(rows: pa.Table, name: str) -> pa.Table:
    """Return rows without parts of a millisecond, which texts of SQLite do not have."""
    column = rows.column(name)
    if not pa.types.is_timestamp(column.type):
        return rows
    per = {"us": 1000, "ns": 1_000_000}[column.type.unit]
    cells = [None if value is None else value // per * per for value in column.cast(pa.int64()).to_pylist()]
    return rows.set_column(0, name, pa.array(cells, pa.int64()).cast(column.type))


@pytest.mark.filterwarnings("ignore::engine.features.fit.ColumnsDroppedWarning")
@pytest.mark.parametrize("name", IN_SQLITE)
@settings(max_examples=12)
@given(st.data())
def test_sqlite_selects_the_rows_that_the_engine_selects(name: str, data: st.DataObject) -> None:
    rows = in_whole_milliseconds(data.draw(column_of(name)), name)
    check_conditions(sqlite_database(), "sqlite", name, rows, data.draw(st.sampled_from([None, MARKS.get(name)])))


@pytest.fixture(scope="module", params=ZONES)
def postgres(request: pytest.FixtureRequest, postgresql: str) -> Iterator[Database]:
    yield from postgres_in_zone(postgresql, request.param)


@pytest.mark.filterwarnings("ignore::engine.features.fit.ColumnsDroppedWarning")
@pytest.mark.parametrize("name", COLUMNS)
@settings(max_examples=8)
@given(st.data())
def test_postgres_selects_the_rows_that_the_engine_selects(postgres: Database, name: str, data: st.DataObject) -> None:
    rows, marks = data.draw(column_of(name)), data.draw(st.sampled_from([None, MARKS.get(name)]))
    check_conditions(postgres, "postgres", name, rows, marks)


@pytest.fixture(scope="module")
def spark() -> Iterator[Database]:
    yield from spark_in_zone("America/New_York")


@pytest.mark.filterwarnings("ignore::engine.features.fit.ColumnsDroppedWarning")
@pytest.mark.parametrize("name", IN_SPARK)
@settings(max_examples=2, deadline=None)
@given(st.data())
def test_spark_selects_the_rows_that_the_engine_selects(spark: Database, name: str, data: st.DataObject) -> None:
    rows, marks = data.draw(column_of(name)), data.draw(st.sampled_from([None, MARKS.get(name)]))
    check_conditions(spark, "spark", name, rows, marks)


def fit(rows: Any, out: Path, roles: dict[str, str] = ROLES) -> engine.Run:
    explain = {"min_people": 5, "sample_rows": 600}
    config = FitConfig.merge({}, features={"roles": roles}, explain=explain, skip=["map", "report"])
    return engine.fit(rows, out=out, id="who", n_clusters=5, config=config, threads=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> engine.Run:
    return fit(mixed(1200), tmp_path_factory.mktemp("rules") / "run")


@pytest.fixture(scope="module")
def flat_run(tmp_path_factory: pytest.TempPathFactory) -> engine.Run:
    """A run without lists and vectors, which SQLite cannot read."""
    return fit(mixed(1200, lists=False), tmp_path_factory.mktemp("flat") / "run")


def check_rules(run: engine.Run, rows: pa.Table, dialect: str, database: Database) -> None:
    """Check that the statements count what rules.json says."""
    text = str(run.export_rules(dialect=dialect, table=rows))
    assert f"written for {DIALECTS[dialect].name}" in text
    by_rules, by_tree = (part for part in text.split(";\n") if "SELECT" in part)
    matched = database.select(by_rules, rows)
    counts = {cluster["cluster"]: cluster["matched"] for cluster in run.rules["clusters"] if cluster["rules"]}
    assert len(counts) >= 2
    for cluster, count in counts.items():
        assert sum(matched[f"cluster_{cluster}"].to_pylist()) == count
    predicted = database.select(by_tree, rows).sort_by("who")["cluster"].to_numpy()
    labels = run.assignments.sort_by("who")["cluster"].to_numpy()
    assert np.round((predicted == labels).mean(), 4) == run.rules["full"]["fidelity"]


def test_counts_in_sqlite_are_those_of_the_json(flat_run: engine.Run) -> None:
    check_rules(flat_run, mixed(1200, lists=False), "sqlite", sqlite_database())


def test_counts_in_postgres_are_those_of_the_json(run: engine.Run, postgres: Database) -> None:
    check_rules(run, mixed(1200), "postgres", postgres)


def test_counts_in_spark_are_those_of_the_json(run: engine.Run, spark: Database) -> None:
    check_rules(run, mixed(1200), "spark", spark)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_rules_are_read_by_a_parser_of_their_dialect(run: engine.Run, flat_run: engine.Run, dialect: str) -> None:
    chosen, rows = (flat_run, mixed(20, lists=False)) if dialect == "sqlite" else (run, mixed(20))
    text = str(chosen.export_rules(dialect=dialect, table=rows, relation="marts.people"))
    trees = sqlglot.Dialect.get_or_raise(dialect).parse(text)
    assert len(trees) == 2
    for tree, last in zip(trees, ("cluster_4", "cluster"), strict=True):
        assert tree is not None
        assert not list(tree.find_all(sqlglot.exp.Command))
        assert "marts.people" in [str(found) for found in tree.find_all(sqlglot.exp.Table)]
        assert tree.selects[0].alias_or_name == "who"
        assert tree.selects[-1].alias_or_name == last


@pytest.mark.parametrize("dialect", ["bigquery", "snowflake"])
@pytest.mark.parametrize("name", sorted(COLUMNS))
@pytest.mark.filterwarnings("ignore::engine.features.fit.ColumnsDroppedWarning")
@settings(max_examples=2)
@given(st.data())
def test_every_condition_is_read_by_a_parser(dialect: str, name: str, data: st.DataObject) -> None:
    parser = sqlglot.Dialect.get_or_raise(dialect)
    rows, marks = data.draw(column_of(name)), data.draw(st.sampled_from([None, MARKS.get(name)]))
    for _, _, sql in conditions_of(open_table(rows), name, marks, DIALECTS[dialect]):
        (tree,) = parser.parse(f"SELECT {sql} FROM profiles")
        assert tree is not None
        assert not list(tree.find_all(sqlglot.exp.Command, sqlglot.exp.Anonymous)) or dialect == "snowflake", sql


def test_what_a_dialect_cannot_read_is_refused_by_name(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kind = np.arange(600) % 3
    tags = [["a", "b", "c"][k : k + 2] for k in kind]
    rows = pa.table({"who": range(600), "tags": tags, "age": rng.integers(0, 5, 600)})
    run = fit(rows, tmp_path / "run", {})
    with pytest.raises(UsageError, match=r"SQLite cannot read .*lists \('tags'\)"):
        run.export_rules(dialect="sqlite", table=rows)
    with pytest.raises(UsageError, match="oracle is unknown"):
        run.export_rules(dialect="oracle", table=rows)


def test_the_default_is_the_file_of_the_run(tmp_path: Path) -> None:
    rows = people(600)
    run = fit(rows, tmp_path / "run", {})
    assert run.export_rules(table=rows) == (run.path / "rules.sql").read_text()


def test_the_command_writes_a_file_and_refuses_what_does_not_fit(tmp_path: Path) -> None:
    pq.write_table(mixed(600), tmp_path / "rows.parquet")
    run = fit(tmp_path / "rows.parquet", tmp_path / "run")
    rules = ["export", str(run.path), "--to", "rules"]
    out = tmp_path / "rules.sql"
    answer = CliRunner().invoke(
        app, [*rules, "--dialect", "bigquery", "--from", "a.b", "--id", "key", "--out", str(out)]
    )
    assert answer.exit_code == 0, answer.output
    assert "FROM a.b;" in out.read_text()
    assert "SELECT `key`," in out.read_text()
    again = CliRunner().invoke(app, [*rules, "--out", str(out)])
    assert again.exit_code == OutputExistsError.exit_code
    checked = CliRunner().invoke(app, [*rules, "--check", str(tmp_path / "rows.parquet")])
    assert checked.exit_code == UsageError.exit_code
    assert "--check is for --to sql" in checked.output


def test_a_run_without_rules_says_so(tmp_path: Path) -> None:
    rows = people(300)
    config = FitConfig(skip=["map", "report", "explain"])
    run = engine.fit(rows, out=tmp_path / "run", id="who", n_clusters=3, config=config)
    with pytest.raises(NotExplainedError, match=r"has no rules\.json"):
        run.export_rules(table=rows)
