"""Text columns that hold dates: the same roles and bits from every format, said in reasons, log and warnings."""

from __future__ import annotations

import datetime as dt
import json
import warnings
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.orc as orc
import pyarrow.parquet as pq
import pytest

import engine
from engine.config import FitConfig
from engine.errors import RetypedColumnError
from engine.features.date_columns import DateTextsWarning
from engine.features.encoder import FeatureEncoder
from engine.features.encoding_plan import EncodingPlan
from engine.features.fit import FittedFeatures, fit_encoder
from engine.features.missing_marks import MissingMarksWarning
from engine.tables import BLOCK_ROWS, open_table

N = 600
RNG = np.random.default_rng(8)
DAYS = [dt.date(2012, 1, 1) + dt.timedelta(days=int(d)) for d in RNG.integers(0, 900, N)]
AGES = RNG.integers(18, 90, N)
COLUMNS = {
    "iso": [f"{day} 00:00:00" for day in DAYS],
    "slashes": [day.strftime("%Y/%m/%d") for day in DAYS],
    "days": [day.strftime("%d-%m-%Y") for day in DAYS],
    "names": [day.strftime("%b %d, %Y") for day in DAYS],
    "gaps": ["n/a" if i % 7 == 0 else day.strftime("%m/%d/%Y 1:30 PM") for i, day in enumerate(DAYS)],
}


def fit_features(source: Any, **options: Any) -> FittedFeatures:
    return fit_encoder(open_table(source), **options)


def test_csv_parquet_orc_arrow_and_pandas_give_the_same_roles_and_bits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = pa.table(COLUMNS)
    pq.write_table(table, tmp_path / "a.parquet")
    orc.write_table(table, tmp_path / "a.orc")
    frame = table.to_pandas()
    frame.to_csv(tmp_path / "a.csv", index=False)
    with caplog.at_level("INFO", logger="engine"):
        expected = fit_features(table)
    assert "'days' (written with the day first)" in caplog.text
    X = expected.encoder.encode(table)
    assert {role.role for role in expected.roles} == {"date"}
    assert expected.statistics.columns["gaps"].n_missing == sum(text == "n/a" for text in COLUMNS["gaps"])
    assert np.array_equal(X[:, 0], X[:, 2])
    for source in (tmp_path / "a.parquet", tmp_path / "a.orc", tmp_path / "a.csv", frame):
        features = fit_features(source)
        (block,) = open_table(source).blocks()
        assert [role.role for role in features.roles] == ["date"] * 5
        assert np.array_equal(features.encoder.encode(block.rows), X)


def test_an_order_that_the_texts_leave_open_is_warned_of_and_taken_from_other_columns() -> None:
    early = [day.replace(day=1 + day.day % 12) for day in DAYS]
    columns = {"start": [day.strftime("%d/%m/%Y") for day in early], "end": COLUMNS["days"][::-1]}
    with pytest.warns(DateTextsWarning, match="'start' .written with the month first, which the texts leave open"):
        features = fit_features(pa.table({"start": columns["start"], "age": AGES}))
    assert "leave open" in features.roles[0].reason
    features = fit_features(pa.table(columns))
    assert features.roles[0].reason.startswith("dates; written with the day first")


NUMBERS = np.array([int(day.strftime("%Y%m%d")) for day in DAYS])
NUMBER_COLUMNS = {
    "int64": NUMBERS,
    "int32": NUMBERS.astype(np.int32),
    "float64": NUMBERS.astype(np.float64),
    "texts": NUMBERS.astype(str),
    "months": NUMBERS // 100 * 100 + 1,
}


@pytest.mark.parametrize("kind", NUMBER_COLUMNS)
def test_numbers_such_as_20240904_are_dates_and_the_warning_says_so(kind: str) -> None:
    values = NUMBER_COLUMNS[kind]
    table = pa.table({"x": values if kind != "months" else values // 100, "age": AGES})
    with pytest.warns(DateTextsWarning, match="are read as dates: 'x' .written with year.* in digits"):
        features = fit_features(table)
    days = [day.replace(day=1) if kind == "months" else day for day in DAYS]
    expected = fit_features(pa.table({"x": pa.array(days, pa.date32()), "age": AGES}))
    assert features.roles[0].reason.startswith("dates; written with year")
    assert features.statistics.columns["x"].moments == expected.statistics.columns["x"].moments
    as_dates = pa.table({"x": pa.array(days, pa.date32()), "age": AGES})
    X = features.encoder.encode(table)
    assert np.array_equal(X, expected.encoder.encode(as_dates))
    assert np.array_equal(X, features.encoder.encode(as_dates))  # new rows may have dates instead of digits


def test_zeros_among_dates_in_digits_are_missing() -> None:
    x = np.where(np.arange(N) % 7 == 0, 0, NUMBERS)
    with pytest.warns(DateTextsWarning, match="marks of missing values"):
        column = fit_features(pa.table({"x": x, "age": AGES})).statistics.columns["x"]
    assert column.n_missing == int((x == 0).sum())


def test_numbers_that_only_look_like_days_stay_numbers() -> None:
    few = np.where(AGES % 2 == 0, 20_240_904, 20_250_101)
    with pytest.warns(DateTextsWarning, match="stay numbers: 'reading'; --role COLUMN=date reads"):
        features = fit_features(
            pa.table({"reading": few, "order_date": few, "age": AGES, "paid": NUMBERS + 20_000_000})
        )
    assert [role.role for role in features.roles] == ["boolean", "date", "numeric", "numeric"]
    assert fit_features(pa.table({"reading": few}), column_roles={"reading": "date"}).roles[0].role == "date"
    with warnings.catch_warnings():
        warnings.simplefilter("error", DateTextsWarning)
        roles = fit_features(pa.table({"x": NUMBERS, "age": AGES}), column_roles={"x": "numeric"}).roles
        keys = fit_features(pa.table({"order_id": NUMBERS, "age": AGES})).roles
    assert roles[0].role == "numeric"
    assert keys[0].role != "date"
    with pytest.warns(DateTextsWarning, match="stay numbers: 'x'"):  # float32 has not as many digits
        assert fit_features(pa.table({"x": NUMBERS.astype(np.float32), "age": AGES})).roles[0].role == "numeric"
    some = np.where(np.arange(N) % 20 == 0, np.arange(N) + 20_241_300, NUMBERS)
    with pytest.warns(DateTextsWarning, match="stay numbers: 'x'"):
        assert fit_features(pa.table({"x": some, "age": AGES})).roles[0].role == "numeric"
    with pytest.warns(DateTextsWarning, match="1 other texts taken as missing"):
        once = fit_features(pa.table({"x": [20_240_230, *NUMBERS[1:]], "age": AGES}))
    assert once.roles[0].role == "date"


@pytest.mark.parametrize("factor", [10_000, 1_000_000])
def test_times_in_digits_stay_numbers_with_a_warning(factor: int) -> None:
    times = NUMBERS * factor + factor // 10 + AGES
    with pytest.warns(DateTextsWarning, match="stay numbers: 'at'; .* times have to be written as 2024-09-04 10:15"):
        assert fit_features(pa.table({"at": times, "age": AGES})).roles[0].role == "numeric"
    with warnings.catch_warnings():
        warnings.simplefilter("error", DateTextsWarning)
        fit_features(pa.table({"amount": times * 7, "age": AGES}))


def test_keys_of_days_are_dates_and_a_role_refuses_numbers_that_are_none() -> None:
    assert fit_features(pa.table({"signup_date_key": NUMBERS, "age": AGES})).roles[0].role == "date"
    for kind in (np.int64, np.float16, np.float32):
        with pytest.raises(RetypedColumnError, match="'age' was set to date, but its values are no dates"):
            fit_features(pa.table({"age": AGES.astype(kind)}), column_roles={"age": "date"})
    assert fit_features(pa.table({"age": AGES.astype(np.float16)})).roles[0].role == "numeric"


def test_texts_that_are_no_dates_are_refused_if_they_are_many_or_the_role_is_set(tmp_path: Path) -> None:
    late = COLUMNS["days"] * 60
    assert len(late) > BLOCK_ROWS
    late[-10:] = ["soon"] * 10
    with pytest.warns(DateTextsWarning, match="10 other texts taken as missing"):
        fit_features(pa.table({"x": late, "age": np.tile(AGES, 60)}))
    late[-1000:] = ["soon"] * 1000
    with pytest.raises(RetypedColumnError, match="'x' holds dates in its first rows, but 1,000 of its 36,000"):
        fit_features(pa.table({"x": late}))
    words = pa.table({"x": ["soon", "late"] * 300, "age": AGES})
    with pytest.raises(RetypedColumnError, match="'x' was set to date, but its values are no dates"):
        fit_features(words, column_roles={"x": "date"})
    dates = [*COLUMNS["slashes"][:-1], "soon"]
    with pytest.raises(RetypedColumnError, match="'x' was set to date, but 1 of its 600 texts"):
        fit_features(pa.table({"x": dates}), column_roles={"x": "date"})
    assert fit_features(pa.table({"x": COLUMNS["days"]}), column_roles={"x": "categorical"}).roles[0].role != "date"


@pytest.mark.parametrize("words", [["never"], ["still open", "unplanned"]])
def test_words_among_dates_are_missing_in_the_fit_and_in_new_rows(words: list[str]) -> None:
    texts = [words[i % len(words)] if i % 3 == 0 else str(day) for i, day in enumerate(DAYS)]
    nulls = [None if i % 3 == 0 else day for i, day in enumerate(DAYS)]
    with pytest.warns(DateTextsWarning, match=f"'last' .*{N // 3} missing values written as words"):
        fitted = fit_features(pa.table({"last": texts, "age": AGES}))
    X = fit_features(pa.table({"last": nulls, "age": AGES})).encoder.encode(pa.table({"last": nulls, "age": AGES}))
    stored = FeatureEncoder(EncodingPlan.model_validate_json(fitted.encoder.plan.model_dump_json()))
    assert np.array_equal(stored.encode(pa.table({"last": texts, "age": AGES})), X)
    many = [f"word {'abcd'[i % 4]}" if i % 3 == 0 else str(day) for i, day in enumerate(DAYS)]
    assert fit_features(pa.table({"last": many, "age": AGES})).roles[0].role != "date"


def test_a_run_on_date_texts_keeps_the_format_and_its_rules_select_the_same_people(tmp_path: Path) -> None:
    numbers = np.where(np.arange(N) % 9 == 0, 0, NUMBERS[::-1])
    table = pa.table({"joined": COLUMNS["days"], "left": COLUMNS["gaps"], "age": AGES, "paid": numbers})
    pq.write_table(table, tmp_path / "in.parquet")
    config = FitConfig.merge({}, skip=["map", "report"], explain={"min_people": 3})
    run = engine.fit(tmp_path / "in.parquet", n_clusters=4, out=tmp_path / "run", config=config)
    plans = json.loads((tmp_path / "run/model/model.json").read_text())["plan"]["columns"]
    assert [plan.get("date_format") for plan in plans] == [
        {"forms": ["day month year"], "assumed": False},
        {"forms": ["month day year"], "assumed": False},
        None,
        {"forms": ["yearmonthday"], "assumed": False},
    ]
    labels = engine.load(tmp_path / "run").assign(tmp_path / "in.parquet")["cluster"]
    assert labels.to_pylist() == run.assignments["cluster"].to_pylist()
    pd.DataFrame(table.to_pandas()).to_csv(tmp_path / "in.csv", index=False)
    assert engine.load(tmp_path / "run").assign(tmp_path / "in.csv")["cluster"].to_pylist() == labels.to_pylist()
    with pytest.raises(RetypedColumnError, match="column 'joined' are no dates as the model knows them"):
        engine.load(tmp_path / "run").assign(table.set_column(0, "joined", pa.array(["soon"] * N)))
    connection = duckdb.connect()
    connection.execute(f"CREATE TABLE profiles AS SELECT * FROM '{tmp_path / 'in.parquet'}'")
    statement, _ = connection.extract_statements((tmp_path / "run/rules.sql").read_text())
    counted = connection.sql(statement.query).fetchnumpy()
    assert all(name in (tmp_path / "run/rules.sql").read_text() for name in ("joined", "paid"))
    assert [int(counted[f"cluster_{c['cluster']}"].sum()) for c in run.rules["clusters"]] == [
        c["matched"] for c in run.rules["clusters"]
    ]


def test_the_first_day_of_the_calendar_marks_missing_dates_in_every_format(tmp_path: Path) -> None:
    days = [dt.date(1, 1, 1) if i % 9 == 0 else day for i, day in enumerate(DAYS)]
    texts = [day.isoformat() for day in days]  # strftime writes the year 1 without zeros
    columns = {"age": AGES, "seen": pa.array(texts)}
    pd.DataFrame({"age": AGES, "seen": texts}).to_csv(tmp_path / "a.csv", index=False)
    other = [f"{day.day:02}.{day.month:02}.{day.year:04}" for day in days]
    sources: dict[str, Any] = {
        "csv": tmp_path / "a.csv",
        "texts": pa.table(columns),
        "days first": pa.table(columns | {"seen": pa.array(other)}),
        "dates": pa.table(columns | {"seen": pa.array(days)}),
    }
    encoded, rows = {}, pa.table({"age": [40, 41], "seen": ["0001-01-01", "2013-05-05"]}).to_pylist()
    for name, source in sources.items():
        with pytest.warns(MissingMarksWarning, match=r"'seen' \(67 missing values written as 0001-01-01\)"):
            features = fit_features(source)
        assert {role.column: role.role for role in features.roles} == {"age": "numeric", "seen": "date"}
        encoded[name] = features.encoder.encode(next(open_table(source).blocks(["age", "seen"])).rows).tobytes()
        if name != "days first":
            X = features.encoder.encode(pa.Table.from_pylist(rows))
            np.testing.assert_array_equal(
                X, features.encoder.encode(pa.table({"age": [40, 41], "seen": ["", "2013-05-05"]}))
            )
    assert len(set(encoded.values())) == 1
