"""The people nearest to one person: exactly those that plain distances of the scores give."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import engine
from engine.cli import app
from engine.config import FitConfig
from engine.datasets.demo_table import DemoPaths
from engine.errors import PersonNotFoundError, UsageError
from engine.model.similar import ScoredRows


def plain(Z: np.ndarray, scores: np.ndarray, n: int, allowed: np.ndarray) -> list[int]:
    distances = np.sqrt(((Z.astype(np.float64) - scores.astype(np.float64)) ** 2).sum(axis=1))
    return [row for _, row in sorted(zip(distances, range(len(Z)), strict=True)) if allowed[row]][:n]


@given(
    st.integers(1, 9000), st.integers(1, 60), st.integers(1, 30), st.integers(0, 2**32 - 1), st.sampled_from([0, 3, 6])
)
def test_the_nearest_rows_are_those_of_plain_distances(n_rows: int, d: int, n: int, seed: int, far: int) -> None:
    """Coarse values make ties; far away from 0, float32 cannot tell rows apart that float64 can."""
    rng = np.random.default_rng(seed)
    Z = (np.round(rng.normal(size=(n_rows, d)), 1 if far else 0) + 10.0**far).astype(np.float32)
    scores, allowed = Z[rng.integers(n_rows)], rng.random(n_rows) < 0.7
    ids, labels = pa.chunked_array([pa.array(np.arange(n_rows))]), (~allowed).astype(np.int32)
    found = ScoredRows(0, ids, Z, labels).nearest(scores, n, label=0, excluded=-1)
    rows, distances = found["row"].to_numpy(), found["distance"].to_numpy()
    assert rows.tolist() == plain(Z, scores, n, allowed)
    assert np.array_equal(distances, np.sqrt(((Z[rows].astype(np.float64) - scores) ** 2).sum(axis=1)))


def test_a_run_in_memory_and_a_table_by_the_block_say_the_same(
    run: engine.Run, demo: DemoPaths, block_rows: pytest.FixtureRequest
) -> None:
    members = pq.read_table(demo.members)
    Z, clusters = run.model.scores(members), run.assignments["cluster"].to_numpy()
    for person in (0, 4321, 19_999):
        id = members["user_id"][person].as_py()
        for same in (False, True):
            allowed = (clusters == clusters[person]) if same else np.ones(len(Z), bool)
            allowed[person] = False
            expected = plain(Z, Z[person], 7, allowed)
            found = engine.similar(run, id, 7, same_cluster=same)
            assert found["user_id"].to_pylist() == members["user_id"].take(pa.array(expected)).to_pylist()
            assert found["cluster"].to_pylist() == clusters[expected].tolist()
            block_rows(3_000)  # type: ignore[operator]
            assert engine.similar(run.path, id, 7, same_cluster=same).equals(found)
            block_rows(32_768)  # type: ignore[operator]


def test_few_people_and_wrong_questions(tmp_path: Path) -> None:
    table = pa.table({"x": [0.0, 1.0, 3.0, 10.0, 11.0, 12.5]})
    config = FitConfig.merge({}, skip=["explain", "map", "report"])
    run = engine.fit(table, out=tmp_path / "run", n_clusters=2, config=config)
    found = engine.similar(run, 2, 99, table=table)
    assert found["row"].to_pylist() == [1, 0, 3, 4, 5]
    assert engine.similar(run, "2", 99, same_cluster=True, table=table)["row"].to_pylist() == [1, 0]
    with pytest.raises(UsageError, match="1 or more"):
        engine.similar(run, 2, 0, table=table)
    with pytest.raises(PersonNotFoundError):
        engine.similar(run, 6, table=table)
    with pytest.raises(UsageError, match="data frame"):
        engine.similar(run, 2)


def test_the_command_line(run: engine.Run) -> None:
    id = run.assignments["user_id"][3].as_py()
    shown = json.loads(CliRunner().invoke(app, ["similar", str(run.path), str(id), "-n", "3", "--json"]).output)
    assert shown["people"] == engine.similar(run, id, 3).to_pylist()
    text = CliRunner().invoke(app, ["similar", str(run.path), str(id), "-n", "2", "--same-cluster"]).output
    assert len(text.splitlines()) == 3
    with pytest.raises(PersonNotFoundError):
        engine.similar(run, 12)
    assert CliRunner().invoke(app, ["similar", str(run.path), "12"]).exit_code == 3
