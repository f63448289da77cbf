"""Tests of benchmarks/gpu with NumPy in the place of a GPU: a section that fails does not stop the others."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import tomllib
from functools import partial
from importlib import import_module
from importlib.metadata import requires
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests import reference
from tests.backends.test_fused_kmeans import FusedDevice
from tests.gpu.chunks import NumpyDevice
from tests.gpu.counting import CountingModule
from tests.gpu.strict import StrictModule

FOLDER = Path(__file__).parents[1] / "benchmarks" / "gpu"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import the modules of the script, which import each other as top-level modules."""
    names = ("agreement", "common", "fused", "kmeans", "measure", "stages")
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(FOLDER)
    yield SimpleNamespace(**{name: import_module(name) for name in names})
    for name in names:
        sys.modules.pop(name, None)


def run_sections(script: Any, out: Path, sections: dict[str, tuple[Any, ...]], total: float = 60.0) -> Any:
    report = script.common.Report(out)
    report.open({})
    script.measure.SECTIONS.clear()
    script.measure.SECTIONS.update({name: script.measure.Plan(*plan) for name, plan in sections.items()})
    for name in sections:
        script.measure.run_section(name, script.common.Setting("cpu", True, out.parent), report, total, {})
    return report.read()


@pytest.mark.skipif(
    find_spec("cupy") is not None, reason="with CuPy but no GPU, the errors are those of the GPU libraries"
)
def test_the_whole_script_runs_on_numpy(tmp_path: Path) -> None:
    out = tmp_path / "new" / "gpu.json"
    sections = [
        *("machine", "agreement", "fused-bits", "fused", "flash", "kmeans", "kmeans-large", "kmeans-largest"),
        *("members", "job", "job-largest", "pca", "placement", "sanitizer"),
        *("rapids-agreement", "rapids-kmeans", "rapids-pca", "rapids-tsne", "rapids-parquet", "rapids-job"),
        "rapids-job-largest",
    ]
    command = [sys.executable, FOLDER / "measure.py", "--tiny", "--device", "cpu", "--out", out, "--commit", "abc"]
    process = subprocess.run(
        [*command, "--sections", ",".join(sections)], env=os.environ | {"PATH": ""}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (process.returncode, "Traceback" in process.stderr) == (0, False), process.stderr
    report = json.loads(out.read_text())
    assert list(report) == ["settings", *sections]
    missing = {name: report[name]["section"]["missing"] for name in sections if "missing" in report[name]["section"]}
    assert missing == {
        "fused-bits": "NumPy has no such kernels", "fused": "NumPy has no such kernels",
        "flash": "torch, flash_kmeans cannot be found", "rapids-agreement": "cudf, pylibcudf cannot be found",
        "rapids-kmeans": "cuml cannot be found", "rapids-pca": "cuml cannot be found",
        "rapids-tsne": "cuml cannot be found", "rapids-parquet": "cudf, pylibcudf cannot be found",
        "rapids-job": "cudf, pylibcudf, cuml cannot be found",
        "rapids-job-largest": "cudf, pylibcudf, cuml cannot be found",
    }  # fmt: skip
    assert all(report[name]["section"]["commit"] == "abc" for name in sections if name not in missing)
    cases = {(name, case): facts for name in sections for case, facts in report[name].items()}
    assert {key: facts["error"] for key, facts in cases.items() if "error" in facts} == {}
    assert [facts["passed"] for facts in cases.values() if "passed" in facts] == 10 * [True]
    assert [facts["skipped"] for facts in cases.values() if "skipped" in facts] == [
        "NumPy has no such kernels",
        "compute-sanitizer is not on PATH",
    ]
    inertias = [facts["inertia"] for (_, case), facts in cases.items() if case.startswith("2000 x 64, k = 20, engine")]
    assert len(inertias) == 3  # on the device, streamed to the device, on the CPU
    assert len(set(inertias)) == 1
    assert cases["job", "everything, labels on both"] == {"equal_labels": 1.0}
    assert cases["job-largest", "write"]["rows"] == cases["job-largest", "everything, cuda"]["rows"] == 6000


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


def test_cases_without_time_are_skipped_and_sections_are_left_to_the_next_call(script: Any, tmp_path: Path) -> None:
    def slow(section: Any, setting: Any) -> None:
        section.deadline = 0.0
        section.case("first", lambda: {"value": 1})
        section.case("second", lambda: {"value": 2})

    report = run_sections(script, tmp_path / "out.json", {"slow": (slow, 9.0)})
    assert [report["slow"][case] for case in ("first", "second")] == 2 * [{"skipped": "the section's 45 s were spent"}]
    assert list(report["slow"]["section"]) == ["seconds"]
    report = run_sections(script, tmp_path / "out.json", {"late": (slow, 9.0)}, total=8.9)
    assert list(report) == ["settings", "slow"]


def test_the_next_call_measures_what_is_left_and_what_is_named(script: Any, tmp_path: Path, capfd: Any) -> None:
    def measure(section: Any, setting: Any) -> None:
        print("runs", section.name)
        section.case("one", lambda: {"value": 1})

    plans = {name: script.measure.Plan(measure, 5.0) for name in ("first", "second")}
    script.measure.SECTIONS.clear()
    script.measure.SECTIONS.update(plans | {"third": script.measure.Plan(measure, 5.0, ("no_such_module",))})
    call = ["--out", str(tmp_path / "out.json"), "--tiny", "--device", "cpu"]
    runs = []
    for arguments in (["--sections", "second"], [], [], ["--sections", "first"]):
        script.measure.main([*call, *arguments])
        runs.append([line.split()[1] for line in capfd.readouterr().out.splitlines() if line.startswith("runs")])
    assert runs == [["second"], ["first"], [], ["first"]]
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["third"] == {"section": {"missing": "no_such_module cannot be found"}}
    assert {"commit", "gpu", "versions", "started"} <= set(report["first"]["section"])
    with pytest.raises(SystemExit):  # a file of another device, or another size, is not mixed with this one
        script.measure.main(["--out", str(tmp_path / "out.json"), "--tiny"])
    assert "holds measurements with" in capfd.readouterr().err


def test_every_section_fits_into_a_call(script: Any) -> None:
    measure = script.measure
    assert all(measure.GRACE * plan.seconds <= measure.TOTAL_SECONDS < 480 for plan in measure.SECTIONS.values())
    without_rapids = [name for name in measure.SECTIONS if not name.startswith("rapids")]
    assert list(measure.SECTIONS)[: len(without_rapids)] == without_rapids
    needed = {module for name in without_rapids for module in measure.SECTIONS[name].modules}
    assert needed == {"torch", "triton", "flash_kmeans"}


def test_the_fused_kernels_are_compared_and_timed(script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend: Any = FusedDevice(CountingModule())
    backend.with_fused_kernels = lambda: backend
    for module in (script.fused, script.kmeans):
        monkeypatch.setattr(module, "gpu", lambda: backend)
    report = run_sections(
        script, tmp_path / "out.json",
        {
            "fused-bits": (script.fused.run_bits, 60.0), "fused": (partial(script.fused.run_speed, size=0), 60.0),
            "fused-tuning": (script.fused.run_tuning, 60.0),
        },
    )  # fmt: skip
    assert script.common.all_passed(report["fused-bits"])
    assert [len(facts) for facts in report["fused-bits"].values() if "share_open" in facts] == 7 * [5]
    for k in (3, 20):
        facts = report["fused"][f"2000 x 64, k = {k}, fused"]
        assert set(facts["settled_milliseconds"]) == {"label_rows", "refine_rows"}
        assert 0 < facts["share_open"] < 0.2
    first = report["fused-tuning"]["k = 3, first pass, 64 copies of the sums"]
    assert set(first) == {"label_rows", "refine_rows"}
    assert "triton" in report["fused-tuning"]["k = 3, 64 rows, 32 centers, 4 warps"]["error"]


def test_no_more_members_are_written_than_fit_and_every_id_is_unique(script: Any, tmp_path: Path) -> None:
    from engine.datasets.demo_table import write_demo

    table = write_demo(tmp_path / "few", 500, n_files=2).members
    assert script.stages.write_more_members(table, tmp_path / "late", 2000, time.perf_counter()) == 500
    assert script.stages.write_more_members(table, tmp_path / "more", 2000, time.perf_counter() + 60) == 2000
    more = pq.read_table(tmp_path / "more")
    assert len(more["user_id"].unique()) == 2000
    assert more.schema.equals(pq.read_schema(table / "part-00000.parquet"), check_metadata=True)


def test_cumls_own_map_is_measured_as_the_engines_is(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    X = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    monkeypatch.setattr(script.stages, "gpu", NumpyDevice)
    monkeypatch.setattr(script.stages, "cuml_tsne", lambda task: task.X[:, :2])
    facts = script.stages.time_cuml_tsne(X)
    joint = reference.joint_probabilities(X.tolist(), 30.0, 90)
    assert facts["kl_divergence"] == pytest.approx(reference.kl_divergence(joint, X[:, :2].tolist()), abs=1e-4)


def test_streamed_rows_are_not_resident(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.kmeans.lloyd import Samples

    X = np.random.default_rng(0).normal(size=(500, 4)).astype(np.float32)
    monkeypatch.setattr(script.kmeans, "gpu", lambda: NumpyDevice(StrictModule()))
    assert Samples.from_array(X, None, script.kmeans.gpu()).prepared.X is not None
    assert Samples.from_array(X, None, script.kmeans.streaming_backend()).prepared.X is None


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
    assert script.common.all_passed(cases) is passed


def test_rows_that_a_device_encodes_differently_fail_the_comparison(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.datasets.demo_table import write_demo
    from engine.kernels.arrays.features import encode

    members = write_demo(tmp_path, 500).members
    monkeypatch.setattr(script.agreement, "gpu", lambda: NumpyDevice(StrictModule()))
    same = script.agreement.compare_columns(members, with_cudf=False)
    assert (same["rows"], same["other_arrays"], same["passed"]) == (500, 0, True)
    standardize = encode.standardize

    def wrong_standardize(xp: Any, values: Any, *plan: float) -> Any:
        encoded, gaps = standardize(xp, values, *plan)
        encoded[0] += 1e-6
        return encoded, gaps

    monkeypatch.setattr(encode, "standardize", wrong_standardize)
    other = script.agreement.compare_columns(members, with_cudf=False)
    assert other["other_arrays"] > 0
    assert not other["passed"]


def test_the_iterations_of_a_library_are_timed_by_two_runs(script: Any) -> None:
    iteration_counts: list[int] = []

    def fit(X: Any, start: Any, iterations: int, tol: float) -> tuple[Any, int]:
        iteration_counts.append(iterations)
        time.sleep(0.02 * iterations)
        return start, iterations + 1  # some libraries count one iteration more

    start = np.eye(2, dtype=np.float32)
    seconds, _ = script.kmeans.time_library(np, fit, np.zeros((10, 2), np.float32), start)
    assert iteration_counts == [1, 1, script.kmeans.ITERATIONS]
    assert len(seconds) == script.kmeans.ITERATIONS
    facts = script.kmeans.describe_speed(80_000_000, [9.0, 0.02, 0.04, 0.02], 8e9)
    assert (facts["milliseconds_an_iteration"], facts["gb_per_second"], facts["share_of_floor"]) == (20.0, 4.0, 0.5)


def test_all_dependencies_are_copied_to_a_gpu_machine_or_expected_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    wheels = import_module("wheels")
    project = tomllib.loads((FOLDER.parents[1] / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[<>=!~\[ ]", requirement)[0].lower() for requirement in project["dependencies"]}
    there = {*wheels.EXPECTED, *wheels.NAMES}
    assert needed <= there
    for name in {*wheels.NAMES} - {"flash-kmeans", "tqdm"}:  # of flash-kmeans, which the engine does not need
        for requirement in requires(name) or ():
            is_for_others = re.search(r"extra ==|Windows|win32|python_version < |implementation_name", requirement)
            assert is_for_others or wheels.normalize(re.match(r"[\w.-]+", requirement)[0]) in there, (name, requirement)
    assert not {*wheels.EXPECTED} & {*wheels.NAMES}
    pinned = wheels.requirements(("plotly", "flash-kmeans"))
    assert re.fullmatch(r"plotly==[\d.]+", pinned[0])
    assert pinned[1] == "flash-kmeans"  # not a dependency: the newest
