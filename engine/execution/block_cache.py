"""Cache a table's blocks between passes: in memory up to a limit, then in a spill file, then not at all.

    put(number, rows)  ->  in memory while the limit allows it, else in the spill file while its limit allows it
    get(number)        ->  the rows, or None: the caller then reads the block again

What is cached changes no bit of a result, only what is read again. On a cluster every worker has a cache of its own: a
pickled cache is its name, and unpickling it returns the cache of that name in the receiving process.
"""

from __future__ import annotations

import logging
import os
import pickle
import tempfile
import threading
import uuid
from collections.abc import Callable
from mmap import ALLOCATIONGRANULARITY, mmap
from pathlib import Path
from typing import IO, Any

from engine.execution.glibc_malloc import return_freed_pages

_ARRAY_ALIGNMENT, _BLOCK_ALIGNMENT = 64, ALLOCATIONGRANULARITY  # bytes, in the spill file
logger = logging.getLogger(__name__)


class BlockCache:
    """Cached rows of this process, by block number.

    Parameters
    ----------
    memory_limit : int, default=0
        Bytes of memory that rows may take.
    folder : Path, optional
        Folder of the spill file for rows beyond `memory_limit`; without it there is none.
    file_limit : int, default=0
        Bytes that the spill file may take.
    """

    def __init__(self, memory_limit: int = 0, folder: Path | None = None, file_limit: int = 0) -> None:
        self.memory_limit, self.folder, self.file_limit = memory_limit, folder, file_limit
        self._name = uuid.uuid4().hex
        self.clear()

    def clear(self) -> None:
        """Drop all rows, and delete the spill file."""
        self._lock = threading.Lock()
        self._in_memory: dict[int, tuple[Any, int]] = {}
        self._n_bytes = 0
        # Memory is full from the first block that does not fit: with gaps, parts of row groups would be read again.
        self._memory_full = self.memory_limit == 0
        self._file = None if self.folder is None else _SpillFile(self.folder, self.file_limit)

    def __reduce__(self) -> Any:
        return _get_local_cache, (self._name, self.memory_limit, self.folder, self.file_limit)

    def __contains__(self, number: int) -> bool:
        return number in self._in_memory or (self._file is not None and number in self._file)

    @property
    def n_bytes(self) -> int:
        """Bytes of the rows in memory."""
        return self._n_bytes

    @property
    def n_bytes_in_file(self) -> int:
        """Bytes of the rows in the spill file."""
        return 0 if self._file is None else self._file.n_bytes

    @property
    def full(self) -> bool:
        """Whether neither memory nor the spill file takes another block."""
        return self._memory_full and (self._file is None or self._file.full)

    def put(self, number: int, rows: Any, n_bytes: int) -> None:
        """Cache a block's rows, which take `n_bytes` in memory, if there is space for them."""
        with self._lock:
            if number in self:  # the task of this block was sent twice
                return
            self._memory_full = self._memory_full or self._n_bytes + n_bytes > self.memory_limit
            if not self._memory_full:
                self._in_memory[number] = rows, n_bytes
                self._n_bytes += n_bytes
                return
        if self._file is not None:
            self._file.put(number, rows)

    def replace(self, number: int, rows: Any, n_bytes: int) -> None:
        """Replace a block's rows by another form of them, if the limit allows it and every block is in memory."""
        with self._lock:
            if self._memory_full or number not in self._in_memory:
                return
            growth = n_bytes - self._in_memory[number][1]
            if self._n_bytes + growth <= self.memory_limit:
                self._in_memory[number] = rows, n_bytes
                self._n_bytes += growth

    def get(self, number: int) -> Any:
        """Return a block's rows, None if they are not cached."""
        entry = self._in_memory.get(number)
        if entry is not None:
            return entry[0]
        return None if self._file is None else self._file.get(number)

    def pop(self, number: int) -> Any:
        """Remove a block's rows from the cache and return them, None if they are not cached."""
        rows = self.get(number)
        with self._lock:
            entry = self._in_memory.pop(number, None)
            self._n_bytes -= 0 if entry is None else entry[1]
        if entry is None and self._file is not None:
            self._file.drop(number)
        return rows


class _SpillFile:
    """Rows in an unnamed temporary file: written by system calls, read through memory maps, gone with the process."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit = folder, limit
        self._file: IO[bytes] | None = None
        self._end = 0
        self._lock = threading.Lock()
        # Block number -> start in the file, length, pickle without its buffers, (offset, size) of each buffer.
        self._index: dict[int, tuple[int, int, bytes, list[tuple[int, int]]]] = {}
        self.full = limit == 0

    def __contains__(self, number: int) -> bool:
        return number in self._index

    @property
    def n_bytes(self) -> int:
        """Bytes of the rows, without padding."""
        return sum(size for _, _, _, extents in self._index.values() for _, size in extents)

    def put(self, number: int, rows: Any) -> None:
        """Write a block's rows if the limit and the disk allow it."""
        pickled_buffers: list[pickle.PickleBuffer] = []
        frame = pickle.dumps(rows, protocol=5, buffer_callback=pickled_buffers.append)
        buffers = [buffer.raw() for buffer in pickled_buffers]
        extents, length = [], 0
        for buffer in buffers:
            extents.append((length, buffer.nbytes))
            length += -(-buffer.nbytes // _ARRAY_ALIGNMENT) * _ARRAY_ALIGNMENT
        with self._lock:
            start, end = self._end, self._end + max(1, -(-length // _BLOCK_ALIGNMENT)) * _BLOCK_ALIGNMENT
            self.full = self.full or end > self._limit or not self._extend(end)
            if self.full or self._file is None:
                return
            file, self._end = self._file, end
        for (offset, _), buffer in zip(extents, buffers, strict=True):
            _write(file.fileno(), buffer, start + offset)
        self._index[number] = start, length, frame, extents

    def _extend(self, end: int) -> bool:
        """Extend the file to `end` bytes; return False if the disk is full."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 (closed with its last block)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._file.fileno(), self._end, end - self._end)
            else:
                self._file.truncate(end)
        except OSError as error:
            logger.warning("The file for rows between passes stays at %d bytes: %s.", self._end, error.strerror)
            return False
        return True

    def get(self, number: int) -> Any:
        """Return a block's rows as views of the file, None if they are not in it."""
        entry, file = self._index.get(number), self._file
        if entry is None or file is None:
            return None
        start, length, frame, extents = entry
        view = memoryview(mmap(file.fileno(), max(length, 1), offset=start))
        return pickle.loads(frame, buffers=[view[offset : offset + size] for offset, size in extents])

    def drop(self, number: int) -> None:
        """Remove a block's rows; the file is closed with the last of them."""
        with self._lock:
            if self._index.pop(number, None) is not None and not self._index:
                self._file, self._end = None, 0


def _write(descriptor: int, buffer: memoryview, offset: int) -> None:
    while buffer.nbytes:
        n_written = os.pwrite(descriptor, buffer, offset)
        buffer, offset = buffer[n_written:], offset + n_written


_caches: dict[str, BlockCache] = {}  # by name, in a worker


def clear_caches() -> None:
    """Drop the rows that this worker process has cached, and return their memory to the system."""
    if _caches:
        _caches.clear()
        return_freed_pages()  # small arrays of many blocks, between others in use


_cleanups: list[Callable[[], None]] = [clear_caches]


def register_cleanup(cleanup: Callable[[], None]) -> None:
    """Have `cleanup` called in this worker process when a job ends."""
    _cleanups.append(cleanup)


def run_cleanups(_: Any = None) -> None:
    """Drop everything that this worker process keeps for a job; sent to workers as a task."""
    for cleanup in _cleanups:
        cleanup()


def _get_local_cache(name: str, memory_limit: int, folder: Path | None, file_limit: int) -> BlockCache:
    """Return the cache of this name in this process; caches of earlier jobs are dropped."""
    if name not in _caches:
        clear_caches()
        cache = BlockCache(memory_limit, folder, file_limit)
        cache._name = name
        _caches[name] = cache
    return _caches[name]
