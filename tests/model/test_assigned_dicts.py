"""Rows that are dicts get the clusters of the same rows as a table, also with missing values and empty lists."""

from __future__ import annotations

import datetime as dt
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import engine
from engine.blocks import BLOCK_ROWS
from engine.config import FitConfig
from engine.errors import (
    DataError,
    MissingColumnError,
    ModelNotReadableError,
    RetypedColumnError,
    RoomsError,
    SchemaMismatchError,
    SourceFormatError,
)
from engine.model.export import check_sql, onnx_inputs

N = 300
DAY = dt.date(2024, 2, 29)
NAN = float("nan")


def people() -> pa.Table:
    rng, side = np.random.default_rng(0), np.arange(N) % 2
    return pa.table(
        {
            "who": range(N),
            "hours": rng.normal(size=N) + 9 * side,
            "active": [bool(s) if i % 7 else None for i, s in enumerate(side)],
            "plan": [("Basic", "Premium")[s] if i % 5 else None for i, s in enumerate(side)],
            "likes": [["a", "b", "c"][s : s + i % 3] if i % 11 else None for i, s in enumerate(side)],
            "since": [DAY + dt.timedelta(days=i) if i % 6 else None for i in range(N)],
        }
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, lean: FitConfig) -> engine.Model:
    out = tmp_path_factory.mktemp("dicts") / "run"
    return engine.fit(people(), out=out, id="who", n_clusters=2, config=lean).model


@pytest.fixture(autouse=True)
def _without_warnings() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def outcome(assign: Callable[[], Any]) -> Any:
    try:
        return assign().combine_chunks().to_pylist()
    except RoomsError as error:
        return type(error), str(error)


ROW = people().slice(1, 1).to_pylist()[0]


def test_an_empty_list_has_no_labels_alone_and_among_others(model: engine.Model) -> None:
    rows = people().slice(0, 40).to_pylist()
    typed = pa.array([[]], pa.list_(pa.string()))
    expected = model.assign(people().slice(1, 1).set_column(4, "likes", typed)).to_pylist()
    empty, missing = ROW | {"likes": []}, ROW | {"who": 7, "likes": None}
    assert model.assign(empty).to_pylist() == expected
    for others in ([missing], rows, [empty | {"who": 8}, missing]):
        for batch in ([empty, *others], [*others, empty]):
            assert expected[0] in model.assign(batch).to_pylist()
    untyped = people().slice(1, 2).set_column(4, "likes", pa.array([[], None]))
    assert untyped["likes"].type == pa.list_(pa.null())
    assert model.assign(untyped).to_pylist()[:1] == expected
    long = [ROW | {"who": i, "likes": []} for i in range(BLOCK_ROWS + 5)]
    long[-1]["likes"] = ["a", "b"]
    found = model.assign(long).to_pylist()
    assert found[: BLOCK_ROWS + 4 : BLOCK_ROWS] == [expected[0] | {"who": i} for i in (0, BLOCK_ROWS)]
    assert found[-1] == model.assign(long[-1]).to_pylist()[0]
    for name in ("plan", "hours", "since"):
        with pytest.raises(RetypedColumnError, match=f"'{name}'"):
            model.assign(ROW | {name: []})


@pytest.mark.parametrize("missing", [None, NAN, np.float64("nan"), pd.NaT, pd.NA, np.datetime64("NaT")])
def test_what_pandas_and_numpy_write_for_missing_is_missing(model: engine.Model, missing: Any) -> None:
    for name in ROW.keys() - {"who"}:
        for batch in ([missing], [missing, ROW[name]], [ROW[name], missing], [ROW[name], None, missing]):
            rows, plain = (
                [ROW | {"who": i, name: instead if value is missing else value} for i, value in enumerate(batch)]
                for instead in (missing, None)
            )
            assert model.assign(rows).equals(model.assign(plain)), (name, batch)
    with pytest.raises(RoomsError, match="'who'"):
        model.assign([ROW, ROW | {"who": missing}])


def test_values_of_numpy_are_those_of_python(model: engine.Model) -> None:
    day, moment = np.datetime64(ROW["since"]), np.datetime64(ROW["since"], "ns")
    rows = people().slice(0, 30).to_pylist()
    for change in (
        {"who": np.int64(1), "hours": np.float64(ROW["hours"]), "active": np.bool_(True), "plan": np.str_("Premium")},
        {"likes": np.array(ROW["likes"], object)},
        {"likes": tuple(ROW["likes"])},
        {"since": day},
        {"since": moment},
        {"since": np.datetime64(ROW["since"], "s")},
        {"since": pd.Timestamp(ROW["since"])},
        {"since": dt.datetime.combine(ROW["since"], dt.time())},
    ):
        expected = model.assign(ROW).to_pylist()[0]
        for batch in ([ROW | change], [*rows, ROW | change], [ROW | change, *rows]):
            assert expected in model.assign(batch).to_pylist(), change


def test_dates_beside_times_keep_the_times(model: engine.Model) -> None:
    rows = [ROW | {"since": DAY}, ROW | {"who": 2, "since": dt.datetime(2024, 3, 1, 23, 0)}]
    expected = [model.assign(row).to_pylist()[0] for row in rows]
    assert model.assign(rows).to_pylist() == expected
    assert model.assign(rows[::-1]).to_pylist() == expected[::-1]


@pytest.mark.parametrize(
    ("name", "values", "what"),
    [
        ("hours", [1.0, "2"], "different types"),
        ("plan", ["Basic", 5], "different types"),
        ("likes", [["a"], "a"], "different types"),
        ("active", [True, 2], "different types"),
        ("since", [DAY, 3.5], "different types"),
        ("since", [dt.datetime(2024, 1, 1), 3], "different types"),
        ("since", [np.bool_(True), DAY], "different types"),
        ("hours", [2.5, True], "different types"),
        ("hours", [np.bool_(True), 1], "different types"),
        ("since", [np.datetime64("20000-01-01"), None], "no column of a table can hold"),
        ("hours", [2**63], "more than 64 bits"),
        ("hours", [1, 2**70], "more than 64 bits"),
        ("plan", ["\ud800", 5], "different types"),
        ("who", ["a", 5], "different types"),
        ("who", [2**64], "more than 64 bits"),
    ],
)
def test_values_that_make_no_column_are_named_the_same_in_short_and_long_lists(
    model: engine.Model, name: str, values: list[Any], what: str
) -> None:
    rows = [ROW | {name: value} for value in values]
    with pytest.raises(DataError, match=f"{what}.* in '{name}'|'{name}' wants .* in row [01]"):
        model.assign(rows)
    with pytest.raises(SourceFormatError, match=f"{what}.* in '{name}'"):
        model.assign([*rows[:1], *[rows[0]] * BLOCK_ROWS, *rows[1:]])


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("hours", "five", "'hours' wants a number, but has a text in row 1"),
        ("hours", " 5", "'hours' wants a number, but has a text in row 1"),
        ("hours", [5], "'hours' wants a number, but has a list in row 1"),
        ("plan", ["Basic"], "'plan' wants one answer: a text, a number or a truth value, but has a list in row 1"),
        ("plan", {"secret": 1}, "'plan' wants one answer: .* but has an object in row 1"),
        ("plan", 5, "different types in 'plan': a text in row 0, and a number in row 1"),
        ("likes", 5, "'likes' wants a list of texts, but has a number in row 1"),
        ("likes", "secret", "'likes' wants a list of texts, but has a text in row 1"),
        ("since", 3, "'since' wants a date, such as 2024-09-04, but has a number in row 1"),
    ],
)
def test_values_of_a_wrong_type_are_told_by_column_and_row_and_not_shown(
    model: engine.Model, name: str, value: Any, told: str
) -> None:
    for with_others in ([ROW, ROW | {name: value}, ROW], [ROW, ROW | {name: value}]):
        with pytest.raises(DataError, match=told) as caught:
            model.assign(with_others)
        assert "secret" not in str(caught.value)
        assert "five" not in str(caught.value)


@pytest.mark.parametrize("word", ["NA", "n/a", "None", "", " "])
def test_words_for_missing_values_are_missing_in_dicts(model: engine.Model, word: str) -> None:
    for name in ("hours", "plan", "since"):
        expected = model.assign([ROW, ROW | {name: None}])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert model.assign([ROW, ROW | {name: word}]).equals(expected)


FRAMES = st.builds(
    lambda rows, kinds: pd.DataFrame(rows).assign(who=range(len(rows))).astype(kinds),
    st.lists(
        st.fixed_dictionaries(
            {
                "hours": st.sampled_from([NAN, 1.5, 9.0, -0.0]),
                "active": st.sampled_from([True, False, None]),
                "plan": st.sampled_from(["Basic", "Premium", "Gold", "", None]),
                "likes": st.sampled_from([None, [], ["a"], ["a", "d"], ["b", "c"]]),
                "since": st.sampled_from([pd.NaT, pd.Timestamp(DAY), pd.Timestamp("2024-05-06 07:08:09.123456789")]),
            }
        ),
        min_size=1,
        max_size=5,
    ),
    st.fixed_dictionaries(
        {
            "hours": st.sampled_from(["float64", "float32", "Float64"]),
            "active": st.sampled_from(["object", "boolean"]),
            "plan": st.sampled_from(["object", "string", "category"]),
            "since": st.sampled_from(["datetime64[ns]", "datetime64[s]", "object"]),
        }
    ),
)


@settings(max_examples=60)
@given(frame=FRAMES)
def test_the_dicts_of_a_pandas_frame_are_assigned_as_the_frame(model: engine.Model, frame: pd.DataFrame) -> None:
    records = frame.to_dict("records")
    assert outcome(lambda: model.assign(records)) == outcome(lambda: model.assign(frame))


@pytest.mark.parametrize(
    ("name", "value"), [("plan", 5), ("plan", True), ("likes", [1]), ("active", 2), ("hours", True), ("hours", 2**62)]
)
def test_values_of_other_types_are_read_as_those_of_a_table(model: engine.Model, name: str, value: Any) -> None:
    row = people().slice(1, 1)
    table = row.set_column(row.column_names.index(name), name, pa.array([value]))
    assert model.assign(ROW | {name: value}).equals(model.assign(table))


CELLS: dict[str, list[Any]] = {
    "hours": [None, 0.5, 3, True, 2**60, "x", NAN],
    "active": [None, True, False, 1, 0.0],
    "plan": [None, "Basic", "new", "", 5, "\ud800"],
    "likes": [None, [], ["a"], ["new"], ["", "b"], [1], "a"],
    "since": [None, "2024-02-29", "2023-02-29", "0000-01-01", DAY, "soon"],
    "who": [1, 2, "p", 2**63, None, 1.5],
}


@settings(max_examples=150)
@given(st.data())
def test_lists_that_wait_together_have_the_answers_and_warnings_of_each_alone(
    model: engine.Model, data: st.DataObject
) -> None:
    plain = [row | {"since": row["since"] and row["since"].isoformat()} for row in people().slice(1, 6).to_pylist()]
    change = st.dictionaries(st.sampled_from(list(CELLS)), st.none(), max_size=2).flatmap(
        lambda names: st.fixed_dictionaries({name: st.sampled_from(CELLS[name]) for name in names})
    )
    row = st.tuples(st.sampled_from(plain), change).map(lambda pair: pair[0] | pair[1])
    left_out = st.none() | st.sampled_from(["plan", "hours", "who"])
    part = st.tuples(st.lists(row, max_size=4), left_out).map(
        lambda pair: [{name: cell for name, cell in row.items() if name != pair[1]} for row in pair[0]]
    )
    parts = data.draw(st.lists(part, min_size=1, max_size=4))

    def told(assign: Callable[[], Any]) -> tuple[Any, list[str]]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                found: Any = assign()
            except RoomsError as error:
                found = error
        return found, [str(warning.message) for warning in caught]

    alone = [told(lambda part=part: model.assign_each([part])[0]) for part in parts]
    together, messages = told(lambda: model.assign_each(parts))
    assert [str(answer) for answer in together] == [str(answer) for answer, _ in alone]
    assert messages == [message for _, of_part in alone for message in of_part]
    for part, (answer, of_part) in zip(parts, alone, strict=True):
        if part:
            expected, warned = told(lambda part=part: model.assign(part).to_pylist())
            assert str(answer) == str(expected)
            if not isinstance(expected, RoomsError):
                assert of_part == warned


@pytest.mark.parametrize("text", ["soon", "0000-01-01", "2023-02-29"])
def test_a_list_at_fault_is_at_fault_among_lists_that_are_not(model: engine.Model, text: str) -> None:
    """Among many, one text that is no date would be a missing value; alone it is all that the column says."""
    plain = [row | {"since": row["since"] and row["since"].isoformat()} for row in people().slice(1, 6).to_pylist()]
    answers = model.assign_each([plain, [plain[0] | {"since": text}], plain])
    assert "1 of 1 texts of column 'since' are no dates" in str(answers[1])
    assert answers[0] == answers[2] == model.assign(plain).to_pylist()


def vectors(n: int = 60) -> pa.Table:
    rng = np.random.default_rng(1)
    taste = [[float(x) for x in rng.normal([9 * (i % 2), 0.0, 1.0])] + [4.0] for i in range(n)]  # the last is constant
    return pa.table({"who": range(n), "age": rng.normal(size=n), "taste": pa.array(taste, pa.list_(pa.float32()))})


@pytest.fixture(scope="module")
def vector_model(tmp_path_factory: pytest.TempPathFactory, lean: FitConfig) -> engine.Model:
    out = tmp_path_factory.mktemp("vectors") / "run"
    return engine.fit(vectors(), out=out, id="who", n_clusters=2, config=lean).model


def test_dicts_have_vectors_as_lists(vector_model: engine.Model) -> None:
    table, assign = vectors(), vector_model.assign
    expected = assign(table)
    rows = table.to_pylist()
    assert assign(rows).equals(expected)
    assert assign([row | {"taste": np.array(row["taste"])} for row in rows]).equals(expected)
    elements = [{"who": r["who"], "age": r["age"]} | {f"taste[{k}]": x for k, x in enumerate(r["taste"])} for r in rows]
    assert assign(elements).equals(expected)
    long = [rows[i % 60] | {"who": i} for i in range(BLOCK_ROWS + 60)]
    assert assign(long)["distance"].to_pylist()[: len(rows)] == expected["distance"].to_pylist()
    whole = table.slice(0, 1).set_column(2, "taste", pa.array([[1, 0, 0, 4]]))
    assert assign(whole.to_pylist()).equals(assign(whole))
    holes = table.slice(0, 1).set_column(2, "taste", pa.array([[1.0, None, 2.0, 4.0]]))
    assert assign(holes.to_pylist()).equals(assign(holes))
    for parts in ([rows], [rows[:20], rows[20:]], [rows[:20], elements[20:]]):
        answers = vector_model.assign_each(parts)
        assert [row for answer in answers for row in answer] == expected.to_pylist()


def test_vectors_that_are_all_missing_are_missing(vector_model: engine.Model) -> None:
    row = vectors().slice(0, 1)
    kinds = [pa.null(), pa.list_(pa.null()), pa.list_(pa.float32()), pa.list_(pa.float64()), pa.list_(pa.int64())]
    tables = [row.set_column(2, "taste", pa.nulls(1, kind)) for kind in kinds]
    expected = vector_model.assign({"who": 0, "age": row["age"][0].as_py(), "taste": None})
    for table in tables:
        assert vector_model.assign(table).equals(expected)
    for missing in (NAN, pd.NA, pd.NaT):
        assert vector_model.assign(row.to_pylist()[0] | {"taste": missing}).equals(expected)


def test_a_table_whose_vectors_are_all_missing_serves_every_command(vector_model: engine.Model) -> None:
    assert vector_model.run_folder is not None
    run, rows = engine.Run(vector_model.run_folder), vectors().slice(0, 20)
    for missing in (pa.nulls(20, pa.list_(pa.float32())), pa.nulls(20, pa.list_(pa.float32(), 4)), pa.nulls(20)):
        table = rows.set_column(2, "taste", missing)
        expected = vector_model.assign(table)["cluster"].to_pylist()
        assert run.why(3, table=table).assigned == expected[3]
        assert engine.similar(run, 3, 5, table=table).num_rows == 5
        assert "taste" in str(vector_model.export("sql", table=table))
        assert check_sql(vector_model, table, "duckdb").differing == 0
        assert run_graph(vector_model, table) == expected


def run_graph(model: engine.Model, table: pa.Table) -> list[int]:
    session = onnxruntime.InferenceSession(model.export("onnx", table=table).SerializeToString())
    clusters: list[int] = session.run(["cluster"], onnx_inputs(model, table))[0].tolist()
    return clusters


@pytest.mark.parametrize("vector", [[], [1.0], [1.0, 2.0, 3.0], [1.0] * 5])
def test_vectors_of_another_length_are_named(vector_model: engine.Model, vector: list[float]) -> None:
    row = vectors().to_pylist()[0]
    with pytest.raises(SchemaMismatchError, match=r"Row 1 of column 'taste' has \d numbers"):
        vector_model.assign([row, row | {"taste": vector}])
    typed = pa.array([vector], pa.list_(pa.float64()))
    with pytest.raises(SchemaMismatchError, match=r"Row 0 of column 'taste' has \d numbers"):
        vector_model.assign(vectors().slice(0, 1).set_column(2, "taste", typed))


@pytest.mark.parametrize("value", ["1,2,3,4", 5, {"a": 1}])
def test_values_that_are_no_vectors_are_named(vector_model: engine.Model, value: Any) -> None:
    with pytest.raises(RetypedColumnError, match="'taste'"):
        vector_model.assign(vectors().to_pylist()[0] | {"taste": value})


def test_a_damaged_manifest_is_named(tmp_path: Any, lean: FitConfig) -> None:
    run = engine.fit(people(), out=tmp_path / "run", id="who", n_clusters=2, config=lean)
    (tmp_path / "run" / "manifest.json").write_text('{"columns": [')
    with pytest.raises(ModelNotReadableError, match=r"manifest\.json of .* cannot be read"):
        engine.load(run.path).assign(people().to_pylist()[:3])


def test_a_row_without_its_id_is_told_which_columns_it_has(model: engine.Model) -> None:
    row = {name: value for name, value in ROW.items() if name != "who"}
    with pytest.raises(MissingColumnError, match="no column 'who'") as caught:
        model.assign(row)
    assert "the 5 columns there are: 'active', 'hours'" in str(caught.value.hint)
