"""Measure on a GPU what only a GPU can show: first whether it computes rightly, then how fast it is.

    python benchmarks/gpu/measure.py --out benchmarks/results/gpu.json                     what is not measured yet
    python benchmarks/gpu/measure.py --out benchmarks/results/gpu.json --sections fused    some sections

A call ends within eight minutes, and so does every section: it runs in a process of its own with a limit in seconds, so
that one that hangs is ended, and an error that spoils a CUDA context spoils one section. Within a section, every case
is guarded: its error is recorded, and cases after the section's time are recorded as skipped. The file is written after
every case. The next call with the same file measures what is left; a section that is named is measured anew. A section
records the commit, the GPU with its driver, and the versions of libraries.

CuPy alone is enough for most sections, and Triton and torch for all but those that begin with "rapids"; a section that
needs what is not installed is skipped, and the reason is recorded. The exit status is 1 where a comparison of this call
failed or was not made.

`--tiny --device cpu` runs the same lines on small shapes with NumPy in the place of a GPU: it shows that the script
works, and nothing about a GPU.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import agreement
import fused
import kmeans
import stages
from common import Report, Section, Setting, all_passed, describe_environment, use_numpy_device

TOTAL_SECONDS = 465.0  # of a call: below eight minutes with the start and the end
GRACE = 1.2  # times its seconds, after which a section is ended
TRIAL_FACTOR = 5  # times as long: a trial compiles kernels in every section
COMPARISONS = ("agreement", "fused-bits", "rapids-agreement")


class Plan(NamedTuple):
    """How a section is measured."""

    run: Callable[[Section, Setting], None]
    seconds: float  # in which its cases may begin
    modules: tuple[str, ...] = ()  # that it needs besides CuPy
    needs_gpu: bool = False  # NumPy cannot stand in for it


FLASH, CUML = ("torch", "flash_kmeans"), ("cuml",)
SIZES = {"": 0, "-large": 1, "-largest": 2}
# In the order of their worth: what a call has no time for is left to the next one.
SECTIONS: dict[str, Plan] = {
    "compile": Plan(stages.compile_kernels, 150),
    "machine": Plan(stages.machine, 30),
    "agreement": Plan(agreement.run, 120),
    "fused-bits": Plan(fused.run_bits, 150, needs_gpu=True),
    **{f"fused{name}": Plan(partial(fused.run_speed, size=size), 200, needs_gpu=True) for name, size in SIZES.items()},
    **{f"flash{name}": Plan(partial(kmeans.run_flash, size=size), 150, FLASH) for name, size in SIZES.items()},
    **{f"kmeans{name}": Plan(partial(kmeans.run_engine, size=size), 150) for name, size in SIZES.items()},
    "fused-tuning": Plan(fused.run_tuning, 240, ("triton",), needs_gpu=True),
    "members": Plan(stages.write_members, 100),
    "job": Plan(stages.job, 200),
    "job-largest": Plan(stages.largest_job, 380),
    "pca": Plan(stages.pca, 40),
    "placement": Plan(stages.placement, 40),
    "sanitizer": Plan(stages.sanitizer, 75),
    "rapids-agreement": Plan(agreement.run_with_cudf, 60, ("cudf", "pylibcudf")),
    **{f"rapids-kmeans{name}": Plan(partial(kmeans.run_cuml, size=size), 150, CUML) for name, size in SIZES.items()},
    "rapids-pca": Plan(stages.cuml_pca, 40, CUML),
    "rapids-tsne": Plan(stages.tsne, 240, CUML),
    "rapids-parquet": Plan(stages.parquet, 150, ("cudf", "pylibcudf")),
    "rapids-job": Plan(stages.job, 200, ("cudf", "pylibcudf", "cuml")),
    "rapids-job-largest": Plan(stages.largest_job, 380, ("cudf", "pylibcudf", "cuml")),
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure on a GPU, beside the CPU.")
    parser.add_argument("--out", type=Path, required=True, help="JSON to write, or to add to")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: NumPy in the place of a GPU")
    parser.add_argument("--tiny", action="store_true", help="small shapes")
    parser.add_argument("--sections", help="some of them, with commas; without it, all that are not measured yet")
    parser.add_argument("--commit", help="the commit to record, where the source is a copy without its repository")
    chosen = parser.parse_args(arguments)
    report = Report(chosen.out)
    try:
        report.open({"device": chosen.device, "tiny": chosen.tiny})
    except ValueError as error:
        parser.error(str(error))
    names = chosen.sections.split(",") if chosen.sections else [n for n in SECTIONS if not report.is_measured(n)]
    if unknown := [name for name in names if name not in SECTIONS]:
        parser.error(f"no sections: {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    environment, deadline = describe_environment(chosen.commit), time.perf_counter() + TOTAL_SECONDS
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(chosen.device, chosen.tiny, Path(folder))
        done = [run_section(name, setting, report, deadline - time.perf_counter(), environment) for name in names]
    left = [name for name, is_done in zip(names, done, strict=True) if not is_done]
    print(f"{chosen.out} is written; {'left: ' + ', '.join(left) if left else 'nothing is left'}")
    return 0 if all(passes(report, name) for name in names if name in COMPARISONS) else 1


def passes(report: Report, name: str) -> bool:
    """Return whether the comparisons of a section passed; those of a library that is not installed need not."""
    cases = report.read().get(name, {})
    return all_passed(cases) or "missing" in cases.get("section", {})


def run_section(name: str, setting: Setting, report: Report, left: float, environment: dict[str, Any]) -> bool:
    """Run a section in a process, which is ended when it takes too long; return False if no time is left for it."""
    plan = SECTIONS[name]
    missing = [module for module in plan.modules if find_spec(module) is None]
    if missing or (plan.needs_gpu and setting.device == "cpu"):
        report.clear(name)
        reason = f"{', '.join(missing)} cannot be found" if missing else "NumPy has no such kernels"
        report.add(name, "section", {"missing": reason})
        return True
    if left < plan.seconds:
        return False
    seconds = plan.seconds * setting.pick(1, TRIAL_FACTOR)
    limit = min(GRACE * seconds, left)
    print(f"{name} …", flush=True)
    report.clear(name)
    start = time.perf_counter()
    # Nothing has touched a GPU or a pool of threads in this process: a fork is a new process whose imports are done.
    child = multiprocessing.get_context("fork").Process(
        target=_run_in_child, args=(plan.run, Section(report, name, seconds), setting), daemon=True
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
    report.add(name, "section", facts | {"seconds": round(time.perf_counter() - start, 1)} | environment)
    return True


def _run_in_child(run: Any, section: Section, setting: Setting) -> None:
    if setting.device == "cpu":
        use_numpy_device()
    section.begin()
    section.guard("before its cases", lambda: run(section, setting))


if __name__ == "__main__":
    sys.exit(main())
