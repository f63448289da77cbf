"""Text columns that hold numbers: recognised, fitted, named in roles and warnings, and parsed alike in new rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

import engine
from engine.config import FitConfig
from engine.errors import RetypedColumnError
from engine.features.encoder import FeatureEncoder
from engine.features.encoding_plan import EncodingPlan, NumberPlan
from engine.features.fit import FittedFeatures, fit_encoder
from engine.features.number_columns import NumberTextsWarning
from engine.tables import BLOCK_ROWS, open_table

N = 600
RNG = np.random.default_rng(3)
AMOUNTS = np.round(np.exp(RNG.normal(7, 1, N))).astype(int)
AGES = RNG.integers(18, 90, N)


def fit_features(source: Any, **options: Any) -> FittedFeatures:
    return fit_encoder(open_table(source), **options)


def moments(features: FittedFeatures, name: str) -> tuple[float, float, int]:
    column = features.statistics.columns[name]
    return column.moments.minimum, column.moments.maximum, column.n_missing


def write_csv(path: Path, columns: dict[str, list[str]], delimiter: str) -> Path:
    rows = zip(*columns.values(), strict=True)
    lines = [delimiter.join(columns), *(delimiter.join(row) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def with_marks(texts: list[str], mark: str) -> list[str]:
    return [mark if i % 50 == 0 else text for i, text in enumerate(texts)]


def test_a_column_with_thousands_points_leaves_the_decimal_commas_of_others_alone(tmp_path: Path) -> None:
    columns = {
        "revenue": [f"{x:,}".replace(",", ".") for x in AMOUNTS],
        "height": [f"{1.5 + a / 100:.2f}".replace(".", ",") for a in AGES],
    }
    with pytest.warns(NumberTextsWarning, match="'revenue' .written with thousands points"):
        features = fit_features(write_csv(tmp_path / "de.csv", columns, ";"))
    assert moments(features, "revenue") == (AMOUNTS.min(), AMOUNTS.max(), 0)
    assert moments(features, "height") == pytest.approx((1.5 + AGES.min() / 100, 1.5 + AGES.max() / 100, 0))


@pytest.mark.parametrize("point", ".,")
def test_three_decimals_of_a_larger_unit_are_the_same_from_every_source(tmp_path: Path, point: str) -> None:
    weights = [f"{x} g" if x < 1000 else f"{x / 1000:.3f} kg".replace(".", point) for x in map(int, AMOUNTS)]
    columns = {"weight": weights, "height": [f"{1.5 + a / 100:.2f}" for a in AGES]}
    pq.write_table(pa.table({"weight": weights, "height": 1.5 + AGES / 100}), tmp_path / "table.parquet")
    for source in (write_csv(tmp_path / "table.csv", columns, ";"), tmp_path / "table.parquet", pa.table(columns)):
        with pytest.warns(NumberTextsWarning, match="'weight' .written with .*units of mass"):
            features = fit_features(source)
        assert moments(features, "weight") == pytest.approx((AMOUNTS.min(), AMOUNTS.max(), 0), rel=1e-12)


@pytest.mark.parametrize(
    ("delimiter", "mark"), [("\t", ","), (";", "."), (",", "."), ("|", "."), (",", "'"), (";", " ")]
)
def test_thousands_marks_are_read_in_a_file_without_decimals(tmp_path: Path, delimiter: str, mark: str) -> None:
    columns = {"revenue": [f"{x:,}".replace(",", mark) for x in AMOUNTS], "age": [str(a) for a in AGES]}
    with pytest.warns(NumberTextsWarning, match="'revenue'"):
        features = fit_features(write_csv(tmp_path / "table.csv", columns, delimiter))
    assert moments(features, "revenue") == (AMOUNTS.min(), AMOUNTS.max(), 0)


def test_numbers_with_three_decimals_each_stay_decimals(tmp_path: Path) -> None:
    columns = {"weight": [f"{a / 10:.3f}" for a in AGES]}
    features = fit_features(write_csv(tmp_path / "table.csv", columns, ","))
    assert moments(features, "weight") == (AGES.min() / 10, AGES.max() / 10, 0)


@pytest.mark.parametrize("mark", [" ", "n/a", "NA"])
def test_words_for_missing_values_among_numbers_of_a_csv_file_are_read_as_such(tmp_path: Path, mark: str) -> None:
    columns = {"visits": with_marks([str(a) for a in AGES], mark), "spend": [str(a) for a in AGES]}
    features = fit_features(write_csv(tmp_path / "table.csv", columns, ","))
    present = np.delete(AGES, np.arange(0, N, 50))
    assert moments(features, "visits") == (present.min(), present.max(), 12)
    assert (f"missing values written as '{mark}'" in features.roles[0].reason) == (mark != " ")


MARKS = [r"\N", "?", "-", "<NA>", "#DIV/0!", ".", "none", "(blank)"]


@pytest.mark.parametrize(
    ("source", "mark"),
    [
        *((source, mark) for source in ("csv", "arrow", "parquet") for mark in MARKS),
        *((source, mark) for source in ("arrow", "parquet") for mark in (" ", "n/a", "NA")),
    ],
)
def test_marks_of_missing_numbers_leave_a_column_of_numbers(tmp_path: Path, source: str, mark: str) -> None:
    columns = {"visits": with_marks([str(a) for a in AGES], mark), "spend": with_marks([f"{a}.5" for a in AGES], mark)}
    table: Any = pa.table(columns)
    if source == "csv":
        table = write_csv(tmp_path / "table.csv", columns, ",")
    elif source == "parquet":
        pq.write_table(table, table := tmp_path / "table.parquet")
    with pytest.warns(NumberTextsWarning, match="'visits'.*12 missing values.*'spend'"):
        features = fit_features(table)
    assert [role.role for role in features.roles] == ["numeric", "numeric"]
    shown = "blanks" if mark == " " else f"'{mark}'"
    assert f"12 missing values written as {shown}" in features.roles[0].reason
    present = np.delete(AGES, np.arange(0, N, 50))
    assert moments(features, "visits") == (present.min(), present.max(), 12)


def test_numbers_that_begin_after_many_missing_ones_are_found() -> None:
    texts = ["-"] * 2000 + [f"{a}.5" for a in AGES]
    with pytest.warns(NumberTextsWarning, match="2,000 missing values written as '-'"):
        assert moments(fit_features(pa.table({"x": texts})), "x") == (AGES.min() + 0.5, AGES.max() + 0.5, 2000)


def test_a_few_equal_words_are_missing_numbers_but_many_words_stay_text() -> None:
    texts = [str(a) for a in AGES]
    with pytest.warns(NumberTextsWarning, match="12 missing values written as words"):
        assert moments(fit_features(pa.table({"age": with_marks(texts, "refused")})), "age")[2] == 12
    half = ["65 or more" if a >= 65 else text for a, text in zip(AGES, texts, strict=True)]
    with pytest.warns(NumberTextsWarning, match="look like numbers stay texts: 'age' .*of 600 texts are no numbers"):
        assert fit_features(pa.table({"age": half})).roles[0].role == "categorical"


def test_digits_in_a_text_column_stay_categories_unless_the_role_says_numbers() -> None:
    rows = pa.table({"age": [str(a) for a in AGES], "level": [str(a % 5) for a in AGES]})
    with pytest.warns(NumberTextsWarning, match="'age' .digits in a column of texts may be codes.; --role COLUMN=num"):
        assert [role.role for role in fit_features(rows).roles] == ["categorical", "categorical"]
    with pytest.warns(NumberTextsWarning):
        features = fit_features(rows, column_roles={"age": "numeric", "level": "numeric"})
    assert [role.role for role in features.roles] == ["numeric", "numeric"]
    assert moments(features, "level") == (0, 4, 0)


def test_codes_with_leading_zeros_stay_text(tmp_path: Path) -> None:
    codes = [f"{a % 30 * 997 + 1001:05d}" for a in AGES]
    columns = {"zip": codes, "age": [str(a) for a in AGES]}
    assert fit_features(write_csv(tmp_path / "table.csv", columns, ",")).roles[0].role == "categorical"


def test_a_role_of_numbers_refuses_texts_that_are_none_with_their_number() -> None:
    texts = ["about 30" if i in (3, 5) else str(a) for i, a in enumerate(AGES)]
    with pytest.raises(RetypedColumnError, match="'age' was set to numeric, but 2 of its 600 texts are no numbers"):
        fit_features(pa.table({"age": texts}), column_roles={"age": "numeric"})


def test_later_texts_that_are_no_numbers_are_counted_and_refused_if_they_are_many() -> None:
    first = [f"{i % 500}.5" for i in range(BLOCK_ROWS)]
    with pytest.warns(NumberTextsWarning, match="3 other texts taken as missing"):
        features = fit_features(pa.table({"x": first + ["7 or 8"] * 3}))
    assert moments(features, "x") == (0.5, 499.5, 3)
    with pytest.raises(RetypedColumnError, match="'x' holds numbers in its first rows, but 3,000 of its 35,768 texts"):
        fit_features(pa.table({"x": first + ["7 or 8"] * 3000}))


def test_new_rows_are_parsed_as_the_rows_of_the_fit(tmp_path: Path) -> None:
    # 1.299 alone does not show what its point means: the model knows.
    columns = {
        "revenue": with_marks([f"{x:,}".replace(",", ".") for x in AMOUNTS], "k.A."),
        "age": [str(a) for a in AGES],
    }
    path = write_csv(tmp_path / "table.csv", columns, ";")
    config = FitConfig.merge({}, skip=["map", "report", "explain"])
    with pytest.warns(NumberTextsWarning, match="'revenue'"):
        run = engine.fit(path, out=tmp_path / "run", n_clusters=3, config=config)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert "thousands points; 12 missing values written as 'k.A.'" in manifest["columns"][0]["reason"]
    again = engine.load(tmp_path / "run").assign(path)
    assert again["cluster"].to_pylist() == run.assignments["cluster"].to_pylist()
    new = write_csv(tmp_path / "new.csv", {"revenue": ["1.299"], "age": ["40"]}, ";")
    as_numbers = pa.table({"revenue": [1299.0], "age": [40]})
    model = engine.load(tmp_path / "run")
    assert model.assign(new).equals(model.assign(as_numbers))
    wrong = write_csv(tmp_path / "wrong.csv", {"revenue": ["1299 or so"], "age": ["40"]}, ";")
    with pytest.raises(RetypedColumnError, match="1 of 1 texts of column 'revenue' are no numbers"):
        model.assign(wrong)


def test_a_run_on_units_and_durations_has_rules_that_select_the_same_people(tmp_path: Path) -> None:
    columns = {
        "income": [f"{x / 1000:.2f}k" if x > 900 else f"{x}" for x in AMOUNTS.tolist()],
        "session": [f"{a // 60:02d}:{a % 60:02d}:{a % 7:02d}" for a in (AGES * 37).tolist()],
        "watched": [f"{a // 8} h {a % 8} min" if a % 3 else f"{a} min" for a in AGES.tolist()],
        "start": [f"{a % 24:02d}:{a % 60:02d}" for a in AGES.tolist()],  # pyarrow would read times here
    }
    path = write_csv(tmp_path / "in.csv", columns, ",")
    config = FitConfig.merge({}, skip=["map", "report"], explain={"min_people": 3})
    with pytest.warns(NumberTextsWarning, match="'income' .*magnitudes.*'session' .*durations.*'start'"):
        run = engine.fit(path, out=tmp_path / "run", n_clusters=5, config=config)
    plans = json.loads((tmp_path / "run/model/model.json").read_text())["plan"]["columns"]
    forms = [(plan["number_format"]["scale"], plan["number_format"]["duration"], plan["unit"]) for plan in plans]
    assert forms == [("magnitude", "", None), ("", "clock", "s"), ("", "units", "s"), ("", "pair", None)]
    again = engine.load(tmp_path / "run").assign(path)["cluster"].to_pylist()
    assert again == run.assignments["cluster"].to_pylist()
    connection = duckdb.connect()
    connection.execute(f"CREATE TABLE profiles AS SELECT * FROM read_csv('{path}', all_varchar = true)")
    rules, tree = connection.extract_statements((tmp_path / "run/rules.sql").read_text())
    counted = connection.sql(rules.query).fetchnumpy()
    assert [int(counted[f"cluster_{c['cluster']}"].sum()) for c in run.rules["clusters"]] == [
        c["matched"] for c in run.rules["clusters"]
    ]
    by_tree = connection.sql(tree.query).fetchnumpy()["cluster"].tolist()
    right = round(sum(a == b for a, b in zip(by_tree, again, strict=True)) / N, 4)
    assert right == run.rules["full"]["fidelity"]


def test_a_plan_stores_the_format_only_of_text_columns() -> None:
    with pytest.warns(NumberTextsWarning):
        features = fit_features(pa.table({"price": [f"${x:,}.50" for x in AMOUNTS], "age": AGES}))
    stored = features.encoder.plan.model_dump(mode="json")
    assert stored["columns"][0]["unit"] == "$"
    assert "number_format" not in stored["columns"][1]
    encoder = FeatureEncoder(EncodingPlan.model_validate(stored))
    rows = pa.table({"price": ["$1,299.50", "?"], "age": [40, 40]})
    as_numbers = pa.table({"price": [1299.5, None], "age": [40, 40]})
    np.testing.assert_array_equal(encoder.encode(rows), encoder.encode(as_numbers))


def test_thousands_points_that_come_late_are_read_as_if_they_came_first(tmp_path: Path) -> None:
    n = 400_000  # more than the bytes that types are guessed from
    path = tmp_path / "table.csv"
    pacsv.write_csv(pa.table({"x": [*(str(i % 900) for i in range(n)), *["1.290", "2.345"] * 9000]}), path)
    path.write_text(path.read_text().replace('"', ""))
    with pytest.warns(NumberTextsWarning, match=r"'x' \(written with thousands points\)"):
        features = fit_features(path)
    assert moments(features, "x") == (0, 2345, 0)


UNSURE = {
    "a unit that has thousandths": ([f"{1 + n % 50}.{100 + n} kg" if n % 3 else f"{100 + n} kg" for n in range(60)], 1),
    "points in all numbers": ([f"{1 + n % 9}.{100 + n}" for n in range(60)], 1),
    "commas in all numbers": ([f"{1 + n % 9},{100 + n}" for n in range(60)], 1),
    "points of several units": ([f"{1 + n % 9}.{100 + n} {'kg' if n % 2 else 'g'}" for n in range(60)], 1),
    "money beside whole numbers": ([f"{1 + n % 50}.{100 + n} €" if n % 3 else f"{100 + n} €" for n in range(60)], 0),
    "whole numbers and others": ([f"{1 + n % 50},{100 + n}" if n % 3 else f"{100 + n}" for n in range(60)], 0),
    "two marks between thousands": ([f"{1 + n}.{100 + n}.{200 + n} kg" for n in range(60)], 0),
    "decimals of two digits": ([f"{1 + n}.{10 + n} kg" for n in range(60)], 0),
}


@pytest.mark.parametrize("name", UNSURE)
def test_marks_that_may_be_of_the_other_kind_are_said_to_be(name: str) -> None:
    texts, unsure = UNSURE[name]
    rows = pa.table({"w": texts, "x": np.random.default_rng(0).normal(size=60)})
    with pytest.warns(NumberTextsWarning) as warned:
        features = fit_encoder(open_table(rows))
    (role,) = [role for role in features.roles if role.column == "w"]
    (message,) = [str(warning.message) for warning in warned if "'w'" in str(warning.message)]
    for text in (role.reason, message):
        assert ("which may mark thousands" in text or "may be decimal ones" in text) == bool(unsure)
    assert ("write thousands without marks" in message) == bool(unsure)
    (plan,) = [plan for plan in features.encoder.plan.columns if plan.column == "w"]
    assert isinstance(plan, NumberPlan)
    stored = plan.model_dump()
    assert ("unsure" in stored["number_format"]) == bool(unsure)
    assert NumberPlan.model_validate(stored) == plan


def test_what_other_columns_show_leaves_no_doubt() -> None:
    rows = pa.table({"w": UNSURE["points in all numbers"][0], "h": [f"1,{50 + n}" for n in range(60)]})
    with pytest.warns(NumberTextsWarning) as warned:
        features = fit_encoder(open_table(rows))
    assert not any("may " in str(warning.message) for warning in warned)
    assert "thousands points" in next(role.reason for role in features.roles if role.column == "w")
