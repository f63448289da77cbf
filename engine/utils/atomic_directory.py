"""A directory that is complete or absent: staged beside its target, renamed when all is written.

with staged("runs/today") as folder:   # runs/.today.staging-….  is what the block writes into
    ...
# runs/today is there, with _SUCCESS written last; or, after an error, nothing is
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from engine.errors import OutputExistsError, UsageError
from engine.utils.atomic_files import raise_if_full, scratch_folder
from engine.utils.signals import tidied, undivided

SUCCESS = "_SUCCESS"


def check_target(target: Path, *, overwrite: bool) -> None:
    """Raise OutputExistsError if the target is taken: before any work is done, not after it.

    `overwrite` replaces what the engine wrote and nothing else: a folder without _SUCCESS is never deleted.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not overwrite:
        raise OutputExistsError(f"{target} is there already.", hint="choose another --out, or add --overwrite.")
    if not target.is_dir() or not (target / SUCCESS).is_file():
        raise OutputExistsError(
            f"{target} was not written by the engine, so it is not overwritten.", hint="choose another --out."
        )


@contextmanager
def staged(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a staging folder that becomes `target` when the block ends without an error."""
    check_target(target, overwrite=overwrite)
    with ExitStack() as ending:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            folder = ending.enter_context(scratch_folder(target.parent, f".{target.name}.staging-"))
        except OSError as error:
            raise UsageError(f"{target.parent} cannot be written: {error.strerror}.") from error
        with tidied(lambda: f"Nothing was written to {target}.") as relieve:
            try:
                yield folder
                with undivided():
                    commit(folder, target, overwrite=overwrite)
                    relieve()
            except OSError as error:
                raise_if_full(error, target.parent)
                raise


def commit(staging: Path, target: Path, *, overwrite: bool) -> None:
    """Rename the staging folder to the target; what was there goes aside first and is deleted last."""
    (staging / SUCCESS).touch()
    staging.chmod(0o777 & ~_umask())
    check_target(target, overwrite=overwrite)
    with undivided():
        if not target.exists():
            staging.rename(target)
            return
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.old-", dir=target.parent))
        try:
            target.rename(aside / "run")
            staging.rename(target)
        except BaseException:
            if (aside / "run").exists():  # and stays there, rather than nowhere, if it cannot go back
                (aside / "run").rename(target)
            aside.rmdir()
            raise
        shutil.rmtree(aside, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
