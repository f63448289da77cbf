"""Keep compiled kernels: read those that came with the package, and read and write those that were compiled here.

A kernel is looked for in two folders. `shipped` is in the package, is only read, and holds kernels that were compiled
for a level (simd/instruction_sets.py) on another machine. The other folder is where numba would keep its own cache
(cache_folder.py). What neither holds is compiled, and kept there.

One file holds one kernel for one signature. Its name says for what it was compiled: versions of Python and numba,
signature, processor. Its header says from what: the sources of the kernel's file and of the files that this imports.
A file that is damaged or was compiled from other sources is compiled again and replaced. So, other than in numba's own
cache, a change of a kernel compiles its callers again, processes can write at the same time, and times and locations of
the sources do not matter.

Files are pickles, as numba's are: whoever can write to the folders can run code.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.dispatcher import Dispatcher
from numba.core.runtime import rtsys
from numba.core.serialize import dumps
from numba.core.sigutils import normalize_signature

from engine.kernels.cpu.cache_folder import find_cache_folder
from engine.kernels.cpu.simd.instruction_sets import LEVEL, SHIPPED, VERSIONS

logger = logging.getLogger(__name__)

SUFFIX = ".kernel"
_KERNELS = Path(__file__).parent
_IMPORT = re.compile(r"\bengine\.kernels\.cpu((?:\.\w+)+)")
_DIGEST = hashlib.sha256().digest_size


class KernelCache(_Cache):
    """The cache of one kernel, in the place of numba's."""

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel
        self._source = Path(kernel.__code__.co_filename)
        self._enabled = True

    @property
    def cache_path(self) -> str | None:
        """The folder in which this kernel is kept when it has been compiled; None if it is not kept."""
        folder = find_cache_folder(self._source.parent)
        return None if folder is None else str(folder)

    def load_overload(self, sig: Any, target_context: Any) -> CompileResult | None:
        """Return the compiled kernel for a signature; None if there is none.

        numba's own cache refreshes the context here, which takes 0.3 s. What has been compiled needs its runtime alone.
        """
        if not self._enabled:
            return None
        signature = normalize_signature(sig)[0]
        for path in self._paths(signature, target_context.codegen()):
            payload = _read(path, self._header(), signature)
            if payload is not None:
                rtsys.initialize(target_context)
                return CompileResult._rebuild(target_context, *payload)
        return None

    def save_overload(self, sig: Any, data: CompileResult) -> None:
        """Keep the compiled kernel for a signature, if there is a folder to keep it in."""
        folder = find_cache_folder(self._source.parent)
        if not self._enabled or folder is None or data.lifted or data.library.has_dynamic_globals:
            return
        signature = normalize_signature(sig)[0]
        # Environments hold the constants that compiled code reads. Those without any would only import numba's
        # implementations when they are loaded.
        *parts, environments = data._reduce()
        body = dumps((signature, (*parts, tuple(item for item in environments if item.consts))))
        self._keep(folder / self._file_name(signature, _target(data.codegen)), body)

    def _keep(self, path: Path, body: bytes) -> None:
        try:
            _write(path, self._header() + hashlib.sha256(body).digest() + body)
        except OSError as error:  # a full disk, say: what was compiled serves this process
            _warn_of_unkept(path.parent, error.strerror or type(error).__name__)

    def enable(self) -> None:
        """Read and write from now on."""
        self._enabled = True

    def disable(self) -> None:
        """Neither read nor write from now on."""
        self._enabled = False

    def flush(self) -> None:
        """Delete what is kept of this kernel, other than what came with the package."""
        folder = find_cache_folder(self._source.parent)
        for path in [] if folder is None else folder.glob(f"{self._kernel.__name__}-*{SUFFIX}"):
            path.unlink(missing_ok=True)

    def _paths(self, signature: tuple[Any, ...], codegen: Any) -> Iterator[Path]:
        target = _target(codegen)
        if LEVEL is not None and LEVEL.folder.is_dir():
            yield LEVEL.folder / self._file_name(signature, (target[0], LEVEL.cpu, LEVEL.feature_string, LEVEL.name))
        folder = find_cache_folder(self._source.parent)
        if folder is not None:
            yield folder / self._file_name(signature, target)

    def _file_name(self, signature: tuple[Any, ...], target: tuple[str, ...]) -> str:
        kernel = f"{self._kernel.__module__}.{self._kernel.__qualname__}"
        text = "\n".join((VERSIONS, kernel, *target, *map(str, signature)))
        return f"{self._kernel.__name__}-{hashlib.sha256(text.encode()).hexdigest()[:24]}{SUFFIX}"

    def _header(self) -> bytes:
        """Return a digest of the kernel and of all sources that it is compiled from."""
        return hashlib.sha256(self._kernel.__code__.co_code + _digest_sources(self._source)).digest()


def use_kernel_cache() -> None:
    """Let all kernels that are decorated with `cache=True` from now on keep their compiled code here."""
    enable_caching = Dispatcher.enable_caching

    def enable(dispatcher: Any) -> None:
        if dispatcher.py_func.__module__.startswith("engine.kernels."):
            dispatcher._cache = KernelCache(dispatcher.py_func)
        else:
            enable_caching(dispatcher)

    Dispatcher.enable_caching = enable  # type: ignore[assignment, method-assign, unused-ignore]


class FoundKernels(NamedTuple):
    """Where kernels come from, for `rooms doctor`."""

    level: str | None  # of the kernels that came with the package and can be used
    n_shipped: int
    other_versions: list[str]  # for which the package has kernels, too
    folder: Path | None  # where kernels that are compiled here are kept
    n_kept: int  # of all kinds of processors and sources


def find_kernels() -> FoundKernels:
    """Look for compiled kernels."""
    shipped = _count(LEVEL.folder) if LEVEL is not None else 0
    versions = sorted(path.name for path in SHIPPED.glob("*") if path.name != VERSIONS)
    folders = {path: find_cache_folder(path) for path in sorted({path.parent for path in _KERNELS.rglob("*.py")})}
    kept = [folder for folder in folders.values() if folder is not None]
    return FoundKernels(
        LEVEL.name if LEVEL is not None and shipped else None,
        shipped,
        versions,
        folders[_KERNELS],
        sum(map(_count, kept)),
    )


def _count(folder: Path) -> int:
    return sum(1 for _ in folder.glob(f"*{SUFFIX}"))


def _target(codegen: Any) -> tuple[str, ...]:
    """Return triple, processor, features and level: the level decides the widths that kernels have as constants."""
    return (*codegen.magic_tuple(), "" if LEVEL is None else LEVEL.name)


@functools.cache
def _digest_sources(file: Path) -> bytes:
    """Return a digest of a file of kernels and of all files of kernels that it imports, directly or not."""
    seen: dict[Path, bytes] = {}
    waiting = [file]
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen[path] = path.read_bytes()
            for name in _IMPORT.findall(seen[path].decode()):
                waiting.extend(_files_of(name))
    digest = hashlib.sha256()
    for path in sorted(seen, key=lambda path: path.parts[-3:]):
        digest.update(hashlib.sha256(seen[path]).digest())
    return digest.digest()


def _files_of(name: str) -> list[Path]:
    """Return the file of a module below kernels/cpu, given as `.folder.file`; of a package, all its files."""
    path = _KERNELS.joinpath(*name.split("."))
    file = path.with_suffix(".py")
    return [file] if file.is_file() else sorted(path.glob("*.py"))


def _read(path: Path, header: bytes, signature: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Return what was kept of a compiled kernel; None if it is not there, damaged, or of other sources."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    body = data[2 * _DIGEST :]
    if data[: 2 * _DIGEST] != header + hashlib.sha256(body).digest():
        return None
    kept, payload = pickle.loads(body)
    return payload if kept == signature else None


@functools.cache
def _warn_of_unkept(folder: Path, reason: str) -> None:
    logger.warning("Compiled kernels cannot be kept in %s (%s): later processes compile them again.", folder, reason)


def _write(path: Path, data: bytes) -> None:
    """Write a file at once, so that other processes see all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{uuid4().hex}")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
