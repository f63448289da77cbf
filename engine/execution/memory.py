"""How much memory there is, how much may be used, and how much is used.

What counts is memory of the process' own (anonymous memory): pages of mapped files and of libraries are the system's
to take back. The container the process lives in counts like a machine.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import DTypeLike, NDArray

BUDGET_SHARE = 2  # without a budget, one part in so many of the free memory

_CGROUP = Path("/sys/fs/cgroup")
_STATM = Path("/proc/self/statm")
_SAMPLING = 0.02  # seconds between two looks at the process' own memory


def available_memory() -> int:
    """Return the bytes of memory that are free, no more than the container's limit leaves."""
    free = int(psutil.virtual_memory().available)
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        if limit == "max":
            return free
        used = int((_CGROUP / "memory.current").read_text())
        facts = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
    except OSError:  # no container, or none that says so
        return free
    in_use = used - int(facts.get("inactive_file", 0))  # files read long ago: given up as soon as memory is needed
    return min(free, max(int(limit) - in_use, 0))


class OwnMemory:
    """The largest amount of memory of its own that the process was seen to have."""

    def __init__(self) -> None:
        self.peak = 0

    def look(self) -> None:
        """Take a sample."""
        self.peak = max(self.peak, own_memory())


@contextmanager
def watched() -> Iterator[OwnMemory]:
    """Watch the process' own memory while the block runs: the system keeps no high-water mark of it."""
    seen, done = OwnMemory(), threading.Event()

    def watch() -> None:
        while not done.wait(_SAMPLING):
            seen.look()

    seen.look()
    watcher = threading.Thread(target=watch, name="rooms-memory", daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        done.set()
        watcher.join()
        seen.look()


def pages(size: int, dtype: DTypeLike) -> NDArray[Any]:
    """Return `size` zeros in pages of their own: the system has them back when the array is gone.

    The allocator keeps what it got back, in pieces that the next larger array does not fit into.
    """
    n_bytes = max(size * np.dtype(dtype).itemsize, 1)
    own = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    return np.frombuffer(mmap.mmap(-1, n_bytes, **own), dtype, size)


def own_memory() -> int:
    """Return the bytes of anonymous memory; where the system does not tell, of all resident memory."""
    try:
        _, resident, shared = _STATM.read_text().split()[:3]
    except OSError:
        return int(psutil.Process().memory_info().rss)
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")
