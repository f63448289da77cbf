"""Where a fit works: a folder beside its target, with what will be the run, checkpoints, and arrays in files.

    runs/.today.staging/  lock  run/  checkpoints/  work/     ->     runs/today

The folder is the same for every fit of one target, so that `--resume` finds what an interrupted one left. It is held by
a lock, which the system lifts however the process ends. After an error that resuming cannot help, nothing is left.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from engine.errors import ClusterError, OutOfResourcesError, OutputExistsError, RoomsError, UsageError
from engine.utils.atomic_directory import check_target, commit
from engine.utils.atomic_files import raise_if_full, remove
from engine.utils.signals import tidied, undivided


@dataclass(frozen=True)
class Staging:
    """The folders of a fit under way."""

    root: Path

    @property
    def run(self) -> Path:
        """What becomes the run directory."""
        return self.root / "run"

    @property
    def checkpoints(self) -> Path:
        """What was done, in kilobytes."""
        return self.root / "checkpoints"

    @property
    def work(self) -> Path:
        """Arrays of one entry a row."""
        return self.root / "work"

    @property
    def resumable(self) -> bool:
        """Whether there is anything to go on from."""
        return self.checkpoints.is_dir() and any(self.checkpoints.iterdir())

    def left(self) -> str:
        """Leave the folder if there is anything to go on from; return what there is to know."""
        if not self.resumable:
            remove(self.root)
            return "Nothing was written."
        size = sum(path.stat().st_size for path in self.root.rglob("*") if path.is_file())
        return f"What was done is kept: go on with --resume, or delete {self.root} ({size / 1e6:,.2f} MB)."

    def clear(self) -> None:
        """Forget everything, and begin anew."""
        for folder in (self.run, self.checkpoints, self.work):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()


@contextmanager
def staging(target: Path, *, overwrite: bool = False, resume: bool = False) -> Iterator[Staging]:
    """Yield the staging folder of a target; its run/ becomes the target when the block ends without an error.

    Without `resume` it is empty. After an interrupt, or for want of memory or disk, checkpoints stay, and the error
    carries a note that says so.
    """
    check_target(target, overwrite=overwrite)
    place = Staging(target.parent / f".{target.name}.staging")
    try:
        place.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (place.root / "lock").open("w")
    except OSError as error:
        raise UsageError(f"{target.parent} cannot be written: {error.strerror}.") from error
    with lock:
        _hold(lock, target)
        resumed = resume and place.resumable
        if not resumed:
            place.clear()
        with tidied(place.left) as relieve:
            try:
                yield place
                with undivided():
                    commit(place.run, target, overwrite=overwrite)
                    remove(place.root)
                    relieve()
            except BaseException as error:
                if resumed or _worth_resuming(error):
                    error.add_note(place.left())
                else:
                    remove(place.root)
                if isinstance(error, OSError):
                    raise_if_full(error, target.parent)
                raise


def _hold(lock: IO[str], target: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OutputExistsError(
            f"Another process is making {target} at this moment.", hint="choose another --out, or wait for it."
        ) from error


def _worth_resuming(error: BaseException) -> bool:
    """Tell whether the same work could end better another time: not after bad data, or settings that cannot be."""
    return not isinstance(error, RoomsError) or isinstance(error, OutOfResourcesError | ClusterError)
