"""`rooms export`: what it prints and writes, and its exit codes."""

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
from engine.cli import app
from engine.export.sql_check import Difference
from engine.model import export
from tests.export.tables import ROLES, mixed


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    engine.fit(
        mixed(300, lists=False), id="who", n_clusters=3, out=folder / "run", skip=["map", "report", "explain"],
        config={"features": {"roles": ROLES}}, threads=1,
    )  # fmt: skip
    pq.write_table(mixed(300, lists=False), folder / "rows.parquet")
    return folder / "run"


def rooms(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


def test_a_statement_is_printed_or_written_and_checked(run: Path, tmp_path: Path) -> None:
    rows = run.parent / "rows.parquet"
    printed = rooms(run, "--dialect", "spark", "--table", rows, "--from", "lake.people")
    assert printed.exit_code == 0, printed.output
    assert "FROM lake.people" in printed.stdout
    facts = json.loads(rooms(run, "--check", rows, "--out", tmp_path / "a.sql", "--json").stdout)
    assert (facts["rows"], facts["differing"], facts["dialect"]) == (300, facts["within_rounding"], "duckdb")
    assert (tmp_path / "a.sql").read_text().startswith("-- A model of 3 clusters for a table profiles")
    again = rooms(run, "--table", rows, "--out", tmp_path / "a.sql")
    assert again.exit_code == 5
    assert rooms(run, "--table", rows, "--out", tmp_path / "a.sql", "--overwrite").exit_code == 0


@pytest.mark.parametrize("to", ["sql", "rules", "onnx", "sklearn"])
def test_no_export_replaces_what_is_read(to: str, tmp_path: Path) -> None:
    fitted, rows = tmp_path / "fitted.parquet", tmp_path / "rows.parquet"
    for path in (fitted, rows):
        pq.write_table(mixed(300, lists=False), path)
    (tmp_path / "link").symlink_to(rows)
    engine.fit(
        fitted, id="who", n_clusters=3, out=tmp_path / "run", skip=["map", "report"],
        config={"features": {"roles": ROLES}}, threads=1,
    )  # fmt: skip
    run = tmp_path / "run"
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    read = ["--check", rows] if to == "sql" else ["--table", rows]
    for out in (rows, tmp_path / "link", fitted, run / "manifest.json", run / "model.sql"):
        refused = rooms(run, "--to", to, *read, "--out", out, "--overwrite")
        assert refused.exit_code == 5, (out, refused.output)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_other_targets_are_written(run: Path, tmp_path: Path) -> None:
    rows = run.parent / "rows.parquet"
    for to in ("onnx", "sklearn"):
        written = rooms(run, "--to", to, "--table", rows, "--out", tmp_path / to)
        assert written.exit_code == 0, written.output
        assert (tmp_path / to).stat().st_size > 1000
        assert rooms(run, "--to", to, "--table", rows).exit_code == 2


def test_errors_have_the_exit_codes_of_their_kind(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = run.parent / "rows.parquet"
    assert rooms(run, "--table", rows, "--dialect", "oracle").exit_code == 2
    assert rooms(run).exit_code == 2  # the table of the run was a data frame
    assert rooms(run, "--check", rows, "--deadline", 0).exit_code == 4
    monkeypatch.setattr(export, "compare_rows", lambda *_: Difference(300, 3, 1))
    differs = rooms(run, "--check", rows)
    assert differs.exit_code == 70
    assert "2 of 300 rows have another cluster" in differs.output


@pytest.mark.parametrize("option", [("--dialect", "duckdb"), ("--from", "people"), ("--id", "who")])
def test_options_of_sql_are_for_sql(run: Path, tmp_path: Path, option: tuple[str, str]) -> None:
    for to in ("onnx", "sklearn"):
        done = rooms(run, "--to", to, "--out", tmp_path / "out", "--table", run.parent / "rows.parquet", *option)
        assert done.exit_code == 2
        assert "are for SQL" in done.output
    assert list(tmp_path.iterdir()) == []


def test_half_floats_are_checked(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=200) + np.arange(200) % 2 * 9).astype(np.float16)
    vectors = rng.normal(size=400).astype(np.float16)
    rows = pa.table(
        {
            "who": range(200),
            "x": x,
            "v": pa.FixedSizeListArray.from_arrays(pa.array(vectors), 2),
            "y": rng.normal(size=200),
        }
    )
    pq.write_table(rows, tmp_path / "rows.parquet")
    engine.fit(
        tmp_path / "rows.parquet", out=tmp_path / "run", id="who", n_clusters=2, skip=["map", "report", "explain"],
        threads=1,
    )  # fmt: skip
    done = rooms(tmp_path / "run", "--check", tmp_path / "rows.parquet", "--json")
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert (facts["rows"], facts["differing"]) == (200, facts["within_rounding"])
