"""A run whose clusters have numbers with gaps: every file and every command shows the numbers, not positions."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import engine
from engine.comparison.compare import compare
from engine.errors import ModelNotReadableError
from engine.model.model import Model
from engine.pipeline import stages

NUMBERS = (2, 5, 11)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    group = np.arange(1500) % 3
    path = tmp_path_factory.mktemp("numbers") / "people.parquet"
    columns = {
        "user_id": [f"u{row}" for row in range(1500)],
        "age": 20.0 + 25 * group + rng.normal(size=1500),
        "hours": np.array([2.0, 30.0, 9.0])[group] + rng.gamma(2.0, 0.5, 1500),
        "plan": np.array(["free", "basic", "plus"])[group],
    }
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture(scope="module")
def runs(table: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[engine.Run, engine.Run]:
    """Return a run as it is, and one with the same clusters under other numbers."""
    folder = tmp_path_factory.mktemp("runs")
    plain = engine.fit(table, id="user_id", n_clusters=3, out=folder / "plain")
    with pytest.MonkeyPatch.context() as patch:
        numbered = stages.Job.model
        patch.setattr(stages.Job, "model", lambda *args: replace(numbered(*args), numbers=np.array(NUMBERS, np.int32)))
        return plain, engine.fit(table, id="user_id", n_clusters=3, out=folder / "numbered")


def test_tables_hold_the_numbers(runs: tuple[engine.Run, engine.Run]) -> None:
    plain, numbered = runs
    numbers = np.array(NUMBERS)
    for column in ("cluster", "runner_up"):
        expected = numbers[plain.assignments[column].to_numpy()]
        assert numbered.assignments[column].to_pylist() == expected.tolist()
    assert numbered.clusters["cluster"].to_pylist() == list(NUMBERS)
    assert set(numbered.map["cluster"].to_pylist()) == set(NUMBERS)


def test_explanations_name_the_numbers(runs: tuple[engine.Run, engine.Run], table: Path) -> None:
    plain, numbered = runs
    assert [p["cluster"] for p in numbered.personas] == list(NUMBERS)
    assert [c["cluster"] for c in numbered.rules["clusters"]] == list(NUMBERS)
    leaves = re.findall(r'"cluster": (\d+)', json.dumps(numbered.rules["full"]["tree"]))
    assert set(map(int, leaves)) == set(NUMBERS)
    assert all(f"Cluster {number}." in (numbered.path / "personas.md").read_text() for number in NUMBERS)
    statements = [s for s in (numbered.path / "rules.sql").read_text().split(";\n") if "SELECT" in s]
    connection = duckdb.connect()
    connection.execute(f"CREATE VIEW profiles AS SELECT * FROM '{table}'")
    columns = [name for name, *_ in connection.execute(statements[0]).description]
    assert columns[1:] == [f"cluster_{number}" for number in NUMBERS]
    by_tree = [cluster for _, cluster in connection.execute(statements[1]).fetchall()]
    assert by_tree == numbered.assignments["cluster"].to_pylist()
    assert plain.rules["full"]["fidelity"] == numbered.rules["full"]["fidelity"] == 1.0


def test_the_model_keeps_the_numbers(runs: tuple[engine.Run, engine.Run], table: Path) -> None:
    plain, numbered = runs
    assert numbered.model.cluster_numbers.tolist() == list(NUMBERS)
    assigned = engine.load(numbered.path).assign(table)
    assert assigned["cluster"].to_pylist() == numbered.assignments["cluster"].to_pylist()
    assert plain.model.numbers is None  # 0, 1, 2 need no array


def test_the_report_shows_the_numbers(runs: tuple[engine.Run, engine.Run]) -> None:
    page = (runs[1].path / "report.html").read_text()
    assert re.findall(r'data-cluster="(\d+)"', page)
    assert set(re.findall(r'data-cluster="(\d+)"', page)) == {str(number) for number in NUMBERS}
    figure = runs[1].plot_map()
    assert sorted(trace.meta for trace in figure.data) == list(NUMBERS)
    assert "</span> 11" in runs[1]._repr_html_()


def test_a_comparison_uses_the_numbers(runs: tuple[engine.Run, engine.Run]) -> None:
    comparison = compare(*runs)
    assert comparison.n_moved == 0
    assert comparison.adjusted_rand_index == 1.0
    facts = comparison.facts()
    assert [c["matched"] for c in facts["old_clusters"]] == list(NUMBERS)
    assert [c["cluster"] for c in facts["new_clusters"]] == list(NUMBERS)
    assert [c["others"] for c in facts["new_clusters"]] == [[0], [1], [2]]


@pytest.mark.parametrize("numbers", [[0, 1], [0, 2, 2], [2, 1, 3], [-1, 0, 1]])
def test_numbers_that_cannot_be_are_refused(
    runs: tuple[engine.Run, engine.Run], tmp_path: Path, numbers: list[int]
) -> None:
    replace(runs[0].model, numbers=np.array(numbers, np.int32)).write(tmp_path / "model")
    with pytest.raises(ModelNotReadableError):
        Model.read(tmp_path / "model", tmp_path / "map")
