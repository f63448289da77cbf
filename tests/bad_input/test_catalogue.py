"""Every case of the catalogue: the exit code, the message without a traceback, and the old output intact."""

from __future__ import annotations

import errno
import importlib
import logging
import os
import re
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

import engine.cli
from engine.config import FitConfig
from engine.pipeline.memory_plan import plan_memory
from tests.bad_input.catalogue import MODELS, TABLES, Case, ModelCase, parquet
from tests.bad_input.notations import NOTATIONS
from tests.bad_input.silent import SILENT

fit_stages = importlib.import_module("engine.pipeline.fit")  # `engine.fit` is the function in it
APP = sys.modules["engine.cli.app"]  # `engine.cli.app` is the application in it


@pytest.fixture(scope="module")
def old_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run of an earlier night."""
    folder = tmp_path_factory.mktemp("old")
    result = rooms("fit", parquet()(folder), "--out", folder / "run", "-k", "2", "--skip", "report")
    assert result.exit_code == 0, result.stderr
    return folder / "run"


@pytest.fixture(autouse=True)
def _messages_as_in_a_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Print warnings as `main` has them printed; CliRunner replaces stderr, to which loggers would hold on."""
    monkeypatch.setattr(warnings, "showwarning", APP._print_warning)
    logging.getLogger("engine").handlers.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        yield


def rooms(*arguments: object) -> Result:
    return CliRunner().invoke(engine.cli.app, list(map(str, arguments)))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check_message(result: Result, case: Case | ModelCase) -> None:
    assert result.exit_code == case.code, (result.stderr, result.exception)
    assert re.search(case.message, result.stderr, re.DOTALL), result.stderr
    assert "Traceback" not in result.stderr + result.stdout
    assert "Internal error" not in result.stderr


@pytest.mark.parametrize("case", [*TABLES, *NOTATIONS, *SILENT], ids=lambda case: case.name)
def test_a_table_is_fitted_or_refused_by_name(case: Case, old_run: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    shutil.copytree(old_run, out / "run")
    before = contents(out)
    result = rooms("fit", case.make(source), "--out", out / "run", "--overwrite", "--skip", case.skip, *case.options)
    check_message(result, case)
    if case.code:
        assert contents(out) == before
        return
    run = engine.Run(out / "run")
    assert run.manifest["audit"]["rows"] == run.manifest["rows"] == len(run.assignments)
    assert case.check(run)
    assert [path.name for path in out.iterdir()] == ["run"]


@pytest.mark.parametrize("case", MODELS, ids=lambda case: case.name)
def test_a_model_is_used_or_refused_by_name(case: ModelCase, old_run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(old_run, tmp_path / "run"))
    case.change(folder)
    table = parquet()(tmp_path)
    out = tmp_path / "out.parquet"
    out.write_bytes(b"earlier")
    result = rooms("assign", table, "--model", folder, "--out", out, "--overwrite")
    check_message(result, case)
    assert (out.read_bytes() == b"earlier") == (case.code != 0)
    assert not list(tmp_path.glob("executed*"))


def test_an_input_that_changes_during_the_run_is_refused(
    old_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, write_run = parquet()(tmp_path), fit_stages.write_run

    def change_input(*arguments: Any) -> None:
        write_run(*arguments)
        source.write_bytes(source.read_bytes() + b" ")

    monkeypatch.setattr(fit_stages, "write_run", change_input)
    before = contents(shutil.copytree(old_run, tmp_path / "run"))
    result = rooms("fit", source, "--out", tmp_path / "run", "--overwrite", "-k", "2", "--skip", "map,report")
    assert result.exit_code == 3
    assert re.search(r"The input is not what it was when the run began: .*table\.parquet changed", result.stderr)
    assert contents(tmp_path / "run") == before


FULL: dict[str, tuple[Any, str]] = {
    "staging": (Path, "mkdir"),
    "writing a checkpoint": (os, "fsync"),
    "spilling": (os, "posix_fallocate"),
    "writing assignments": (pq.ParquetWriter, "write_table"),
    "writing a file": (Path, "write_text"),
    "committing": (Path, "touch"),
}
CODES = [errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG]


@pytest.mark.parametrize(
    ("moment", "code"),
    [*((moment, errno.ENOSPC) for moment in FULL), *(("writing a checkpoint", code) for code in CODES)],
)
def test_a_disk_that_is_full_or_fails_is_said(
    old_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, code: int
) -> None:
    source = parquet()(tmp_path)
    (tmp_path / "out").mkdir()
    before = contents(shutil.copytree(old_run, tmp_path / "out" / "run"))

    def fail(*_: Any, **__: Any) -> NoReturn:
        raise OSError(code, os.strerror(code))

    settings = FitConfig.merge({}, skip=["map", "report"], kmeans={"n_clusters": 2})
    needed = plan_memory(0, pq.read_schema(source), settings, streamed=True, n_features=10).memory_bytes
    arguments = ["fit", source, "--out", tmp_path / "out" / "run", "--overwrite", "-k", "2", "--skip", "map,report"]
    with monkeypatch.context() as patch:
        patch.setattr(*FULL[moment], fail)
        result = rooms(*arguments, "--memory", needed + 1000)
    assert result.exit_code == (2 if moment == "staging" else 4), result.stderr
    assert os.strerror(code) in result.stderr or "full" in result.stderr
    assert contents(tmp_path / "out" / "run") == before
    result = rooms(*arguments, "--resume")
    assert result.exit_code == 0, result.stderr
    assert contents(tmp_path / "out" / "run") != before
