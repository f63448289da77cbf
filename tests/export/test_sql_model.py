"""The SQL of a whole model assigns the rows of a table to the clusters that the model assigns them to."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import sqlglot

import engine
from engine.errors import ExportDiffersError, OutOfResourcesError, UsageError
from engine.export.sql_cloud_dialects import DIALECTS
from engine.features.encoder import FeatureEncoder
from engine.model.export import check_sql
from engine.model.model import Model
from tests.export.tables import MARKS, ODD, ROLES, mixed, shifted


def fit(table: pa.Table, out: Path, **settings: Any) -> Model:
    missing = {name: values for name, values in MARKS.items() if name in table.column_names}
    config = {"features": {"roles": ROLES, "missing": missing}} | settings
    skip = ["map", "report", "explain"]
    return engine.fit(table, id="who", n_clusters=5, out=out, skip=skip, config=config, threads=1).model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    complete = ("visits", "seen", ODD, "smoker")  # missing only after the fit
    return fit(mixed(complete=complete), tmp_path_factory.mktemp("sql") / "run")


@pytest.fixture(scope="module")
def flat_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return fit(mixed(lists=False, complete=("age", "plan")), tmp_path_factory.mktemp("flat") / "run")


def clusters_in_duckdb(statement: str, rows: pa.Table) -> dict[str, int]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'America/New_York'")
        connection.register("profiles", rows)
        return dict(connection.execute(statement).fetchall())


def test_the_model_has_every_kind_of_column(model: Model) -> None:
    plans = {plan.column: plan for plan in model.encoder.plan.columns}
    assert {plan.form for plan in plans.values()} == {"number", "category", "labels"}
    assert {plan.role for plan in plans.values()} >= {"numeric", "count", "boolean", "date", "categorical"}
    assert {plan.indicator for plan in plans.values()} == {True, False}
    assert {name for name, plan in plans.items() if plan.missing} == {*MARKS, ODD, "words"}
    assert "taste[0]" in plans


@pytest.mark.parametrize("seed", [0, 1])
def test_duckdb_assigns_rows_as_the_model_does(model: Model, seed: int) -> None:
    rows = shifted(mixed(3000, seed=seed), seed)
    found = clusters_in_duckdb(str(model.export("sql", table=rows)), rows)
    assigned = model.assign(rows)
    assert found == dict(zip(assigned["who"].to_pylist(), assigned["cluster"].to_pylist(), strict=True))
    assert len(set(found.values())) == 5


@pytest.mark.parametrize("dialect", ["duckdb", "sqlite"])
def test_a_check_finds_no_difference(flat_model: Model, dialect: str) -> None:
    rows = shifted(mixed(2000, seed=3, lists=False), 3)
    found = check_sql(flat_model, rows, dialect)
    assert (found.rows, found.differing) == (2000, found.within_rounding)


def test_every_single_column_counts_in_duckdb_and_sqlite(flat_model: Model, model: Model) -> None:
    """Rows that differ from one row in one column, each value of it, get the scores of the engine."""
    for chosen, rows in ((flat_model, mixed(400, seed=5, lists=False)), (model, mixed(400, seed=5))):
        base = rows.slice(0, 1)
        for name in chosen.encoder.columns:
            source = name.split("[")[0]
            column = shifted(rows, 5).column(source)
            alike = base.take(pa.array([0] * len(rows))).set_column(rows.column_names.index(source), source, column)
            alike = alike.set_column(0, "who", rows["who"])
            check = check_sql(chosen, alike, "duckdb")
            assert check.differing == check.within_rounding == 0, name
            if chosen is flat_model:
                check = check_sql(chosen, alike, "sqlite")
                assert check.differing == check.within_rounding == 0, name


def test_null_and_nan_go_to_the_same_side_though_only_one_was_seen(model: Model) -> None:
    rows = mixed(300, seed=7, complete=("spend", "share"))
    for name, kind in (("spend", pa.float64()), ("share", pa.float32()), ("grade", pa.float32())):
        found = []
        for missing in (None, float("nan")):
            gone = rows.set_column(
                rows.column_names.index(name), name, pa.array([missing] * len(rows), kind, from_pandas=False)
            )
            statement = str(model.export("sql", table=gone))
            found.append(clusters_in_duckdb(statement, gone))
            assigned = model.assign(gone)
            assert found[-1] == dict(zip(assigned["who"].to_pylist(), assigned["cluster"].to_pylist(), strict=True))
        assert found[0] == found[1]


def test_sqlite_reads_texts_among_numbers_as_the_engine_reads_missing_values(flat_model: Model) -> None:
    rows = mixed(50, seed=9, lists=False)
    statement = str(flat_model.export("sql", dialect="sqlite", table=rows))
    cells = [
        {name: str(cell) if isinstance(cell, int | float) else cell for name, cell in row.items()}
        for row in rows.set_column(1, "age", pa.nulls(50, pa.int64())).to_pylist()
    ]
    with sqlite3.connect(":memory:") as connection:
        names = ", ".join(f'"{name}" TEXT'.replace('""', '"') for name in rows.column_names if name != ODD)
        connection.execute(f"CREATE TABLE profiles ({names}, {DIALECTS['sqlite'].identifier(ODD)} TEXT)")
        for text in ("", "n/a", "unknown"):
            connection.execute("DELETE FROM profiles")
            for row in cells:
                values = [text if name == "age" else row[name] for name in rows.column_names if name != ODD]
                written = [None if v is None else str(v).lower() if isinstance(v, bool) else str(v) for v in values]
                connection.execute(f"INSERT INTO profiles VALUES ({', '.join('?' * (len(values) + 1))})",
                                   [None if v == "nan" else v for v in written] + [row[ODD]])  # fmt: skip
            found = dict(connection.execute(statement).fetchall())
            assigned = flat_model.assign(rows.set_column(1, "age", pa.nulls(50, pa.int64())))
            assert found == dict(zip(assigned["who"].to_pylist(), assigned["cluster"].to_pylist(), strict=True))


def test_ties_go_to_the_lowest_number_and_one_cluster_takes_all(model: Model) -> None:
    rows = mixed(60, seed=2)
    centers = model.centers.copy()
    centers[4] = centers[1]
    tied = Model(model.encoder, model.pca, centers, model.fences, "who", numbers=np.array([3, 5, 8, 9, 11], np.int32))
    found = clusters_in_duckdb(str(tied.export("sql", table=rows)), rows)
    assert found == dict(zip(rows["who"].to_pylist(), tied.assign(rows)["cluster"].to_pylist(), strict=True))
    assert 5 in found.values()
    assert 11 not in found.values()
    alone = Model(model.encoder, model.pca, centers[:1], model.fences[:1], "who", numbers=np.array([7], np.int32))
    assert set(clusters_in_duckdb(str(alone.export("sql", table=rows)), rows).values()) == {7}


@pytest.mark.parametrize("dialect", ["duckdb", "sqlite"])
def test_directions_and_weights_are_exported(tmp_path: Path, dialect: str) -> None:
    groups = {"old": {"columns": ["age"], "weight": 3.0}, "none": {"columns": ["plan"], "weight": 0.0}}
    config = {"features": {"roles": ROLES, "groups": groups}, "kmeans": {"metric": "cosine"}}
    rows = mixed(600, lists=False)
    settings = {"id": "who", "n_clusters": 4, "skip": ["map", "report", "explain"], "threads": 1}
    model = engine.fit(rows, out=tmp_path / "run", config=config, **settings).model
    assert model.metric == "cosine"
    assert '"plan"' not in str(model.export("sql", dialect=dialect, table=rows))
    found = check_sql(model, shifted(rows, 1), dialect)
    assert found.differing == found.within_rounding


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_statement_is_read_by_a_parser_of_its_dialect(model: Model, flat_model: Model, dialect: str) -> None:
    chosen, rows = (flat_model, mixed(20, lists=False)) if dialect == "sqlite" else (model, mixed(20))
    statement = str(chosen.export("sql", dialect=dialect, table=rows, relation="marts.people"))
    assert f"written for {DIALECTS[dialect].name}" in statement
    parser = sqlglot.Dialect.get_or_raise(dialect)
    (tree,) = parser.parse(statement)
    assert tree is not None
    assert not list(tree.find_all(sqlglot.exp.Command))
    assert [column.alias_or_name for column in tree.selects] == ["who", "cluster"]
    assert {str(found.name) for found in tree.find_all(sqlglot.exp.Table)} >= {"people", "given", "encoded", "best"}


def test_what_a_dialect_cannot_read_is_refused_by_name(model: Model) -> None:
    rows = mixed(20)
    with pytest.raises(UsageError, match=r"SQLite .*lists \('tags' and 'codes'\); vectors \('taste\[0\]'"):
        model.export("sql", dialect="sqlite", table=rows)
    with pytest.raises(UsageError, match="oracle is unknown"):
        model.export("sql", dialect="oracle", table=rows)
    with pytest.raises(UsageError, match="--to pmml is unknown"):
        model.export("pmml", table=rows)
    nameless = Model(model.encoder, model.pca, model.centers, model.fences, None)
    with pytest.raises(UsageError, match="no id column"):
        nameless.export("sql", table=rows)
    with pytest.raises(UsageError, match="as a column of the result"):
        nameless.export("sql", table=rows, id="cluster")
    with pytest.raises(UsageError, match="not in snowflake"):
        check_sql(model, rows, "snowflake")


def test_dates_and_numbers_in_texts_are_read_by_duckdb_and_refused_elsewhere(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    days = [f"{d:02d}/{m:02d}/2021" for d, m in zip(rng.integers(1, 29, 300), rng.integers(1, 13, 300), strict=True)]
    amounts = [f"€ {value:,}" for value in rng.integers(1, 9000, 300).tolist()]
    rows = pa.table({"who": range(300), "day": days, "amount": amounts, "age": rng.integers(1, 90, 300)})
    settings = {"id": "who", "n_clusters": 3, "skip": ["map", "report", "explain"], "threads": 1}
    model = engine.fit(rows, out=tmp_path / "run", **settings).model
    assert check_sql(model, rows, "duckdb").differing == 0
    for dialect in set(DIALECTS) - {"duckdb"}:
        with pytest.raises(UsageError, match=r"(?=.*numbers in texts \('amount'\))(?=.*not year first \('day'\))"):
            model.export("sql", dialect=dialect, table=rows)


def test_a_check_ends_at_its_deadline(flat_model: Model) -> None:
    with pytest.raises(OutOfResourcesError, match="longer than 0 seconds"):
        check_sql(flat_model, mixed(40, lists=False), "duckdb", deadline=0.0)


@pytest.mark.parametrize("dialect", ["duckdb", "sqlite"])
def test_a_difference_that_rounding_does_not_explain_is_an_error(flat_model: Model, dialect: str) -> None:
    encoder = FeatureEncoder(flat_model.encoder.plan)
    assert encoder.layout is encoder.layout  # the model goes on with this plan, and the export gets another one
    age, *others = encoder.plan.columns
    encoder.plan = encoder.plan.model_copy(update={"columns": (age.model_copy(update={"fill": 69.0}), *others)})
    model = Model(encoder, flat_model.pca, flat_model.centers, flat_model.fences, "who")
    rows = mixed(400, seed=4, lists=False)
    rows = rows.set_column(1, "age", pa.nulls(len(rows), pa.int64()))
    with pytest.raises(ExportDiffersError, match=f"of 400 rows have another cluster in {dialect}"):
        check_sql(model, rows, dialect)
