"""Control what glibc's allocator keeps: the least size of an array with its own pages, and trimming.

Nothing here does anything on another system. The settings apply to the whole process.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h
_TRIM_VARIABLE = "MALLOC_TRIM_THRESHOLD_"  # environment variable that glibc reads when a process starts
_RAISED_THRESHOLDS = (32 << 20, 64 << 20)  # bytes: what glibc raises M_MMAP_THRESHOLD and M_TRIM_THRESHOLD to, at most
_DEFAULT_THRESHOLD = 128 << 10  # bytes: glibc's default of both thresholds
_MAX_THRESHOLD = (1 << 31) - 1  # bytes: a threshold is a C int
_LARGE_ARRAY = 4 << 20  # bytes


def mmap_large_arrays() -> None:
    """Allocate arrays of 4 MiB and more by mmap from now on: freeing one returns its pages to the system.

    By itself, glibc raises that size up to 32 MiB when such arrays are freed: blocks of rows then lie on a heap that
    only shrinks from its end. Measured on 5 million members, streamed: 40 MiB less, 5 % slower (decisions/0010).
    """
    mallopt = _mallopt()
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGE_ARRAY)


def keep_freed_pages() -> None:
    """Have a Dask worker keep the pages that it frees, as every other process does, until `restore_thresholds`.

    A nanny starts workers with a threshold for trimming, so that they return memory soon. Then glibc does not raise any
    threshold by itself, and all of a block's arrays lie in new pages. With kept pages, a job takes a third less time
    (decisions/0011).
    """
    if _TRIM_VARIABLE in os.environ:
        _set_thresholds(*_RAISED_THRESHOLDS)


def restore_thresholds() -> None:
    """Restore the thresholds that a Dask worker's nanny has set."""
    if _TRIM_VARIABLE in os.environ:
        trim = os.environ[_TRIM_VARIABLE]
        _set_thresholds(_DEFAULT_THRESHOLD, min(int(trim), _MAX_THRESHOLD) if trim.isdigit() else _DEFAULT_THRESHOLD)


def return_freed_pages() -> None:
    """Return all freed pages to the system, those between pages in use too, which thresholds for trimming do not."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def _set_thresholds(own_pages: int, trim: int) -> None:
    """Set the least bytes of an array with its own pages, and the bytes that may stay free at the end of a heap."""
    mallopt = _mallopt()
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, own_pages)
        mallopt(_TRIM_THRESHOLD, trim)


def _mallopt() -> Any:
    return getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
