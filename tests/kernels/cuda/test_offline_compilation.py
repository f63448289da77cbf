"""The Triton kernels compile without a GPU for every architecture: on tensor cores, and without spilled registers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

pytest.importorskip("triton", reason="Triton is not installed: make test-gpu-kernels has an environment with it")

TENSOR_CORES = {80: "HMMA", 90: "HGMMA", 100: "UTCHMMA", 120: "HMMA"}  # the instruction of matrix products of each


@pytest.fixture(scope="module", params=TENSOR_CORES)
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Compile all configurations for an architecture, in a process that does not interpret them."""
    folder = tmp_path_factory.mktemp("cubins")
    command = [sys.executable, "-m", "engine.kernels.cuda.build", str(folder), str(request.param)]
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    described: list[dict[str, Any]] = json.loads((folder / "kernels.json").read_text())
    assert all((folder / kernel["file"]).stat().st_size > 0 for kernel in described)
    return described


def test_scores_are_computed_on_tensor_cores(compiled: list[dict[str, Any]]) -> None:
    labeling = [kernel for kernel in compiled if kernel["kernel"] == "label_rows"]
    assert len(labeling) == 18
    for kernel in labeling:
        assert kernel["instructions"].get(TENSOR_CORES[kernel["architecture"]], 0) > 0, kernel["file"]


def test_no_register_spills(compiled: list[dict[str, Any]]) -> None:
    assert {kernel["file"]: kernel["stack_bytes"] for kernel in compiled if kernel["stack_bytes"]} == {}


def test_the_definition_is_rounded_after_every_operation(compiled: list[dict[str, Any]]) -> None:
    for kernel in compiled:
        assert "DFMA" not in kernel["instructions"], kernel["file"]
