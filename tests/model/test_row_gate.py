"""New rows that are not like those of the fit: each kind of break is told, and stopped where that is asked for."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import engine
from engine.cli import app
from engine.config import FitConfig, ScoringLimits
from engine.errors import ConfigError, GateStoppedError, ModelNotReadableError
from engine.model.files import read_model, write_model
from engine.model.row_gate import DriftedRowsWarning
from engine.model.unseen import UnseenValuesWarning

N = 4000


def people(seed: int, n: int = N) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 2, n)
    return pd.DataFrame(
        {
            "who": [f"{seed}-{i}" for i in range(n)],
            "age": rng.normal(40.0 + 20.0 * groups, 5.0),
            "paid": np.where(rng.random(n) < 0.7, 0.0, rng.lognormal(3.0, 1.0, n)),
            "active": np.where(rng.random(n) < 0.6, "Y", "N"),
            "note": np.where(rng.random(n) < 0.1, None, rng.normal(size=n)),
            "likes": [list(np.array(["tea", "milk", "wine"])[rng.random(3) < 0.5]) for _ in range(n)],
            "since": pd.Timestamp("2024-01-01") - pd.to_timedelta(rng.integers(0, 900, n), unit="D"),
        }
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> engine.Run:
    config = FitConfig(skip=("explain", "map", "report"))
    return engine.fit(people(0), out=tmp_path_factory.mktemp("fit") / "run", id="who", n_clusters=2, config=config)


BREAKS: dict[str, tuple[Callable[[pd.DataFrame], Any], str]] = {
    "amounts in another unit": (lambda t: t.assign(paid=t["paid"] * 1000.0), "paid"),
    "a column without values": (lambda t: t.assign(age=np.nan), "age"),
    "other words": (lambda t: t.assign(active=t["active"].map({"Y": "yes", "N": "no"})), "active"),
    "many missing values": (lambda t: t.assign(note=t["note"].where(np.arange(len(t)) % 2 == 0)), "note"),
    "other labels": (lambda t: t.assign(likes=[[label.upper() for label in row] for row in t["likes"]]), "likes"),
    "one value everywhere": (lambda t: t.assign(age=40.0), "age"),
}


@pytest.mark.parametrize("n", [1, 3, 40, N])
def test_rows_like_those_of_the_fit_pass_in_silence(run: engine.Run, n: int) -> None:
    later = people(1, n).assign(since=pd.Timestamp("2024-06-01"))  # new people have new dates
    with warnings.catch_warnings():
        warnings.simplefilter("error", DriftedRowsWarning)
        assert run.model.assign(later, gate=True).num_rows == n


@pytest.mark.parametrize("kind", BREAKS)
def test_each_kind_of_break_is_told_and_stopped(
    run: engine.Run, tmp_path: Path, kind: str, block_rows: Callable[[int], None]
) -> None:
    change, column = BREAKS[kind]
    broken = change(people(2))
    with pytest.warns((DriftedRowsWarning, UnseenValuesWarning), match=f"olumn '{column}'"):
        assert run.model.assign(broken).num_rows == N
    block_rows(700)  # however the rows come in blocks
    for out in (tmp_path / "parts", tmp_path / "one.parquet"):
        with pytest.raises(GateStoppedError, match=f"Column '{column}'") as caught:
            run.model.assign(broken, out=out, gate=True)
        assert {finding.split("'")[1] for finding in caught.value.findings} == {column}
        assert list(tmp_path.iterdir()) == []
    off = ScoringLimits(ignore=(column,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(warnings, "warn", lambda *_, **__: None)
        assert run.model.assign(broken, gate=True, limits=off).num_rows == N


def test_the_command_line_stops_with_code_7_and_reads_a_gate_file(run: engine.Run, tmp_path: Path) -> None:
    people(2).assign(age=lambda t: t["age"] * 1000.0).to_parquet(tmp_path / "t.parquet")
    arguments = ["assign", str(tmp_path / "t.parquet"), "--model", str(run.path), "--out", str(tmp_path / "a.parquet")]
    with pytest.warns(DriftedRowsWarning):
        assert CliRunner().invoke(app, arguments).exit_code == 0
    stopped = CliRunner().invoke(app, [*arguments, "--gate", "--overwrite"])
    assert stopped.exit_code == 7
    assert "Column 'age' has 100 % of its values beyond nearly all earlier ones" in stopped.stderr
    assert pq.read_table(tmp_path / "a.parquet").num_rows == N  # what was there stays
    (tmp_path / "gate.yaml").write_text("columns: {age: {js: null, outside: null}}\n")
    wide = [*arguments, "--gate", "--overwrite", "--gate-file", str(tmp_path / "gate.yaml")]
    assert CliRunner().invoke(app, wide).exit_code == 0
    (tmp_path / "gate.yaml").write_text("moved: 0.1\n")
    assert CliRunner().invoke(app, wide).exit_code == 2
    with pytest.raises(ConfigError, match="moved"):
        ScoringLimits.read(tmp_path / "gate.yaml")


def test_a_model_without_statistics_says_so_and_does_not_pass_for_checked(
    run: engine.Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    facts, arrays = read_model(run.path / "model")
    kept = {name: array for name, array in arrays.items() if not name.startswith("distributions.")}
    write_model(tmp_path / "model", {name: f for name, f in facts.items() if name != "distributions"}, kept)
    (tmp_path / "_SUCCESS").touch()
    old = engine.load(tmp_path)
    assert old.assign(people(1)).num_rows == N
    assert "kept no statistics of its table: new rows are not compared with it" in caplog.text
    with pytest.raises(ModelNotReadableError, match="cannot be compared"):
        old.assign(people(1), gate=True)
