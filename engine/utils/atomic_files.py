"""Write files and folders so that they are whole or absent, after an error as after a signal.

    write_atomically(path)     yields a path to write to, and renames it to `path` at the end of the block
    new_folder(path)           makes a folder, and deletes it if the block fails
    scratch_folder(parent)     yields an empty folder, and deletes it at the end of the block

So nothing that is half written ever has the name of what is whole.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from engine.errors import OutOfResourcesError
from engine.utils.signals import on_signal


@contextmanager
def write_atomically(target: Path, *, staging_folder: Path | None = None) -> Iterator[Path]:
    """Yield the absolute path of a file to write, and rename it to `target` at the end of the block.

    Parameters
    ----------
    target : Path
    staging_folder : Path, optional
        Where the file is written, on the target's file system; the target's own folder by default.

    Raises
    ------
    OutOfResourcesError
        If the disk is full.
    """
    temporary = (staging_folder or target.parent).absolute() / f".{target.name}.{uuid.uuid4().hex}"
    try:
        with on_signal(partial(remove, temporary)):
            yield temporary
            temporary.replace(target)
    except OSError as error:
        raise_if_full(error, target.parent)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Make a folder for the block to fill, and delete it if the block fails."""
    folder.mkdir(parents=True)
    try:
        with on_signal(partial(remove, folder)):
            yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


@contextmanager
def scratch_folder(parent: Path | None = None, prefix: str | None = None) -> Iterator[Path]:
    """Yield an empty folder, in `parent` or in the system's temporary folder, and delete it at the end of the block."""
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        with on_signal(partial(remove, folder)):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove(path: Path) -> None:
    """Delete a file or folder while threads may still write to it: rename it first, then delete it."""
    renamed = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.rename(renamed)
    except OSError:  # it does not exist, or not any more
        return
    if renamed.is_dir():
        shutil.rmtree(renamed, ignore_errors=True)
    else:
        renamed.unlink(missing_ok=True)


def raise_if_full(error: OSError, folder: Path) -> None:
    """Raise OutOfResourcesError if an error says that the disk is full or fails, or a quota is used up."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        resources = OutOfResourcesError(f"The disk of {folder} is full.", hint="free some space, or write elsewhere.")
    elif error.errno in (errno.EIO, errno.EROFS, errno.EFBIG):
        resources = OutOfResourcesError(
            f"The disk of {folder} cannot be written: {os.strerror(error.errno)}.",
            hint="check the disk and the limits on it, or write elsewhere.",
        )
    else:
        return
    resources.__notes__ = getattr(error, "__notes__", [])
    raise resources from error
