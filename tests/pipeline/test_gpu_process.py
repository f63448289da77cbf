"""A fit whose device aborts, hangs or fails in its child process: auto goes on on the CPU, a named device says why."""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import engine
from engine import backends
from engine.backends import cuda_driver
from engine.config import FitConfig
from engine.datasets.demo_table import DemoPaths
from engine.errors import OutOfResourcesError, UsageError
from engine.execution import child_process
from engine.pipeline import gpu_process

WAYS = {
    "abort": "the process that used it was lost, it was ended by SIGABRT",
    "hang": "the process that used it was lost, it has been silent for 5 s",
    "raise": "cudaErrorECCUncorrectable",
}


@pytest.fixture
def use_child(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that lets fits run in a child process whose device fails in a way."""
    command = child_process._command

    def use(way: str) -> None:
        def with_device(descriptor: int) -> list[str]:
            *start, code = command(descriptor)
            paths, rest = code.split("; from ", 1)
            return [*start, f"{paths}; from tests.gpu.failing_child import install; install({way!r}); from {rest}"]

        monkeypatch.setattr(child_process, "_command", with_device)
        monkeypatch.setattr(gpu_process, "is_wanted", lambda source, settings: settings.device != "cpu")
        if way == "hang":
            monkeypatch.setattr(child_process, "SILENCE_SECONDS", 5.0)

    return use


def fit(source: Any, out: Path, lean: FitConfig, **options: Any) -> engine.Run:
    return engine.fit(source, out=out, id="user_id", n_clusters=4, config=lean, **options)


@pytest.fixture(scope="module")
def members(demo: DemoPaths, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tables") / "members.parquet"
    pq.write_table(pq.read_table(demo.members).slice(0, 3000), path)
    return path


@pytest.fixture(scope="module")
def expected(members: Path, lean: FitConfig, tmp_path_factory: pytest.TempPathFactory) -> engine.Run:
    return fit(members, tmp_path_factory.mktemp("runs") / "cpu", lean, device="cpu")


def test_a_fit_in_a_child_process_is_that_of_this_process(
    members: Path, lean: FitConfig, tmp_path: Path, use_child: Any, expected: engine.Run, caplog: Any
) -> None:
    use_child("none")
    with caplog.at_level(logging.INFO, logger="engine"):
        run = fit(members, tmp_path / "run", lean)
    assert (run.path, run.manifest["device"]) == (tmp_path / "run", "cuda")
    assert run.assignments.equals(expected.assignments)
    processes = {r.message for r in caplog.records if r.message.startswith("a pass in process")}
    assert processes
    assert f"a pass in process {os.getpid()}" not in processes
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("way", WAYS)
def test_auto_goes_on_on_the_cpu_from_the_last_checkpoint_however_the_child_ends(
    members: Path, lean: FitConfig, tmp_path: Path, use_child: Any, expected: engine.Run, caplog: Any, way: str
) -> None:
    use_child(way)
    with caplog.at_level(logging.INFO, logger="engine"):
        run = fit(members, tmp_path / "run", lean, device="auto")
    assert run.assignments.equals(expected.assignments)
    assert run.manifest["device_reason"] == f"cpu, because the GPU failed: {WAYS[way]}"
    assert run.manifest["computed_by"]["pca"]["library"] == "CuPy"
    assert run.manifest["computed_by"]["kmeans"]["library"] == "numba"
    assert f"Continuing from {tmp_path / '.run.staging'}." in caplog.text
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("way", ["abort", "hang"])
def test_a_gpu_that_was_lost_is_not_opened_by_this_process(
    members: Path, lean: FitConfig, tmp_path: Path, use_child: Any, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """It is lost where k is chosen, and what is left scores rows by the previous model, too."""
    small = {"skip": ["explain", "report"], "map": {"n_landmarks": 100, "max_iter": 250}, "kmeans": {"k_max": 3}}
    with_map = FitConfig.merge(lean.model_dump(), **small)
    options: dict[str, Any] = {"id": "user_id", "config": with_map}
    before = engine.fit(members, out=tmp_path / "before", device="cpu", **options)
    resolve = backends.resolve

    def resolve_cpu(device: str = "auto") -> Any:
        assert device == "cpu", "the GPU is opened again, and nobody watches"
        return resolve("cpu")

    use_child(way)
    monkeypatch.setattr(backends, "resolve", resolve_cpu)
    run = engine.fit(members, out=tmp_path / "run", device="auto", previous=before.path, **options)
    assert run.manifest["device_reason"] == f"cpu, because the GPU failed: {WAYS[way]}"
    assert run.manifest["clusters_reason"]
    assert run.manifest["map"]["previous"] == str(before.path)


@pytest.mark.parametrize("way", ["abort", "raise"])
def test_a_named_device_fails_with_the_reason(
    members: Path, lean: FitConfig, tmp_path: Path, use_child: Any, way: str
) -> None:
    use_child(way)
    with pytest.raises(OutOfResourcesError, match=f"Device 'cuda' failed: {WAYS[way]}"):
        fit(members, tmp_path / "run", lean, device="cuda")
    assert not (tmp_path / "run").exists()


def test_an_error_of_the_job_is_that_of_the_job(members: Path, lean: FitConfig, tmp_path: Path, use_child: Any) -> None:
    use_child("none")
    too_many = FitConfig.merge(lean.model_dump(), pca={"n_components": 5000})
    with pytest.raises(UsageError, match=r"pca\.n_components=5000 is more than the"):
        fit(members, tmp_path / "run", too_many)
    assert not list(tmp_path.iterdir())


def test_ctrl_c_ends_the_child_and_keeps_what_is_finished(
    members: Path, lean: FitConfig, tmp_path: Path, use_child: Any
) -> None:
    use_child("interrupt")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # the workers of pytest-xdist ignore the signal
    try:
        with pytest.raises(KeyboardInterrupt) as caught:
            fit(members, tmp_path / "run", lean)
    finally:
        signal.signal(signal.SIGINT, before)
    assert "Finished stages are kept: continue with --resume" in caught.value.__notes__[0]
    assert (tmp_path / ".run.staging" / "checkpoints" / "pca").is_file()


def test_a_child_is_started_for_files_on_a_machine_with_a_gpu_only(monkeypatch: pytest.MonkeyPatch) -> None:
    card = cuda_driver.Gpu("NVIDIA H200", 141 << 30, (9, 0), (13, 1))
    monkeypatch.setattr(gpu_process, "first_gpu", lambda: card)
    monkeypatch.setattr(gpu_process, "find_spec", lambda name: name)
    auto = FitConfig()
    assert gpu_process.is_wanted("members.parquet", auto)
    assert gpu_process.is_wanted([Path("a.parquet"), "b.parquet"], auto)
    assert not gpu_process.is_wanted(pq, auto)  # anything that is not files: a data frame is not sent
    assert not gpu_process.is_wanted("members.parquet", FitConfig(device="cpu"))
    assert not gpu_process.is_wanted("members.parquet", FitConfig.merge({}, cluster={"workers": 2}))
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "")
        assert not gpu_process.is_wanted("members.parquet", auto)
    monkeypatch.setattr(gpu_process, "find_spec", lambda name: None)
    assert not gpu_process.is_wanted("members.parquet", auto)
