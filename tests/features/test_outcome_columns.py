"""Outcomes: columns named as one are warned of, and those that only describe the clusters change no cluster."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import engine
from engine.cli.app import app
from engine.config import FitConfig
from engine.errors import ConfigError, UsageError
from engine.features.outcome_columns import OutcomeColumnsWarning, is_outcome

N = 600
RNG = np.random.default_rng(5)
GROUP = np.repeat([0, 1, 2], [300, 200, 100])
PEOPLE = {
    "visits": np.array([3, 12, 30])[GROUP] + RNG.integers(0, 3, N),
    "spend": np.array([20.0, 60.0, 40.0])[GROUP] + RNG.normal(size=N),
}
CHURNED = (RNG.random(N) < np.array([0.8, 0.1, 0.1])[GROUP]).astype(int)
SKIP = ["map", "report"]


@pytest.mark.parametrize(
    "name",
    ["churned", "Churn Label", "is_churn", "CHURN_FLAG", "customerChurned", "target", "y", "Exited", "Survived",
     "label", "old_segment", "cluster_id", "kmeans_cluster", "Attrition", "converted", "prediction"],
)  # fmt: skip
def test_names_of_outcomes_are_known(name: str) -> None:
    assert is_outcome(name)


@pytest.mark.parametrize(
    "name",
    ["segment", "group", "label_count", "target_group", "churn_rate_of_region", "record_label", "years", "class",
     "response_time", "age", "clustered_errors", "days_since_churn", "customer", "status", ""],
)  # fmt: skip
def test_names_of_attributes_are_no_outcomes(name: str) -> None:
    assert not is_outcome(name)


def test_an_outcome_that_decides_the_clusters_is_warned_of(tmp_path: Path) -> None:
    table = pa.table({**PEOPLE, "churned": CHURNED})
    with pytest.warns(OutcomeColumnsWarning, match="'churned'.*describe_only"):
        engine.fit(table, out=tmp_path / "a", n_clusters=3, skip=["explain", *SKIP])
    with warnings.catch_warnings():
        warnings.simplefilter("error", OutcomeColumnsWarning)
        engine.fit(table, out=tmp_path / "b", n_clusters=3, skip=["explain", *SKIP], describe_only=["churned"])
        engine.fit(table.rename_columns(["x", "y", "z"]), out=tmp_path / "d", n_clusters=3, skip=["explain", *SKIP])
        engine.fit(table, out=tmp_path / "c", n_clusters=3, skip=["explain", *SKIP], roles={"churned": "boolean"})


def test_a_column_that_only_describes_changes_no_cluster_and_is_in_the_persona(tmp_path: Path) -> None:
    without = engine.fit(pa.table(PEOPLE), out=tmp_path / "without", n_clusters=3, skip=SKIP)
    table = pa.table({**PEOPLE, "churned": CHURNED})
    run = engine.fit(table, out=tmp_path / "run", n_clusters=3, skip=SKIP, describe_only=["churned"])
    assert run.assignments["cluster"].equals(without.assignments["cluster"])
    assert run.manifest["groups"]["described"] == {"columns": ["churned"], "weight": 0.0, "from_table": False}
    persona = (run.path / "personas.md").read_text()
    assert "hurned" in persona
    assert "hurned" not in (without.path / "personas.md").read_text()
    assert run.model.assign(table)["cluster"].equals(run.assignments["cluster"])
    flipped = table.set_column(2, "churned", pa.array(1 - CHURNED))
    assert run.model.assign(flipped)["cluster"].equals(run.assignments["cluster"])


def test_the_command_line_takes_columns_that_only_describe(tmp_path: Path) -> None:
    pq.write_table(pa.table({**PEOPLE, "churned": CHURNED}), tmp_path / "a.parquet")
    arguments = ["fit", str(tmp_path / "a.parquet"), "-k", "3", "--skip", "explain,map,report"]
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "run"), "--describe-only", "churned"])
    assert result.exit_code == 0
    assert "outcome" not in result.output
    assert engine.Run(tmp_path / "run").manifest["groups"]["described"]["weight"] == 0.0
    wrong = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "no"), "--describe-only", "churn"])
    assert wrong.exit_code == 2
    assert "'churn'" in wrong.output


def test_describing_by_all_columns_or_beside_a_group_of_that_name_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        engine.fit(pa.table(PEOPLE), out=tmp_path / "run", n_clusters=3, describe_only=list(PEOPLE))
    with pytest.raises(ConfigError, match="described"):
        FitConfig.merge({"features": {"describe_only": ["a"], "groups": {"described": {"columns": ["b"]}}}})
