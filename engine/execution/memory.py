"""How much memory there is, how much may be used, and how much is used.

What counts is memory of the process' own (anonymous memory): pages of mapped files and of libraries are the system's
to take back. The container the process lives in counts like a machine.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import DTypeLike, NDArray

from engine.errors import UsageError

BUDGET_SHARE = 2  # without a budget, one part in so many of the free memory

_CGROUP = Path("/sys/fs/cgroup")
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h
_TRIM = "MALLOC_TRIM_THRESHOLD_"  # what glibc reads when a process starts
_KEPT = (32 << 20, 64 << 20)  # bytes: what glibc raises both thresholds to by itself, at most
_BY_DEFAULT = 128 << 10  # bytes: what arrays have pages of their own from
_MOST = (1 << 31) - 1  # bytes: a threshold is a C int
_LARGE = 4 << 20  # bytes
_STATM = Path("/proc/self/statm")
_SAMPLING = 0.02  # seconds between two looks at the process' own memory
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


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


def bytes_of(size: str | int) -> int:
    """Return the number of bytes that "2GiB", "500 MB", "2G" or a plain number mean.

    Raises
    ------
    UsageError
        If it is no size.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?\s*", str(size).lower())
    if match is None or match[2] not in _UNITS or float(match[1]) == 0:
        raise UsageError(f"{size!r} is no amount of memory.", hint="write it like 2GiB or 500MB.")
    return int(float(match[1]) * _UNITS[match[2]])


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


def give_back_arrays() -> None:
    """Have large arrays of this process in pages of their own from now on, where the allocator is glibc's.

    By itself it raises that size up to 32 MiB when such arrays are freed: blocks of rows then lie on a heap that only
    shrinks from its end. Measured on 5 million members, streamed: 40 MiB less, 5 % slower (decisions/0010).
    """
    mallopt = _mallopt()
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGE)


def keep_pages() -> None:
    """Have a Dask worker keep the pages that it frees, as every other process does; `return_pages` ends that.

    A nanny starts workers with a threshold for trimming, so that they return memory soon. Then glibc does not raise any
    threshold by itself, and all of a block's arrays lie in new pages: a job takes a third less time (decisions/0011).
    """
    if _TRIM in os.environ:
        _set_thresholds(*_KEPT)


def return_pages() -> None:
    """Have a Dask worker return memory again as its nanny wanted it to."""
    if _TRIM in os.environ:
        wanted = os.environ[_TRIM]
        _set_thresholds(_BY_DEFAULT, min(int(wanted), _MOST) if wanted.isdigit() else _BY_DEFAULT)


def _set_thresholds(own_pages: int, trim: int) -> None:
    """Set from how many bytes on arrays have pages of their own, and how many may stay free at the end of a heap."""
    mallopt = _mallopt()
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, own_pages)
        mallopt(_TRIM_THRESHOLD, trim)


def _mallopt() -> Any:
    return getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None


def own_memory() -> int:
    """Return the bytes of anonymous memory; where the system does not tell, of all resident memory."""
    try:
        _, resident, shared = _STATM.read_text().split()[:3]
    except OSError:
        return int(psutil.Process().memory_info().rss)
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")
