"""A fit whose GPU fails: with device "auto" it falls back to the CPU, from its last checkpoint, to the CPU's bits."""

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


class CudaError(RuntimeError):
    """As CUDA's libraries raise."""


class FailingDevice(ArrayBackend):
    """Array code on NumPy whose K-Means passes fail, as those of a GPU that was lost."""

    name = "cuda"
    device_errors = (CudaError,)

    def lloyd_pass(self, *_: Any, **__: Any) -> Any:
        raise CudaError("cudaErrorECCUncorrectable\nin a pass")


@pytest.fixture
def failing_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(device: str = "auto") -> tuple[Any, str]:
        return (CpuBackend(), "cpu, as asked") if device == "cpu" else (FailingDevice(np), "cuda, as asked")

    monkeypatch.setattr(backends, "resolve", resolve)


def fit(source: Any, out: Path, lean: FitConfig, device: str) -> engine.Run:
    # Only with `reproducible` is the PCA that a device has computed before it failed the CPU's to the bit.
    return engine.fit(source, out=out, id="user_id", n_clusters=4, config=lean, device=device, reproducible=True)


@pytest.mark.parametrize("kind", ["files", "a data frame"])
def test_auto_goes_on_on_the_cpu_and_says_so(
    demo: DemoPaths, lean: FitConfig, tmp_path: Path, failing_gpu: None, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    source: Any = demo.members if kind == "files" else pq.read_table(demo.members).slice(0, 3000)
    with caplog.at_level(logging.INFO, logger="engine"):
        run = fit(source, tmp_path / "run", lean, "auto")
    reason = "the GPU failed: cudaErrorECCUncorrectable"
    assert f"Continuing on the CPU from the last checkpoint, because {reason}." in caplog.text
    manifest = json.loads((run.path / "manifest.json").read_text())
    assert (manifest["device"], manifest["device_reason"]) == ("cpu", f"cpu, because {reason}")
    expected = fit(source, tmp_path / "cpu", lean, "cpu")
    assert run.assignments.equals(expected.assignments)
    # What was done before the failure is not done again.
    assert ("Continuing from" in caplog.text) == (kind == "files")


def test_a_device_asked_for_by_name_fails_with_the_reason(
    demo: DemoPaths, lean: FitConfig, tmp_path: Path, failing_gpu: None
) -> None:
    with pytest.raises(OutOfResourcesError, match="Device 'cuda' failed: cudaErrorECCUncorrectable"):
        fit(demo.members, tmp_path / "run", lean, "cuda")
    assert not (tmp_path / "run").exists()
