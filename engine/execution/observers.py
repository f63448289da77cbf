"""Observers of a pass: they look at its blocks, which are read for another reason, and cost no pass of their own.

block  ->  observe(block), on any thread or worker  ->  collect(result), here, once a block, in order
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Item = TypeVar("Item", contravariant=True)


class BlockObserver(Protocol[Item]):
    """An observer of the blocks of a pass; what it has collected can be put into a checkpoint."""

    @property
    def observe(self) -> Callable[[Item], Any]:
        """A pure function of a block, called on any thread or worker; again where a block has to be computed again.

        What it returns is sent to `collect`, so it has to be small.
        """

    def collect(self, result: Any) -> None:
        """Take what `observe` returned for a block."""

    def state(self) -> dict[str, NDArray[np.uint8]]:
        """Return what was collected, for a checkpoint."""

    def restore(self, state: dict[str, NDArray[np.uint8]]) -> None:
        """Take what `state` returned, instead of observing a pass."""


def functions_of(observers: Sequence[BlockObserver[Any]]) -> tuple[Callable[[Any], Any], ...]:
    """Return the functions that a pass calls for every block."""
    return tuple(observer.observe for observer in observers)


def collect_all(observers: Sequence[BlockObserver[Any]], results: Sequence[Any]) -> None:
    """Hand each observer what its function returned for a block."""
    for observer, result in zip(observers, results, strict=True):
        observer.collect(result)
