"""Commands on a GPU that NumPy stands in for, with stand-ins for cuDF and cuML: what is typed, and what is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import engine
from engine.backends import gpu
from engine.backends.gpu import GpuProbe
from engine.cli.app import app
from tests.gpu import libraries
from tests.gpu.stand_in import stand_in_gpu

N_ROWS = 400


@pytest.fixture(autouse=True)
def rapids(monkeypatch: pytest.MonkeyPatch) -> Any:
    with stand_in_gpu(monkeypatch):
        yield


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(0)
    group = random.integers(0, 3, N_ROWS)
    path = tmp_path_factory.mktemp("tables") / "people.parquet"
    columns = {
        "person": pa.array(np.arange(N_ROWS) * 7 + 3),
        "age": pa.array(group * 15.0 + 20 + random.normal(size=N_ROWS)),
        "hours": pa.array(np.where(group == 1, 30.0, 4.0) + random.normal(size=N_ROWS)),
        "plan": pa.array(np.array(["basic", "family", "student"])[group]),
    }
    pq.write_table(pa.table(columns), path)
    return path


def rooms(*arguments: Any) -> dict[str, Any]:
    """Run a command with --json; return what it prints."""
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    printed: dict[str, Any] = json.loads(result.stdout)
    return printed


def test_a_fit_its_continuation_and_an_assignment_by_commands(people: Path, tmp_path: Path) -> None:
    config = tmp_path / "small.yaml"
    config.write_text("map: {n_landmarks: 100, max_iter: 250}\n")
    common = ("--id", "person", "--device", "cuda", "--config", config)
    first, second, labels = tmp_path / "first", tmp_path / "second", tmp_path / "labels"
    foretold = rooms("fit", people, *common, "-k", 3, "--out", first, "--dry-run")["computed_by"]
    rooms("fit", people, *common, "-k", 3, "--out", first)
    rooms("fit", people, *common, "--previous", first, "--out", second)
    rooms("assign", people, "--model", first, "--device", "cuda", "--place", "--out", labels)
    runs = [engine.load(first), engine.load(second)]
    for run in map(engine.Run, (first, second)):
        assert run.manifest["device"] == "cuda"
        assert (run.path / "report.html").stat().st_size > 10_000
    libraries_of = engine.Run(first).manifest["computed_by"]
    assert {stage: libraries_of[stage]["library"] for stage in foretold} == {
        stage: entry["library"] for stage, entry in foretold.items()
    }
    assert {libraries_of[stage]["library"] for stage in ("pca", "kmeans", "tsne")} == {"cuML"}
    assert {libraries_of[stage]["library"] for stage in ("ids", "statistics", "assign", "rules")} == {"CuPy"}
    table = pq.read_table(people)
    Z = runs[0].scores(table).astype(np.float64)
    numbers = np.square(Z[:, None] - runs[0].centers).sum(axis=2).argmin(axis=1)
    for written in (first / "assignments", labels):
        found = pq.read_table(written)
        assert found["person"].to_pylist() == table["person"].to_pylist()
        np.testing.assert_array_equal(found["cluster"].to_numpy(), numbers)
    np.testing.assert_array_equal(pq.read_table(second / "assignments")["cluster"].to_numpy(), numbers)


def test_reproducible_fits_by_commands_have_the_same_bits_on_both_devices(people: Path, tmp_path: Path) -> None:
    for device in ("cuda", "cpu"):
        out = tmp_path / device
        rooms(
            "fit",
            people,
            "--id",
            "person",
            "-k",
            3,
            "--device",
            device,
            "--reproducible",
            "--out",
            out,
            "--skip",
            "map",
        )
    models = [engine.load(tmp_path / device) for device in ("cuda", "cpu")]
    assert models[0].centers.tobytes() == models[1].centers.tobytes()
    tables = [pq.read_table(tmp_path / device / "assignments") for device in ("cuda", "cpu")]
    assert tables[0].equals(tables[1])
    rules = [(tmp_path / device / "rules.json").read_bytes() for device in ("cuda", "cpu")]
    assert rules[0] == rules[1]


def test_a_command_that_names_cuml_says_what_is_missing_without_it(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    libraries.clear_gpu_caches()
    libraries.install(monkeypatch, rapids=False)
    arguments = [
        "fit",
        str(people),
        "-k",
        "3",
        "--device",
        "cuda",
        "--algorithm",
        "cuml",
        "--out",
        str(tmp_path / "run"),
    ]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 4
    assert "cuml" in result.output.lower()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["fit", "assign"])
def test_a_command_that_names_a_gpu_fails_before_any_work_without_one(
    command: str, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms(
        "fit", people, "-k", 3, "--id", "person", "--device", "cpu", "--skip", "map,report", "--out", tmp_path / "run"
    )
    monkeypatch.setattr(gpu, "probe", lambda: GpuProbe(False, "this machine has no GPU"))
    arguments = ["--id", "person"] if command == "fit" else ["--model", str(tmp_path / "run")]
    arguments = [command, str(people), *arguments, "--device", "cuda", "--out", str(tmp_path / "new"), "--json"]
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, "this machine has no GPU" in result.output) == (4, True), result.output
    assert not (tmp_path / "new").exists()


def test_rows_are_assigned_by_the_device_that_is_named_and_requests_by_the_cpu(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms("fit", people, "-k", 3, "--id", "person", "--device", "cpu", "--out", tmp_path / "run")
    model, table = engine.load(tmp_path / "run"), pq.read_table(people)
    backends_used: list[str] = []
    nearest_two = gpu.GpuBackend.nearest_two

    def counted(self: Any, *arguments: Any) -> Any:
        backends_used.append("cuda")
        return nearest_two(self, *arguments)

    monkeypatch.setattr(gpu.GpuBackend, "nearest_two", counted)
    expected = model.assign(table, place=True, device="cpu")
    assert backends_used == []
    for device in ("auto", "cuda"):
        assert model.assign(table, place=True, device=device).equals(expected), device
    assert len(backends_used) == 2
    rows = table.slice(0, 5).to_pylist()
    assert model.assign(rows, place=True).equals(expected.slice(0, 5))
    model.assign_each([rows])
    assert len(backends_used) == 2
    model.assign(rows, device="cuda")
    assert len(backends_used) == 3
