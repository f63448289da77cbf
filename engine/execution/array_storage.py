"""Where arrays of one entry a row live: in memory, or in files that are mapped into it.

    Storage().array("Z", (n_rows, n_components), np.float32)        np.empty
    Storage(folder).array(…)                                        the file folder/Z, raw, row after row

Either is an array like any other, so there is one code for both. Pages of a mapped file belong to the page cache: the
system takes them back when memory is needed, and none of them is memory of this process' own. Files have no header and
are as long as the array from the start, so blocks are aligned with pages, other processes can open them by their path,
and a full disk is an error at once and not a signal at the first write.
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
    """Arrays in memory, or in files of `folder`; `nameless` ones are for nobody else."""

    folder: Path | None = None
    nameless: bool = False

    def array(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return room for an array that `opened` finds again under its name; what had the name before is forgotten."""
        if self.folder is None or self.nameless:
            return self.scratch(shape, dtype)
        path = self.folder / name
        path.unlink(missing_ok=True)
        return _mapped(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), shape, dtype, self.folder, path)

    def scratch(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return room for an array that is gone with its last user, whatever ends the process."""
        if self.folder is None:
            return np.empty(shape, dtype)
        descriptor, path = tempfile.mkstemp(dir=self.folder)
        os.unlink(path)
        return _mapped(descriptor, shape, dtype, self.folder)

    def opened(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any] | None:
        """Return an array that was written under this name and shape by another process; None if there is none."""
        path = None if self.folder is None else self.folder / name
        if path is None or not path.is_file() or path.stat().st_size != _n_bytes(shape, dtype):
            return None
        return np.memmap(path, dtype, "r+", shape=shape)

    def drop(self, name: str) -> None:
        """Forget an array: its file is gone with its last user."""
        if self.folder is not None:
            (self.folder / name).unlink(missing_ok=True)

    def sync(self, name: str) -> None:
        """Return once the array is on the disk, for a checkpoint that says so."""
        assert self.folder is not None
        with (self.folder / name).open("rb") as file:
            os.fsync(file.fileno())


IN_MEMORY = Storage()


def _n_bytes(shape: tuple[int, ...], dtype: DTypeLike) -> int:
    return prod(shape) * np.dtype(dtype).itemsize


def _mapped(
    descriptor: int, shape: tuple[int, ...], dtype: DTypeLike, folder: Path, path: Path | None = None
) -> NDArray[Any]:
    n_bytes = _n_bytes(shape, dtype)
    with os.fdopen(descriptor, "r+b") as file:
        if n_bytes == 0:  # which cannot be mapped
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
