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
from engine.runs.directory import check_target, commit

DISK_FULL = (28, 122)  # no space left, quota exceeded


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
        try:
            yield place
            commit(place.run, target, overwrite=overwrite)
        except BaseException as error:
            if place.resumable and (resumed or _worth_resuming(error)):
                size = sum(path.stat().st_size for path in place.root.rglob("*") if path.is_file())
                error.add_note(
                    f"What was done is kept: go on with --resume, or delete {place.root} ({size / 1e6:,.2f} MB)."
                )
            else:
                shutil.rmtree(place.root, ignore_errors=True)
            if isinstance(error, OSError) and error.errno in DISK_FULL:
                full = OutOfResourcesError(f"The disk of {target.parent} is full.")
                full.__notes__ = getattr(error, "__notes__", [])
                raise full from error
            raise
        shutil.rmtree(place.root, ignore_errors=True)


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
