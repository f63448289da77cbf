"""An Airflow DAG for every night: fit behind the gate, then write everybody's cluster to the database.

It runs nightly.sh, which has to be beside this file. Connections: SOURCE and QUERY as nightly.sh describes them, and
`${DB_PASSWORD}` from the environment of the workers. A night that the gate stopped (exit code 7) fails at once, for
another try would give the same; everything else is tried again.
"""

from __future__ import annotations

import os
import subprocess
from datetime import datetime, timedelta
from pathlib import Path

from airflow.exceptions import AirflowException, AirflowFailException
from airflow.sdk import dag, task

SOURCE = "postgresql://reader:${DB_PASSWORD}@db/app"
QUERY = "SELECT * FROM members ORDER BY user_id"
RUNS = Path("/data/runs")
STOPPED_BY_GATE = 7


def run_command(*command: str) -> None:
    """Run a command with the variables of nightly.sh, and turn its exit code into what Airflow should do."""
    environment = os.environ | {"SOURCE": SOURCE, "QUERY": QUERY, "RUNS": str(RUNS)}
    code = subprocess.run(command, env=environment, check=False).returncode
    if code == STOPPED_BY_GATE:
        raise AirflowFailException("The gate stopped the night: see gate.md in the folder that ends in .stopped.")
    if code != 0:
        raise AirflowException(f"{command[0]} ended with exit code {code}.")


@dag(
    schedule="30 2 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=10), "execution_timeout": timedelta(hours=6)},
    tags=["segments"],
)
def rooms_nightly() -> None:
    """Fit, then write the assignments."""

    @task
    def fit() -> str:
        """Fit tonight's people; return the run."""
        run_command(str(Path(__file__).with_name("nightly.sh")))
        return str((RUNS / "latest").resolve())

    @task
    def write_clusters(run: str) -> None:
        """Replace the table of assignments in one transaction."""
        source = ("rooms", "assign", SOURCE, "--query", QUERY, "--model", run, "--with", "name,run")
        run_command(*source, "--to", SOURCE, "--table", "user_clusters", "--overwrite")

    write_clusters(fit())


rooms_nightly()
