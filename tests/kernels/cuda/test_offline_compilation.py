"""The Triton kernels compile without a GPU for every architecture: on tensor cores, and without spilled registers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest

pytest.importorskip("triton", reason="Triton is not installed: make test-gpu-kernels has an environment with it")

from engine.kernels.cuda import build
from engine.kernels.cuda.launch import FOLDER, SCRATCH
from tests.kernels.cuda.archives import read_archive

# The assembler for 10.0 (ptxas of CUDA 12.9) takes other uniform registers at each start: findings/ptxas_registers.sh.
ASSEMBLED_ANEW = {100}
TENSOR_CORES = {80: "HMMA", 90: "HGMMA", 100: "UTCHMMA", 120: "HMMA"}  # the instruction of matrix products of each


class Compiled(NamedTuple):
    """The archive of an architecture, compiled in this test."""

    architecture: int
    files: dict[str, bytes]
    description: dict[str, Any]


@pytest.fixture(scope="module", params=TENSOR_CORES)
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """Compile all configurations for an architecture, in a process that does not interpret them."""
    folder = tmp_path_factory.mktemp("cubins")
    command = [sys.executable, "-m", "engine.kernels.cuda.build", str(folder), str(request.param)]
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return Compiled(request.param, *read_archive(folder / f"sm{request.param}.tar.xz"))


def test_the_committed_archives_are_compiled_from_this_source(compiled: Compiled, tmp_path: Path) -> None:
    files, description = read_archive(FOLDER / f"sm{compiled.architecture}.tar.xz")
    assert description == compiled.description  # with the hash of every kernel's PTX
    assert files.keys() == compiled.files.keys()
    different = [name for name in files if files[name] != compiled.files[name]]
    if compiled.architecture in ASSEMBLED_ANEW:
        for name in different:
            assert count_opcodes(files[name], tmp_path) == count_opcodes(compiled.files[name], tmp_path), name
    else:
        assert different == []


def count_opcodes(cubin: bytes, folder: Path) -> Counter[str]:
    """Return how often each machine instruction is in a cubin, whichever registers it takes."""
    path = folder / "kernel.cubin"
    path.write_bytes(cubin)
    command = [str(build.CUOBJDUMP), "-sass", str(path)]
    code = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    opcodes = Counter(re.findall(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)", code))
    assert opcodes.total() > 100, code[:500]
    return opcodes


def test_parameters_are_those_of_the_source(compiled: Compiled) -> None:
    for kernel in compiled.description["kernels"]:
        arrays = [[name, f"*{kind}"] for name, kind in build.POINTERS[kernel["entry"]].items()]
        numbers = [[name, kind] for name, kind in build.SCALARS[kernel["entry"]].items()]
        assert kernel["parameters"] == [*arrays, *numbers, *2 * [[SCRATCH, "*i8"]]]


def test_scores_are_computed_on_tensor_cores(compiled: Compiled) -> None:
    scoring = ("label_rows", "screen_landmarks")
    labeling = [kernel for kernel in compiled.description["kernels"] if kernel["entry"] in scoring]
    assert len(labeling) == 18 + 4
    for kernel in labeling:
        assert kernel["instructions"].get(TENSOR_CORES[compiled.architecture], 0) > 0, kernel["name"]


def test_no_register_spills(compiled: Compiled) -> None:
    kernels = compiled.description["kernels"]
    assert {kernel["name"]: kernel["stack_bytes"] for kernel in kernels if kernel["stack_bytes"]} == {}


def test_the_definition_is_rounded_after_every_operation(compiled: Compiled) -> None:
    for kernel in compiled.description["kernels"]:
        assert "DFMA" not in kernel["instructions"], kernel["name"]
