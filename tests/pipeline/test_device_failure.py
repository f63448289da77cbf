"""A fit on a device opens no other, and where its GPU fails, "auto" goes on on the CPU, to the CPU's bits."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import engine
from engine import backends
from engine.backends.array_kmeans import ArrayBackend
from engine.backends.cpu import CpuBackend
from engine.config import FitConfig
from engine.datasets.demo_table import DemoPaths
from engine.errors import OutOfResourcesError
from engine.pipeline.dry_run import estimate_fit


class CudaError(RuntimeError):
    """As CUDA's libraries raise."""


class FailingDevice(ArrayBackend):
    """Array code on NumPy whose K-Means passes fail, as those of a GPU that was lost."""

    name = "cuda"
    device_errors = (CudaError,)

    def lloyd_pass(self, *_: Any, **__: Any) -> Any:
        raise CudaError("cudaErrorECCUncorrectable\nin a pass")

    def with_fused_kernels(self) -> Any:
        return self


@pytest.fixture
def failing_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(device: str = "auto") -> tuple[Any, str]:
        return (CpuBackend(), "cpu, as asked") if device == "cpu" else (FailingDevice(np), "cuda, as asked")

    monkeypatch.setattr(backends, "resolve", resolve)


def fit(source: Any, out: Path, lean: FitConfig, device: str, **options: Any) -> engine.Run:
    # Only with `reproducible` is the PCA that a device has computed before it failed the CPU's to the bit.
    return engine.fit(
        source, out=out, id="user_id", n_clusters=4, config=lean, device=device, reproducible=True, **options
    )


@pytest.mark.parametrize("algorithm", ["lloyd", "fused"])
@pytest.mark.parametrize("kind", ["files", "a data frame"])
def test_auto_goes_on_on_the_cpu_and_says_so(
    demo: DemoPaths, lean: FitConfig, tmp_path: Path, failing_gpu: None, caplog: pytest.LogCaptureFixture, kind: str,
    algorithm: str,
) -> None:  # fmt: skip
    source: Any = demo.members if kind == "files" else pq.read_table(demo.members).slice(0, 3000)
    with caplog.at_level(logging.INFO, logger="engine"):
        run = fit(source, tmp_path / "run", lean, "auto", algorithm=algorithm)
    reason = "the GPU failed: cudaErrorECCUncorrectable"
    assert f"Continuing on the CPU from the last checkpoint, because {reason}." in caplog.text
    manifest = json.loads((run.path / "manifest.json").read_text())
    assert (manifest["device"], manifest["device_reason"]) == ("cpu", f"cpu, because {reason}")
    expected = fit(source, tmp_path / "cpu", lean, "cpu")
    assert run.assignments.equals(expected.assignments)
    assert ("Not fused kernels, but numba computes K-Means" in caplog.text) == (algorithm == "fused")
    # What was done before the failure is not done again.
    assert ("Continuing from" in caplog.text) == (kind == "files")


def test_a_device_asked_for_by_name_fails_with_the_reason(
    demo: DemoPaths, lean: FitConfig, tmp_path: Path, failing_gpu: None
) -> None:
    with pytest.raises(OutOfResourcesError, match="Device 'cuda' failed: cudaErrorECCUncorrectable"):
        fit(demo.members, tmp_path / "run", lean, "cuda")
    with pytest.raises(OutOfResourcesError, match="use --device auto, with which a fit falls back to the CPU"):
        fit(demo.members, tmp_path / "run", lean, "cuda", algorithm="fused")
    assert not (tmp_path / "run").exists()


class Device(ArrayBackend):
    """Array code on NumPy in the place of a GPU."""

    name = "cuda"
    kernels = "CuPy"


@pytest.mark.parametrize("device", backends.DEVICES)
def test_a_fit_opens_the_device_that_it_was_given_once_and_no_other(
    demo: DemoPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    """It chooses k, continues a run of other people, and starts its map from that run's."""
    rows = pq.read_table(demo.members)
    for start, name in enumerate(("before", "now")):
        pq.write_table(rows.slice(700 * start, 700), tmp_path / f"{name}.parquet")
    small = {"skip": ["explain", "report"], "map": {"n_landmarks": 100, "max_iter": 250}, "kmeans": {"k_max": 3}}
    settings = FitConfig.merge(small, id="user_id")
    before = engine.fit(tmp_path / "before.parquet", out=tmp_path / "before", device="cpu", config=settings)
    asked: list[str] = []

    def resolve(name: str = "auto") -> tuple[Any, str]:
        asked.append(name)
        return (CpuBackend() if name == "cpu" else Device(np)), f"{name}, as asked"

    monkeypatch.setattr(backends, "resolve", resolve)
    settings = FitConfig.merge(
        settings.model_dump(), device=device, previous=str(before.path), lineage={"refit_features": True}
    )
    run = engine.fit(tmp_path / "now.parquet", out=tmp_path / "now", config=settings)
    assert run.manifest["map"]["previous"] == str(before.path)
    opened = [name for name in asked if name != "cpu" or device == "cpu"]
    assert opened == [device] if device != "cpu" else set(opened) == {"cpu"}
    asked.clear()
    estimate_fit(tmp_path / "now.parquet", settings)
    assert set(asked) <= {device, "cpu"}
