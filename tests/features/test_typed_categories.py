"""Categories that were numbers or truth values are found again, whatever type new rows have them in."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import engine
from engine.errors import RetypedColumnError
from engine.features.columnar_block import to_text
from engine.features.encoding_plan import CategoryPlan, EncodingPlan
from engine.features.fit import fit_encoder
from engine.features.typed_categories import write_alike
from engine.model.unseen import UnseenValuesWarning
from engine.tables import open_table

N = 120
AGE = np.random.default_rng(0).normal(size=N)
CELLS: dict[str, list[str]] = {
    "floats of pandas": ["1.0", "2.0", "3.0", ""],
    "truth values": ["True", "False"],
    "truth values in upper case": ["TRUE", "FALSE"],
    "plus signs": ["+5", "7", "+9"],
    "blanks": [" 5", "7", "9 "],
    "zeros at the end": ["2.50", "3.5", "4"],
    "exponents": ["1e3", "2e3", "3"],
    "negative zeros": ["-0.0", "1.0", "2.0"],
    "codes with leading zeros": ["01", "02", "10"],
    "words": ["a", "b", " c"],
    "marks": ["1.0", "2.0", "-999.0"],
}


@pytest.mark.parametrize("name", CELLS)
def test_a_model_assigns_its_own_csv_file_as_the_fit_did(name: str, tmp_path: Path) -> None:
    cells = CELLS[name]
    lines = [f"u{row},{30 + 20 * (row % 2) + row % 7},{cells[row % len(cells)]}" for row in range(N)]
    (tmp_path / "a.csv").write_text("\n".join(["who,age,c", *lines, ""]))
    missing = {"c": ["-999"]} if name == "marks" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = engine.fit(tmp_path / "a.csv", id="who", n_clusters=2, out=tmp_path / "run", threads=1,
                         skip=["map", "report", "explain"], roles={"c": "categorical"}, missing=missing)  # fmt: skip
        warnings.simplefilter("error", UnseenValuesWarning)
        assigned = run.model.assign(tmp_path / "a.csv")
    assert assigned["cluster"].equals(run.assignments["cluster"])
    assert assigned["distance"].equals(run.assignments["distance"])


def encoder_of(values: list[Any], kind: pa.DataType | None = None) -> Callable[[Any], str]:
    """Return what names the category that a value of a dict counts as."""
    column = pa.array([values[row % len(values)] for row in range(N)], kind)
    encoder = fit_encoder(open_table(pa.table({"age": AGE, "c": column})), column_roles={"c": "categorical"}).encoder
    names = [feature.name for feature in encoder.features]

    def category(value: Any) -> str:
        block = encoder.read_records([{"age": 0.0, "c": value}])
        X = encoder.layout.to_matrix(encoder.encode_block(block))
        (hot,) = np.flatnonzero(X[0, 1:])
        return names[1 + hot]

    return category


@pytest.mark.parametrize(
    ("values", "given", "found"),
    [
        ([1, 2, 5], [5, 5.0, "5", "5.0", " 5 ", "+5", np.int8(5), Decimal(5)], "c: 5"),
        ([1, 2, 5], ["05", "5a", "-", True, 7, "five", "5,0", "9" * 5000], "c: other"),
        ([1.5, 2.0], [1.5, "1.5", "1.50", "15e-1", np.float32(1.5)], "c: 1.5"),
        ([True, False], [True, "true", "TRUE", "True ", 1, 1.0, "1"], "c: true"),
        ([True, False], [False, "FALSE", 0, "0.0"], "c: false"),
        ([True, False], ["yes", 2, -1], "c: other"),
        (["1", "2", "5"], [5, 5.0, "5", np.uint8(5)], "c: 5"),
        (["01", "02"], ["1", 1], "c: other"),
    ],
)
def test_a_dict_may_hold_a_category_in_any_type(values: list[Any], given: list[Any], found: str) -> None:
    category = encoder_of(values)
    assert {repr(value): category(value) for value in given} == {repr(value): found for value in given}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_in_a_text_is_written_as_the_number(value: float) -> None:
    (written,) = to_text(pa.array([value])).to_pylist()
    assert write_alike([repr(value), written], "number") == [written, written]


@given(st.text())
def test_what_is_written_alike_stays_so(text: str) -> None:
    for kind in ("number", "boolean"):
        once = write_alike([text], kind)  # type: ignore[arg-type]
        assert write_alike(once, kind) == once  # type: ignore[arg-type]


def test_the_plan_of_texts_is_stored_as_before() -> None:
    columns = {"word": ["a", "b"] * 60, "shop_id": [1, 2, 3] * 40}
    plan = fit_encoder(open_table(pa.table({"age": AGE, **columns}))).encoder.plan
    stored = {column["column"]: column for column in plan.model_dump()["columns"]}
    assert ("kind" in stored["word"], stored["shop_id"]["kind"]) == (False, "number")
    assert EncodingPlan.model_validate_json(plan.model_dump_json()) == plan
    assert all(column.kind in ("text", "number") for column in plan.columns if isinstance(column, CategoryPlan))


def test_lists_of_fractions_are_no_lists_of_labels() -> None:
    lists = pa.array([[[1, 2], [3]][row % 2] for row in range(N)])
    encoder = fit_encoder(open_table(pa.table({"age": AGE, "c": lists}))).encoder
    what = "'c' holds vectors, but was a list of labels"
    with pytest.raises(RetypedColumnError, match=what):
        encoder.read_records([{"age": 0.0, "c": [1.0]}])
    with pytest.raises(RetypedColumnError, match=what):
        encoder.check_schema(open_table(pa.table({"age": [0.0], "c": [[1.0]]})).schema)


@pytest.mark.parametrize("values", [[1, 2, 5], [True, False], ["1", "2"], ["a", "b"]])
def test_words_for_missing_values_are_missing_in_tables_and_dicts(values: list[Any]) -> None:
    column = pa.array([values[row % len(values)] for row in range(N)])
    encoder = fit_encoder(open_table(pa.table({"age": AGE, "c": column})), column_roles={"c": "categorical"}).encoder
    words = ["", " ", "NA", "n/a", "null", "None"]
    missing = encoder.encode(pa.table({"age": [0.0] * len(words), "c": pa.nulls(len(words), pa.string())}))
    assert encoder.encode(pa.table({"age": [0.0] * len(words), "c": words})).tobytes() == missing.tobytes()
    block = encoder.read_records([{"age": 0.0, "c": word} for word in words])
    assert encoder.layout.to_matrix(encoder.encode_block(block)).tobytes() == missing.tobytes()
