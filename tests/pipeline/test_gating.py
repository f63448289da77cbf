"""The gate of a fit that continues a run: what is stopped lies beside it, and what is there stays."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import engine
from engine.cli import app
from engine.config import FitConfig, GateConfig
from engine.errors import ConfigError, GateStoppedError, ModelNotReadableError, OutputExistsError
from engine.pipeline.stages import Job

N = 6000
LEAN: dict[str, Any] = {"skip": ("explain", "map", "report"), "id": "id", "kmeans": {"n_clusters": 3}}


def write_people(path: Path, seed: int, shift: float = 0.0) -> Path:
    """Write people who keep nearly all of what they are from night to night."""
    people, night = np.random.default_rng(0), np.random.default_rng(seed)
    X = np.stack([people.normal(np.arange(N) % 3 * 6.0), people.normal(size=N)]) + 0.05 * night.normal(size=(2, N))
    pq.write_table(pa.table({"id": np.arange(N), "x": X[0], "y": X[1] + shift}), path)
    return path


def fit(table: Path, out: Path, *, overwrite: bool = False, **changes: Any) -> engine.Run:
    return engine.fit(table, out=out, overwrite=overwrite, config=FitConfig.merge({}, **LEAN | changes))


def gate_of(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "gate.json").read_text())
    return document


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> engine.Run:
    folder = tmp_path_factory.mktemp("first")
    return fit(write_people(folder / "people.parquet", 0), folder / "run")


def test_a_night_like_the_one_before_is_published_with_its_measures(first: engine.Run, tmp_path: Path) -> None:
    table = write_people(tmp_path / "t.parquet", 1)
    run = fit(table, tmp_path / "run", previous=str(first.path), gate={"stop": True})
    gate = gate_of(run.path)
    assert (gate["stopped"], gate["findings"], gate["unchecked"]) == (False, [], None)
    assert [column["column"] for column in gate["columns"]] == ["x", "y"]
    assert gate["clusters"]["common"] == N
    assert not (run.path / "gate.md").exists()
    assert not (first.path / "gate.json").exists()


def test_a_stopped_run_lies_beside_the_one_that_stays(first: engine.Run, tmp_path: Path) -> None:
    out, beside = tmp_path / "current", tmp_path / "current.stopped"
    good = fit(write_people(tmp_path / "1.parquet", 1), out, previous=str(first.path))
    before = {path: path.read_bytes() for path in good.path.rglob("*") if path.is_file()}
    bad = write_people(tmp_path / "2.parquet", 2, shift=0.2)
    for _ in range(2):  # what the gate has stopped before is replaced
        with pytest.raises(GateStoppedError, match=r"current\.stopped; .*current is what it was") as caught:
            fit(bad, out, previous=str(first.path), gate={"stop": True}, overwrite=True)
        assert caught.value.exit_code == 7
        assert [finding.split(" is ")[0] for finding in caught.value.findings] == ["Column 'y'"]
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    stopped = engine.Run(beside)
    assert gate_of(stopped.path)["stopped"]
    assert "Column 'y' is distributed in another way" in (beside / "gate.md").read_text()
    assert stopped.manifest["audit"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.parquet", "2.parquet", "current", "current.stopped"]
    assert pickle.loads(pickle.dumps(caught.value)).findings == caught.value.findings


@pytest.mark.parametrize("refit", [False, True])
def test_a_night_of_other_ids_is_stopped_without_figures_of_moves(
    first: engine.Run, tmp_path: Path, refit: bool
) -> None:
    table = pq.read_table(write_people(tmp_path / "t.parquet", 1))
    table = table.set_column(0, "id", pa.array(np.arange(N) + 10 * N))
    pq.write_table(table, tmp_path / "t.parquet")
    settings: dict[str, Any] = {"previous": str(first.path), "lineage": {"refit_features": refit}}
    with pytest.raises(GateStoppedError) as caught:
        fit(tmp_path / "t.parquet", tmp_path / "run", **settings, gate={"stop": True})
    assert caught.value.findings == ["No id is in both runs."]
    gate, lineage = (
        json.loads((tmp_path / "run.stopped" / name).read_text()) for name in ("gate.json", "lineage.json")
    )
    assert gate["unchecked"] == "No id is in both runs: moves are not checked"
    assert (gate["clusters"]["common"], gate["clusters"]["moved"]) == (0, 0)
    changes = gate["changes"]
    assert [changes[name] for name in ("common", "left", "joined", "moved")] == [0, N, N, 0]
    assert (changes["moved_share"], changes["adjusted_rand_index"]) == (None, None)
    assert not np.any(changes["moves"])
    assert (lineage["nights"][-1]["stayed"], lineage["nights"][-1]["moved"]) == (0, 0)
    assert not (tmp_path / "run.stopped" / "movers.parquet").exists()
    settings |= {"skip": ("explain", "map")}
    run = fit(tmp_path / "t.parquet", tmp_path / "free", **settings, gate={"stop": True, "common": 0.0})
    assert "0 people are in both,\n      6,000 left, 6,000 joined.</p>" in (run.path / "report.html").read_text()


def test_without_stop_the_findings_are_told_only(
    first: engine.Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="engine"):
        table = write_people(tmp_path / "t.parquet", 2, shift=0.2)
        run = fit(table, tmp_path / "run", previous=str(first.path))
    assert "The gate would stop the run: a finding: Column 'y' is distributed in another way" in caplog.text
    gate = gate_of(run.path)
    assert not gate["stopped"]
    assert [(finding["check"], finding["column"]) for finding in gate["findings"]] == [("psi", "y")]
    fit(table, tmp_path / "wide", previous=str(first.path), gate={"stop": True, "columns": {"y": {"psi": 1, "js": 1}}})


def test_a_model_without_distributions_is_said_loudly_and_its_clusters_are_checked(
    first: engine.Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from engine.model.files import read_model, write_model

    old = fit(write_people(tmp_path / "t.parquet", 0), tmp_path / "old")
    facts, arrays = read_model(old.path / "model")
    kept = {name: array for name, array in arrays.items() if not name.startswith("distributions.")}
    write_model(old.path / "model", {name: f for name, f in facts.items() if name != "distributions"}, kept)
    table = write_people(tmp_path / "2.parquet", 2, shift=0.2)
    run = fit(table, tmp_path / "run", previous=str(old.path), gate={"stop": True})
    assert "kept no statistics of its table: columns are not checked, only clusters are" in caplog.text
    gate = gate_of(run.path)
    assert "columns are not checked" in gate["unchecked"]
    assert gate["columns"] == []
    assert run.model.distributions is not None


def test_a_resumed_fit_gives_the_same_verdict(first: engine.Run, tmp_path: Path) -> None:
    table = write_people(tmp_path / "t.parquet", 1)
    settings: dict[str, Any] = {"previous": str(first.path), "gate": {"stop": True}}
    whole = fit(table, tmp_path / "whole", **settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Job, "stability", Mock(side_effect=MemoryError))
        with pytest.raises(MemoryError):
            fit(table, tmp_path / "run", **settings)
    config = FitConfig.merge({}, **LEAN | settings)
    run = engine.fit(table, out=tmp_path / "run", config=config, resume=True)
    assert (run.path / "gate.json").read_bytes() == (whole.path / "gate.json").read_bytes()
    assert (run.path / "model" / "model.json").read_bytes() == (whole.path / "model" / "model.json").read_bytes()


def test_what_cannot_be_gated_is_refused_before_any_work(first: engine.Run, tmp_path: Path) -> None:
    table = write_people(tmp_path / "t.parquet", 1)
    with pytest.raises(ConfigError, match="name it as `previous`"):
        fit(table, tmp_path / "run", gate={"stop": True})
    (tmp_path / "run.stopped").mkdir()
    (tmp_path / "run.stopped" / "notes.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match="was not written by the engine"):
        fit(table, tmp_path / "run", previous=str(first.path), gate={"stop": True})
    with pytest.raises(ConfigError, match=r"gate\.columns\.x\.psy"):
        fit(table, tmp_path / "run", previous=str(first.path), gate={"columns": {"x": {"psy": 1}}})


def test_new_clusters_that_the_gate_would_stop_do_not_take_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = write_people(tmp_path / "t.parquet", 1)
    first = fit(table, tmp_path / "first", kmeans={"n_clusters": 2})
    anew: dict[str, Any] = {"previous": str(first.path), "kmeans": {"n_clusters": 5}}
    assert fit(table, tmp_path / "free", **anew).manifest["clusters"] == 5
    run = fit(table, tmp_path / "gated", **anew, gate={"stop": True})
    assert run.manifest["clusters"] == 2
    assert "k stays at 2: with 5, more rows would move than may" in caplog.text
    wide = {"stop": True, "moved": 1.0, "deaths": 9, "size": 1.0, "size_ratio": 1e9, "outliers": 1.0}
    assert fit(table, tmp_path / "wide", **anew, gate=wide).manifest["clusters"] == 5


def test_a_column_that_is_like_that_of_another_named_run_is_fine(first: engine.Run, tmp_path: Path) -> None:
    saturday = fit(write_people(tmp_path / "1.parquet", 3, shift=0.2), tmp_path / "saturday", previous=str(first.path))
    table = write_people(tmp_path / "2.parquet", 2, shift=0.2)
    gate = {"stop": True, "also": [str(saturday.path)]}
    run = fit(table, tmp_path / "run", previous=str(first.path), gate=gate)
    assert gate_of(run.path)["findings"] == []
    with pytest.raises(ModelNotReadableError):
        fit(table, tmp_path / "none", previous=str(first.path), gate=gate | {"also": [str(tmp_path / "missing")]})


def test_a_gate_file_sets_limits_and_names_unknown_keys(tmp_path: Path) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text("psi: null\nmoved: 30%\nignore: z\ncolumns:\n  x: {js: 0.2}\n")
    gate = FitConfig.read(None, gate_file=path, previous="run").gate
    assert (gate.stop, gate.ignore) == (True, ("z",))
    assert (gate.psi, gate.moved, gate.of("x").js, gate.of("y").js) == (None, 0.3, 0.2, 0.055)
    assert FitConfig.merge(FitConfig.read(None, gate_file=path, previous="run").model_dump()).gate.of("x") == gate.of(
        "x"
    )
    with pytest.raises(ConfigError, match=r"is not valid: the gate compares with .*--previous"):
        FitConfig.read(None, gate_file=path)
    path.write_text("stop: false\n")
    assert not FitConfig.read(None, gate_file=path).gate.stop
    for fault in ("moved: 200%", "moved: many", "ignore: {z: 1}", "columns: {x: {missing: -1%}}"):
        path.write_text(fault)
        with pytest.raises(
            ConfigError, match=r"The gate file .*gate\.yaml is not valid: (moved|ignore|columns\.x\.missing): "
        ):
            FitConfig.read(None, gate_file=path)
    path.write_text("psy: 0.1\n")
    with pytest.raises(ConfigError, match=r"The gate file .*gate\.yaml is not valid: psy: "):
        FitConfig.read(None, gate_file=path)


def test_names_of_columns_that_are_not_in_the_earlier_run_are_told(
    first: engine.Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = write_people(tmp_path / "t.parquet", 1)
    right = {"columns": {"x": {"psi": 1}}, "ignore": ("y", "id")}
    run = fit(table, tmp_path / "run", previous=str(first.path), gate=right)
    engine.compare(first, run, gate=GateConfig.model_validate(right))
    assert "columns that" not in caplog.text
    wrong = {"columns": {"nosuch": {"psi": 1}}, "ignore": ("yy", "y")}
    fit(table, tmp_path / "wrong", previous=str(first.path), gate=wrong)
    engine.compare(first, run, gate=GateConfig.model_validate(wrong))
    assert caplog.text.count(f"name columns that {first.path} does not have: 'nosuch', 'yy'.") == 2


def test_the_report_and_the_comparison_show_what_changed(first: engine.Run, tmp_path: Path) -> None:
    table = write_people(tmp_path / "t.parquet", 2, shift=0.2)
    run = fit(table, tmp_path / "run", previous=str(first.path), skip=("explain", "map"))
    page = (run.path / "report.html").read_text()
    for words in ("What changed", "The gate would stop this run", "Column &#39;y&#39; is distributed", '"sankey"'):
        assert words in page
    compared = engine.compare(first, run)
    facts = compared.facts()
    assert [finding["column"] for finding in facts["findings"]] == ["y"]
    assert [column["column"] for column in facts["columns"]] == ["x", "y"]
    assert "drift   Column 'y' is distributed in another way" in compared.describe()
    assert gate_of(run.path)["changes"]["moves"] == facts["moves"]
    result = CliRunner().invoke(app, ["compare", str(first.path), str(run.path), "--gate"])
    assert result.exit_code == 7
    assert "people in both runs" in result.stdout
    assert CliRunner().invoke(app, ["compare", str(first.path), str(run.path)]).exit_code == 0
    (tmp_path / "gate.yaml").write_text("moved: 20%")
    options = ["--gate-file", str(tmp_path / "gate.yaml")]
    assert CliRunner().invoke(app, ["compare", str(first.path), str(run.path), *options]).exit_code == 7
    options += ["--id", "id", "-k", "3", "--skip", "explain,map,report", "--previous", str(first.path)]
    assert CliRunner().invoke(app, ["fit", str(table), *options, "--out", str(tmp_path / "cli")]).exit_code == 7
