"""The staging folder of a fit, beside its target: the run directory in the making, checkpoints, and arrays in files.

    runs/.today.staging/  lock  run/  checkpoints/  work/     ->     runs/today

Every fit of one target has the same staging folder, so that `--resume` finds the checkpoints of an interrupted one. The
process holds a lock, which the system releases however the process ends; where there are no locks, it says so. After an
error that resuming cannot help, the folder is deleted.
"""

from __future__ import annotations

import fcntl
import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from engine.errors import ClusterError, OutOfResourcesError, OutputExistsError, RoomsError, UsageError
from engine.pipeline.memory_plan import free_disk_bytes
from engine.utils.atomic_directory import check_target, clean_up_after_kills, commit
from engine.utils.atomic_files import raise_if_full, remove
from engine.utils.signals import defer_signals, on_signal

logger = logging.getLogger(__name__)


@dataclass
class StagingFolder:
    """The folders of a fit under way, below `root`, and where the run will be.

    Attributes
    ----------
    root : Path
    target : Path
    publish_at : Path or None
        Where the run is published instead, if the gate has stopped it: what is there of an earlier fit is replaced.
    """

    root: Path
    target: Path
    publish_at: Path | None = None

    @classmethod
    def of(cls, target: Path) -> StagingFolder:
        """Return the staging folder of a target."""
        return cls(target.parent.absolute() / f".{target.name}.staging", target)

    @property
    def run(self) -> Path:
        """The folder that becomes the run directory."""
        return self.root / "run"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints: kilobytes."""
        return self.root / "checkpoints"

    @property
    def work(self) -> Path:
        """The folder of arrays with one entry a row."""
        return self.root / "work"

    def free_disk_bytes(self) -> int:
        """Return the bytes that temporary files may take: what is free, and what those of an interrupted fit take."""
        held = sum(path.stat().st_blocks * 512 for path in self.work.rglob("*") if path.is_file())
        return free_disk_bytes(self.root) + held

    @property
    def resumable(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        return self.checkpoints.is_dir() and any(self.checkpoints.iterdir())

    def keep_or_remove(self) -> str:
        """Keep the folder if it can be resumed from, else remove it; return the message for the user."""
        if not self.resumable:
            remove(self.root)
            return "Nothing was written."
        size = sum(path.stat().st_size for path in self.root.rglob("*") if path.is_file())
        return f"Finished stages are kept: continue with --resume, or delete {self.root} ({size / 1e6:,.2f} MB)."

    def clear(self) -> None:
        """Empty the folder."""
        for folder in (self.run, self.checkpoints, self.work):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()


@contextmanager
def staging_folder(target: Path, *, overwrite: bool = False, resume: bool = False) -> Iterator[StagingFolder]:
    """Yield the staging folder of a target; its run/ is published when the block ends without an error.

    Without `resume` it is emptied first. After an interrupt, and when memory or disk run out, checkpoints are kept, and
    the error carries a note that says so.
    """
    check_target(target, overwrite=overwrite)
    staging = StagingFolder.of(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _check_renaming(target)
        staging.root.mkdir(mode=0o700, exist_ok=True)
        lock = (staging.root / "lock").open("w")
    except OSError as error:
        raise UsageError(f"{target.parent} cannot be written: {error.strerror}.") from error
    with lock:
        is_alone = _acquire(lock, target)
        resumed = resume and staging.resumable
        with on_signal(staging.keep_or_remove) as unregister:
            try:
                if is_alone:
                    clean_up_after_kills(target)
                    check_target(target, overwrite=overwrite)
                if not resumed:
                    staging.clear()
                yield staging
                with defer_signals():
                    diverted = staging.publish_at is not None
                    commit(staging.run, staging.publish_at or target, overwrite=overwrite or diverted)
                    remove(staging.root)
                    unregister()
            except BaseException as error:
                if resumed or _worth_resuming(error):
                    error.add_note(staging.keep_or_remove())
                else:
                    remove(staging.root)
                if isinstance(error, OSError):
                    raise_if_full(error, target.parent)
                raise


def _check_renaming(target: Path) -> None:
    """Raise UsageError if the file system cannot rename folders, as some object stores behind FUSE cannot."""
    probe = Path(tempfile.mkdtemp(prefix=f".{target.name}.probe-", dir=target.parent))
    try:
        probe = probe.rename(probe.with_name(f"{probe.name}-renamed"))
    except OSError as error:
        raise UsageError(
            f"The file system of {target.parent} cannot rename folders ({error.strerror}), and a run is renamed to its "
            "name when it is complete.",
            hint="write to a folder of a local disk, and copy it.",
        ) from error
    finally:
        probe.rmdir()


def _acquire(lock: IO[str], target: Path) -> bool:
    """Lock the staging folder; return False, with a warning, where the file system has no locks."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OutputExistsError(
            f"Another process is writing {target} at this moment.", hint="choose another --out, or wait for it."
        ) from error
    except OSError as error:  # as NFS without its lock daemon, Lustre without -o flock, and some FUSE file systems
        logger.warning(
            "The folder of %s cannot be locked (%s): make sure that no other process writes to it.",
            target, error.strerror,
        )  # fmt: skip
        return False
    return True


def _worth_resuming(error: BaseException) -> bool:
    """Return whether the same fit may succeed another time: not after an error in data or settings."""
    return not isinstance(error, RoomsError) or isinstance(error, OutOfResourcesError | ClusterError)
