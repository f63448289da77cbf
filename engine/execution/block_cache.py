"""Blocks of rows that a process keeps between passes, as many as a budget of memory has room for.

    put(number, rows)  ->  in memory while there is room, else in a file while there is room, else nowhere
    get(number)        ->  the rows, or None: whoever wants them reads the block again

What is kept decides no bit of a result, only what is read again. On a cluster every worker has a shelf of its own: a
shelf travels as its name, and stands for that of the process it comes to.
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

_ALIGNMENT, _PAGE = 64, ALLOCATIONGRANULARITY  # bytes: of arrays in a file, and of blocks
logger = logging.getLogger(__name__)


class Shelf:
    """Rows of this process, by the number of their block.

    Parameters
    ----------
    room : int, default=0
        Bytes of memory that rows may take.
    folder : Path, optional
        Where a file may take what memory has no room for …
    file_room : int, default=0
        … and so many bytes it may take.
    """

    def __init__(self, room: int = 0, folder: Path | None = None, file_room: int = 0) -> None:
        self.room, self.folder, self.file_room = room, folder, file_room
        self._name = uuid.uuid4().hex
        self.clear()

    def clear(self) -> None:
        """Give everything away."""
        self._lock = threading.Lock()
        self._in_memory: dict[int, tuple[Any, int]] = {}
        self._n_bytes = 0
        self._full = self.room == 0  # from the first block that had no room: gaps would have parts of row groups read
        self._file = None if self.folder is None else _RowsFile(self.folder, self.file_room)

    def __reduce__(self) -> Any:
        return _of_this_process, (self._name, self.room, self.folder, self.file_room)

    def __contains__(self, number: int) -> bool:
        return number in self._in_memory or (self._file is not None and number in self._file)

    @property
    def n_bytes(self) -> int:
        """Bytes of the rows in memory."""
        return self._n_bytes

    @property
    def n_filed(self) -> int:
        """Bytes of the rows in the file."""
        return 0 if self._file is None else self._file.n_bytes

    @property
    def full(self) -> bool:
        """Whether there is no room for a block more."""
        return self._full and (self._file is None or self._file.full)

    def put(self, number: int, rows: Any, n_bytes: int) -> None:
        """Keep a block's rows, of so many bytes, if there is room for them."""
        with self._lock:
            if number in self:  # a task that was sent twice
                return
            self._full = self._full or self._n_bytes + n_bytes > self.room
            if not self._full:
                self._in_memory[number] = rows, n_bytes
                self._n_bytes += n_bytes
                return
        if self._file is not None:
            self._file.put(number, rows)

    def replace(self, number: int, rows: Any, n_bytes: int) -> None:
        """Keep what a block's rows have become instead of them, if there is room for that and all were kept."""
        with self._lock:
            if self._full or number not in self._in_memory:
                return
            more = n_bytes - self._in_memory[number][1]
            if self._n_bytes + more <= self.room:
                self._in_memory[number] = rows, n_bytes
                self._n_bytes += more

    def get(self, number: int) -> Any:
        """Return a block's rows, None if they are not here."""
        there = self._in_memory.get(number)
        if there is not None:
            return there[0]
        return None if self._file is None else self._file.get(number)

    def take(self, number: int) -> Any:
        """Hand out a block's rows for the last time."""
        rows = self.get(number)
        if self._in_memory.pop(number, None) is None and self._file is not None:
            self._file.drop(number)
        return rows


class _RowsFile:
    """Rows in a file without a name, which is gone with the process: written by calls, read through mappings."""

    def __init__(self, folder: Path, room: int) -> None:
        self._folder, self._room = folder, room
        self._file: IO[bytes] | None = None
        self._end = 0
        self._lock = threading.Lock()
        self._places: dict[int, tuple[int, int, bytes, list[tuple[int, int]]]] = {}
        self.full = room == 0

    def __contains__(self, number: int) -> bool:
        return number in self._places

    @property
    def n_bytes(self) -> int:
        """Bytes of the rows, without what aligns them."""
        return sum(size for _, _, _, places in self._places.values() for _, size in places)

    def put(self, number: int, rows: Any) -> None:
        """Write a block's rows if there is room."""
        buffers: list[pickle.PickleBuffer] = []
        frame = pickle.dumps(rows, protocol=5, buffer_callback=buffers.append)
        parts = [buffer.raw() for buffer in buffers]
        places, length = [], 0
        for part in parts:
            places.append((length, part.nbytes))
            length += -(-part.nbytes // _ALIGNMENT) * _ALIGNMENT
        with self._lock:
            start, end = self._end, self._end + max(1, -(-length // _PAGE)) * _PAGE
            self.full = self.full or end > self._room or not self._reach(end)
            if self.full or self._file is None:
                return
            file, self._end = self._file, end
        for (at, _), part in zip(places, parts, strict=True):
            _write(file.fileno(), part, start + at)
        self._places[number] = start, length, frame, places

    def _reach(self, end: int) -> bool:
        """Make the file so long; a full disk is a full file."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 (dropped with its last block)
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
        place, file = self._places.get(number), self._file
        if place is None or file is None:
            return None
        start, length, frame, places = place
        view = memoryview(mmap(file.fileno(), max(length, 1), offset=start))
        return pickle.loads(frame, buffers=[view[at : at + size] for at, size in places])

    def drop(self, number: int) -> None:
        """Forget a block's rows; with the last ones, the file."""
        with self._lock:
            if self._places.pop(number, None) is not None and not self._places:
                self._file, self._end = None, 0


def _write(descriptor: int, part: memoryview, at: int) -> None:
    while part.nbytes:
        written = os.pwrite(descriptor, part, at)
        part, at = part[written:], at + written


_shelves: dict[str, Shelf] = {}  # of this process, if it is a worker


def forget_rows() -> None:
    """Forget the rows that this process, a worker, keeps."""
    _shelves.clear()


_clears: list[Callable[[], None]] = [forget_rows]


def to_forget(clear: Callable[[], None]) -> None:
    """Have `clear` called when this process, a worker, is to forget what it keeps for a job."""
    _clears.append(clear)


def forget(_: Any = None) -> None:
    """Forget what this process, a worker, keeps for a job."""
    for clear in _clears:
        clear()


def _of_this_process(name: str, room: int, folder: Path | None, file_room: int) -> Shelf:
    """Return the shelf of this name; those of earlier jobs are forgotten."""
    if name not in _shelves:
        _shelves.clear()
        shelf = Shelf(room, folder, file_room)
        shelf._name = name
        _shelves[name] = shelf
    return _shelves[name]
