"""Compile kernels for a wheel: `python -m engine.pipeline.ship_kernels FOLDER`, which `make wheel` runs.

    kernel_jobs  ->  FOLDER/<versions of Python, numba and llvmlite>/<level>/*.kernel

Only levels that this host has can be compiled, because the jobs run.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from engine.execution.threads import thread_count
from engine.kernels.cpu.kernel_cache import SUFFIX
from engine.kernels.cpu.simd.instruction_sets import LEVELS, VERSIONS, Level, host_features
from engine.pipeline.kernel_jobs import run_jobs
from engine.progress import Bars


def ship_kernels(target: Path) -> dict[str, int]:
    """Compile kernels for every level that this host has, into a folder that is made anew.

    Returns
    -------
    dict of str to int
        The number of compiled kernels of every level.
    """
    shutil.rmtree(target, ignore_errors=True)
    host = host_features()
    return {level.name: _compile(level, target) for level in LEVELS if host.issuperset(level.features)}


def _compile(level: Level, target: Path) -> int:
    folder = target / VERSIONS / level.name
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, **level.environment, "NUMBA_CACHE_DIR": cache}
        run_jobs(environment, thread_count(), Bars(), level.name)
        kernels = sorted(Path(cache).rglob(f"*{SUFFIX}"))
        for kernel in kernels:
            shutil.copyfile(kernel, folder / kernel.name)
    return len(kernels)


if __name__ == "__main__":
    for name, count in ship_kernels(Path(sys.argv[1])).items():
        print(f"{count} kernels compiled for {name}")
