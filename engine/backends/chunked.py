"""Run array-module code in chunks; with smaller chunks, or on the CPU, when the device runs out of memory or fails.

A function is run with chunks of `chunk_values` values. If memory runs out, it is run with a quarter of that, up to
three times. After that, and after any error of the device or its libraries, the fallback backend computes the block on
the CPU and a warning says so; without a fallback, OutOfResourcesError says what was tried or what failed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from engine.backends.cpu import CpuBackend
from engine.errors import OutOfResourcesError, RoomsError, first_line
from engine.utils.array_types import Array

Result = TypeVar("Result")

CHUNK_VALUES = 1 << 24  # 64 MiB of float32 scores, where the size of the L2 cache is not known
# Smaller chunks take more time to launch than to compute, larger ones more memory. Not measured yet.
MIN_CHUNK_VALUES, MAX_CHUNK_VALUES = 1 << 23, 1 << 26
SHRINK_FACTOR = 4  # the chunk size is divided by this after running out of memory
N_RETRIES = 3
logger = logging.getLogger(__name__)
_in_flight: dict[object, float] = {}  # start of every call of a device that has not returned, in monotonic seconds


def values_in_cache(cache_bytes: int) -> int:
    """Return the values of a chunk of which one float32 array fills a cache of so many bytes, within limits."""
    return min(max(cache_bytes // np.dtype(np.float32).itemsize, MIN_CHUNK_VALUES), MAX_CHUNK_VALUES)


@contextmanager
def _device_call() -> Iterator[None]:
    """Note that a call of a device is in flight."""
    key = object()
    _in_flight[key] = time.monotonic()
    try:
        yield
    finally:
        del _in_flight[key]


def seconds_in_flight() -> float:
    """Return the seconds since the oldest call of a device began that has not returned; 0 if there is none."""
    return time.monotonic() - min(list(_in_flight.values()), default=time.monotonic())


class LibraryError(Exception):
    """A library of the device failed; the message says which, and what it said."""


class ChunkedDevice:
    """An array module, its memory, and the backend that computes a block when that memory does not suffice."""

    name = "arrays"
    kernels = "arrays"
    one_per_worker = False
    libraries: frozenset[str] = frozenset()
    missing_libraries: Mapping[str, str] = MappingProxyType({})
    device_errors: tuple[type[Exception], ...] = ()

    def __init__(self, xp: Any, *, fallback: CpuBackend | None = None, chunk_values: int = CHUNK_VALUES) -> None:
        self.xp, self.fallback, self.chunk_values = xp, fallback, chunk_values

    def free_memory(self) -> int | None:
        """Return the bytes that are free on the device, None if that is unknown."""
        return None

    def free_unused_memory(self) -> None:
        """Return memory that no array uses to the allocator."""

    @contextmanager
    def library_call(self, name: str) -> Iterator[None]:
        """Raise LibraryError for whatever a library raises in the block, but for MemoryError and errors of the engine.

        Libraries pass on what C++ raised under classes of their own, and other versions want other arguments.
        """
        try:
            with _device_call():
                yield
        except (MemoryError, RoomsError):
            raise
        except Exception as error:
            raise LibraryError(f"{name} failed: {first_line(error)}") from error

    def fallback_after(self, error: Exception, what_happens: str) -> CpuBackend:
        """Return the fallback backend after an error of the device, and warn of it; raise OutOfResourcesError if there
        is none.
        """
        if self.fallback is None:
            raise OutOfResourcesError(
                f"Device {self.name!r} failed: {first_line(error)}.",
                hint="see `rooms doctor`, or use --device auto, which falls back to the CPU.",
            ) from error
        logger.warning("%s failed (%s): %s.", self.name, first_line(error), what_happens)
        return self.fallback

    def run_in_chunks(self, compute: Callable[[int], Result], compute_on_cpu: Callable[[CpuBackend], Result]) -> Result:
        """Return compute(chunk_values), with smaller chunks if memory runs out, at last compute_on_cpu(fallback)."""
        chunk_values = self.chunk_values
        for _ in range(1 + N_RETRIES):
            try:
                try:
                    with _device_call():
                        return compute(chunk_values)
                except MemoryError as error:
                    reason = str(error).split("\n", 1)[0] or "no reason given"
                self.free_unused_memory()
            except self.device_errors as error:
                return compute_on_cpu(self.fallback_after(error, "the CPU computes this block"))
            logger.warning("Out of memory on %s with chunks of %d values: %s.", self.name, chunk_values, reason)
            chunk_values //= SHRINK_FACTOR
        if self.fallback is None:
            smallest = chunk_values * SHRINK_FACTOR
            raise OutOfResourcesError(
                f"Out of memory on device {self.name!r}, with chunks of {smallest:,} values too: {reason}.",
                hint="free memory on the device, or use --device auto, which falls back to the CPU.",
            )
        logger.warning("Out of memory on %s %d times: the CPU computes this block.", self.name, 1 + N_RETRIES)
        return compute_on_cpu(self.fallback)

    def pieces(self, X: Any) -> Iterator[tuple[slice, Array]]:
        """Yield (which rows of X, these rows on the device): all at once if X is there, else by `copy_in_pieces`."""
        return iter([(slice(0, len(X)), X)]) if hasattr(X, "get") else self.copy_in_pieces(X)

    def copy_in_pieces(self, X: Any) -> Iterator[tuple[slice, Array]]:
        """Yield rows of the host on the device; a piece is valid until the next one is requested."""
        yield slice(0, len(X)), self.xp.asarray(X)

    def to_host(self, array: Array) -> NDArray[Any]:
        """Return an array of the module as a NumPy array."""
        host_array: NDArray[Any] = array.get() if hasattr(array, "get") else np.asarray(array)
        return host_array

    def copy_into(self, target: Array, source: Array) -> None:
        """Copy an array into another one of its shape; each may be the module's or NumPy's."""
        if hasattr(target, "set") and not hasattr(source, "get"):
            target.set(np.ascontiguousarray(source))
        elif hasattr(target, "set"):
            target[...] = source
        else:
            target[...] = self.to_host(source)
