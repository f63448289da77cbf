"""Find a folder for compiled kernels where numba finds none, so that kernels can be imported there.

numba keeps compiled code in NUMBA_CACHE_DIR, beside the package, or below the home folder, and raises an error if none
of them can be written: in a read-only container, or for another user than the one who installed the package. Compiled
code then goes to a private folder for temporary files, or is not kept.
"""

from __future__ import annotations

import logging
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FunctionType

import numba
from numba.core.caching import FunctionCache
from numba.core.dispatcher import Dispatcher

logger = logging.getLogger(__name__)

_KERNELS = Path(__file__).parent
_NAME = "rooms-kernels-"  # followed by the user's number


def ensure_cache() -> None:
    """Make sure that numba can decorate the kernels, and log a warning if that takes another folder or no cache."""
    if _has_folder():
        return
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
            return
    _disable_cache()
    logger.warning(
        "numba finds no folder to keep compiled kernels in: every process compiles them again, which takes a minute. "
        "Set NUMBA_CACHE_DIR to a folder that can be written."
    )


def _has_folder() -> bool:
    """Return whether numba finds a folder for the kernels of every file: those beside the package may differ."""
    try:
        for folder in {path.parent for path in _KERNELS.rglob("*.py")}:
            code = ensure_cache.__code__.replace(co_filename=str(folder / "__init__.py"))
            FunctionCache(FunctionType(code, {}))
    except RuntimeError:
        return False
    return True


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


def _disable_cache() -> None:
    """Let numba compile the kernels, and nothing else, without a cache."""
    enable_caching = Dispatcher.enable_caching

    def enable_unless_kernel(dispatcher: Dispatcher) -> None:
        if not dispatcher.py_func.__module__.startswith("engine.kernels."):
            enable_caching(dispatcher)

    Dispatcher.enable_caching = enable_unless_kernel  # type: ignore[method-assign, assignment]
