"""Find a folder for kernels that are compiled here: where numba would keep them, or one for temporary files.

numba keeps compiled code in NUMBA_CACHE_DIR, beside the package, or below the home folder. None of them can be written
in a read-only container, or for another user than the one who installed the package. Compiled code then goes to a
private folder for temporary files, or is not kept.
"""

from __future__ import annotations

import functools
import logging
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FunctionType

import numba
from numba.core.caching import CompileResultCacheImpl

logger = logging.getLogger(__name__)

_NAME = "rooms-kernels-"  # followed by the user's number


def find_cache_folder(source: Path) -> Path | None:
    """Return the folder to keep kernels in whose sources lie in the folder `source`.

    None, with a warning, if nothing can be written.
    """
    folder = _ask_numba(source, numba.config.CACHE_DIR)
    if folder is None and _use_temporary_folder():
        folder = _ask_numba(source, numba.config.CACHE_DIR)
    return folder


@functools.cache
def _ask_numba(source: Path, _: str) -> Path | None:
    """Return where numba would keep what is compiled from a folder, with NUMBA_CACHE_DIR as it is now."""
    code = find_cache_folder.__code__.replace(co_filename=str(source / "__init__.py"))
    try:
        return Path(CompileResultCacheImpl(FunctionType(code, {})).locator.get_cache_path())
    except RuntimeError:
        return None


@functools.cache
def _use_temporary_folder() -> bool:
    """Set NUMBA_CACHE_DIR to a private temporary folder, with a warning; return whether there is one."""
    for parent in _temporary_folders():
        folder = parent / f"{_NAME}{os.getuid()}"
        if _is_private(folder):
            # In the environment, so that processes started by this one use the folder too.
            os.environ["NUMBA_CACHE_DIR"] = numba.config.CACHE_DIR = str(folder)
            logger.warning(
                "numba can write neither beside the package nor in the home folder: compiled kernels are kept in %s. "
                "Set NUMBA_CACHE_DIR to a folder that lasts, or they are compiled again when it is gone.",
                folder,
            )
            return True
    logger.warning(
        "numba finds no folder to keep compiled kernels in: every process compiles them again, which takes a minute. "
        "Set NUMBA_CACHE_DIR to a folder that can be written."
    )
    return False


def _temporary_folders() -> Iterator[Path]:
    with suppress(FileNotFoundError):  # none can be written, nor the current folder
        yield Path(tempfile.gettempdir())
    yield Path("/dev/shm")


def _is_private(folder: Path) -> bool:
    """Make the folder, and return whether this user alone can write to it: numba runs the code that it finds there."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        facts = folder.lstat()
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid() and not facts.st_mode & 0o022
