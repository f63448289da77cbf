"""`rooms fit` against the script by hand: whole processes in turn, on one table, in one run.

The tables are a million members with all 31 columns, and 1.3 million with 18 of them. Each side has a folder of its own
for compiled Python files, and runs once before the clock starts: so neither compiles, whatever the environment says.
"""

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
ROUNDS = int(os.environ.get("ROOMS_BENCH_ROUNDS", "3"))
COLUMNS = [
    *("user_id", "age", "gender", "country", "plan", "price_paid", "household_size", "signup_date"),
    *("has_kids_profile", "devices", "weekly_hours", "sessions_per_week", "completion_rate", "night_share"),
    *("ratings_given", "mean_rating", "favourite_genres", "favourite_decade"),
]
# Rows and columns of each table, by the name of its result file; None stands for all columns.
TABLES: dict[str, tuple[int, list[str] | None]] = {
    "pipeline": (1_000_000, None),
    f"pipeline-{len(COLUMNS)}-columns": (1_300_000, COLUMNS),
}


def write_members(folder: Path, n_rows: int, columns: list[str] | None) -> DemoPaths:
    """Write members and planted communities; of the members the given columns, a row group each as they were."""
    demo = write_demo(folder, n_rows)
    if columns is None:
        return demo
    narrow = folder / "narrow"
    narrow.mkdir()
    for path in sorted(demo.members.iterdir()):
        with pq.ParquetFile(path) as source:
            groups = [source.read_row_group(number, columns) for number in range(source.num_row_groups)]
        with pq.ParquetWriter(narrow / path.name, groups[0].schema) as writer:
            for group in groups:
                writer.write_table(group)
    return DemoPaths(narrow, demo.planted)


def measured(command: list[str], compiled: Path) -> dict[str, Any]:
    """Run a process; return its wall and CPU seconds, its peak resident memory (not of this process) and its output.

    `compiled` is the folder of its compiled Python files.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(compiled)
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
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


@pytest.mark.parametrize("name", TABLES)
def test_rooms_fit_against_the_script_by_hand(benchmark: Any, name: str, tmp_path: Path) -> None:
    usual_rows, columns = TABLES[name]
    n_rows = int(os.environ.get("ROOMS_BENCH_ROWS", usual_rows))
    demo = write_members(tmp_path / "demo", n_rows, columns)
    out, k = tmp_path / "run", str(N_COMMUNITIES)
    rooms = [sys.executable, "-m", "engine", "fit", str(demo.members), "--id", "user_id", "-k", k, "--out", str(out)]
    rooms += ["--overwrite", "--json", "--skip", "explain,map,report"]  # which the script does not do
    caches = tmp_path / "rooms_compiled", tmp_path / "script_compiled"
    components = measured(rooms, caches[0])["output"]["components"]  # compiles kernels outside the clock
    by_hand = [
        sys.executable,
        str(HERE / "pandas_sklearn_baseline.py"),
        str(demo.members),
        str(tmp_path / "hand.parquet"),
    ]
    by_hand += ["--clusters", k, "--components", str(components)]
    measured(by_hand, caches[1])
    rounds: dict[str, list[dict[str, Any]]] = {"rooms": [], "by_hand": []}

    def both() -> None:
        mine = measured(rooms, caches[0])
        mine["peak_mib"] = round(max(mine["peak_mib"], peak_of_run(out)), 1)
        rounds["rooms"].append(mine)
        rounds["by_hand"].append(measured(by_hand, caches[1]))  # the adjusted Rand index outside the clock, for both

    benchmark.pedantic(both, rounds=ROUNDS)
    planted = pq.read_table(demo.planted)["community"].to_numpy()
    found = pq.read_table(out / "assignments")["cluster"].to_numpy()
    report: dict[str, Any] = {"machine": describe_machine(), "rows": n_rows, "clusters": k, "components": components}
    report["columns"] = len(pq.read_schema(next(demo.members.iterdir())))
    for side, results in rounds.items():
        for figure in ("seconds", "cpu", "peak_mib"):
            report[f"{side}_{figure}"] = [result[figure] for result in results]
            report[f"{side}_{figure}_median"] = statistics.median(report[f"{side}_{figure}"])
    report["times_faster"] = round(report["by_hand_seconds_median"] / report["rooms_seconds_median"], 2)
    report["share_of_memory"] = round(report["rooms_peak_mib_median"] / report["by_hand_peak_mib_median"], 3)
    report["rooms_adjusted_rand_index"] = round(float(adjusted_rand_score(planted, found)), 4)
    planted_by_hand = measured([*by_hand, "--planted", str(demo.planted)], caches[1])["output"]
    report["by_hand_adjusted_rand_index"] = planted_by_hand["adjusted_rand_index"]
    report["rooms_stages"] = rounds["rooms"][-1]["output"]["stages"]
    report["by_hand_stages"] = rounds["by_hand"][-1]["output"]["seconds"]
    benchmark.extra_info.update(report)
    results = HERE / "results" / (f"{name}.json" if n_rows == usual_rows else f"{name}-{n_rows}.json")
    history.record(results, report)
