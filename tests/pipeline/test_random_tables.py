"""Any table gives a run whose audit holds, or an error of the engine with its exit code, and never a traceback."""

from __future__ import annotations

import logging
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import event, given, note
from hypothesis import strategies as st
from typer.testing import CliRunner

import engine
import engine.cli
from engine.config import FitConfig
from engine.errors import RoomsError
from tests.random_tables import FLAT_KINDS, few_examples, tables

pytestmark = pytest.mark.filterwarnings("ignore")
NUMBERS = ("distance", "margin")


def check_run(run: engine.Run, n_rows: int) -> None:
    """Check what the audit does not: nothing is lost, and no number is NaN."""
    assigned = run.assignments
    assert run.manifest["audit"]["rows"] == assigned.num_rows == n_rows
    assert sum(run.clusters["size"].to_pylist()) == n_rows
    assert all(np.isfinite(assigned[name].to_numpy()).all() for name in NUMBERS)


@few_examples(14)
@given(tables(), st.sampled_from([1, 2, 3, "auto"]), st.sampled_from([(), ("explain", "map", "report")]))
def test_a_fit_of_a_table_in_memory_is_right_or_an_error_that_says_why(table: pa.Table, k: Any, skip: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        config = FitConfig.merge({}, skip=list({*skip, "map", "report"}))
        run, refusal = None, None
        try:
            run = engine.fit(table, out=out, n_clusters=k, config=config)
        except RoomsError as error:
            refusal = error
        event("a run" if run else type(refusal).__name__)
        if run is None:
            assert refusal is not None
            assert refusal.exit_code in (2, 3)
            assert list(Path(folder).iterdir()) == []
            return
        check_run(run, table.num_rows)
        try:
            again = run.model.assign(table)
        except RoomsError as error:
            raise AssertionError("the rows of the fit are refused") from error
        for name in ("cluster", *NUMBERS, "outlier"):
            assert again[name].to_pylist() == run.assignments[name].to_pylist()


@few_examples(10)
@given(tables(kinds=FLAT_KINDS), st.sampled_from(["csv", "parquet"]), st.sampled_from([[], ["--skip", "map,report"]]))
def test_every_command_ends_with_an_exit_code_and_a_message(table: pa.Table, kind: str, skip: list[str]) -> None:
    warnings.showwarning = sys.modules["engine.cli.app"]._print_warning
    logging.getLogger("engine").handlers.clear()
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / f"table.{kind}", Path(folder) / "run"
        if kind == "csv":
            pacsv.write_csv(table, source)
        else:
            pq.write_table(table, source, row_group_size=20)
        code = rooms("fit", source, "-k", "2", "--out", out, *(skip or ["--skip", "map"]))
        event(f"exit code {code}")
        assert code in (0, 2, 3)
        assert out.exists() == (code == 0)
        if code == 0:
            check_run(engine.Run(out), engine.Run(out).manifest["rows"])
            assigned = Path(folder) / "assigned.parquet"
            assert rooms("assign", source, "--model", out, "--out", assigned) == 0
            assert pq.read_table(assigned)["cluster"].to_pylist() == engine.Run(out).assignments["cluster"].to_pylist()


def rooms(*arguments: object) -> int:
    """Run a command; return its exit code, after checking that its message is for people."""
    result = CliRunner().invoke(engine.cli.app, list(map(str, arguments)))
    note(result.stderr)
    assert "Traceback" not in result.output
    assert "Internal error" not in result.output
    assert result.exit_code == 0 or result.stderr.startswith("error:") or "\nerror:" in result.stderr
    return result.exit_code
