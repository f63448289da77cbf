"""Names that people give clusters: in every file of the run at once, kept by later nights until they are taken back."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import engine
from engine.cli import app
from engine.config import FitConfig
from engine.errors import ConfigError, NotExplainedError, UsageError
from engine.lineage import rename
from engine.lineage.rename import rename_cluster
from tests.explain.people import people

NAME = "Night *owls* & <co>"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def copied(run: engine.Run, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run.path, tmp_path / "copied"))


def test_a_name_is_in_every_file_and_taken_back_leaves_what_was(copied: Path) -> None:
    before = contents(copied)
    old = engine.Run(copied).personas[3]["name"]
    assert rename_cluster(copied, 3, "  Night *owls* &   <co> ") == (old, NAME)
    after = contents(copied)
    run = engine.Run(copied)
    changed = {name for name in before if after[name] != before[name]}
    texts = {"personas.json", "personas.md", "rules.json", "rules.sql", "config.yaml"}
    assert changed == texts | {"clusters.parquet", "map.png", "report.html"}
    assert set(after) == set(before)
    for name in texts - {"config.yaml"}:
        assert old not in after[name].decode().replace(f'"automatic_name": "{old}"', "")
    assert run.names[3] == run.rules["clusters"][3]["name"] == run.clusters["persona"][3].as_py() == NAME
    assert f"  -- 3: {NAME} (precision" in after["rules.sql"].decode()
    assert "## Night \\*owls\\* & &lt;co&gt;" in after["personas.md"].decode()
    assert b"Night *owls* &amp; &lt;co&gt;" in after["report.html"]
    assert run.personas[3]["automatic_name"] == old
    assert rename_cluster(copied, 3, "Owls") == (NAME, "Owls")
    assert rename_cluster(copied, 3, None) == ("Owls", old)
    restored = contents(copied)
    assert {name for name in before if restored[name] != before[name]} <= {"report.html"}
    assert NAME.encode() not in restored["report.html"]


def test_a_failure_leaves_the_run_as_it_was(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(copied)

    def fail(_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rename, "write_report", fail)
    with pytest.raises(Exception, match="disk"):
        rename_cluster(copied, 3, "Owls")
    assert contents(copied) == before
    assert [path.name for path in copied.parent.iterdir()] == ["copied"]


def test_what_cannot_be_named_is_told(copied: Path) -> None:
    run = engine.Run(copied)
    for number, name, words in (
        (99, "Owls", "no cluster 99"),
        (3, run.personas[4]["name"], "Another cluster"),
        (3, None, "no given name"),
    ):
        with pytest.raises(UsageError, match=words):
            rename_cluster(copied, number, name)
    with pytest.raises(ConfigError, match="empty"):
        rename_cluster(copied, 3, " ")
    (copied / "personas.json").unlink()
    with pytest.raises(NotExplainedError):
        rename_cluster(copied, 3, "Owls")


def test_the_command_line(copied: Path) -> None:
    old = engine.Run(copied).names[2]
    found = json.loads(CliRunner().invoke(app, ["rename", str(copied), "2", "Owls", "--json"]).output)
    assert found == {"run": str(copied), "cluster": 2, "old": old, "name": "Owls"}
    assert CliRunner().invoke(app, ["rename", str(copied), "2"]).output == f"cluster 2 is “{old}” now, and was “Owls”\n"


def night(folder: Path, number: int, previous: engine.Run | None, **changes: object) -> engine.Run:
    """Fit people in two groups, of which one has a drink of its own."""
    ids, rng = np.arange(400), np.random.default_rng(0)
    group = ids % 2
    table = {
        "who": ids,
        "age": 30 + 30 * group + rng.integers(0, 5, 400),
        "drink": np.where(group == 1, "coffee", np.where(ids % 4 == 0, "tea", "water")),
        "hours": np.round(2.0 + 8 * group + 3 * rng.random(400), 1),
    }
    path = folder / f"{number}.parquet"
    pq.write_table(pa.table(table), path)
    settings = {"skip": ["map", "report"], "kmeans": {"n_clusters": 2}, "id": "who"} | changes
    settings |= {} if previous is None else {"previous": str(previous.path)}
    return engine.fit(path, out=folder / str(number), config=FitConfig.merge({}, **settings))


def test_later_nights_keep_a_name_until_it_is_taken_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "engine.explain.stage")
    first = night(tmp_path, 1, None)
    automatic = first.names
    rename_cluster(first.path, 1, "Owls")
    second = night(tmp_path, 2, first)
    assert second.names == {0: automatic[0], 1: "Owls"}
    assert "may not fit" not in caplog.text
    history = json.loads((second.path / "lineage.json").read_text())["clusters"]
    assert [name for _, name in history[1]["names"]] == ["Owls"]
    third = night(tmp_path, 3, second, skip=["explain", "map", "report"])
    hours_alone = {"features": {"roles": {"age": "ignore", "drink": "ignore"}}, "lineage": {"refit_features": True}}
    fourth = night(tmp_path, 4, third, **hours_alone)
    assert fourth.names[1] == "Owls"
    described = fourth.personas[1]["automatic_name"]
    assert described != automatic[1]
    assert f"given when it was “{automatic[1]}”; now it is “{described}”" in caplog.text
    rename_cluster(fourth.path, 1, None)
    fifth = night(tmp_path, 5, engine.Run(fourth.path))
    assert fifth.names[1] == described
    assert not FitConfig.read(fifth.path / "config.yaml").renamed


def test_names_that_are_given_at_once_are_all_kept(tmp_path: Path) -> None:
    config = FitConfig.merge({}, skip=["map", "report"])
    run = engine.fit(people(300), out=tmp_path / "run", id="who", n_clusters=4, config=config)
    commands = [[sys.executable, "-m", "engine", "rename", str(run.path), str(c), f"Room {c}"] for c in range(4)]
    processes = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for command in commands]
    assert [process.wait() for process in processes] == [0] * 4
    assert engine.Run(run.path).clusters["persona"].to_pylist() == [f"Room {c}" for c in range(4)]
