"""Allocate arrays with one entry a row: in memory, or in memory-mapped files.

    Storage().array("Z", (n_rows, n_components), np.float32)        np.empty
    Storage(folder).array(…)                                        the file folder/Z, raw, row after row

Callers use both kinds alike. Pages of a mapped file belong to the page cache: the system reclaims them when memory is
needed, and none of them is anonymous memory of this process. Files have no header and their full length from the start:
blocks are aligned with pages, other processes can open the file by its path, and a full disk is an error at allocation
instead of a signal at the first write.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from engine.errors import OutOfResourcesError


@dataclass(frozen=True)
class Storage:
    """Allocator of arrays in memory, or in memory-mapped files of `folder`.

    Parameters
    ----------
    folder : Path, optional
        Without it, arrays are in memory.
    anonymous : bool, default=False
        Whether all files have no name, so that no other process can open them.
    """

    folder: Path | None = None
    anonymous: bool = False

    def array(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return a new, uninitialized array that `open` finds by its name; an earlier file of that name is deleted."""
        if self.folder is None or self.anonymous:
            return self.scratch(shape, dtype)
        path = self.folder / name
        path.unlink(missing_ok=True)
        return _map_file(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), shape, dtype, self.folder, path)

    def scratch(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return a new, uninitialized array without a name: its file is gone with its last user, however that ends."""
        if self.folder is None:
            return np.empty(shape, dtype)
        descriptor, path = tempfile.mkstemp(dir=self.folder)
        os.unlink(path)
        return _map_file(descriptor, shape, dtype, self.folder)

    def open(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any] | None:
        """Return the array that another process has written under this name and shape, None if there is none."""
        path = None if self.folder is None else self.folder / name
        if path is None or not path.is_file() or path.stat().st_size != _n_bytes(shape, dtype):
            return None
        return np.memmap(path, dtype, "r+", shape=shape)

    def delete(self, name: str) -> None:
        """Delete the file of an array; its users keep the array."""
        if self.folder is not None:
            (self.folder / name).unlink(missing_ok=True)

    def sync(self, name: str) -> None:
        """Flush the array to the disk, before a checkpoint refers to it."""
        assert self.folder is not None
        with (self.folder / name).open("rb") as file:
            os.fsync(file.fileno())


IN_MEMORY = Storage()


def _n_bytes(shape: tuple[int, ...], dtype: DTypeLike) -> int:
    return prod(shape) * np.dtype(dtype).itemsize


def _map_file(
    descriptor: int, shape: tuple[int, ...], dtype: DTypeLike, folder: Path, path: Path | None = None
) -> NDArray[Any]:
    n_bytes = _n_bytes(shape, dtype)
    with os.fdopen(descriptor, "r+b") as file:
        if n_bytes == 0:  # an empty file cannot be mapped
            return np.empty(shape, dtype)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, n_bytes)
            else:
                os.truncate(file.fileno(), n_bytes)
        except OSError as error:
            raise OutOfResourcesError(
                f"{folder} has no room for {n_bytes / 2**30:.2f} GiB of temporary files: {error.strerror}.",
                hint="free some, choose another --out, or raise --memory.",
            ) from error
        return np.memmap(file if path is None else path, dtype, "r+", shape=shape)
