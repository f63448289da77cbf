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
from typing import Any, NamedTuple

import numpy as np
import psutil
from numpy.typing import DTypeLike, NDArray

BUDGET_DIVISOR = 2  # without a budget, a fit may take the free memory divided by this

_CGROUP = Path("/sys/fs/cgroup")
_PROCESS_GROUPS = Path("/proc/self/cgroup")
_STATM = Path("/proc/self/statm")
_SAMPLE_SECONDS = 0.02  # between two samples of the anonymous memory


class _CgroupFiles(NamedTuple):
    """Names of the files of a control group: its limits, the memory in use, and the part of it that is cached files."""

    limits: tuple[str, ...]
    used: str
    cached: str  # the entry of memory.stat


_V1 = _CgroupFiles(("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file")
_V2 = _CgroupFiles(("memory.max", "memory.high"), "memory.current", "inactive_file")


def available_memory() -> int:
    """Return the bytes of free memory, at most what the limits of the process's control groups leave."""
    free = int(psutil.virtual_memory().available)
    return min([free, *(left for folder, files in _control_groups() for left in _bytes_left(folder, files))])


def _control_groups() -> Iterator[tuple[Path, _CgroupFiles]]:
    """Yield the control groups that the process is in, from its own to the root: the limits of all of them hold.

    Within a container, a path may be that of the host, where there is no such folder: the root is then the container.
    """
    try:
        lines = _PROCESS_GROUPS.read_text().splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            root, files = _CGROUP, _V2
        elif "memory" in controllers.split(","):  # version 1 mounts every controller by itself
            root, files = _CGROUP / "memory", _V1
        else:
            continue
        own = root / path.strip("/")
        yield from ((folder, files) for folder in (own, *own.parents) if folder.is_relative_to(root))


def _bytes_left(folder: Path, files: _CgroupFiles) -> Iterator[int]:
    """Yield what each limit of a control group leaves."""
    for name in files.limits:
        try:
            limit = (folder / name).read_text().strip()
            if limit == "max":
                continue
            used = int((folder / files.used).read_text())
        except OSError:  # there is no such limit
            continue
        # Cached files are reclaimed when memory is needed.
        yield max(int(limit) - used + _cached_bytes(folder, files), 0)


def _cached_bytes(folder: Path, files: _CgroupFiles) -> int:
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    return int(dict(line.split() for line in lines).get(files.cached, 0))


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
