"""Kernels can be imported where numba finds no folder for its cache, and are refused where numba must not compile."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.kernels.cpu import cache_folder

# numba probes folders with TemporaryFile: only those below the folder in argv can be written, none if there is none.
PROCESS = """
import sys, tempfile, types
import numba.core.caching as caching
def probe(dir):
    if not sys.argv[1:] or not str(dir).startswith(sys.argv[1]):
        raise PermissionError(13, "read-only")
    return tempfile.TemporaryFile(dir=dir)
caching.tempfile = types.SimpleNamespace(TemporaryFile=probe)
if not sys.argv[1:]:
    from pathlib import Path
    Path.mkdir = lambda path, **_: probe(path)
import numpy as np
from engine.kernels.cpu.distance import squared_distances
out = np.ones(1)
squared_distances(np.ones(2), np.zeros((2, 1)), out)
print(out)
"""


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    command = [sys.executable, "-P", "-c", PROCESS, *map(str, arguments)]
    return subprocess.run(command, env=variables | environment, capture_output=True, text=True, check=False)


def test_compiled_kernels_go_to_a_private_temporary_folder_where_numba_finds_none(tmp_path: Path) -> None:
    first = run(tmp_path, TMPDIR=str(tmp_path))
    folder = tmp_path / f"rooms-kernels-{os.getuid()}"
    assert first.returncode == 0, first.stderr
    assert f"compiled kernels are kept in {folder}. Set NUMBA_CACHE_DIR" in first.stderr
    assert folder.stat().st_mode & 0o777 == 0o700
    assert list(folder.rglob("*.kernel"))
    second = run(tmp_path, TMPDIR=str(tmp_path))
    assert second.stdout == first.stdout == "[2.]\n"
    assert "Compiling" in first.stderr
    assert "Compiling" not in second.stderr


def test_kernels_run_without_a_cache_where_nothing_can_be_written() -> None:
    result = run()
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("every process compiles them again") == 1
    assert result.stdout == "[2.]\n"


@pytest.mark.parametrize("mode", [0o777, 0o720])
def test_a_folder_that_others_can_write_to_is_not_used(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "cache"
    assert cache_folder._is_private(folder)
    folder.chmod(mode)
    assert not cache_folder._is_private(folder)
    (tmp_path / "link").symlink_to(tmp_path)
    assert not cache_folder._is_private(tmp_path / "link")


def test_numba_without_a_compiler_is_a_usage_error() -> None:
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, "-P", "-m", "engine", "doctor"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("error: NUMBA_DISABLE_JIT is set")
