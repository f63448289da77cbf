"""Find the GPU libraries of this process, and give them one memory pool.

    installed_libraries()  ->  which of RMM, cuDF and cuML can be imported, and why the others cannot
    memory_pool()          ->  one pool for all of them: RMM's where RMM is there, else CuPy's own

CuPy alone is enough to compute. Where they are there, cuDF loads tables, and cuML computes PCA, K-Means and t-SNE.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

from engine.errors import first_line

POOL_SHARE = 0.9  # of the free memory, maximum size of the pool; the rest is for allocations outside the pool
POOL_SIZE_MULTIPLE = 256  # bytes
INITIAL_POOL_BYTES = 1 << 29
OPTIONAL = {"rmm": ("rmm",), "cudf": ("pylibcudf", "cudf"), "cuml": ("cuml",)}  # modules that each library needs
# Errors of CUDA and its libraries, by their places in CuPy: none of them is a MemoryError.
ERRORS = (
    "cuda.runtime.CUDARuntimeError", "cuda.driver.CUDADriverError", "cuda.cublas.CUBLASError",
    "cuda.compiler.CompileException", "cuda.nvrtc.NVRTCError", "cuda.curand.CURANDError",
    "cuda.cusolver.CUSOLVERError", "cuda.cusparse.CUSPARSEError",
)  # fmt: skip
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Libraries:
    """The optional GPU libraries that can be imported, and the reason for each that cannot."""

    available: frozenset[str]
    reasons: dict[str, str]

    def describe(self) -> str:
        """Return which library does which stage, in words."""
        stages = {"cudf": "cuDF loads tables", "cuml": "cuML computes PCA, K-Means and t-SNE"}
        instead = {"cudf": "pyarrow loads tables", "cuml": "no cuML"}
        words = ["CuPy computes"]
        for name, task in stages.items():
            words.append(task if name in self.available else f"{instead[name]} ({self.reasons[name]})")
        return ", ".join(words)


class MemoryPool(Protocol):
    """A memory pool of a GPU."""

    max_bytes: int

    def used_bytes(self) -> int:
        """Return the bytes that arrays hold."""

    def free_unused(self) -> None:
        """Return memory that no array holds to the device, or to the pool's own store."""


@cache
def installed_libraries() -> Libraries:
    """Import the optional libraries; one that is missing or fails to import is left out, with the reason."""
    available, reasons = set(), {}
    for name, modules in OPTIONAL.items():
        missing = [module for module in modules if not _is_findable(module)]
        if missing:
            reasons[name] = f"{', '.join(missing)} cannot be found"
            continue
        try:
            for module in modules:
                import_module(module)
            available.add(name)
        except Exception as error:  # imports fail in many ways; the message is passed on
            reasons[name] = f"{module} does not work: {first_line(error)}"
    return Libraries(frozenset(available), reasons)


def _is_findable(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ValueError:  # a module without a spec, which somebody has put into sys.modules
        return True


@cache
def memory_pool() -> MemoryPool:
    """Set up the memory pool of this process, once."""
    return RmmPool() if "rmm" in installed_libraries().available else CupyPool()


def _pool_bytes() -> int:
    import cupy

    free, _ = cupy.cuda.runtime.memGetInfo()
    return int(free * POOL_SHARE) // POOL_SIZE_MULTIPLE * POOL_SIZE_MULTIPLE


def _pool_size(resource: Any) -> int:
    """Return the bytes of the pool behind a memory resource of RMM, or 0 if there is none."""
    while resource is not None:
        if hasattr(resource, "pool_size"):
            return int(resource.pool_size())
        resource = getattr(resource, "upstream_mr", None)
    return 0


class RmmPool:
    """One RMM pool for cuDF, cuML and CuPy.

    A pool that the process has already set up is kept: replacing it would invalidate its pointers.
    """

    def __init__(self) -> None:
        import cupy
        import rmm
        from rmm.allocators.cupy import rmm_cupy_allocator

        self.max_bytes = _pool_bytes()
        resource = rmm.mr.get_current_device_resource()
        if type(resource) is rmm.mr.CudaMemoryResource:
            rmm.reinitialize(
                pool_allocator=True, initial_pool_size=INITIAL_POOL_BYTES, maximum_pool_size=self.max_bytes
            )
        else:
            logger.info("RMM has been set up before: its memory resource is kept.")
            self.max_bytes += _pool_size(resource)  # which the device does not count as free
        rmm.statistics.enable_statistics()
        cupy.cuda.set_allocator(rmm_cupy_allocator)

    def used_bytes(self) -> int:
        """Return the bytes that arrays hold."""
        import rmm

        used = rmm.statistics.get_statistics()
        return 0 if used is None else int(used.current_bytes)

    def free_unused(self) -> None:
        """Do nothing: RMM's pool reuses memory that arrays no longer hold."""


class CupyPool:
    """CuPy's own pool, limited like RMM's."""

    def __init__(self) -> None:
        import cupy

        self.max_bytes = _pool_bytes()
        self._pool: Any = cupy.get_default_memory_pool()
        self._pool.set_limit(size=self.max_bytes)

    def used_bytes(self) -> int:
        """Return the bytes that arrays hold."""
        return int(self._pool.used_bytes())

    def free_unused(self) -> None:
        """Return memory that no array holds to the device."""
        self._pool.free_all_blocks()


def device_errors(cupy: Any) -> tuple[type[Exception], ...]:
    """Return the error classes of CUDA and its libraries that this CuPy has.

    RuntimeError is one of them: so arrive RMM's errors, and whatever a library in C++ raises.
    """
    found: list[type[Exception]] = [RuntimeError]
    for path in ERRORS:
        value = cupy
        try:
            for name in path.split("."):
                value = getattr(value, name)
        except Exception:  # CuPy loads a library at the first look at it; what is not there raises nothing later
            continue
        found.append(value)
    return tuple(found)
