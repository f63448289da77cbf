"""Write a directory so that it is complete or absent: stage it beside its target, rename it when all is written.

with write_directory_atomically("runs/today") as folder:   # the block writes into runs/.today.staging-…
    ...
# Now runs/today exists, with _SUCCESS written last; after an error it does not.

A process locks its staging folder. One that nobody has locked is what a killed process left: the next one deletes it.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from engine.errors import OutputExistsError, UsageError
from engine.utils.atomic_files import raise_if_full, scratch_folder
from engine.utils.signals import defer_signals, on_signal

SUCCESS = "_SUCCESS"  # empty file that marks a complete directory, as Hadoop and Spark write it
# All that the engine writes into such a directory, and what desktops leave in any folder.
_WRITTEN = re.compile(
    r"_SUCCESS|manifest\.json|config\.yaml|report\.html|rules\.(json|sql)|personas\.(json|md)|features\.json"
    r"|clusters\.parquet|elbow\.csv|lineage\.json|movers\.parquet|gate\.(json|md)|map\.(png|parquet)"
    r"|(model|map)/[a-z_]+\.(json|safetensors)|(assignments/)?part-[0-9]{5,}\.parquet"
    r"|(.*/)?(\.DS_Store|Thumbs\.db|desktop\.ini|\.nfs[0-9a-f]+)"
)
_FOLDERS = frozenset(["assignments", "model", "map"])
_SHOWN_FILES = 3


def check_target(target: Path, *, overwrite: bool, keeps_all: bool = False) -> None:
    """Raise OutputExistsError if the target exists already; called before any work is done.

    `overwrite` replaces what the engine wrote and nothing else: a folder without _SUCCESS, or with files of others, is
    never deleted. With `keeps_all`, the caller moves all files of the target to the new one.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not overwrite:
        raise OutputExistsError(f"{target} already exists.", hint="choose another --out, or add --overwrite.")
    if not target.is_dir() or not (target / SUCCESS).is_file():
        raise OutputExistsError(
            f"{target} was not written by the engine, so it is not overwritten.", hint="choose another --out."
        )
    others = [] if keeps_all else _find_other_files(target)
    if others:
        more = f" and {len(others) - _SHOWN_FILES:,} more" if len(others) > _SHOWN_FILES else ""
        raise OutputExistsError(
            f"{target} holds files that the engine did not write, so it is not overwritten: "
            f"{', '.join(others[:_SHOWN_FILES])}{more}.",
            hint="move them elsewhere, or choose another --out.",
        )


def _find_other_files(target: Path) -> list[str]:
    """Return the files, links and empty folders below a directory that the engine did not write, in order."""
    others = []
    for folder, folders, files in os.walk(target):
        found = [*files, *(name for name in folders if (Path(folder) / name).is_symlink())]
        if not found and not folders:
            found = [""]
        paths = [(Path(folder) / name).relative_to(target).as_posix() for name in found]
        others += [path for path in paths if _WRITTEN.fullmatch(path) is None and path not in _FOLDERS]
    return sorted(others)


@contextmanager
def write_directory_atomically(target: Path, *, overwrite: bool = False, keeps_all: bool = False) -> Iterator[Path]:
    """Yield a staging folder that becomes `target` when the block ends without an error; see check_target."""
    check_target(target, overwrite=overwrite, keeps_all=keeps_all)
    with ExitStack() as exit_stack:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _remove_dead_stagings(target)
            check_target(target, overwrite=overwrite, keeps_all=keeps_all)
            folder = exit_stack.enter_context(_locked_staging(target))
        except OSError as error:
            raise UsageError(f"{target.parent} cannot be written: {error.strerror}.") from error
        with on_signal(lambda: f"Nothing was written to {target}.") as unregister:
            try:
                yield folder
                with defer_signals():
                    commit(folder, target, overwrite=overwrite, keeps_all=keeps_all)
                    unregister()
            except OSError as error:
                raise_if_full(error, target.parent)
                raise


def commit(staging: Path, target: Path, *, overwrite: bool, keeps_all: bool = False) -> None:
    """Rename the staging folder to the target; an earlier target is set aside first and deleted last."""
    (staging / SUCCESS).touch()
    with suppress(OSError):  # SMB and some FUSE file systems have modes of their own
        staging.chmod(0o777 & ~_umask())
    check_target(target, overwrite=overwrite, keeps_all=keeps_all)
    with defer_signals():
        if not target.exists():
            staging.rename(target)
            return
        backup = Path(tempfile.mkdtemp(prefix=f".{target.name}.old-", dir=target.parent))
        try:
            target.rename(backup / "run")
            staging.rename(target)
        except BaseException:
            if (backup / "run").exists():  # if this fails too, the backup stays
                (backup / "run").rename(target)
            backup.rmdir()
            raise
        shutil.rmtree(backup, ignore_errors=True)


def clean_up_after_kills(target: Path) -> None:
    """Delete what killed processes left beside a target, and put an earlier target back that one had set aside.

    Staging folders stay, whose owners may live.

    No other process may be writing the target. What is left: a target set aside in `commit`, a folder that `remove` had
    renamed, and folders that were made to see whether they can be renamed.
    """
    name = re.escape(target.name)
    set_aside = re.compile(rf"\.{name}\.old-[a-z0-9_]{{8}}")
    removed = rf"\.\.{name}\.staging(-[a-z0-9_]{{8}})?\.[0-9a-f]{{32}}"
    useless = re.compile(rf"{removed}|\.{name}\.probe-[a-z0-9_]{{8}}(-renamed)?")
    for path in list(target.parent.iterdir()):
        if set_aside.fullmatch(path.name) and (path / "run").exists() and not target.exists():
            (path / "run").rename(target)
        if set_aside.fullmatch(path.name) or useless.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _locked_staging(target: Path) -> Iterator[Path]:
    """Yield a new staging folder that this process has locked, and delete it unless it was renamed."""
    while True:
        with scratch_folder(target.parent.absolute(), f".{target.name}.staging-") as folder:
            lock = _lock(folder)
            try:
                if folder.exists():  # else another process took it for a dead one before it was locked
                    yield folder
                    return
            finally:
                if lock is not None:
                    os.close(lock)


def _remove_dead_stagings(target: Path) -> None:
    """Delete the staging folders of killed processes, and what else they left if no other process writes the target."""
    staging = re.compile(rf"\.{re.escape(target.name)}\.staging-[a-z0-9_]{{8}}")
    is_alone = True
    for path in [path for path in target.parent.iterdir() if staging.fullmatch(path.name)]:
        lock = _lock(path)
        if lock is None:
            is_alone = False
            continue
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)
    if is_alone:
        clean_up_after_kills(target)


def _lock(folder: Path) -> int | None:
    """Lock a folder and return its descriptor; None if another process has, or where the file system has no locks."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
