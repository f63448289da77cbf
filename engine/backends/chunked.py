"""Work on an array module in chunks, and what to do where the device has no room for them.

A verb is tried with chunks of `values` values; where memory runs out, with a quarter of that, three times; then the CPU
does the block, loudly, if there is a spare backend, and OutOfResourcesError says what was tried if there is none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from engine.backends.cpu import CpuBackend
from engine.errors import OutOfResourcesError

Array = Any  # of the array module
Result = TypeVar("Result")

CHUNK_VALUES = 1 << 24  # 64 MiB of float32 scores: of the order of a GPU's L2 cache. Not measured yet
SMALLER, TRIES = 4, 3  # after running out of memory: how much smaller, how often
logger = logging.getLogger(__name__)


class Chunks:
    """An array module, its memory, and the backend that takes over where that does not suffice."""

    name = "arrays"
    one_per_worker = False
    libraries: frozenset[str] = frozenset()

    def __init__(self, xp: Any, *, spare: CpuBackend | None = None, values: int = CHUNK_VALUES) -> None:
        self.xp, self.spare, self.values = xp, spare, values

    def free_memory(self) -> int | None:
        """Return the bytes that are free on the device, None where nobody knows."""
        return None

    def release(self) -> None:
        """Give memory back that nobody uses."""

    def within(self, work: Callable[[int], Result], otherwise: Callable[[CpuBackend], Result]) -> Result:
        """Return work(values), with smaller chunks where memory runs out, and at last what the spare backend finds."""
        values = self.values
        for _ in range(1 + TRIES):
            try:
                return work(values)
            except MemoryError as error:
                reason = str(error).split("\n", 1)[0] or "no reason given"
            self.release()
            logger.warning("Out of memory on %s with chunks of %d values: %s.", self.name, values, reason)
            values //= SMALLER
        if self.spare is None:
            raise OutOfResourcesError(
                f"Out of memory on device {self.name!r}, with chunks of {values * SMALLER:,} values too: {reason}.",
                hint="free memory on the device, or use --device auto, which goes on on the CPU.",
            )
        logger.warning("Out of memory on %s %d times: the CPU computes this block.", self.name, 1 + TRIES)
        return otherwise(self.spare)

    def pieces(self, X: Any) -> Iterator[tuple[slice, Array]]:
        """Yield rows on the device, and which of X they are: whole where they are there, else as `staged` has them."""
        return iter([(slice(0, len(X)), X)]) if hasattr(X, "get") else self.staged(X)

    def staged(self, X: Any) -> Iterator[tuple[slice, Array]]:
        """Yield rows of the host on the device; a piece may be used until the next one is asked for."""
        yield slice(0, len(X)), self.xp.asarray(X)

    def host(self, array: Array) -> NDArray[Any]:
        """Return an array of the module as one of NumPy."""
        found: NDArray[Any] = array.get() if hasattr(array, "get") else np.asarray(array)
        return found

    def write(self, target: Array, values: Array) -> None:
        """Copy an array into another of its shape, each of them the module's or NumPy's."""
        if hasattr(target, "set") and not hasattr(values, "get"):
            target.set(np.ascontiguousarray(values))
        elif hasattr(target, "set"):
            target[...] = values
        else:
            target[...] = self.host(values)
