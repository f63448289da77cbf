"""Measure memory: what is available, and what this process uses.

Only anonymous memory of the process counts: the system can reclaim pages of mapped files and of libraries. The limit
of the process's container counts like the memory of a machine.
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

BUDGET_DIVISOR = 2  # without a budget, a fit may take the free memory divided by this

_CGROUP = Path("/sys/fs/cgroup")
_STATM = Path("/proc/self/statm")
_SAMPLE_SECONDS = 0.02  # between two samples of the anonymous memory


def available_memory() -> int:
    """Return the bytes of free memory, at most what the container's limit leaves."""
    free = int(psutil.virtual_memory().available)
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        if limit == "max":
            return free
        used = int((_CGROUP / "memory.current").read_text())
        stat = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
    except OSError:  # no container, or one without these files
        return free
    in_use = used - int(stat.get("inactive_file", 0))  # cached files are reclaimed when memory is needed
    return min(free, max(int(limit) - in_use, 0))


class PeakMemory:
    """Peak of the process's anonymous memory, over the samples taken."""

    def __init__(self) -> None:
        self.peak = 0

    def sample(self) -> None:
        """Take a sample."""
        self.peak = max(self.peak, anonymous_memory())


@contextmanager
def track_peak_memory() -> Iterator[PeakMemory]:
    """Sample the anonymous memory while the block runs: the system keeps no high-water mark of it."""
    memory, done = PeakMemory(), threading.Event()

    def watch() -> None:
        while not done.wait(_SAMPLE_SECONDS):
            memory.sample()

    memory.sample()
    watcher = threading.Thread(target=watch, name="rooms-memory", daemon=True)
    watcher.start()
    try:
        yield memory
    finally:
        done.set()
        watcher.join()
        memory.sample()


def mmap_zeros(size: int, dtype: DTypeLike) -> NDArray[Any]:
    """Return an array of `size` zeros in pages of its own, which the system has back when the array is freed.

    The allocator would keep freed memory in pieces that the next larger array does not fit into.
    """
    n_bytes = max(size * np.dtype(dtype).itemsize, 1)
    flags = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    return np.frombuffer(mmap.mmap(-1, n_bytes, **flags), dtype, size)


def anonymous_memory() -> int:
    """Return the bytes of anonymous memory of this process; of all resident memory where the system does not tell."""
    try:
        _, resident, shared = _STATM.read_text().split()[:3]
    except OSError:
        return int(psutil.Process().memory_info().rss)
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")
