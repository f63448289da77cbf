"""The first fit with a wheel that holds compiled kernels: `make test-wheel` runs this in the wheel's environment.

A first fit compiles nothing, writes no cache, and takes at most 1.3 times the processor time of the second. Other runs
that everyone makes (everyday_fits.py) compile nothing either. At every level that the wheel has, clusters and centers
have the same bits.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import pkgutil
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
from everyday_fits import FITS, compiled_kernels, people
from numba.core.dispatcher import Dispatcher
from safetensors.numpy import load_file

from engine.kernels import cpu
from engine.kernels.cpu.simd.instruction_sets import LEVEL, LEVELS

MAX_RATIO = 1.3


def kernels_without_code(folder: Path) -> set[str]:
    """Return the kernels of which a folder has no compiled code, other than those that are always inlined."""
    compiled = {path.name.rpartition("-")[0] for path in folder.iterdir()}
    kernels = set()
    for module in pkgutil.walk_packages(cpu.__path__, f"{cpu.__name__}."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, Dispatcher) and value.targetoptions.get("inline") != "always":
                kernels.add(value.py_func.__name__)
    return kernels - compiled


def without_numba_settings() -> dict[str, str]:
    """Return the variables of this process, other than those that say where and for what kernels are compiled."""
    return {name: value for name, value in os.environ.items() if not name.startswith("NUMBA")}


def run_fit(source: Path, out: Path, environment: dict[str, str]) -> tuple[float, str]:
    """Fit in a process of its own, without a cache; return its processor seconds and what it printed to stderr."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    variables = without_numba_settings() | {"HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1", **environment}
    command = [
        sys.executable,
        "-P",
        "-m",
        "engine",
        "fit",
        str(source),
        "--id",
        "user_id",
        "-k",
        "6",
        "--out",
        str(out),
    ]
    process = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert process.returncode == 0, process.stderr
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, process.stderr


def bits(run: Path) -> str:
    """Return a digest of the clusters of all rows and of the model's centers."""
    clusters = pq.read_table(run / "assignments")["cluster"].to_numpy()
    centers = load_file(next((run / "model").glob("*.safetensors")))["centres"]
    return hashlib.sha256(clusters.tobytes() + centers.tobytes()).hexdigest()


def main() -> None:
    """Run the fits, print what they took, and fail if the first is slow, compiles, or has other bits."""
    assert LEVEL is not None, "the wheel has no kernels for this host"
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "people.parquet"
        pq.write_table(people(943, 12), source)
        print("level", LEVEL.name)
        digests = {}
        for level in [level for level in LEVELS if level.folder.is_dir()]:
            environment = level.environment if level != LEVEL else {}
            assert not kernels_without_code(level.folder)
            seconds = []
            for turn in range(3):
                out = Path(folder) / f"{level.name}-{turn}"
                taken, printed = run_fit(source, out, environment)
                seconds.append(taken)
                assert "Compiling" not in printed, printed
            first, *others = seconds
            print(f"{level.name}: {first:.2f} s of processor time, then", ", ".join(f"{s:.2f}" for s in others))
            assert first <= MAX_RATIO * min(others)
            digests[level.name] = bits(out)
            for name in FITS:
                cache = Path(folder) / f"{level.name}-{name}-kernels"
                cache.mkdir()
                compiled = compiled_kernels(name, cache, without_numba_settings() | environment)
                assert not compiled, (level.name, name, compiled)
        assert len(set(digests.values())) == 1, digests
    print("clusters and centers have the same bits at", ", ".join(digests))


if __name__ == "__main__":
    main()
