"""Column roles: each is inferred from type and statistics, or taken from the user or the table's metadata."""

from __future__ import annotations

import datetime as dt
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from engine.blocks import Block
from engine.errors import MissingColumnError, NoFeaturesError, RetypedColumnError, UsageError
from engine.features.column_roles import find_column_separator
from engine.features.fit import ColumnsDroppedWarning, fit_encoder
from engine.tables import open_table

N = 400


def inferred_roles(columns: dict[str, object], **options: object) -> dict[str, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ColumnsDroppedWarning)
        features = fit_encoder(open_table(pa.table(columns)), **options)  # type: ignore[arg-type]
    return {role.column: role.role for role in features.roles}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_every_kind_of_column_gets_its_role(rng: np.random.Generator) -> None:
    words = np.array(["Drama", "Comedy", "Horror", "Crime"])
    picks = [list(words[rng.random(4) < 0.5]) for _ in range(N)]
    columns = {
        "age": rng.integers(18, 80, N),
        "hours": rng.lognormal(1, 1.2, N),
        "kids": rng.random(N) < 0.3,
        "flag": rng.integers(0, 2, N).astype(float),
        "plan": rng.choice(["Basic", "Premium"], N),
        "genres": pa.array(picks, pa.list_(pa.string())),
        "devices": ["; ".join(p) if p else None for p in picks],
        "signed": [dt.date(2020, 1, 1) + dt.timedelta(days=int(i)) for i in rng.integers(0, 900, N)],
        "temperature": rng.normal(size=N),
    }
    assert inferred_roles(columns) == {
        "age": "numeric",
        "hours": "count",
        "kids": "boolean",
        "flag": "boolean",
        "plan": "categorical",
        "genres": "multilabel",
        "devices": "multilabel",
        "signed": "date",
        "temperature": "numeric",
    }


def test_columns_without_information_are_left_out_with_a_warning_that_names_them(rng: np.random.Generator) -> None:
    columns = {
        "age": rng.integers(18, 80, N),
        "same": np.ones(N),
        "word": ["x"] * N,
        "void": pa.nulls(N, pa.float64()),
        "nothing": pa.nulls(N),
        "code": [f"member-{i}" for i in range(N)],
        "number": rng.permutation(N) + 1000,
        "member_id": rng.permutation(10 * N)[:N],
        "blob": [b"x"] * N,
    }
    with pytest.warns(ColumnsDroppedWarning) as caught:
        features = fit_encoder(open_table(pa.table(columns)))
    assert features.encoder.columns == ["age"]
    for name in set(columns) - {"age"}:
        assert repr(name) in str(caught[0].message)


def test_distinct_integers_that_do_not_number_the_rows_stay_numeric(rng: np.random.Generator) -> None:
    income = rng.choice(100_000, N, replace=False)
    assert inferred_roles({"income": income, "age": rng.integers(18, 80, N)})["income"] == "numeric"


def test_numbers_whose_logarithms_are_equal_stay_numeric(rng: np.random.Generator) -> None:
    values = 2.0**60 + 256 * rng.geometric(0.3, N)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert inferred_roles({"value": values, "age": rng.integers(18, 80, N)})["value"] == "numeric"


def test_roles_are_overridden_by_the_user_and_by_the_table(rng: np.random.Generator) -> None:
    ages = pa.field("age", pa.int64(), metadata={b"rooms.role": b"ignore"})
    rows = pa.table(
        [rng.integers(0, 4, N), rng.integers(18, 80, N)], schema=pa.schema([pa.field("level", pa.int64()), ages])
    )
    features = fit_encoder(open_table(rows), column_roles={"level": "categorical"})
    assert {r.column: r.role for r in features.roles} == {"level": "categorical", "age": "ignore"}
    assert [f.name for f in features.encoder.features if f.name.startswith("level: 3")] == ["level: 3"]
    assert features.encoder.n_features == 5


def test_impossible_roles_raise(rng: np.random.Generator) -> None:
    rows = open_table(pa.table({"plan": rng.choice(["a", "b"], N), "age": rng.integers(0, 90, N)}))
    with pytest.raises(RetypedColumnError, match="'plan' was set to numeric, but its texts are no numbers"):
        fit_encoder(rows, column_roles={"plan": "numeric"})
    with pytest.raises(MissingColumnError, match="'plam'"):
        fit_encoder(rows, column_roles={"plam": "numeric"})
    with pytest.raises(RetypedColumnError, match="none of the first 400 texts has a separator"):
        fit_encoder(rows, column_roles={"plan": "multilabel"})
    with pytest.raises(NoFeaturesError):
        fit_encoder(rows, column_roles={"plan": "ignore", "age": "ignore"})
    odd = pa.table([[1]], schema=pa.schema([pa.field("a", pa.int64(), metadata={b"rooms.role": b"nonsense"})]))
    with pytest.raises(UsageError, match="unknown role"):
        fit_encoder(open_table(odd))


def test_answers_with_commas_are_not_split_but_multi_select_is(rng: np.random.Generator) -> None:
    single = ["Yes, both", "No", "Yes, full-time", "I prefer not to say"]
    rows = pa.table(
        {
            "single": rng.choice(single, N),
            "multi": [", ".join(rng.choice(["Go", "C", "R", "D", "J"], 3, False)) for _ in range(N)],
            "pipes": ["|".join(rng.choice(["Go", "C", "R", "D", "J"], 3, False)) for _ in range(N)],
        }
    )
    block = Block(0, rows)
    assert [find_column_separator(block, name) for name in rows.column_names] == [None, ", ", "|"]


def test_the_developer_survey_is_read_as_it_is(shared_data: Path) -> None:
    table = open_table(shared_data / "developer_survey_2017.csv.gz", id="Respondent")
    roles = {r.column: r.role for r in fit_encoder(table, id="Respondent").roles}
    assert roles["HaveWorkedLanguage"] == roles["StackOverflowDevices"] == roles["Race"] == "multilabel"
    assert roles["University"] == roles["HomeRemote"] == roles["ProgramHobby"] == "categorical"
    assert roles["Salary"] == roles["CareerSatisfaction"] == "numeric"
    assert len(roles) == 153
    assert "Respondent" not in roles


def test_a_column_of_more_than_two_numbers_is_no_boolean() -> None:
    table = pa.table(
        {"age": np.arange(60.0) % 50, "flag": np.arange(60) % 2, "text": [f"{n % 7} €" for n in range(60)]}
    )
    for name in ("age", "text"):
        with pytest.raises(RetypedColumnError, match=f"'{name}' was set to boolean, but holds .* different numbers"):
            fit_encoder(open_table(table), column_roles={name: "boolean"})
    fitted = fit_encoder(open_table(table), column_roles={"flag": "boolean"})
    assert {role.column: role.role for role in fitted.roles}["flag"] == "boolean"
