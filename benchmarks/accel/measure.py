"""CPU time of the scripts in this folder, by `python` and by `python -m engine.accel`, in turn.

python benchmarks/accel/measure.py [ROUNDS]  ->  results.json: seconds of user and system time, medians, outputs
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
SCRIPTS = ("segments.py", "colours.py", "digits.py")
WAYS = {"scikit-learn": [], "engine.accel": ["-m", "engine.accel"]}


def cpu_seconds(command: list[str]) -> tuple[float, str]:
    """Run a command; return its user and system time with that of its children, and what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, printed


def main(rounds: int) -> None:
    results: dict[str, Any] = {
        "scikit-learn": version("scikit-learn"),
        "cpus": os.cpu_count(),
        "unit": "seconds of user and system time of the whole process, imports included",
        "scripts": {},
    }
    for script in SCRIPTS:
        runs: dict[str, list[float]] = {way: [] for way in WAYS}
        outputs: dict[str, str] = {}
        cpu_seconds([sys.executable, *WAYS["engine.accel"], str(FOLDER / script)])  # kernels are compiled once
        for _ in range(rounds):
            for way, options in WAYS.items():
                seconds, outputs[way] = cpu_seconds([sys.executable, *options, str(FOLDER / script)])
                runs[way].append(round(seconds, 2))
        medians = {way: statistics.median(seconds) for way, seconds in runs.items()}
        ratio = round(medians["scikit-learn"] / medians["engine.accel"], 2)
        results["scripts"][script] = {"seconds": runs, "median": medians, "ratio": ratio, "printed": outputs}
        print(script, medians, outputs, flush=True)
    (FOLDER / "results.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
