"""Everything that only a GPU can show, in one command: is it right, and how fast is it?

    python benchmarks/gpu/measure.py --out benchmarks/results/gpu.json

Sections run one after another, each in a process of its own with a limit in seconds: what hangs is ended, and an error
that spoils a CUDA context spoils one section. Within a section every case is guarded: its error is written in its
place, and cases that would begin after the section's time are said to be skipped. The file is written anew after every
case, so a machine that goes away takes no figure with it. The exit status is 1 where the GPU and the CPU disagree, or
were not compared.

`--tiny --device cpu` runs the same lines on small shapes with NumPy in the GPU's place: it shows that the script works,
and nothing about a GPU.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import agree
import kmeans
import stages
from common import Report, Section, Setting, stand_in

TOTAL = 465.0  # seconds of everything: below eight minutes with the start and the end
GRACE = 1.2  # times its seconds, after which a section is ended
TRIAL = 5  # times as long: a trial that comes first compiles kernels in every section
# The seconds in which a section's cases may begin, in the order of their worth: what TOTAL has no time for is skipped.
SECTIONS: dict[str, tuple[Any, float]] = {
    "kernels": (stages.kernels, 100),
    "machine": (stages.machine, 30),
    "agreement": (agree.run, 50),
    "kmeans": (partial(kmeans.run, size=0), 45),
    "kmeans-large": (partial(kmeans.run, size=1), 45),
    "kmeans-most": (partial(kmeans.run, size=2), 55),
    "members": (stages.write_members, 30),
    "job": (stages.job, 50),
    "pca": (stages.pca, 20),
    "parquet": (stages.parquet, 20),
    "placement": (stages.placement, 15),
    "tsne": (stages.tsne, 50),
    "sanitizer": (stages.sanitizer, 60),
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure on a GPU, beside the CPU.")
    parser.add_argument("--out", type=Path, required=True, help="JSON to write")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: NumPy in the GPU's place")
    parser.add_argument("--tiny", action="store_true", help="small shapes, seconds in all")
    parser.add_argument("--sections", default=",".join(SECTIONS), help="some of them, with commas")
    chosen = parser.parse_args(arguments)
    names = chosen.sections.split(",")
    if unknown := [name for name in names if name not in SECTIONS]:
        parser.error(f"no sections: {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    report, ends = Report(chosen.out), time.perf_counter() + TOTAL
    report.start({"device": chosen.device, "tiny": chosen.tiny})
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(chosen.device, chosen.tiny, Path(folder))
        for name in names:
            run_section(name, setting, report, ends - time.perf_counter())
    print(f"written: {chosen.out}")
    return 0 if "agreement" not in names or agree.passed(report.read()["agreement"]) else 1


def run_section(name: str, setting: Setting, report: Report, left: float) -> None:
    """Run a section in a process, which is ended when it takes too long."""
    function, seconds = SECTIONS[name][0], SECTIONS[name][1] * setting.pick(1, TRIAL)
    limit = min(GRACE * seconds, left)
    if left <= 1.0:
        report.add(name, "section", {"skipped": f"all {TOTAL:.0f} s were spent"})
        return
    print(f"{name} …", flush=True)
    start = time.perf_counter()
    # Nothing has touched a GPU or a pool of threads in this process: a fork is a new process whose imports are done.
    child = multiprocessing.get_context("fork").Process(
        target=_section, args=(function, Section(report, name, seconds), setting), daemon=True
    )
    child.start()
    child.join(limit)
    facts: dict[str, Any] = {}
    if child.is_alive():
        child.kill()
        child.join()
        facts["error"] = f"ended after {limit:.0f} s"
    elif child.exitcode != 0:
        facts["error"] = f"its process ended with status {child.exitcode}"
    report.add(name, "section", facts | {"seconds": round(time.perf_counter() - start, 1)})


def _section(function: Any, section: Section, setting: Setting) -> None:
    if setting.device == "cpu":
        stand_in()
    section.begin()
    section.guard("before its cases", lambda: function(section, setting))


if __name__ == "__main__":
    sys.exit(main())
