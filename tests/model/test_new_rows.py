"""The further columns of assignments: the nearest clusters with their odds, names, and what made them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import engine
from engine.cli import app
from engine.config import FitConfig
from engine.datasets.demo_table import DemoPaths
from engine.errors import (
    GateStoppedError,
    IdColumnError,
    MissingColumnError,
    ModelNotReadableError,
    NotExplainedError,
    UsageError,
)

PLAIN = ["user_id", "cluster", "distance", "runner_up", "margin", "runner_up_odds", "outlier"]


def test_the_nearest_clusters_are_those_of_plain_distances(run: engine.Run, demo: DemoPaths) -> None:
    members = pq.read_table(demo.members).slice(0, 5_000)
    found = run.model.assign(members, top=12)
    ranks = range(2, 13)
    assert found.column_names == PLAIN + [name for r in ranks for name in (f"cluster_{r}", f"cluster_{r}_odds")]
    Z, centers = (a.astype(np.float64) for a in (run.model.scores(members), run.model.centers))
    order = np.argsort(((Z[:, None] - centers) ** 2).sum(axis=2), axis=1, kind="stable")
    columns = [found["cluster"], *(found[f"cluster_{r}"] for r in ranks)]
    assert np.array_equal(np.stack([c.to_numpy() for c in columns], axis=1), order)
    assert found["cluster_2"].equals(found["runner_up"])
    assert found["cluster_2_odds"].equals(found["runner_up_odds"])
    odds = np.stack([found[f"cluster_{r}_odds"].to_numpy() for r in ranks], axis=1)
    assert (np.diff(odds, axis=1) <= 0).all()
    assert (odds >= 0).all()
    few = run.model.assign(members, top=3)
    assert few.equals(found.select(few.column_names))


def test_the_odds_of_the_third_are_those_of_winning_twice(tmp_path: Path) -> None:
    """Three centers on a line, and odds that depend on the margin alone."""
    x = np.concatenate([np.random.default_rng(0).normal(c, 1.2, 300) for c in (0.0, 4.0, 8.0)])
    run = fit(tmp_path / "run", pa.table({"x": x}), n_clusters=3)
    odds = run.model.odds
    assert odds is not None
    found = run.model.assign(pa.table({"x": x}), top=3)
    edges = np.array([0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8])
    Z = run.model.scores(pa.table({"x": x}))
    for row in range(0, 900, 50):
        labels = [int(found[name][row].as_py()) for name in ("cluster", "cluster_2", "cluster_3")]
        d = [np.float32(np.linalg.norm(Z[row].astype(float) - run.model.centers[c])) for c in labels]
        first, second = (odds[labels[i], np.digitize(np.float32(1) - d[i] / d[2], edges)] for i in (0, 1))
        assert found["cluster_3_odds"][row].as_py() == pytest.approx(first * second, rel=1e-6)


def fit(out: Path, table: object, **arguments: object) -> engine.Run:
    config = FitConfig.merge({}, skip=["explain", "map", "report"])
    return engine.fit(table, out=out, config=config, **arguments)  # type: ignore[arg-type]


def test_names_and_what_made_them(run: engine.Run, demo: DemoPaths, tmp_path: Path) -> None:
    members = pq.read_table(demo.members).slice(0, 300)
    found = run.model.assign(members, with_columns=("name", "run"))
    assert found.column_names == [*PLAIN, "cluster_name", "run", "model"]
    names = [run.personas[cluster]["name"] for cluster in found["cluster"].to_pylist()]
    assert found["cluster_name"].to_pylist() == names
    assert set(found["run"].to_pylist()) == {run.manifest["run_id"]}
    checksum = json.loads((run.path / "model" / "model.json").read_text())["arrays_sha256"]
    assert set(found["model"].to_pylist()) == {checksum[:12]}
    arguments = ["--model", str(run.path), "--top", "2", "--with", "name, run", "--workers", "1"]
    assert (
        CliRunner().invoke(app, ["assign", str(demo.members), *arguments, "--out", str(tmp_path / "o")]).exit_code == 0
    )
    written = pq.read_table(tmp_path / "o")
    assert written.slice(0, 300).equals(run.model.assign(members, top=2, with_columns=["name", "run"]))


def test_the_same_run_has_the_same_id_and_another_has_another(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=200) + np.arange(200) % 2 * 9
    table = pa.table({"x": x, "who": np.arange(200)})
    first, again = (fit(tmp_path / name, table, id="who", n_clusters=2) for name in ("a", "b"))
    others = fit(tmp_path / "c", table.set_column(1, "who", pa.array(np.arange(1, 201))), id="who", n_clusters=2)
    numbered = fit(tmp_path / "d", table.drop_columns("who"), n_clusters=2)
    ids = [r.manifest["run_id"] for r in (first, again, others, numbered)]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


def test_what_cannot_be_added_is_told(run: engine.Run, demo: DemoPaths, tmp_path: Path) -> None:
    members = pq.read_table(demo.members).slice(0, 10)
    for arguments, words in (
        ({"top": 13}, "number of clusters, 12"),
        ({"top": 0}, "between 1"),
        ({"with_columns": ["names"]}, "--with names is unknown"),
    ):
        with pytest.raises(UsageError, match=words):
            run.model.assign(members, **arguments)
    table = pa.table({"x": np.arange(40.0) ** 2, "run": np.arange(40)})
    unnamed = fit(tmp_path / "run", table, id="run", n_clusters=2)
    with pytest.raises(NotExplainedError):
        unnamed.model.assign(table, with_columns=["name"])
    with pytest.raises(UsageError, match="'run'"):
        unnamed.model.assign(table, with_columns=["run"])
    manifest = unnamed.path / "manifest.json"
    manifest.write_text(json.dumps({k: v for k, v in json.loads(manifest.read_text()).items() if k != "run_id"}))
    renamed = table.rename_columns(["x", "who"])
    later = fit(tmp_path / "later", renamed, id="who", n_clusters=2)
    (later.path / "manifest.json").write_text(manifest.read_text())
    with pytest.raises(ModelNotReadableError, match="before runs had ids"):
        engine.load(later.path).assign(renamed, with_columns=["run"])


def test_rows_given_as_dicts_are_assigned_to_the_same_bits(run: engine.Run, demo: DemoPaths) -> None:
    members = pq.read_table(demo.members).slice(0, 200)
    expected = run.model.assign(members, top=3, with_columns=["name"])
    records = json.loads(json.dumps(members.to_pylist(), default=str))  # dates are texts
    parts = [run.model.assign(records[i : i + 10], top=3, with_columns=["name"]) for i in range(0, 200, 10)]
    assert pa.concat_tables(parts).combine_chunks().equals(expected.combine_chunks())
    single = run.model.assign(records[0])
    assert single.equals(run.model.assign(members.slice(0, 1)))
    far = members.slice(0, 3).set_column(1, "age", pa.array([1e9, -1e9, None]))
    assert run.model.assign(far.to_pylist()).equals(run.model.assign(far))
    with pytest.raises(GateStoppedError):
        run.model.assign(records[:1] * 100, gate=True)
    with pytest.raises(IdColumnError, match="'user_id'"):
        run.model.assign([{**records[0], "user_id": None}])
    without = [{name: value for name, value in records[0].items() if name != "user_id"}]
    with pytest.raises(MissingColumnError, match="'user_id'"):
        run.model.assign(without)
