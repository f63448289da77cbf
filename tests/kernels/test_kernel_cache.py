"""Compiled kernels are loaded from the package, from a cache, or compiled again, and never from other sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engine.kernels.cpu import kernel_cache
from engine.kernels.cpu.kernel_cache import SUFFIX
from engine.kernels.cpu.simd import instruction_sets

ROOT = Path(__file__).parents[2]
HOST = instruction_sets.host_features()
LEVEL = next((level for level in reversed(instruction_sets.LEVELS) if HOST.issuperset(level.features)), None)

# Prints a result, the level, and which kernels were compiled. With an argument, nothing can be.
PROCESS = """
import sys
import numba.core.compiler, numba.core.dispatcher
if sys.argv[1:]:
    def refuse(*_, **__):
        raise AssertionError("a kernel is compiled")
    numba.core.dispatcher.compiler = numba.core.compiler.compile_extra = refuse
import numpy as np
from engine.kernels.cpu import distance
from engine.kernels.cpu.simd import instruction_sets
out = np.zeros(1)
distance.assigned_distances(np.full((1, 2), 3, np.float32), np.zeros((1, 2)), np.zeros(1, np.int32), out)
compiled = [name for name, kernel in vars(distance).items() if sum(getattr(kernel, "stats", ([], [], {}))[2].values())]
print(out[0], instruction_sets.LEVEL and instruction_sets.LEVEL.name, *compiled)
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return a folder with a copy of the kernels, as a package of its own."""
    engine = tmp_path / "package" / "engine"
    engine.mkdir(parents=True)
    (engine / "__init__.py").touch()
    shutil.copy(ROOT / "engine/errors.py", engine)
    shutil.copytree(ROOT / "kernels", engine / "kernels", ignore=shutil.ignore_patterns("__pycache__", "shipped"))
    return tmp_path / "package"


def run(package: Path, cache: Path, *arguments: str, **environment: str) -> list[str]:
    """Run PROCESS on a copy of the kernels, and return the words that it prints."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_CPU")}
    variables |= {"PYTHONPATH": str(package), "NUMBA_CACHE_DIR": str(cache), **environment}
    command = [sys.executable, "-P", "-c", PROCESS, *arguments]
    process = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return process.stdout.split()


@pytest.mark.skipif(LEVEL is None, reason="this CPU has no level that kernels are compiled for ahead")
def test_kernels_compiled_for_a_level_are_loaded_elsewhere_without_a_compiler(package: Path, tmp_path: Path) -> None:
    assert LEVEL is not None
    compiled = run(package, tmp_path / "cache", **LEVEL.environment)
    assert compiled == ["18.0", LEVEL.name, "assigned_distances"]
    folder = LEVEL.folder.relative_to(instruction_sets.SHIPPED.parent)
    moved = tmp_path / "elsewhere"
    package.rename(moved)
    shipped = moved / "engine/kernels/cpu" / folder
    shipped.mkdir(parents=True)
    for kernel in (tmp_path / "cache").rglob(f"*{SUFFIX}"):
        shutil.move(kernel, shipped)
    before = sorted(moved.rglob("*.kernel"))
    assert before
    assert run(moved, tmp_path / "unused", "compile nothing") == ["18.0", LEVEL.name]
    assert sorted(tmp_path.rglob("*.kernel")) == before


def test_a_kernel_is_compiled_again_when_a_kernel_that_it_calls_has_changed(package: Path, tmp_path: Path) -> None:
    first = run(package, tmp_path / "cache")
    assert "assigned_distances" in first
    assert run(package, tmp_path / "cache", "compile nothing") == first[:2]
    options = package / "engine/kernels/cpu/jit_options.py"  # which kernels/cpu/distance.py imports
    options.write_text(options.read_text() + "\n")
    assert run(package, tmp_path / "cache") == first
    other = package / "engine/kernels/cpu/rasterize.py"  # which it does not
    other.write_text(other.read_text() + "\n")
    assert run(package, tmp_path / "cache", "compile nothing") == first[:2]


def test_a_damaged_kernel_is_compiled_again(package: Path, tmp_path: Path) -> None:
    first = run(package, tmp_path / "cache")
    for kernel in (tmp_path / "cache").rglob(f"*{SUFFIX}"):
        kernel.write_bytes(kernel.read_bytes()[:-100] + bytes(100))
    assert run(package, tmp_path / "cache") == first
    assert run(package, tmp_path / "cache", "compile nothing") == first[:2]


def test_a_kernel_that_cannot_be_written_serves_the_process_that_compiled_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = kernel_cache.KernelCache(test_a_damaged_kernel_is_compiled_again)
    folder = tmp_path / "no-folder"
    folder.touch()
    cache._keep(folder / "a.kernel", b"body")
    cache._keep(folder / "b.kernel", b"body")
    assert [record.message for record in caplog.records] == [
        f"Compiled kernels cannot be kept in {folder} (File exists): later processes compile them again."
    ]


@pytest.mark.parametrize("level", instruction_sets.LEVELS, ids=lambda level: level.name)
def test_the_variables_of_a_level_choose_that_level(level: instruction_sets.Level) -> None:
    code = "from engine.kernels.cpu.simd import instruction_sets as sets; print(sets.LEVEL.name, sorted(sets.FEATURES))"
    environment = os.environ | level.environment
    process = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert process.stdout.strip() == f"{level.name} {sorted(level.features)}"
