"""What a figure was measured on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from typing import Any

import psutil

LIBRARIES = ("rooms-engine", "numpy", "scipy", "scikit-learn", "numba", "pyarrow", "pandas")


def describe_machine() -> dict[str, Any]:
    """Return the CPU, its memory, and the versions of everything that was timed."""
    import llvmlite.binding as llvm

    return {
        "cpu": llvm.get_host_cpu_name(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in LIBRARIES},
    }
