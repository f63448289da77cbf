"""What a figure was measured on."""

from __future__ import annotations

import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil

Results = dict[str, Any]  # "machine", and cases by name
LIBRARIES = ("rooms-engine", "numpy", "scipy", "scikit-learn", "numba", "pyarrow", "pandas")


def describe_machine() -> dict[str, Any]:
    """Return the CPU, its memory, and the versions of everything that was timed."""
    import llvmlite.binding as llvm

    from engine.kernels.cpu.simd.vectors import LANES

    return {
        "cpu": llvm.get_host_cpu_name(),
        "lanes": LANES,  # float32 numbers in a vector register of the kernels
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in LIBRARIES},
    }


def earlier_results(path: Path) -> Results:
    """Return committed results, if there are any; cases of another CPU than this one say which it was (`cpu`)."""
    found: Results = json.loads(path.read_text()) if path.exists() else {}
    other, here = found.get("machine", {}).get("cpu"), describe_machine()["cpu"]
    for name, case in (found.get("cases") or found).items():
        for one in case if isinstance(case, list) else [case]:
            if isinstance(one, dict) and name != "machine" and other != here:
                one.setdefault("cpu", other)
    return found


def seconds_per_gib() -> dict[str, float]:
    """Return what it takes to get a GiB of memory that nobody has had for a while, and the same memory again at once.

    A virtual machine that gives free memory back to its host has to ask for it again: then the first takes 10 to 30
    times as long, and a process is the slower the less of its memory another one has just left.
    """
    return {"first": _touched(2**30), "again": _touched(2**30)}


def _touched(n_bytes: int) -> float:
    start = time.perf_counter()
    np.empty(n_bytes, np.uint8)[::4096] = 1
    return round(time.perf_counter() - start, 2)
