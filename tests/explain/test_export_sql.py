"""rules.sql, run by DuckDB on the same profiles, selects the people that the engine's rules match."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import engine
from engine.config import FitConfig
from engine.explain.binning.binner import Binner
from engine.explain.export import condition_document
from engine.explain.export_sql import SqlConditionWriter
from engine.explain.rules.conditions import Condition
from engine.export.sql_dialect import DUCKDB, STRIPPED
from engine.tables import open_table
from engine.utils.formatting import Vocabulary
from tests.explain.columns import COLUMNS, MARKS, SPACES, ZONES, column_of, conditions_of
from tests.explain.people import people

ROLES = {"level": "categorical", "languages": "multilabel"}


@pytest.fixture(scope="module", params=[0, 1])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> engine.Run:
    explain = {"min_people": 5, "sample_rows": 600}
    config = FitConfig.merge({}, features={"roles": ROLES}, explain=explain, skip=["map", "report"])
    out = tmp_path_factory.mktemp("sql") / "run"
    return engine.fit(people(seed=request.param), out=out, id="who", n_clusters=6, config=config)


def run_statements(run: engine.Run, seed: int) -> list[duckdb.DuckDBPyRelation]:
    connection = duckdb.connect()
    connection.register("profiles", people(seed=seed))
    statements = connection.extract_statements((run.path / "rules.sql").read_text())
    assert len(statements) == 2
    return [connection.sql(statement.query) for statement in statements]


def test_the_database_matches_the_people_that_the_engine_matched(
    run: engine.Run, request: pytest.FixtureRequest
) -> None:
    seed = request.node.callspec.params["run"]
    rules, labels = run.rules, run.assignments["cluster"].to_numpy()
    by_rules, by_tree = run_statements(run, seed)
    matched = by_rules.fetchnumpy()
    assert matched["who"].tolist() == run.assignments["who"].to_pylist()
    n_rules = 0
    for cluster in rules["clusters"]:
        in_rules = matched[f"cluster_{cluster['cluster']}"]
        assert in_rules.sum() == cluster["matched"]
        correct = in_rules & (labels == cluster["cluster"])
        assert correct.sum() == round(cluster["coverage"] * cluster["users"])
        n_rules += len(cluster["rules"])
    assert n_rules >= 4
    predicted = np.asarray(by_tree.fetchnumpy()["cluster"])
    assert (predicted == labels).mean() == pytest.approx(rules["full"]["fidelity"], abs=1e-4)


def test_the_json_holds_the_same_conditions_as_the_words(run: engine.Run) -> None:
    document = json.loads((run.path / "rules.json").read_text())
    for cluster in document["clusters"]:
        for rule in cluster["rules"]:
            assert rule["conditions"]
            assert rule["users"] >= 5
            for condition in rule["conditions"]:
                assert condition["column"] in people(10).column_names
                assert {"at_least", "below", "holds"} & set(condition)


def test_every_condition_means_the_same_in_sql(run: engine.Run, request: pytest.FixtureRequest) -> None:
    table, plan = people(seed=request.node.callspec.params["run"]), run.model.encoder.plan
    columns = [column.column for column in plan.columns]
    rows = run.model.encoder.read_block(table)
    binner = Binner.from_sample(plan, rows, Vocabulary.from_schema(table.schema, columns, {}, {}))
    bins = binner.unpack(binner.pack(rows))
    writer = SqlConditionWriter(plan, table.schema)
    connection = duckdb.connect()
    connection.register("profiles", table)
    kinds = set()
    for number, predicate in enumerate(binner.predicates):
        top = predicate.n_bins - 1
        for low, high in {(0, top // 2), (top // 2 + 1, top), (top // 3, 2 * top // 3)} - {(0, top)}:
            sql = writer.sql(condition_document(Condition(predicate, low, high)))
            selected = connection.sql(f"SELECT ({sql}) FROM profiles").fetchall()
            expected = (bins[number] >= low) & (bins[number] <= high)
            assert [row[0] is True for row in selected] == expected.tolist(), sql
        kinds.add((predicate.kind, str(table.schema.field(predicate.column).type)))
    assert {kind for kind, _ in kinds} == {
        "number", "date", "truth", "category", "label", "rare category", "missing",
    }  # fmt: skip
    assert {("label", "list<element: string>"), ("label", "string"), ("date", "timestamp[us]"), ("truth", "bool")} <= {
        (kind, type.replace("item", "element")) for kind, type in kinds
    }


@pytest.fixture(scope="module")
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("profiles")


@pytest.mark.filterwarnings("ignore::engine.features.fit.ColumnsDroppedWarning")
@pytest.mark.parametrize("name", COLUMNS)
@settings(max_examples=12)
@given(st.data())
def test_a_condition_selects_the_rows_that_the_engine_selects(
    folder: Path, database: duckdb.DuckDBPyConnection, name: str, data: st.DataObject
) -> None:
    rows, zone = data.draw(column_of(name)), data.draw(st.sampled_from(ZONES))
    path = folder / "profiles.parquet"
    pq.write_table(rows, path)
    marks = data.draw(st.sampled_from([None, MARKS.get(name)]))
    conditions = list(conditions_of(open_table(path), name, marks))
    expressions = ", ".join(f"COALESCE(({sql}), FALSE)" for _, _, sql in conditions) or "TRUE"
    database.execute(f"SET TimeZone = '{zone}'")
    database.execute(f"CREATE OR REPLACE TABLE profiles AS SELECT * FROM '{path}'")
    for source in ("profiles", f"'{path}'"):
        selected = database.execute(f'SELECT {expressions} FROM {source} ORDER BY "row"').fetchall()
        for (_, expected, sql), found in zip(conditions, zip(*selected, strict=True), strict=False):
            assert list(found) == expected, sql


@given(st.floats(allow_nan=False))
def test_a_number_is_written_as_a_literal_of_this_very_double(value: float) -> None:
    literal = DUCKDB.number(value)
    assert duckdb.execute(f"SELECT CAST(? AS DOUBLE) = {literal}, CAST({literal} AS DOUBLE)", [value]).fetchall() == [
        (True, value)
    ]


@given(st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(SPACES + "'\"\\\r;")))
def test_a_text_is_written_as_a_literal_without_hidden_characters(value: str) -> None:
    literal = DUCKDB.text(value)
    assert literal.isprintable()
    assert duckdb.execute(f"SELECT {literal}").fetchall() == [(value,)]


def test_what_is_stripped_is_what_the_engine_strips() -> None:
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code <= 0xDFFF]
    stripped = pc.equal(pc.utf8_trim_whitespace(pa.array(characters)), "").to_pylist()
    assert {c for c, gone in zip(characters, stripped, strict=True) if gone} == set(STRIPPED)


def test_names_that_differ_in_case_only_are_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = pa.table({"id": pa.array(range(60)), "Age": rng.normal(size=60), "age": rng.normal(size=60)})
    run = engine.fit(table, out=tmp_path / "run", id="id", n_clusters=2, config=FitConfig(skip=["map", "report"]))
    assert '-- The names "Age" and "age" differ in case only' in (run.path / "rules.sql").read_text()


def test_rules_sql_says_its_dialect_and_where_missing_values_count(run: engine.Run) -> None:
    header = (run.path / "rules.sql").read_text().split("SELECT")[0]
    assert "written for DuckDB" in header
    assert "NaN" in header
    assert "COALESCE(..., TRUE)\n-- holds for it" in header
