"""Memory of a device in Triton's interpreter: what reads or writes outside of an array is an error, and no crash.

An array may be virtual: it has addresses for more values than any machine holds, and memory for the few of them that a
test touches.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from triton.runtime import interpreter

from tests.gpu.strict import StrictModule, to_device, to_numpy

FIRST_VIRTUAL = 1 << 56  # no process has memory there
SPACE = 1 << 50  # bytes between virtual arrays


class OutOfBoundsError(Exception):
    """A kernel read or wrote what is in no array."""


class Region(NamedTuple):
    """Addresses of a kernel, and those of the memory behind them."""

    start: int
    end: int
    memory: int


class DeviceModule(StrictModule):
    """NumPy in the place of CuPy, which knows where its arrays lie; they begin at multiples of 256 bytes."""

    def __init__(self) -> None:
        self._kept: list[Any] = []
        self.regions: list[Region] = []

    def empty(self, shape: Any, dtype: Any = float) -> Any:
        n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        memory = np.full(n_bytes + 256, 0x5B, np.uint8)  # large numbers of every type
        start = -memory.ctypes.data % 256
        self._kept.append(memory)
        if n_bytes:
            address = memory.ctypes.data + start
            self.regions.append(Region(address, address + n_bytes, address))
        return to_device(memory[start : start + n_bytes].view(dtype).reshape(shape))

    def zeros(self, shape: Any, dtype: Any = float) -> Any:
        array = self.empty(shape, dtype)
        to_numpy(array)[...] = 0
        return array

    def asarray(self, a: Any) -> Any:
        array = self.empty(a.shape, a.dtype)
        to_numpy(array)[...] = a
        return array

    def argsort(self, a: Any, **options: Any) -> Any:
        return self.asarray(to_numpy(self.__getattr__("argsort")(a, **options)))

    def virtual(self, values: Any, first: int) -> Any:
        """Return an array that begins `first` values before these: what a kernel is given of it."""
        address, kept = FIRST_VIRTUAL + SPACE * len(self._kept), np.ascontiguousarray(values)
        self._kept.append(kept)
        start = address + first * kept.itemsize
        self.regions.append(Region(start, start + kept.nbytes, kept.ctypes.data))
        return SimpleNamespace(
            data=SimpleNamespace(ptr=address), dtype=kept.dtype, flags=SimpleNamespace(c_contiguous=True), values=kept
        )


class CheckedMemory:
    """What Triton's interpreter loads from and stores to, with checks."""

    def __init__(self, regions: list[Region], inner: Any) -> None:
        self._inner = inner
        self._starts, self._ends, self._memory = np.array(sorted(regions), np.uint64).T

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def load(self, pointers: Any, mask: Any, other: Any, dtype: Any) -> Any:
        return self._inner.load(self._translate(pointers, mask, np.dtype(dtype).itemsize), mask, other, dtype)

    def store(self, pointers: Any, values: Any, mask: Any) -> Any:
        return self._inner.store(self._translate(pointers, mask, values.itemsize), values, mask)

    def atomic_rmw(self, operation: Any, pointers: Any, values: Any, mask: Any, order: Any) -> Any:
        return self._inner.atomic_rmw(
            operation, self._translate(pointers, mask, values.itemsize), values, mask, order
        )  # fmt: skip

    def _translate(self, pointers: Any, mask: Any, n_bytes: int) -> Any:
        number = np.searchsorted(self._starts, pointers, side="right") - 1
        inside = (number >= 0) & (pointers + np.uint64(n_bytes) <= self._ends[number])
        if (mask & ~inside).any():
            raise OutOfBoundsError
        return np.where(mask, pointers - self._starts[number] + self._memory[number], pointers)


@contextmanager
def checked_memory(regions: list[Region]) -> Iterator[None]:
    """Let kernels in the interpreter reach these regions, and nothing else."""
    inner = interpreter._interpreter
    interpreter._interpreter = CheckedMemory(regions, inner)
    try:
        yield
    finally:
        interpreter._interpreter = inner
