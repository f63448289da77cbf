"""rules.sql, run by DuckDB on the same profiles, selects the people that the engine's rules match."""

from __future__ import annotations

import json
import math
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
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
from engine.explain.export_sql import SqlConditionWriter
from engine.explain.rules.conditions import Condition
from engine.export.sql_dialect import DUCKDB, STRIPPED
from engine.features.fit import fit_encoder
from engine.tables import Table, open_table
from engine.utils.formatting import Vocabulary
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
            sql = writer.sql(Condition(predicate, low, high))
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


# Every kind of column, with the values that databases answer differently: on a threshold in float32, NaN beside NULL,
# white space at the ends, moments before 1970, numbers that are no double.

TOOLS = 'say "tools", it'
SPACES = "".join(c for c in map(chr, range(0x3001)) if pc.utf8_trim_whitespace(pa.scalar(c)).as_py() == "")
CENTS = st.integers(0, 12).map(lambda cents: cents / 100)
WORDS = ["", "a", "a\n", " a", "a\r\n", "it's", 'say "a"', "a;\n", "a\u2028"]
LABELS = st.lists(st.sampled_from(["a", "b", "it's", "\u00a0c"]), max_size=3)
CELL = st.tuples(st.text(SPACES, max_size=2), LABELS, st.text(" \t\n\f\r", max_size=1), st.text(SPACES, max_size=2))
ESCAPED = st.tuples(
    st.lists(st.sampled_from(["a", "it's", 'say "a"', "\u00e9/b", "b\\n", "x, y"]), max_size=3),
    st.text(SPACES, max_size=2),
    st.booleans(),
)


def array(labels: list[str], has_null: bool) -> str:
    """Write labels as PostgreSQL does."""
    escaped = [label.replace("\\", "\\\\").replace('"', '\\"') for label in labels]
    written = [f'"{text}"' if set(text) & set(' ,"\\') else text for text in escaped]
    return "{" + ",".join([*written[:1], *["NULL"] * has_null, *written[1:]]) + "}"


DAY = 86_400_000_000  # microseconds
MOMENT = st.integers(-3 * DAY, 3 * DAY) | st.builds(
    int.__add__, st.sampled_from([-DAY, 0, DAY]), st.integers(-2000, 2000)
)
COLUMNS: dict[str, tuple[pa.DataType, st.SearchStrategy[object], str]] = {
    "float64": (pa.float64(), CENTS | st.just(math.nan), "numeric"),
    "float32": (pa.float32(), CENTS | st.just(math.nan), "numeric"),
    "float16": (pa.float16(), CENTS | st.just(math.nan), "numeric"),
    "decimal": (pa.decimal128(20, 2), st.integers(0, 99).map(lambda cents: Decimal(cents) / 100), "numeric"),
    "large": (pa.int64(), st.integers(2**53 - 3, 2**53 + 3), "numeric"),
    "unsigned": (pa.uint64(), st.integers(2**64 - 5000, 2**64 - 1), "numeric"),
    "truth": (pa.bool_(), st.booleans(), "boolean"),
    "vector": (pa.list_(pa.float32(), 2), st.lists(CENTS | st.just(math.nan), min_size=2, max_size=2), "numeric"),
    "half vector": (pa.list_(pa.float16()), st.lists(CENTS, min_size=1, max_size=1), "numeric"),
    "day": (pa.date32(), st.dates(date(1969, 11, 1), date(1970, 3, 1)), "date"),
    "moment": (pa.timestamp("us"), MOMENT, "date"),
    "zoned": (pa.timestamp("us", tz="Asia/Tokyo"), MOMENT, "date"),
    "zoned ns": (pa.timestamp("ns", tz="UTC"), MOMENT.map(lambda us: us * 1000), "date"),
    "word": (pa.string(), st.sampled_from(WORDS), "categorical"),
    "grade": (pa.float32(), CENTS | st.sampled_from([math.nan, math.inf, 1e20, 1e30]), "categorical"),
    "float grade": (pa.float32(), CENTS | st.just(math.nan), "categorical"),
    "half grade": (pa.float16(), CENTS, "categorical"),
    "level": (pa.int64(), st.sampled_from([1, 2, 2**53 + 1, 2**63 - 1]), "categorical"),
    "smoker": (pa.bool_(), st.booleans(), "categorical"),
    "tags": (pa.list_(pa.string()), st.lists(st.sampled_from(["a", "a\n", "it's", None]), max_size=2), "multilabel"),
    "codes": (pa.list_(pa.int64()), st.lists(st.sampled_from([1, 2, 2**62]), max_size=2), "multilabel"),
    TOOLS: (
        pa.string(),
        CELL.map(lambda cell: cell[0] + f"{cell[2]};{cell[2]}".join(cell[1]) + cell[3]),
        "multilabel",
    ),
    "json": (pa.string(), ESCAPED.map(lambda cell: cell[1] + json.dumps(cell[0], ensure_ascii=cell[2])), "multilabel"),
    "php": (pa.string(), ESCAPED.map(lambda cell: json.dumps(cell[0]).replace("/", "\\/") + cell[1]), "multilabel"),
    "python": (pa.string(), ESCAPED.map(lambda cell: repr(cell[0][:1] + [None] * cell[2] + cell[0][1:])), "multilabel"),
    "array": (pa.string(), ESCAPED.map(lambda cell: array(cell[0], cell[2]) + cell[1]), "multilabel"),
    "set": (pa.string(), LABELS.map(lambda labels: "{" + ", ".join(labels) + "}"), "multilabel"),
    "blanks": (pa.string(), LABELS.map(" ".join), "multilabel"),
    "commas": (pa.string(), LABELS.map(",".join), "multilabel"),
}  # fmt: skip
LISTS = {
    "array": ["{a}"],
    "json": ['["a"]'],
    "php": ['["a"]'],
    "python": ["['a']"],
    "set": ["{a}"],
    "blanks": ["a b"],
    "commas": ["a,b"],
}
# Of the separator and of the lengths.
FIRST_CELLS = LISTS | {
    TOOLS: ["a;b"],
    "vector": [[0.0, 0.12]],
    "half vector": [[0.0]],
}
MARKS = {
    "float64": ("0.05", "0.07"), "float32": ("0.05",), "float16": ("0.05",), "decimal": ("0.05",),
    "large": (str(2**53 + 2),), "unsigned": (str(2**64 - 2048),), "truth": ("1",), "grade": ("0.05", "1e20"),
    "day": ("1970-01-01", "1970-01-02"), "moment": ("1970-01-01", "1969-12-31"), "zoned": ("1970-01-01",),
    "zoned ns": ("1970-01-01",), "word": ("a", "it's"), "float grade": ("0.05",), "half grade": ("0.05",),
    "level": (str(2**53 + 1),), "smoker": ("true",),
}  # fmt: skip
SQLITE_TYPES = {"large": "INTEGER", "truth": "INTEGER", "level": "INTEGER", "smoker": "INTEGER"}
ZONES = ("America/New_York", "Asia/Tokyo")


def column_of(name: str) -> st.SearchStrategy[pa.Table]:
    """Return tables of a column of this kind and of the rows' numbers."""
    kind, values, _ = COLUMNS[name]

    def table(cells: list[object]) -> pa.Table:
        cells = [*FIRST_CELLS.get(name, ()), *cells]
        return pa.table({name: pa.array(cells, kind, from_pandas=False), "row": pa.array(range(len(cells)))})

    return st.lists(st.none() | values, min_size=8, max_size=40).map(table)


def conditions_of(
    table: Table, name: str, marks: tuple[str, ...] | None = None
) -> Iterator[tuple[Condition, list[bool], str]]:
    """Yield every condition on a column, whether the engine says that it holds for each row, and its SQL."""
    roles = {name: COLUMNS[name][2], "row": "numeric"}
    (block,) = table.blocks()
    encoder = fit_encoder(table, column_roles=roles, missing={} if marks is None else {name: marks}).encoder
    plan, rows = encoder.plan, encoder.read_block(block.rows)
    columns = [column.column for column in plan.columns]
    binner = Binner.from_sample(plan, rows, Vocabulary.from_schema(table.schema, columns, {}, {}))
    bins = binner.unpack(binner.pack(rows))
    writer = SqlConditionWriter(plan, table.schema)
    for number, predicate in enumerate(binner.predicates):
        top = predicate.n_bins - 1
        for low in range(top + 1):
            for high in {low, top, top // 2} - set(range(low)):
                if predicate.column != "row" and (low, high) != (0, top):
                    condition = Condition(predicate, low, high)
                    yield condition, ((bins[number] >= low) & (bins[number] <= high)).tolist(), writer.sql(condition)


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


# SQLite has neither dates and lists nor chr(), and its integers end at 2^63.
IN_SQLITE = ("float64", "float32", "decimal", "large", "truth", "level", "smoker", "float grade")


@pytest.mark.filterwarnings("ignore::engine.features.fit.ColumnsDroppedWarning")
@pytest.mark.parametrize("name", IN_SQLITE)
@settings(max_examples=12)
@given(st.data())
def test_sqlite_runs_conditions_on_numbers(name: str, data: st.DataObject) -> None:
    rows = data.draw(column_of(name))
    cells = [float(cell) if isinstance(cell, Decimal) else cell for cell in rows.column(name).to_pylist()]
    connection = sqlite3.connect(":memory:")
    connection.execute(f'CREATE TABLE profiles ("row" INTEGER, "{name}" {SQLITE_TYPES.get(name, "REAL")})')
    connection.executemany("INSERT INTO profiles VALUES (?, ?)", enumerate(cells))
    marks = data.draw(st.sampled_from([None, MARKS[name]]))
    for _, expected, sql in conditions_of(open_table(rows), name, marks):
        selected = connection.execute(f'SELECT ({sql}) FROM profiles ORDER BY "row"').fetchall()
        assert [row[0] == 1 for row in selected] == expected, sql
    connection.close()


# PostgreSQL has no list_contains.
IN_POSTGRES = {
    "float64": "double precision", "float32": "real", "float16": "real", "decimal": "numeric(20, 2)", "large": "bigint",
    "unsigned": "numeric(20)", "truth": "boolean", "vector": "real[]", "half vector": "real[]", "day": "date",
    "moment": "timestamp", "zoned": "timestamptz", "zoned ns": "timestamptz", "word": "text", "grade": "real",
    "float grade": "real", "half grade": "real", "level": "bigint", "smoker": "boolean", TOOLS: "text",
} | dict.fromkeys(LISTS, "text")  # fmt: skip


@pytest.fixture(scope="module")
def postgres() -> str:
    address = os.environ.get("ROOMS_TEST_POSTGRES")
    if address is None:
        pytest.skip("set ROOMS_TEST_POSTGRES to the address of a PostgreSQL server, as psql takes it")
    if shutil.which("psql") is None:
        pytest.fail("ROOMS_TEST_POSTGRES is set, but there is no psql on the PATH")
    return address


@pytest.mark.filterwarnings("ignore::engine.features.fit.ColumnsDroppedWarning")
@pytest.mark.parametrize("name", IN_POSTGRES)
@settings(max_examples=12)
@given(st.data())
def test_postgres_runs_conditions_on_all_but_lists(postgres: str, name: str, data: st.DataObject) -> None:
    rows, zone = data.draw(column_of(name)), data.draw(st.sampled_from(ZONES))
    conditions = list(conditions_of(open_table(rows), name))
    cells = rows.column(name)
    texts = [f"({sql})" for _, _, sql in conditions]
    if pa.types.is_timestamp(cells.type):
        cells = cells.cast(pa.timestamp("us"))
    values = ", ".join(f"({number}, {postgres_literal(cell)})" for number, cell in enumerate(cells.to_pylist()))
    script = [
        f"SET TimeZone = '{zone}';",
        f'CREATE TEMP TABLE profiles ("row" integer, {DUCKDB.identifier(name)} {IN_POSTGRES[name]});',
        f"INSERT INTO profiles VALUES {values};",
        *(
            f"SELECT string_agg(COALESCE(({sql}), FALSE)::int::text, '' ORDER BY \"row\") FROM profiles;"
            for sql in texts
        ),
    ]
    command = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-", postgres]
    answer = subprocess.run(command, input="\n".join(script), capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    for selected, (_, expected, sql) in zip(answer.stdout.splitlines(), conditions, strict=True):
        assert [flag == "1" for flag in selected] == expected, sql


def postgres_literal(cell: object) -> str:
    if cell is None:
        return "NULL"
    if isinstance(cell, list):
        return "'{" + ", ".join("NULL" if number is None else str(number) for number in cell) + "}'"
    if isinstance(cell, str):
        return DUCKDB.text(cell)
    return f"'{cell}+00'" if isinstance(cell, datetime) else f"'{cell}'"


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
