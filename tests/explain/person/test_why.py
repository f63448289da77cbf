"""Why one person is in their cluster: the rule holds, and the least change does move them, by the model itself."""

from __future__ import annotations

import json
import os
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import engine
from engine.cli import app
from engine.config import FitConfig
from engine.datasets.demo_table import DemoPaths
from engine.errors import InputChangedError, PersonNotFoundError, SourceNotFoundError, UsageError
from engine.explain.person import why as person_why
from engine.explain.person.why import Why

SAMPLE = range(0, 20_000, 900)


@pytest.fixture(scope="module")
def members(demo: DemoPaths) -> pa.Table:
    return pq.read_table(demo.members)


@pytest.fixture(scope="module")
def answers(run: engine.Run, members: pa.Table) -> list[tuple[pa.Table, Why]]:
    """Return the rows and answers of some members."""
    rows = [members.slice(number, 1) for number in SAMPLE]
    return [(row, run.why(row["user_id"][0].as_py())) for row in rows]


def changed(row: pa.Table, values: dict[str, Any]) -> pa.Table:
    """Return a row with other values, in the types of the table."""
    for column, value in values.items():
        field = row.schema.field(column)
        value = date.fromisoformat(value) if pa.types.is_date(field.type) else value
        value = bool(value) if pa.types.is_boolean(field.type) else value
        row = row.set_column(row.schema.get_field_index(column), field, pa.array([value]).cast(field.type))
    return row


def cluster_of(run: engine.Run, row: pa.Table) -> int:
    cluster: int = run.model.assign(row)["cluster"][0].as_py()
    return cluster


def test_the_cluster_and_the_odds_are_those_of_the_assignments(
    run: engine.Run, answers: list[tuple[pa.Table, Why]]
) -> None:
    for number, (_, why) in zip(SAMPLE, answers, strict=True):
        (written,) = run.assignments.slice(number, 1).to_pylist()
        assert (why.id, why.cluster, why.assigned) == (written["user_id"], written["cluster"], written["cluster"])
        assert (why.runner_up, why.runner_up_odds) == (written["runner_up"], written["runner_up_odds"])
        assert (why.distance, why.margin, why.outlier) == (written["distance"], written["margin"], written["outlier"])
        assert why.facts()["name"] == run.personas[why.cluster]["name"]


def test_the_least_change_moves_the_person_when_their_changed_row_is_assigned(
    run: engine.Run, answers: list[tuple[pa.Table, Why]]
) -> None:
    for row, why in answers:
        assert why.moves_to is not None
        assert why.moves_to != why.cluster
        assert cluster_of(run, changed(row, {c.column: c.then for c in why.changes})) == why.moves_to
        assert all(cluster_of(run, changed(row, {c.column: c.now})) == why.cluster for c in why.changes)


def test_less_of_a_change_does_not_move_them(run: engine.Run, answers: list[tuple[pa.Table, Why]]) -> None:
    """A number that changes alone by nine tenths as much stays, and of several columns each is needed."""
    n_numbers = n_sets = 0
    for row, why in answers:
        values = {c.column: c.then for c in why.changes}
        if len(values) > 1:
            n_sets += 1
            for column in values:
                rest = {name: value for name, value in values.items() if name != column}
                assert cluster_of(run, changed(row, rest)) == why.cluster
        (first, *_) = why.changes
        if len(values) == 1 and isinstance(first.now, float) and isinstance(first.then, float):
            kind = row.schema.field(first.column).type
            if pa.types.is_floating(kind) and not first.then.is_integer():
                n_numbers += 1
                nearly = first.now + 0.9 * (first.then - first.now)
                assert cluster_of(run, changed(row, {first.column: nearly})) == why.cluster
    assert n_numbers
    assert n_sets


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_no_change_of_one_column_moves_those_who_need_several(
    run: engine.Run, members: pa.Table, answers: list[tuple[pa.Table, Why]]
) -> None:
    """Every column is given the values of 1,000 other members."""
    others = members.slice(0, 1_000)
    row, why = next((row, why) for row, why in answers if len(why.changes) > 1)
    for column in run.model.encoder.columns:
        repeated = pa.concat_tables([row] * len(others))
        index = members.schema.get_field_index(column)
        tried = repeated.set_column(index, members.schema.field(column), others[column].combine_chunks())
        keep = np.asarray(others[column].is_valid())
        assert (run.model.assign(tried)["cluster"].to_numpy()[keep] == why.cluster).all(), column


def test_the_rule_holds_and_no_more_precise_one_does(run: engine.Run, answers: list[tuple[pa.Table, Why]]) -> None:
    n_rules = 0
    for row, why in answers:
        rules = run.rules["clusters"][why.cluster]["rules"]
        holding = [rule for rule in rules if points(row, rule) >= rule["points_needed"]]
        n_rules += bool(holding)
        best = max((rule["precision"] for rule in holding), default=None)
        assert (None if why.rule is None else why.rule["precision"]) == best
    assert n_rules > len(answers) / 2


def points(row: pa.Table, rule: dict[str, Any]) -> int:
    """Return the points that a row has of a rule."""
    return sum(condition["points"] for condition in rule["conditions"] if holds(row, condition))


def holds(row: pa.Table, condition: dict[str, Any]) -> bool:
    """Evaluate a condition of rules.json on values that are there."""
    value = row[condition["column"]][0].as_py()
    if condition["kind"] == "missing":
        return (value is None) == condition["holds"]
    if condition["kind"] == "label":
        return (condition["value"] in (value or [])) == condition["holds"]
    if condition["kind"] == "category":
        return (value == condition["value"]) == condition["holds"]
    if condition["kind"] == "rare category":
        pytest.skip("the test knows nothing of rare categories")
    value = date.isoformat(value) if isinstance(value, date) else value
    if value is None:
        return False
    low, high = condition.get("at_least"), condition.get("below")
    return (low is None or value >= low) and (high is None or value < high)


def test_a_table_of_another_day_is_asked_by_its_own_rows(run: engine.Run, members: pa.Table) -> None:
    row = members.slice(7, 1)
    first = run.why(row["user_id"][0].as_py())
    moved = changed(row, {c.column: c.then for c in first.changes})
    again = run.why(row["user_id"][0].as_py(), table=moved)
    assert (again.cluster, again.assigned) == (first.moves_to, first.cluster)
    assert "the table is not the one of the run" in again.describe()


def small_run(folder: Path, table: Any, **changes: Any) -> engine.Run:
    config = FitConfig.merge({}, **({"skip": ("explain", "map", "report")} | changes))
    return engine.fit(table, out=folder / "run", n_clusters=2, config=config)


def two_groups(n: int = 200) -> pa.Table:
    x = np.random.default_rng(0).uniform(-1, 1, n) + np.where(np.arange(n) % 2, 10.0, 0.0)
    return pa.table({"who": [f"p{i}" for i in range(n)], "x": x, "plan": np.where(np.arange(n) % 2, "a", "b")})


def test_what_is_not_there_is_told_by_name(tmp_path: Path) -> None:
    path = tmp_path / "people.parquet"
    pq.write_table(two_groups(), path)
    run = small_run(tmp_path, path, id="who")
    why = run.why("p4")
    assert why.rule is None
    assert "--skip explain" in why.describe()
    with pytest.raises(PersonNotFoundError, match="'who'") as caught:
        run.why("nobody at all")
    assert "nobody at all" not in str(caught.value)
    with pytest.raises(PersonNotFoundError):
        run.why(None)
    os.utime(path, (1, 1))
    with pytest.raises(InputChangedError, match="--table"):
        run.why("p4")
    assert run.why("p4", table=path).facts() == why.facts()
    path.unlink()
    with pytest.raises(SourceNotFoundError, match="--table"):
        run.why("p4")
    shutil.rmtree(run.path)
    frame = small_run(tmp_path, two_groups().drop_columns("who"))
    with pytest.raises(UsageError, match="data frame"):
        frame.why(4)
    assert frame.why(4, table=two_groups()).cluster == frame.assignments["cluster"][4].as_py()
    with pytest.raises(PersonNotFoundError, match="'row'"):
        frame.why(200, table=two_groups())
    with pytest.raises(PersonNotFoundError, match="numbered"):
        frame.why(199, table=two_groups().slice(0, 20))


def test_missing_values_labels_dates_and_cosine(tmp_path: Path) -> None:
    n = 400
    side = np.arange(n) % 2 == 0
    rng = np.random.default_rng(1)
    table = pa.table(
        {
            "since": pa.array([date(2020 if s else 2010, 1 + int(rng.integers(12)), 3) for s in side]),
            "likes": [["jazz", "rock"] if s else ["chess"] for s in side],
            "age": pa.array([None if i % 11 == 0 else int(30 + 20 * s + rng.integers(9)) for i, s in enumerate(side)]),
            "member": pa.array([bool(s) if i % 7 else None for i, s in enumerate(side)]),
        }
    )
    for number, metric in enumerate(("euclidean", "cosine")):
        run = small_run(tmp_path / str(number), table, kmeans={"metric": metric, "n_clusters": 2})
        for person in range(24):
            why = run.why(person, table=table)
            row = table.slice(person, 1)
            assert why.moves_to is not None
            assert cluster_of(run, changed(row, {c.column: c.then for c in why.changes})) == why.moves_to
            assert json.loads(json.dumps(why.facts()))["least_change"]["columns"]


@pytest.mark.filterwarnings("ignore::engine.features.number_columns.NumberTextsWarning")
def test_a_text_that_is_no_number_counts_as_missing_as_in_the_fit(tmp_path: Path) -> None:
    income = [f"{1000 + 7 * i + 9000 * (i % 2):,} USD" if i != 5 else "a lot" for i in range(300)]
    path = tmp_path / "people.parquet"
    pq.write_table(pa.table({"who": range(300), "income": income, "x": np.arange(300) % 2 * 4.0 + 0.1}), path)
    run = small_run(tmp_path, path, id="who")
    assert run.model.encoder.plan.columns[0].role == "numeric"
    written = run.assignments.slice(5, 1).to_pylist()[0]
    why = run.why(5)
    assert (why.cluster, why.distance) == (written["cluster"], written["distance"])
    assert engine.similar(run.path, 5, 3).equals(engine.similar(run, 5, 3))


def test_whole_numbers_stay_whole_where_the_table_stores_them_as_decimals(tmp_path: Path) -> None:
    days = np.concatenate([np.arange(100) % 9, 21 + np.arange(100) % 9]).astype(float)
    table = pa.table({"days": days, "x": np.random.default_rng(0).normal(size=200)})
    run = small_run(tmp_path, table)
    for person in range(0, 200, 20):
        changes = {c.column: c.then for c in run.why(person, table=table).changes}
        assert isinstance(changes.get("days", 0.0), float)
        assert float(changes.get("days", 0.0)).is_integer()


def test_one_cluster_has_no_runner_up_and_nobody_moves(tmp_path: Path) -> None:
    table = two_groups()
    run = engine.fit(table, out=tmp_path / "run", id="who", n_clusters=1, config=FitConfig.merge({}, skip=["map"]))
    why = run.why("p1", table=table)
    assert (why.runner_up, why.runner_up_odds, why.moves_to, why.changes) == (None, None, None, ())
    assert why.facts()["least_change"] is None
    assert "runner-up" not in why.describe()


def test_the_command_line(run: engine.Run, members: pa.Table) -> None:
    id = str(members["user_id"][5].as_py())
    text = CliRunner().invoke(app, ["why", str(run.path), id])
    assert text.exit_code == 0
    assert "least change: " in text.output
    facts = json.loads(CliRunner().invoke(app, ["why", str(run.path), id, "--json"]).output)
    assert facts == json.loads(json.dumps(run.why(int(id)).facts()))
    assert CliRunner().invoke(app, ["why", str(run.path), "x"]).exit_code == 3


@pytest.mark.parametrize(
    ("now", "then", "shown"),
    [(171.13724537, 6.7, 171.1), (171137.0, 6.7, 171137.0), (6.70001, 6.7, 6.70001), ("Basic", "Family", "Basic")],
)
def test_a_value_is_rounded_unless_it_would_be_the_one_it_is_compared_with(now: Any, then: Any, shown: Any) -> None:
    assert person_why._rounded(now, then) == shown
