"""What workers cost: a fit with one worker process against the fit of one process, on one table, in turn."""

from __future__ import annotations

import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

import pytest
from machine import describe_machine
from test_pipeline import measured

from engine.tables.demo import N_COMMUNITIES, DemoPaths, write_demo

HERE = Path(__file__).parent
ROWS = int(os.environ.get("ROOMS_BENCH_DASK_ROWS", "5000000"))
ROUNDS = int(os.environ.get("ROOMS_BENCH_ROUNDS", "3"))
WAYS = {"local": [], "streamed": ["--memory", "800MiB"], "one worker": ["--workers", "1"]}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoPaths:
    return write_demo(tmp_path_factory.mktemp("bench"), ROWS, n_files=8)


def test_one_worker_against_one_process(benchmark: Any, demo: DemoPaths, tmp_path: Path) -> None:
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
        command += ["--out", str(out), "--overwrite", "--json", "--skip", "explain,map,report", *WAYS[way]]
        found = measured(command)
        manifest = json.loads((out / "manifest.json").read_text())
        stages = {stage["stage"]: stage["seconds"] for stage in manifest["stages"]}
        return {
            "seconds": found["seconds"], "cpu": found["cpu"], "job_seconds": round(sum(stages.values()), 3),
            "stages": stages, "plan": manifest["plan"]["kind"], "inertia": manifest["inertia"],
            "iterations": manifest["iterations"],
        }  # fmt: skip

    rounds: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}

    def one_round() -> None:
        for way in WAYS:
            rounds[way].append(fitted(way, tmp_path / way.replace(" ", "-")))

    benchmark.pedantic(one_round, rounds=ROUNDS)
    assert len({(found["inertia"], found["iterations"]) for way in WAYS for found in rounds[way]}) == 1
    report: dict[str, Any] = {"machine": describe_machine(), "load": os.getloadavg()[1], "rows": ROWS}
    for figure in ("seconds", "job_seconds", "cpu"):
        least = {way: min(found[figure] for found in rounds[way]) for way in WAYS}
        report[f"{figure}_least"] = least
        report[f"overhead_of_one_worker_{figure}"] = {
            way: round(least["one worker"] / least[way] - 1, 3) for way in ("local", "streamed")
        }
    starts = [found["seconds"] - found["job_seconds"] for found in rounds["one worker"]]
    report["seconds_to_start_and_stop"] = round(statistics.median(starts), 2)
    report["rounds"] = rounds
    benchmark.extra_info.update(report)
    name = "dask.json" if ROWS == 5_000_000 else f"dask-{ROWS}.json"
    (HERE / "results" / name).write_text(json.dumps(report, indent=1) + "\n")
