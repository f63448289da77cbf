"""What new rows have that a model does not know: counted on ragged blocks, warned of, or refused above a limit."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import engine
from engine.config import FitConfig
from engine.errors import EmptyTableError, UnseenValuesError, UsageError
from engine.model.model import Model
from engine.model.unseen import SeenRows, UnseenValuesWarning, count_unseen
from engine.utils.units import parse_share

N = 300


def people(plan: list[Any] | None = None, likes: list[Any] | None = None, age: list[Any] | None = None) -> pa.Table:
    rng = np.random.default_rng(0)
    group = np.arange(N) % 3
    rare = np.where(np.arange(N) % 10 == 0, [f"rare {row}" for row in range(N)], np.array(["a", "b", "c"])[group])
    return pa.table(
        {
            "age": age or (30.0 + 10 * group + rng.normal(size=N)).tolist(),
            "hours": (5.0 * group + rng.normal(size=N)).tolist(),
            "plan": plan or rare.tolist(),
            "likes": likes or [["music", "film"][: 1 + number] for number in rng.integers(0, 2, N)],
        }
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    config = FitConfig.merge({}, skip=["explain", "map", "report"], features={"roles": {"plan": "categorical"}})
    run = engine.fit(people(), out=tmp_path_factory.mktemp("unseen") / "run", n_clusters=3, config=config)
    return run.model


def reported(model: Model, table: pa.Table, **options: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert model.assign(table, **options).num_rows == table.num_rows
    return [str(w.message) for w in caught if issubclass(w.category, UnseenValuesWarning)]


def test_the_rows_of_the_fit_are_known_and_rare_categories_of_the_fit_are_no_news(model: Model) -> None:
    assert reported(model, people()) == []
    assert reported(model, people(), max_unseen=0.001) == []  # a tenth is "other", as it was in the fit
    assert reported(model, people(), max_unseen=0) == []


def test_values_below_zero_of_a_heavy_tail_are_known_if_the_fit_had_some(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    balance = np.exp(rng.normal(5.0, 1.5, N)).round(2)
    debts = np.where(np.arange(N) % 12 == 0, -balance, balance)
    config = FitConfig.merge({}, skip=["explain", "map", "report"])
    columns = {"age": rng.normal(40, 9, N)}
    fits = [
        engine.fit(pa.table({**columns, "balance": values}), out=tmp_path / name, n_clusters=2, config=config)
        for name, values in (("debts", debts), ("none", balance))
    ]
    assert [role["role"] for role in fits[0].manifest["columns"] if role["column"] == "balance"] == ["count"]
    with_debts = pa.table({**columns, "balance": debts})
    assert reported(fits[0].model, with_debts) == []
    (message,) = reported(fits[1].model, with_debts)
    assert "'balance' in 25 of 300 rows" in message


def test_categories_that_are_all_unknown_are_named_with_counts(model: Model) -> None:
    (message,) = reported(model, people(plan=["new"] * N))
    assert "column 'plan' has a category that the model does not know in 300 of 300 rows (10 % in the fit)" in message
    assert "new" not in message.replace("new rows", "")


def test_a_limit_refuses_what_is_beyond_the_share_of_the_fit(model: Model, tmp_path: Path) -> None:
    plan = people()["plan"].to_pylist()
    plan[1:N:10] = ["new"] * len(plan[1:N:10])  # another tenth
    table = people(plan=plan)
    assert reported(model, table) == reported(model, table, max_unseen="11%") == []
    for out in (None, tmp_path / "new.parquet", tmp_path / "parts"):
        with pytest.raises(UnseenValuesError, match=r"--max-unseen 9\.0 %: column 'plan' .* 60 of 300 rows \(10 %"):
            model.assign(table, out=out, max_unseen=0.09)
    assert list(tmp_path.iterdir()) == []


def test_empty_columns_of_every_kind_are_named(model: Model) -> None:
    columns = {"age": pa.nulls(N), "plan": pa.nulls(N, pa.string()), "likes": pa.nulls(N, pa.list_(pa.string()))}
    table = people()
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, values)
    (message,) = reported(model, table)
    for name in columns:
        assert f"column {name!r} has no value in any of 300 rows" in message
    with pytest.raises(UnseenValuesError) as caught:
        model.assign(table, max_unseen=0.5)
    assert caught.value.exit_code == 3
    assert all(repr(name) in str(caught.value) for name in columns)


def test_one_row_without_a_value_is_chance(model: Model) -> None:
    table = people().slice(0, 1).set_column(0, "age", pa.nulls(1, pa.float64()))
    assert reported(model, table) == reported(model, table, max_unseen=0) == []
    three = people(plan=["rare"] * N).slice(
        0, 3
    )  # a tenth of all rows has a rare category: three in a row are one in 1,000
    assert reported(model, three.slice(0, 2), max_unseen=0) == []
    assert "in 3 of 3 rows" in reported(model, three)[0]


def test_labels_count_where_a_row_has_some_and_none_is_known(model: Model, block_rows: Callable[[int], None]) -> None:
    likes: list[Any] = [["new"], ["music", "new"], [], None, ["new", "other new"], ["film"]] * (N // 6)
    table = people(likes=likes)
    for size in (7, 64, N):
        block_rows(size)
        (message,) = reported(model, table)
        assert "column 'likes' has labels that the model does not know in 100 of 300 rows" in message
    counts = count_unseen(model.read_block(table), model.encoder)
    names = [column.column for column in model.encoder.plan.columns]
    assert counts.missing[names.index("likes")] == 50
    assert counts.unknown.sum() == 100 + 30


def test_a_column_that_weighs_nothing_is_left_alone(model: Model) -> None:
    plan = model.encoder.plan.weighted({"age": 1.0, "hours": 1.0, "plan": 0.0, "likes": 1.0})
    weightless = Model(type(model.encoder)(plan), model.pca, model.centers, model.fences, None)
    assert reported(weightless, people(plan=["new"] * N)) == []


def test_no_rows_are_an_error(model: Model) -> None:
    with pytest.raises(EmptyTableError):
        model.assign(people().slice(0, 0))
    with pytest.raises(EmptyTableError):  # where workers write no part
        SeenRows(model.encoder, model.pca.mean_, None, lambda _: None).report()


@pytest.mark.parametrize(
    ("text", "share"),
    [("5%", 0.05), (" 5 % ", 0.05), ("0.05", 0.05), (0.05, 0.05), (".5", 0.5), (0, 0.0), ("100%", 1.0)],
)
def test_shares_are_parsed(text: Any, share: float) -> None:
    assert parse_share(text) == share


@pytest.mark.parametrize("text", ["", "%", "5", "-1%", "101%", "nan", "five", 1.5])
def test_what_is_no_share_is_refused(text: Any, model: Model) -> None:
    with pytest.raises(UsageError, match=r"is not a share.\nHint: write it like 5% or 0.05"):
        model.assign(people(), max_unseen=text)


def test_the_command_line_fails_with_exit_code_3_and_writes_nothing(
    model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from typer.testing import CliRunner

    from engine.cli import app

    pq.write_table(people(plan=["new"] * N), tmp_path / "new.parquet")
    arguments = ["assign", str(tmp_path / "new.parquet"), "--model", str(model.run_folder)]
    arguments += ["--out", str(tmp_path / "out.parquet"), "--max-unseen", "5%"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 3
    assert "column 'plan'" in result.output
    assert not (tmp_path / "out.parquet").exists()


def test_marks_above_a_scale_are_named_if_they_are_frequent_or_the_rows_are_few(model: Model) -> None:
    ages = people()["age"].to_numpy()

    def with_ages(values: Any) -> pa.Table:
        return people(age=np.concatenate([values, ages[len(values) :]]).tolist())

    assert "'age' in 5 of 300 rows (99 in 5)" in reported(model, with_ages([99.0] * 5))[0]
    assert reported(model, with_ages([99.0] * 2)) == []  # by chance
    older = np.linspace(52, 70, 60)
    assert reported(model, with_ages(older)) == []
    assert reported(model, with_ages([*older, 77.0, 77.0, 77.0])) == []  # older people are between them and the fit
    assert "(99 in 1)" in reported(model, people(age=[99.0] * N).slice(0, 1))[0]
    assert reported(model, people(age=[54.0] * N).slice(0, 1)) == []
    assert model.assign(people().slice(0, 1).to_pylist()).num_rows == 1
