"""The jobs that compile kernels ahead reach every kernel that everyday runs need: `rooms warm`, and those of a wheel.

All kernels are compiled once for this file, which takes about three minutes of processor time.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from engine.execution.threads import thread_count
from engine.pipeline.kernel_jobs import run_jobs
from engine.progress import Bars
from tests.everyday_fits import FITS, compiled_kernels

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def compiled_ahead(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the kernels that the jobs compile, and no others."""
    folder = tmp_path_factory.mktemp("kernels")
    run_jobs({**os.environ, "NUMBA_CACHE_DIR": str(folder)}, thread_count(), Bars(), "compile")
    return folder


@pytest.mark.parametrize("name", FITS)
def test_everyday_runs_compile_no_kernel(name: str, compiled_ahead: Path, tmp_path: Path) -> None:
    cache = tmp_path / "kernels"  # of this test: what it compiles is missing in the others as well
    shutil.copytree(compiled_ahead, cache)
    assert compiled_kernels(name, cache, os.environ) == []
