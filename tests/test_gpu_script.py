"""benchmarks/gpu/measure.py runs with NumPy in the GPU's place, and nothing that fails takes the rest along."""

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
    """The modules of the script, which import each other by their names."""
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


@pytest.mark.skipif(find_spec("cupy") is not None, reason="what the GPU's libraries say without a GPU is their affair")
def test_the_whole_script_runs_on_numpy(tmp_path: Path) -> None:
    out = tmp_path / "new" / "gpu.json"
    wanted = "machine,agreement,kmeans,kmeans-large,kmeans-most,members,job,pca,parquet,placement,tsne,sanitizer"
    done = subprocess.run(
        [sys.executable, FOLDER / "measure.py", "--tiny", "--device", "cpu", "--sections", wanted, "--out", out],
        env=os.environ | {"PATH": ""}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), (
        done.stderr
    )  # 1: what cuDF reads and a GPU encodes was not compared
    found = json.loads(out.read_text())
    assert list(found) == ["settings", *wanted.split(",")]
    cases = {(section, case): facts for section in wanted.split(",") for case, facts in found[section].items()}
    faults = {key: facts["error"] for key, facts in cases.items() if "error" in facts}
    assert {error.split("'")[1] for error in faults.values()} == {"cuml", "torch"}
    assert all(error.startswith("ModuleNotFoundError: No module named") for error in faults.values())
    assert [key for key, facts in cases.items() if facts.get("passed") is False] == [("agreement", "features")]
    assert sum("passed" in facts for facts in cases.values()) == 7
    assert [facts["skipped"] for facts in cases.values() if "skipped" in facts] == [
        "pyarrow", "compute-sanitizer is not on PATH"
    ]  # fmt: skip
    worth = [facts["inertia"] for (_, case), facts in cases.items() if case.startswith("2000 x 64, k = 20, engine")]
    assert len(worth) == 3  # on the device, streamed to it, on the CPU
    assert len(set(worth)) == 1
    assert cases["job", "everything, labels on both"] == {"equal_labels": 1.0}


def test_what_hangs_fails_or_dies_is_written_down_and_the_next_one_runs(script: Any, tmp_path: Path) -> None:
    def hangs(section: Any, setting: Any) -> None:
        section.case("before", lambda: {"seconds": 1})
        time.sleep(60)

    def fails(section: Any, setting: Any) -> None:
        section.case("one", lambda: {"value": 1 // 0})
        section.case("other", lambda: {"value": 2})
        raise ValueError("no rows")

    def dies(section: Any, setting: Any) -> None:
        os._exit(7)

    found = run_sections(script, tmp_path / "out.json", {"hangs": (hangs, 0.2), "fails": (fails, 9), "dies": (dies, 9)})
    assert found["hangs"]["before"] == {"seconds": 1}
    assert found["hangs"]["section"]["error"] == "ended after 1 s"
    assert found["fails"]["one"]["error"].startswith("ZeroDivisionError: ")
    assert found["fails"]["other"] == {"value": 2}
    assert found["fails"]["before its cases"] == {"error": "ValueError: no rows"}
    assert found["dies"]["section"]["error"] == "its process ended with status 7"


def test_cases_and_sections_without_time_are_skipped(script: Any, tmp_path: Path) -> None:
    def slow(section: Any, setting: Any) -> None:
        section.ends = 0.0
        section.case("first", lambda: {"value": 1})
        section.case("second", lambda: {"value": 2})

    found = run_sections(script, tmp_path / "out.json", {"slow": (slow, 9.0)})
    assert [found["slow"][case] for case in ("first", "second")] == 2 * [{"skipped": "the section's 45 s were spent"}]
    assert list(found["slow"]["section"]) == ["seconds"]
    found = run_sections(script, tmp_path / "out.json", {"late": (slow, 9.0)}, total=0.5)
    assert found["late"] == {"section": {"skipped": "all 465 s were spent"}}


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
def test_only_comparisons_that_were_made_pass(script: Any, cases: dict[str, Any], passed: bool) -> None:
    assert script.agree.passed(cases) is passed


def test_rows_that_a_device_encodes_otherwise_are_seen(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.datasets.demo_table import write_demo
    from engine.kernels.arrays.features import encode

    members = write_demo(tmp_path, 500).members
    monkeypatch.setattr(script.agree, "gpu", lambda: NumpyDevice(StrictModule()))
    same = script.agree.features(members)
    assert (same["rows"], same["other_arrays"], same["passed"]) == (500, 0, True)
    right = encode.standardised

    def wrong(xp: Any, values: Any, *plan: float) -> Any:
        found, gaps = right(xp, values, *plan)
        found[0] += 1e-6
        return found, gaps

    monkeypatch.setattr(encode, "standardised", wrong)
    other = script.agree.features(members)
    assert other["other_arrays"] > 0
    assert not other["passed"]


def test_a_librarys_iterations_are_taken_from_two_runs(script: Any) -> None:
    counted: list[int] = []

    def fit(X: Any, start: Any, iterations: int, tol: float) -> tuple[Any, int]:
        counted.append(iterations)
        time.sleep(0.02 * iterations)
        return start, iterations + 1  # as a library that counts one more

    start = np.eye(2, dtype=np.float32)
    seconds, _ = script.kmeans.library(np, fit, np.zeros((10, 2), np.float32), start)
    assert counted == [1, 1, script.kmeans.ITERATIONS]
    assert len(seconds) == script.kmeans.ITERATIONS
    facts = script.kmeans.speed(80_000_000, [9.0, 0.02, 0.04, 0.02], 8e9)
    assert (facts["milliseconds_an_iteration"], facts["gb_per_second"], facts["share_of_floor"]) == (20.0, 4.0, 0.5)
