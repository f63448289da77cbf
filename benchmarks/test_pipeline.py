"""`rooms fit` against the script by hand: whole processes in turn, on one table, in one run."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import history
import pyarrow.parquet as pq
import pytest
from machine_info import describe_machine
from sklearn.metrics import adjusted_rand_score

from engine.datasets.demo_table import N_COMMUNITIES, DemoPaths, write_demo

HERE = Path(__file__).parent
ROWS = int(os.environ.get("ROOMS_BENCH_ROWS", "1000000"))
ROUNDS = int(os.environ.get("ROOMS_BENCH_ROUNDS", "3"))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoPaths:
    return write_demo(tmp_path_factory.mktemp("bench"), ROWS)


def measured(command: list[str]) -> dict[str, float]:
    """Run a process; return its wall and CPU seconds and its peak resident memory (not of this process)."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    assert os.waitstatus_to_exitcode(status) == 0, output
    return {
        "seconds": round(seconds, 3),
        "peak_mib": round(usage.ru_maxrss / 1024, 1),
        "cpu": round(usage.ru_utime + usage.ru_stime, 3),
        "output": json.loads(output),
    }


def peak_of_run(folder: Path) -> float:
    """Return the largest peak of a run's stages: the engine resets the kernel's mark at each, so ru_maxrss forgets."""
    stages = json.loads((folder / "manifest.json").read_text())["stages"]
    return max(stage["peak_memory_bytes"] for stage in stages) / 2**20


def test_rooms_fit_against_the_script_by_hand(benchmark: Any, demo: DemoPaths, tmp_path: Path) -> None:
    out, k = tmp_path / "run", str(N_COMMUNITIES)
    rooms = [sys.executable, "-m", "engine", "fit", str(demo.members), "--id", "user_id", "-k", k, "--out", str(out)]
    rooms += ["--overwrite", "--json", "--skip", "explain,map,report"]  # which the script does not do
    components = measured(rooms)["output"]["components"]  # compiles kernels outside the clock
    by_hand = [
        sys.executable,
        str(HERE / "pandas_sklearn_baseline.py"),
        str(demo.members),
        str(tmp_path / "hand.parquet"),
    ]
    by_hand += ["--clusters", k, "--components", str(components)]
    rounds: dict[str, list[dict[str, Any]]] = {"rooms": [], "by_hand": []}

    def both() -> None:
        mine = measured(rooms)
        mine["peak_mib"] = round(max(mine["peak_mib"], peak_of_run(out)), 1)
        rounds["rooms"].append(mine)
        rounds["by_hand"].append(measured(by_hand))  # the adjusted Rand index outside the clock, for both

    benchmark.pedantic(both, rounds=ROUNDS)
    planted = pq.read_table(demo.planted)["community"].to_numpy()
    found = pq.read_table(out / "assignments")["cluster"].to_numpy()
    report: dict[str, Any] = {"machine": describe_machine(), "rows": ROWS, "clusters": k, "components": components}
    for name, results in rounds.items():
        for figure in ("seconds", "cpu", "peak_mib"):
            report[f"{name}_{figure}"] = [result[figure] for result in results]
            report[f"{name}_{figure}_median"] = statistics.median(report[f"{name}_{figure}"])
    report["times_faster"] = round(report["by_hand_seconds_median"] / report["rooms_seconds_median"], 2)
    report["share_of_memory"] = round(report["rooms_peak_mib_median"] / report["by_hand_peak_mib_median"], 3)
    report["rooms_adjusted_rand_index"] = round(float(adjusted_rand_score(planted, found)), 4)
    planted_by_hand = measured([*by_hand, "--planted", str(demo.planted)])["output"]
    report["by_hand_adjusted_rand_index"] = planted_by_hand["adjusted_rand_index"]
    report["rooms_stages"] = rounds["rooms"][-1]["output"]["stages"]
    report["by_hand_stages"] = rounds["by_hand"][-1]["output"]["seconds"]
    benchmark.extra_info.update(report)
    name = "pipeline.json" if ROWS == 1_000_000 else f"pipeline-{ROWS}.json"
    history.record(HERE / "results" / name, report)
