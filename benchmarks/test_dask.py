"""What workers cost: a fit with one worker process against the fit of one process, on one table, in turn.

The worker is started for the fit, or belongs to a cluster that was there before, as `dask scheduler` and `dask worker`
start it; then its first fit, in which it loads everything, is one of the rounds.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import history
import pytest
from machine_info import describe_machine, seconds_per_gib
from test_pipeline import measured

from engine.datasets.demo_table import N_COMMUNITIES, DemoPaths, write_demo

HERE = Path(__file__).parent
ROWS = int(os.environ.get("ROOMS_BENCH_DASK_ROWS", "5000000"))
ROUNDS = int(os.environ.get("ROOMS_BENCH_ROUNDS", "3"))
WAYS = {"local": [], "streamed": ["--memory", "800MiB"], "one worker": ["--workers", "1"]}
WORKERS = ("one worker", "cluster of one")
STARTED = 60.0  # seconds for a cluster to be there


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoPaths:
    return write_demo(tmp_path_factory.mktemp("bench"), ROWS, n_files=8)


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[str]:
    """Start a scheduler and a worker with a nanny, by Dask's own commands, and yield the scheduler's address."""
    file, local = tmp_path / "scheduler.json", ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"]
    named = ["--scheduler-file", str(file)]
    dask = [sys.executable, "-m", "dask"]
    commands = [
        [*dask, "scheduler", "--port", "0", *local, *named],
        [*dask, "worker", "--nthreads", "1", "--memory-limit", "0", "--local-directory", str(tmp_path), *local, *named],
    ]
    started = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for command in commands]
    try:
        until = time.monotonic() + STARTED
        while not file.exists() and time.monotonic() < until:
            time.sleep(0.1)
        yield json.loads(file.read_text())["address"]
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(timeout=STARTED)


def test_one_worker_against_one_process(benchmark: Any, demo: DemoPaths, tmp_path: Path, scheduler: str) -> None:
    ways = WAYS | {"cluster of one": ["--scheduler", scheduler]}

    def fitted(way: str, out: Path) -> dict[str, Any]:
        command = [
            sys.executable,
            "-m",
            "engine",
            "fit",
            str(demo.members),
            "--id",
            "user_id",
            "-k",
            str(N_COMMUNITIES),
        ]
        command += ["--out", str(out), "--overwrite", "--json", "--skip", "explain,map,report", *ways[way]]
        found = measured(command)
        manifest = json.loads((out / "manifest.json").read_text())
        stages = {stage["stage"]: stage["seconds"] for stage in manifest["stages"]}
        return {
            "seconds": found["seconds"], "job_seconds": round(sum(stages.values()), 3),
            "stages": stages, "plan": manifest["plan"]["kind"], "inertia": manifest["inertia"],
            "iterations": manifest["iterations"],
        }  # fmt: skip

    rounds: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}

    def one_round() -> None:
        for way in ways:
            rounds[way].append(fitted(way, tmp_path / way.replace(" ", "-")))

    benchmark.pedantic(one_round, rounds=ROUNDS)
    assert len({(found["inertia"], found["iterations"]) for way in ways for found in rounds[way]}) == 1
    report: dict[str, Any] = {"machine": describe_machine(), "load": os.getloadavg()[1], "rows": ROWS}
    report["seconds_per_gib_of_memory"] = seconds_per_gib()
    for figure in ("seconds", "job_seconds"):
        middle = {way: round(statistics.median(found[figure] for found in rounds[way]), 2) for way in ways}
        report[f"{figure}_median"] = middle
        for worker in WORKERS:
            report[f"overhead_of_{worker.replace(' ', '_')}_{figure}"] = {
                way: round(middle[worker] / middle[way] - 1, 3) for way in ("local", "streamed")
            }
    report["seconds_to_start_and_stop"] = {
        way: round(statistics.median(found["seconds"] - found["job_seconds"] for found in rounds[way]), 2)
        for way in ways
    }
    report["rounds"] = rounds
    benchmark.extra_info.update(report)
    name = "dask.json" if ROWS == 5_000_000 else f"dask-{ROWS}.json"
    history.record(HERE / "results" / name, report)
