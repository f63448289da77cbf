"""Survey files hold what people answered: words for labels, nothing for refusals, dates, lists for multiple answers."""

from __future__ import annotations

import datetime as dt
import logging
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyreadstat
import pytest

import engine
from engine.blocks import RECOGNISED, Table
from engine.config import FitConfig
from engine.errors import IdColumnError, SchemaMismatchError, SourceFormatError, UsageError
from engine.tables import open_table, survey_table
from engine.tables.survey_variables import find_time_format, hold_words, marks_in_labels, read_times

DAY, MOMENT = dt.date(2024, 1, 5), dt.datetime(2024, 1, 5, 7, 8, 9)
LEAN = FitConfig(skip=("map", "report"))
FOOD = {1: "bad", 2: "so so", 3: "good"}


def read(source: Any, **options: Any) -> pa.Table:
    table = open_table(source, **options)
    return pa.concat_tables([block.rows for block in table.blocks()])


def note(table: Table, name: str) -> str:
    return (table.schema.field(name).metadata or {}).get(RECOGNISED, b"").decode()


def answers(n: int = 6) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": np.arange(1000.0, 1000.0 + n),
            "food": ([1.0, 2.0, 3.0] * n)[:n],
            "age": 30.0 + np.arange(n),
            "name": (["a", "", "c"] * n)[:n],
            "day": [DAY] * n,
            "at": [MOMENT] * n,
        }
    )


def write_sav(path: Path, frame: pd.DataFrame, **options: Any) -> Path:
    pyreadstat.write_sav(frame, path, **options)
    return path


def add_answer_sets(path: Path, text: str) -> Path:
    """Write the definitions of multiple-response sets into an SPSS file: an extension record before its last one."""
    content, end = path.read_bytes(), struct.pack("<ii", 999, 0)
    record = struct.pack("<iiii", 7, 7, 1, len(text)) + text.encode()
    path.write_bytes(content.replace(end, record + end, 1))
    return path


@pytest.mark.parametrize("ending", ["sav", "zsav", "dta"])
def test_labels_are_words_numbers_are_whole_and_dates_are_dates(ending: str, tmp_path: Path) -> None:
    path, labels = tmp_path / f"a.{ending}", {"food": FOOD}
    if ending == "dta":
        pyreadstat.write_dta(answers(), path, variable_value_labels=labels)
    else:
        write_sav(path, answers(), variable_value_labels=labels, compress=ending == "zsav")
    rows = read(path)
    assert [str(field.type) for field in rows.schema] == [
        "int64", "string", "int64", "string", "date32[day]", "timestamp[us]",
    ]  # fmt: skip
    assert rows["food"].to_pylist() == ["bad", "so so", "good"] * 2
    assert rows["name"].to_pylist() == ["a", None, "c"] * 2
    assert rows["day"].to_pylist() == [DAY] * 6
    assert rows["at"].to_pylist() == [MOMENT] * 6


def test_a_transport_file_of_sas_keeps_zeros_and_dates(tmp_path: Path) -> None:
    frame = pd.DataFrame({"drinks": [0.0, 1.0, 2.5, np.nan], "day": [DAY] * 4, "at": [MOMENT] * 4})
    pyreadstat.write_xport(frame, tmp_path / "a.xpt", file_format_version=5)
    rows = read(tmp_path / "a.xpt")
    assert rows["drinks"].to_pylist() == [0.0, 1.0, 2.5, None]
    assert rows["day"].to_pylist() == [DAY] * 4
    assert rows["at"].to_pylist() == [MOMENT] * 4


@pytest.mark.parametrize("marks", [[{"lo": 97, "hi": 99}], [97, 98, 99], [{"lo": 98, "hi": 99}, 97]])
def test_declared_codes_and_ranges_are_missing(marks: list[Any], tmp_path: Path) -> None:
    frame = pd.DataFrame({"age": [30.0, 97.0, 98.0, 41.0, 99.0], "score": [1.0, 99.0, 2.0, 3.0, 4.0]})
    table = open_table(write_sav(tmp_path / "a.sav", frame, missing_ranges={"age": marks}))
    (block,) = table.blocks()
    assert block.rows["age"].to_pylist() == [30, None, None, 41, None]
    assert block.rows["score"].to_pylist() == [1, 99, 2, 3, 4]
    assert "missing, says the file: 9" in note(table, "age")


def test_missing_letters_of_stata_are_missing(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": [1, "a", 3]})
    pyreadstat.write_dta(frame, tmp_path / "a.dta", missing_user_values={"x": ["a"]})
    assert read(tmp_path / "a.dta")["x"].to_pylist() == [1, None, 3]


@pytest.mark.parametrize(
    ("values", "labels", "expected"),
    [
        ([1, 2, 3, 1], FOOD, ["bad", "so so", "good", "bad"]),
        ([1, 2, 3, 4], FOOD, ["bad", "so so", "good", "4"]),  # one code without a label among answers
        ([0, 3, 7, 10], {0: "never", 10: "always"}, [0, 3, 7, 10]),  # a scale with words at its ends
        ([20, 45, 99, 31], {99: "99 or older"}, [20, 45, 99, 31]),
        ([20, 45, 99, 31], {99: "Refused"}, [20, 45, None, 31]),  # not declared as missing, but labelled so
        ([20, 45, 98, 31], {98: "Don\u2019t know", 99: "No answer"}, [20, 45, None, 31]),
        ([1, 2, 2, 1], {1: "yes", 2: "yes"}, ["yes (1)", "yes (2)", "yes (2)", "yes (1)"]),
        ([1, 2, 9, 1], {1: "yes", 2: "no", 9: "refused"}, ["yes", "no", "refused", "yes"]),
    ],
)
def test_labels_decide_between_words_and_numbers(
    values: list[float], labels: dict[Any, str], expected: list[Any], tmp_path: Path
) -> None:
    frame = pd.DataFrame({"x": np.array(values, float)})
    path = write_sav(tmp_path / "a.sav", frame, variable_value_labels={"x": labels})
    assert read(path)["x"].to_pylist() == expected


def test_the_id_keeps_its_numbers_whatever_labels_it_has(tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": [1.0, 2.0], "x": [1.0, 2.0]})
    path = write_sav(tmp_path / "a.sav", frame, variable_value_labels={"id": {1: "one", 2: "two"}})
    assert read(path, id="id")["id"].to_pylist() == [1, 2]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$Foods=D1 1 9 Eaten now Q_A Q_B\n", [["Bread", "Cheese"], ["Cheese"], [], None]),
        ("$Foods=C 6 Colour C_1 C_2\n", [["red", "blue"], ["blue"], ["red"], None]),
    ],
)
def test_a_multiple_response_set_is_one_column_of_lists(text: str, expected: list[Any], tmp_path: Path) -> None:
    nan = np.nan
    frame = pd.DataFrame(
        {
            "Q_A": [1.0, 0, 0, nan],
            "Q_B": [1.0, 1, 0, nan],
            "C_1": [1.0, 2.0, 1.0, nan],
            "C_2": [2.0, nan, 1.0, nan],
            "x": [1.0, 2, 3, 4],
        }
    )
    colours = {1: "red", 2: "blue"}
    path = write_sav(
        tmp_path / "a.sav",
        frame,
        column_labels={"Q_A": "Bread", "Q_B": "Cheese"},
        variable_value_labels={"C_1": colours, "C_2": colours},
    )
    rows = read(add_answer_sets(path, text))
    assert rows["Foods"].to_pylist() == expected
    assert not {"Q_A", "Q_B"} <= set(rows.column_names) or "D1" not in text
    assert rows.schema.field("Foods").type == pa.list_(pa.string())


@pytest.mark.parametrize("ending", ["sav", "xpt", "dta"])
def test_chunks_make_the_same_rows_as_one(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.DataFrame({"a": np.arange(103.0), "b": [f"t{n % 5}" for n in range(103)]})
    writers = {"sav": pyreadstat.write_sav, "xpt": pyreadstat.write_xport, "dta": pyreadstat.write_dta}
    writers[ending](frame, tmp_path / f"a.{ending}")
    whole = read(tmp_path / f"a.{ending}")
    for values in (2, 14, 206):
        monkeypatch.setattr(survey_table, "CHUNK_VALUES", values)
        assert read(tmp_path / f"a.{ending}").equals(whole)
    assert whole["a"].to_pylist() == list(range(103))


def test_files_of_one_table_follow_each_other_with_labels_of_their_own(tmp_path: Path) -> None:
    for number, labels in enumerate((FOOD, {1: "bad", 2: "fair", 3: "good"})):
        write_sav(tmp_path / f"part-{number}.sav", answers(3), variable_value_labels={"food": labels})
    assert read(tmp_path)["food"].to_pylist() == ["bad", "so so", "good", "bad", "fair", "good"]
    write_sav(tmp_path / "part-2.sav", answers(3).assign(food=["x", "y", "z"]))
    with pytest.raises(SchemaMismatchError, match=r"'food' is of another kind in .*part-0\.sav than in .*part-2\.sav"):
        open_table(tmp_path)


def test_a_header_with_more_rows_than_the_file_is_refused_and_one_without_a_number_is_counted(tmp_path: Path) -> None:
    content = write_sav(tmp_path / "a.sav", answers(50)).read_bytes()
    (tmp_path / "b.sav").write_bytes(content[:80] + struct.pack("<i", -1) + content[84:])
    assert open_table(tmp_path / "b.sav").n_rows == 50
    for broken in (content[:80] + struct.pack("<i", 70) + content[84:], content[:-100], content[:300], b""):
        (tmp_path / "b.sav").write_bytes(broken)
        with pytest.raises(SourceFormatError, match=r"b\.sav"):
            open_table(tmp_path / "b.sav")


def test_dates_beyond_all_calendars_stay_numbers_and_say_so(tmp_path: Path) -> None:
    frame = pd.DataFrame({"day": [1.0e10, 1.0e15], "x": [1.0, 2.0]})
    table = open_table(write_sav(tmp_path / "a.sav", frame, variable_format={"day": "DATE11"}))
    assert note(table, "day") == "dates out of range: read as numbers"
    assert table.schema.field("day").type == pa.int64()


@pytest.mark.parametrize(
    ("program", "written", "number", "day"),
    [
        ("spss", "ADATE10", 13923792000.0, DAY),
        ("spss", "MOYR8", 13923792000.0, DAY),
        ("sas", "MMDDYY10", 23380.0, DAY),
        ("xport", "YYMMDDN8.", 23380.0, DAY),
        ("sas", "E8601DA", 23380.0, DAY),
        ("stata", "%td", 23380.0, DAY),
        ("stata", "%-tdD_m_Y", 23380.0, DAY),
        ("stata", "%d", 23380.0, DAY),
        ("stata", "%tm", 768.0, dt.date(2024, 1, 1)),
        ("stata", "%tq", 257.0, dt.date(2024, 4, 1)),
        ("stata", "%th", -1.0, dt.date(1959, 7, 1)),
        ("stata", "%tw", 52 * 64 + 1.0, dt.date(2024, 1, 8)),
    ],
)
def test_formats_of_dates(program: str, written: str, number: float, day: dt.date) -> None:
    form = find_time_format(written, program)
    assert form is not None
    assert read_times(np.array([number, np.nan]), form).to_pylist() == [day, None]


@pytest.mark.parametrize(
    ("program", "written"), [("spss", "F8.2"), ("spss", "TIME8"), ("sas", "BEST12"), ("stata", "%9.0g"), ("sas", None)]
)
def test_other_formats_are_no_dates(program: str, written: str | None) -> None:
    assert find_time_format(written, program) is None


def test_rules_of_labels() -> None:
    assert hold_words([1, 2, 3], FOOD)
    assert not hold_words([], FOOD)
    assert not hold_words([1, 7], {1: "low"})
    assert marks_in_labels({1: "Nothing", 97: "REFUSED", 98: "dk", 99: "Not asked", 0: "None"}) == [97.0, 98.0, 99.0]


def test_an_id_that_is_missing_is_refused(tmp_path: Path) -> None:
    write_sav(tmp_path / "a.sav", answers().assign(id=[1.0, 2, np.nan, 4, 5, 6]))
    with pytest.raises(IdColumnError, match="'id' is the id, and it is missing in 1 of rows"):
        engine.fit(tmp_path / "a.sav", id="id", n_clusters=2, out=tmp_path / "run")


def test_without_the_extra_an_error_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_sav(tmp_path / "a.sav", answers())
    monkeypatch.setitem(sys.modules, "pyreadstat", None)
    with pytest.raises(UsageError, match=r"needs the extra 'survey', and pyreadstat is not installed") as caught:
        open_table(path)
    assert "pip install 'rooms-engine[survey]'" in str(caught.value)


def test_survey_table_are_fitted_and_new_ones_assigned_as_their_parquet_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(0)
    group = np.arange(120) % 2
    frame = pd.DataFrame(
        {
            "id": np.arange(120.0) + 7,
            "food": 1.0 + group + (rng.random(120) < 0.1),
            "age": np.rint(30 + 20 * group + rng.normal(size=120)),
            "joined": [DAY - dt.timedelta(days=int(90 * g + n)) for n, g in enumerate(group)],
        }
    )
    frame.loc[:4, "age"] = 99.0
    options = {"variable_value_labels": {"food": FOOD}, "missing_ranges": {"age": [{"lo": 97, "hi": 99}]}}
    path = write_sav(tmp_path / "a.sav", frame, **options)
    caplog.set_level(logging.INFO, "engine")
    run = engine.fit(path, id="id", n_clusters=2, out=tmp_path / "run", config=LEAN)
    assert any("'age': missing, says the file: 97 to 99" in record.getMessage() for record in caplog.records)
    columns = {column["column"]: column for column in run.manifest["columns"]}
    assert columns["food"]["role"] == "categorical"
    assert "words of value labels" in columns["food"]["reason"]
    assert columns["joined"]["role"] == "date"
    assert run.manifest["input"]["format"] == "spss"
    assert run.assignments["id"].to_pylist() == list(range(7, 127))
    plain = pa.concat_tables([block.rows for block in open_table(path).blocks()]).replace_schema_metadata()
    same = engine.fit(plain, id="id", n_clusters=2, out=tmp_path / "plain", config=LEAN)
    assert same.assignments["cluster"].to_pylist() == run.assignments["cluster"].to_pylist()
    # Three people, all of whom gave the same answer, and one without a label: still words, as in the model.
    new = frame.iloc[10:13].assign(food=[1.0, 1.0, 5.0])
    few = write_sav(tmp_path / "few.sav", new, **options)
    assert read(few, types=run.model.encoder.csv_types())["food"].to_pylist() == ["bad", "bad", "5"]
    assert run.model.assign(few)["id"].to_pylist() == [17, 18, 19]
