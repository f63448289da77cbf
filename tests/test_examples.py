"""The examples of nightly jobs and dbt do what they say, with stand-ins for `rooms`, `date` and Airflow."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import duckdb
import pytest
import yaml

from engine.datasets.demo_table import write_demo
from engine.errors import GateStoppedError

EXAMPLES = Path(__file__).parents[1] / "examples"
NIGHTLY, DBT = EXAMPLES / "nightly", EXAMPLES / "dbt"
# It notes its arguments, and writes a run unless it is told to fail.
ROOMS = """#!/usr/bin/env bash
printf '%s\\n' "$*" >>"$CALLS"
[[ ${CODE:-0} == 0 ]] || exit "$CODE"
while [[ $# -gt 0 ]]; do
    if [[ $1 == --out ]]; then mkdir -p "$2" && touch "$2/_SUCCESS"; fi
    shift
done
"""


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, list[str]]]:
    """Return a function that runs nightly.sh on a date and returns its exit code and all calls of rooms so far."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in {"rooms": ROOMS, "date": "#!/bin/sh\necho $NIGHT\n"}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    calls = tmp_path / "calls"
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    for name, value in {"CALLS": calls, "RUNS": tmp_path / "runs", "SOURCE": "postgresql://${PW}@db/app"}.items():
        monkeypatch.setenv(name, str(value))

    def run(date: str, **variables: str) -> tuple[int, list[str]]:
        environment = os.environ | {"NIGHT": date} | variables
        code = subprocess.run([NIGHTLY / "nightly.sh", "--memory", "1GiB"], env=environment, check=False).returncode
        return code, calls.read_text().splitlines()

    return run


def test_each_night_continues_the_last_good_one(night: Callable[..., tuple[int, list[str]]], tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    code, calls = night("2026-11-01", QUERY="SELECT 1")
    assert (code, calls) == (
        0, [f"fit postgresql://${{PW}}@db/app --id user_id --out {runs}/2026-11-01 --query SELECT 1 --memory 1GiB"],
    )  # fmt: skip
    assert night("2026-11-01", QUERY="SELECT 1") == (0, calls)  # a complete night is not repeated
    code, calls = night("2026-11-02", CODE="7")
    assert code == 7
    assert calls[1].endswith(f"--out {runs}/2026-11-02 --resume --previous {runs}/2026-11-01 --gate --memory 1GiB")
    assert os.readlink(runs / "latest") == "2026-11-01"
    code, calls = night("2026-11-03", ID="who")
    assert code == 0
    assert f"--id who --out {runs}/2026-11-03 --resume --previous {runs}/2026-11-01 --gate" in calls[2]
    assert os.readlink(runs / "latest") == "2026-11-03"


class RetriedError(Exception):
    pass


class FailedError(Exception):
    pass


@pytest.fixture
def dag(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the module of the DAG, whose tasks are plain functions, and the calls that making the DAG made."""
    tasks: dict[str, Any] = {}
    settings: dict[str, Any] = {}

    def make_task(function: Any) -> Any:
        tasks[function.__name__] = function
        return lambda *_: function.__name__

    def make_dag(**options: Any) -> Any:
        settings.update(options)
        return lambda function: function

    exceptions, sdk = ModuleType("airflow.exceptions"), ModuleType("airflow.sdk")
    exceptions.AirflowException, exceptions.AirflowFailException = RetriedError, FailedError  # type: ignore[attr-defined]
    sdk.dag, sdk.task = make_dag, make_task  # type: ignore[attr-defined]
    for module in (ModuleType("airflow"), exceptions, sdk):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    spec = importlib.util.spec_from_file_location("airflow_dag", NIGHTLY / "airflow_dag.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, tasks, settings


def test_the_dag_does_not_try_a_stopped_night_again(
    dag: Any, night: Callable[..., tuple[int, list[str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, tasks, settings = dag
    assert settings["max_active_runs"] == 1
    assert GateStoppedError.exit_code == module.STOPPED_BY_GATE
    monkeypatch.setattr(module, "RUNS", tmp_path / "runs")
    monkeypatch.setenv("NIGHT", "2026-11-01")
    for code, error in (("7", FailedError), ("3", RetriedError)):
        monkeypatch.setenv("CODE", code)
        with pytest.raises(error):
            tasks["fit"]()
    monkeypatch.setenv("CODE", "0")
    run = tasks["fit"]()
    assert run == str(tmp_path / "runs" / "2026-11-01")
    tasks["write_clusters"](run)
    last = (tmp_path / "calls").read_text().splitlines()[-1]
    assert last.startswith(f"assign {module.SOURCE} --query {module.QUERY} --model {run} --with name,run --to")


def test_the_cron_job_of_kubernetes_knows_the_gate_and_its_limits() -> None:
    job = yaml.safe_load((NIGHTLY / "cronjob.yaml").read_text())["spec"]
    pod = job["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    rule = job["jobTemplate"]["spec"]["podFailurePolicy"]["rules"][0]
    assert rule["onExitCodes"]["values"] == [GateStoppedError.exit_code]
    assert rule["onExitCodes"]["containerName"] == container["name"]
    assert pod["restartPolicy"] == "Never"  # a policy of failures needs it
    assert job["concurrencyPolicy"] == "Forbid"
    budget, limit = container["command"][2], container["resources"]["limits"]["memory"]
    assert int(budget.removesuffix("GiB")) < int(limit.removesuffix("Gi"))
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert {"SOURCE", "QUERY", "RUNS", "DB_PASSWORD"} == {variable["name"] for variable in container["env"]}


def test_the_line_of_cron_is_a_command() -> None:
    (line,) = [text for text in (NIGHTLY / "crontab").read_text().splitlines() if text[:1].isdigit()]
    command = line.split(maxsplit=5)[5]
    assert "%" not in command  # cron would end the line there
    subprocess.run(["bash", "-n", "-c", command], check=True)


def test_the_dbt_model_assigns_every_member(tmp_path: Path) -> None:
    schema = yaml.safe_load((DBT / "models" / "schema.yml").read_text())
    project = yaml.safe_load((DBT / "dbt_project.yml").read_text())
    assert project["name"] in project["models"]
    (model,), (source,) = schema["models"], schema["sources"]
    name = f"{source['name']}', '{source['tables'][0]['name']}"
    text = (DBT / "models" / f"{model['name']}.sql").read_text()
    select = text.replace(f"{{{{ source('{name}') }}}}", "members")
    assert "{{" not in select
    members = write_demo(tmp_path, 1_000).members
    connection = duckdb.connect()
    connection.execute(f"CREATE TABLE members AS FROM '{members}/*.parquet'")
    connection.execute(f"CREATE TABLE user_clusters AS ({select})")  # as dbt does
    rows = connection.sql("FROM user_clusters").to_arrow_table()
    accepted = next(column for column in model["columns"] if column["name"] == "cluster")["tests"][1]
    assert rows.column_names[: len(model["columns"])] == [column["name"] for column in model["columns"]]
    assert set(rows["cluster"].to_pylist()) == set(accepted["accepted_values"]["values"])
    assert len(set(rows["user_id"].to_pylist())) == rows.num_rows == 1_000
