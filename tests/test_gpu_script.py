"""Tests of benchmarks/gpu/measure.py with NumPy in place of a GPU: a section that fails does not stop the others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.gpu.chunks import NumpyDevice
from tests.gpu.strict import StrictModule

FOLDER = Path(__file__).parents[1] / "benchmarks" / "gpu"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import the modules of the script, which import each other as top-level modules."""
    names = ("agree", "common", "kmeans", "measure", "stages")
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(FOLDER)
    yield SimpleNamespace(**{name: import_module(name) for name in names})
    for name in names:
        sys.modules.pop(name, None)


def run_sections(script: Any, out: Path, sections: dict[str, tuple[Any, float]], total: float = 60.0) -> Any:
    report = script.common.Report(out)
    report.start({})
    script.measure.SECTIONS.clear()
    script.measure.SECTIONS.update(sections)
    for name in sections:
        script.measure.run_section(name, script.common.Setting("cpu", True, out.parent), report, total)
    return report.read()


@pytest.mark.skipif(
    find_spec("cupy") is not None, reason="with CuPy but no GPU, the errors are those of the GPU libraries"
)
def test_the_whole_script_runs_on_numpy(tmp_path: Path) -> None:
    out = tmp_path / "new" / "gpu.json"
    sections = "machine,agreement,kmeans,kmeans-large,kmeans-most,members,job,pca,parquet,placement,tsne,sanitizer"
    process = subprocess.run(
        [sys.executable, FOLDER / "measure.py", "--tiny", "--device", "cpu", "--sections", sections, "--out", out],
        env=os.environ | {"PATH": ""}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    # The status is 1, because without a GPU nothing can compare what cuDF reads and a GPU encodes.
    assert (process.returncode, "Traceback" in process.stderr) == (1, False), process.stderr
    report = json.loads(out.read_text())
    assert list(report) == ["settings", *sections.split(",")]
    cases = {(section, case): facts for section in sections.split(",") for case, facts in report[section].items()}
    errors = {key: facts["error"] for key, facts in cases.items() if "error" in facts}
    assert {error.split("'")[1] for error in errors.values()} == {"cuml", "torch"}
    assert all(error.startswith("ModuleNotFoundError: No module named") for error in errors.values())
    assert [key for key, facts in cases.items() if facts.get("passed") is False] == [("agreement", "features")]
    assert sum("passed" in facts for facts in cases.values()) == 7
    assert [facts["skipped"] for facts in cases.values() if "skipped" in facts] == [
        "pyarrow", "compute-sanitizer is not on PATH"
    ]  # fmt: skip
    inertias = [facts["inertia"] for (_, case), facts in cases.items() if case.startswith("2000 x 64, k = 20, engine")]
    assert len(inertias) == 3  # on the device, streamed to the device, on the CPU
    assert len(set(inertias)) == 1
    assert cases["job", "everything, labels on both"] == {"equal_labels": 1.0}


def test_a_section_that_hangs_fails_or_dies_is_reported_and_the_next_one_runs(script: Any, tmp_path: Path) -> None:
    def hangs(section: Any, setting: Any) -> None:
        section.case("before", lambda: {"seconds": 1})
        time.sleep(60)

    def fails(section: Any, setting: Any) -> None:
        section.case("one", lambda: {"value": 1 // 0})
        section.case("other", lambda: {"value": 2})
        raise ValueError("no rows")

    def dies(section: Any, setting: Any) -> None:
        os._exit(7)

    report = run_sections(
        script, tmp_path / "out.json", {"hangs": (hangs, 0.2), "fails": (fails, 9), "dies": (dies, 9)}
    )
    assert report["hangs"]["before"] == {"seconds": 1}
    assert report["hangs"]["section"]["error"] == "ended after 1 s"
    assert report["fails"]["one"]["error"].startswith("ZeroDivisionError: ")
    assert report["fails"]["other"] == {"value": 2}
    assert report["fails"]["before its cases"] == {"error": "ValueError: no rows"}
    assert report["dies"]["section"]["error"] == "its process ended with status 7"


def test_cases_and_sections_without_time_are_skipped(script: Any, tmp_path: Path) -> None:
    def slow(section: Any, setting: Any) -> None:
        section.ends = 0.0
        section.case("first", lambda: {"value": 1})
        section.case("second", lambda: {"value": 2})

    report = run_sections(script, tmp_path / "out.json", {"slow": (slow, 9.0)})
    assert [report["slow"][case] for case in ("first", "second")] == 2 * [{"skipped": "the section's 45 s were spent"}]
    assert list(report["slow"]["section"]) == ["seconds"]
    report = run_sections(script, tmp_path / "out.json", {"late": (slow, 9.0)}, total=0.5)
    assert report["late"] == {"section": {"skipped": "all 465 s were spent"}}


@pytest.mark.parametrize(
    ("cases", "passed"),
    [
        ({"a": {"passed": True}, "section": {"seconds": 1}}, True),
        ({"a": {"passed": True}, "b": {"passed": False}, "section": {}}, False),
        ({"a": {"passed": True}, "b": {"error": "no memory"}, "section": {}}, False),
        ({"a": {"passed": True}, "b": {"skipped": "no time"}, "section": {}}, False),
        ({"a": {"passed": True}, "section": {"error": "ended after 60 s"}}, False),
        ({"section": {"seconds": 1}}, False),
    ],
)
def test_comparisons_that_were_not_made_do_not_pass(script: Any, cases: dict[str, Any], passed: bool) -> None:
    assert script.agree.passed(cases) is passed


def test_rows_that_a_device_encodes_differently_fail_the_comparison(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.datasets.demo_table import write_demo
    from engine.kernels.arrays.features import encode

    members = write_demo(tmp_path, 500).members
    monkeypatch.setattr(script.agree, "gpu", lambda: NumpyDevice(StrictModule()))
    same = script.agree.features(members)
    assert (same["rows"], same["other_arrays"], same["passed"]) == (500, 0, True)
    standardize = encode.standardize

    def wrong_standardize(xp: Any, values: Any, *plan: float) -> Any:
        encoded, gaps = standardize(xp, values, *plan)
        encoded[0] += 1e-6
        return encoded, gaps

    monkeypatch.setattr(encode, "standardize", wrong_standardize)
    other = script.agree.features(members)
    assert other["other_arrays"] > 0
    assert not other["passed"]


def test_the_iterations_of_a_library_are_timed_by_two_runs(script: Any) -> None:
    iteration_counts: list[int] = []

    def fit(X: Any, start: Any, iterations: int, tol: float) -> tuple[Any, int]:
        iteration_counts.append(iterations)
        time.sleep(0.02 * iterations)
        return start, iterations + 1  # some libraries count one iteration more

    start = np.eye(2, dtype=np.float32)
    seconds, _ = script.kmeans.library(np, fit, np.zeros((10, 2), np.float32), start)
    assert iteration_counts == [1, 1, script.kmeans.ITERATIONS]
    assert len(seconds) == script.kmeans.ITERATIONS
    facts = script.kmeans.speed(80_000_000, [9.0, 0.02, 0.04, 0.02], 8e9)
    assert (facts["milliseconds_an_iteration"], facts["gb_per_second"], facts["share_of_floor"]) == (20.0, 4.0, 0.5)
