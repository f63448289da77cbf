"""Files and folders that are whole or absent, after an error as after a signal.

    written(path)            yields a path to write to, which takes the name at the end of the block
    new_folder(path)         stays, unless the block fails
    scratch_folder(parent)   yields a folder that goes, whatever happens

So nothing that is half written has the name of what is whole.
"""

from __future__ import annotations

import errno
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from engine.errors import OutOfResourcesError
from engine.utils.signals import tidied


@contextmanager
def written(target: Path, *, aside: Path | None = None) -> Iterator[Path]:
    """Yield the path of a file to write, in `aside` or beside the target, that then takes the target's name and place.

    Raises
    ------
    OutOfResourcesError
        If the disk is full.
    """
    whole = (aside or target.parent) / f".{target.name}.{uuid.uuid4().hex}"
    try:
        with tidied(partial(remove, whole)):
            yield whole
            whole.replace(target)
    except OSError as error:
        raise_if_full(error, target.parent)
        raise
    finally:
        whole.unlink(missing_ok=True)


@contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Make a folder for the block to fill."""
    folder.mkdir(parents=True)
    try:
        with tidied(partial(remove, folder)):
            yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


@contextmanager
def scratch_folder(parent: Path | None = None, prefix: str | None = None) -> Iterator[Path]:
    """Yield an empty folder, in `parent` or where the system has such; what it holds in the end is deleted with it."""
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        with tidied(partial(remove, folder)):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove(path: Path) -> None:
    """Delete a file or folder under the feet of threads that may still write to it: under another name first."""
    gone = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.rename(gone)
    except OSError:  # it is not there, or not any more
        return
    if gone.is_dir():
        shutil.rmtree(gone, ignore_errors=True)
    else:
        gone.unlink(missing_ok=True)


def raise_if_full(error: OSError, folder: Path) -> None:
    """Raise OutOfResourcesError if an error says that the disk is full, or a quota used up."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        full = OutOfResourcesError(f"The disk of {folder} is full.", hint="free some space, or write elsewhere.")
        full.__notes__ = getattr(error, "__notes__", [])
        raise full from error
