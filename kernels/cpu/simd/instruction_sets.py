"""Choose the instruction sets that kernels are compiled for: those of a level, or those of the host.

A level is a set of instruction sets that many processors have. A package can hold kernels that were compiled for levels
(kernels/cpu/kernel_cache.py); a process then works at the best level that the package and the host have, so that the
widths of vectors and the layouts of arrays are those of the compiled kernels. Without such kernels it works with all
that the host has. NUMBA_CPU_NAME and NUMBA_CPU_FEATURES choose another target; `Level.environment` gives them for a
level.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import llvmlite
import llvmlite.binding as llvm
import numba
from numba.core import config

# Compiled code and its description are read by these versions alone.
VERSIONS = f"{sys.implementation.cache_tag}-numba{numba.__version__}-llvmlite{llvmlite.__version__}"
SHIPPED = Path(__file__).parents[1] / "shipped"  # kernels compiled with the package: VERSIONS/level/


@dataclass(frozen=True)
class Level:
    """Instruction sets that kernels are compiled for ahead: the CPU and the features in LLVM's names."""

    name: str
    cpu: str
    features: tuple[str, ...]

    @property
    def feature_string(self) -> str:
        """The features as numba and LLVM take them."""
        return ",".join(f"+{feature}" for feature in self.features)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make numba compile for this level, in a process that starts with them."""
        return {"NUMBA_CPU_NAME": self.cpu, "NUMBA_CPU_FEATURES": self.feature_string}

    @property
    def folder(self) -> Path:
        """Where the package keeps the kernels of this level that fit this Python and numba."""
        return SHIPPED / VERSIONS / self.name


_AVX2 = (
    "avx", "avx2", "bmi", "bmi2", "cx16", "f16c", "fma", "lzcnt", "movbe", "popcnt", "sahf", "sse3", "sse4.1",
    "sse4.2", "ssse3", "xsave",
)  # fmt: skip
_AVX512 = (*_AVX2, "avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl")
# The best first. Processors with AVX-512 and without VNNI (Skylake) work at x86-64-v3.
LEVELS = (
    Level("x86-64-v4-vnni", "x86-64-v4", (*_AVX512, "avx512vnni")),
    Level("x86-64-v3", "x86-64-v3", _AVX2),
    Level("aarch64-neon", "generic", ("fp-armv8", "neon")),
)


def host_features() -> frozenset[str]:
    """Return the names of the instruction sets that the host has."""
    return frozenset(name for name, present in llvm.get_host_cpu_features().items() if present)


def _choose() -> tuple[Level | None, frozenset[str]]:
    """Return the level that this process works at, if any, and the instruction sets of its kernels."""
    target = (config.CPU_NAME, config.CPU_FEATURES)
    if target == (None, None):
        host = host_features()
        for level in LEVELS:
            if host.issuperset(level.features) and level.folder.is_dir():
                return level, frozenset(level.features)
        return None, host
    words = (config.CPU_FEATURES or "").split(",")
    features = frozenset(word.strip()[1:] for word in words if word.strip().startswith("+"))
    return next((level for level in LEVELS if (level.cpu, level.feature_string) == target), None), features


LEVEL, FEATURES = _choose()
