"""Observers of a pass: they compute something from its blocks, without a pass of their own.

block  ->  observe(block), on any thread or worker  ->  collect(result), in this process, once a block, in order
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

Item = TypeVar("Item", contravariant=True)


class BlockObserver(Protocol[Item]):
    """Observer of the blocks of a pass, whose state can be saved in a checkpoint."""

    @property
    def observe(self) -> Callable[[Item], Any]:
        """A pure function of a block, called on any thread or worker, and again if the block is computed again.

        Its result is sent to `collect`, so it has to be small.
        """

    def collect(self, result: Any) -> None:
        """Add the result of `observe` for a block."""

    def state(self) -> dict[str, NDArray[np.uint8]]:
        """Return the results collected so far, for a checkpoint."""

    def restore(self, state: dict[str, NDArray[np.uint8]]) -> None:
        """Restore the results of an earlier process from its `state`, instead of observing a pass."""


class RowObserver(BlockObserver[Any], Protocol):
    """Observer of a table's blocks that wants some rows only, whatever reads them."""

    @property
    def rows(self) -> NDArray[np.int64]:
        """The numbers of these rows, ascending."""

    def collect(self, result: pa.Table | None) -> None:
        """Add these rows of a block or chunk, in the types of the table; None if it has none."""


@runtime_checkable
class DeviceObserver(Protocol):
    """Observer that can take chunks of columns on a device as well, in a pass that a device's library reads."""

    def observe_on_device(self, columns: Any, device: Any) -> Any:
        """Compute something from a chunk, again if the device runs out of memory; with it nothing is changed."""

    def collect_from_device(self, start: int, result: Any) -> None:
        """Add the result for the chunk whose first row is `start`."""


def observe_functions(observers: Sequence[BlockObserver[Any]]) -> tuple[Callable[[Any], Any], ...]:
    """Return the functions that a pass calls for every block."""
    return tuple(observer.observe for observer in observers)


def collect_all(observers: Sequence[BlockObserver[Any]], results: Sequence[Any]) -> None:
    """Pass each observer the result of its function for a block."""
    for observer, result in zip(observers, results, strict=True):
        observer.collect(result)
