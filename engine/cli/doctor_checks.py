"""Check what this machine can run: Python, CPU, memory, compiled kernels, and the GPU."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from engine import backends
from engine.backends.cuda_driver import GpuNotFoundError, first_gpu
from engine.execution.threads import thread_count

GPU_PACKAGES = ("cupy", "rmm", "pylibcudf", "cudf", "cuml")  # CuPy is enough to compute


@dataclass(frozen=True)
class Check:
    """The result of one check: its name, whether what it checks can be used, and what was found."""

    name: str
    ok: bool
    finding: str


def run_checks() -> list[Check]:
    """Run all checks, in the order in which `rooms doctor` prints them."""
    return [
        Check("engine", True, f"{version('rooms-engine')} on Python {platform.python_version()}"),
        Check("cpu", True, f"{thread_count()} threads, {_instruction_set()}"),
        _check_memory(),
        _check_kernels(),
        _check_driver(),
        *(_check_package(name) for name in GPU_PACKAGES),
        *_check_devices(),
    ]


def _instruction_set() -> str:
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features()
    known = [name for name in ("avx512f", "avx512vnni", "avx2", "neon") if features.get(name)]
    return f"{llvm.get_host_cpu_name()} ({', '.join(known) or 'no vector extension the kernels know'})"


def _check_memory() -> Check:
    from engine.execution.memory import available_memory

    free = available_memory()
    return Check("memory", True, f"{free / 2**30:.1f} GiB free")


def _check_kernels() -> Check:
    """Say where kernels come from, and whether those that have to be compiled are kept for later processes."""
    from engine.kernels.cpu import kernel_cache

    found = kernel_cache.find_kernels()
    about = f"numba {version('numba')}"
    if found.level is not None:
        about += f", {found.n_shipped} compiled kernels for {found.level} came with the package"
    elif found.other_versions:
        about += f"; the package has compiled kernels for other versions ({', '.join(found.other_versions)})"
    if found.folder is None:
        finding = f"{about}; others are compiled in every process. Set NUMBA_CACHE_DIR to a folder of yours"
        return Check("kernels", found.level is not None, finding)
    kept = f"{found.n_kept} compiled here are kept in {found.folder}"
    hint = "" if found.level is not None or found.n_kept else ": rooms warm compiles all of them"
    return Check("kernels", True, f"{about}; {kept}{hint}")


def _check_driver() -> Check:
    try:
        return Check("gpu", True, first_gpu().describe())
    except GpuNotFoundError as reason:
        return Check("gpu", False, str(reason))


def _check_package(name: str) -> Check:
    if find_spec(name) is None:
        return Check(name, False, "not installed (pip install 'rooms-engine[cuda13]')")
    for distribution in (name, f"{name}-cu13", f"{name}-cu12", f"{name}-cuda13x", f"{name}-cuda12x"):
        try:
            return Check(name, True, version(distribution))
        except PackageNotFoundError:
            continue
    return Check(name, True, "installed")


def _check_devices() -> list[Check]:
    """Say whether device "cuda" can be used, which device "auto" chooses, and why."""
    backend, reason = backends.resolve("auto")
    finding = reason.removeprefix(f"{backend.name}, because ")
    return [Check("cuda", backend.name == "cuda", finding), Check("auto", True, reason)]
