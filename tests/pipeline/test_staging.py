"""The staging folder of a fit on file systems that lack locks, modes, or the renaming of folders."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Any, NoReturn

import pytest

from engine.errors import OutOfResourcesError, OutputExistsError, UsageError
from engine.pipeline.staging import staging_folder


class Refusal:
    """A function of a file system that does not have it."""

    def __init__(self, code: int) -> None:
        self.code = code

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        raise OSError(self.code, os.strerror(self.code))


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_folder_without_locks_is_written_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    monkeypatch.setattr(fcntl, "flock", Refusal(code))
    with staging_folder(tmp_path / "run") as staging:
        (staging.run / "file").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert f"cannot be locked ({os.strerror(code)})" in caplog.text


def test_a_folder_that_another_process_has_locked_is_still_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", Refusal(errno.EWOULDBLOCK))
    with pytest.raises(OutputExistsError, match="Another process is writing"), staging_folder(tmp_path / "run"):
        pass


def test_a_run_is_kept_where_modes_cannot_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "chmod", Refusal(errno.EPERM))
    with staging_folder(tmp_path / "run") as staging:
        (staging.run / "file").touch()
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["_SUCCESS", "file"]


def test_a_file_system_that_cannot_rename_folders_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "rename", Refusal(errno.EOPNOTSUPP))
    with pytest.raises(UsageError, match="cannot rename folders"), staging_folder(tmp_path / "run"):
        pytest.fail("the work began")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_while_the_staging_folder_is_made_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Path.mkdir

    def mkdir(self: Path, *args: Any, **kwargs: Any) -> None:
        if self.name == "work":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        make(self, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(OutOfResourcesError, match="is full"), staging_folder(tmp_path / "run"):
        pytest.fail("the work began")
    assert list(tmp_path.iterdir()) == []


def leave_behind(folder: Path) -> set[str]:
    """Make what killed processes leave beside `run`, and folders that are not theirs; return the names of these."""
    (folder / ".run.old-abcd_123" / "run").mkdir(parents=True)
    (folder / ".run.old-abcd_123" / "run" / "_SUCCESS").touch()
    for name in (f"..run.staging.{'0a' * 16}", ".run.probe-abcd1234", ".run.probe-abcd1234-renamed"):
        (folder / name / "work").mkdir(parents=True)
    others = {".run.old-mine", ".other.old-abcd_123", f"..other.staging.{'0a' * 16}", ".run.staging-abcd1234", "runs"}
    for name in others:
        (folder / name).mkdir()
    return others


def test_what_killed_fits_left_beside_a_run_is_deleted_by_the_next(tmp_path: Path) -> None:
    others = leave_behind(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "_SUCCESS").touch()
    with staging_folder(tmp_path / "run", overwrite=True) as staging:
        (staging.run / "new").touch()
    assert {path.name for path in tmp_path.iterdir()} == {"run", *others}
    assert (tmp_path / "run" / "new").exists()


def test_a_run_that_a_killed_fit_had_set_aside_is_put_back(tmp_path: Path) -> None:
    others = leave_behind(tmp_path)
    with pytest.raises(OutputExistsError, match="already exists"), staging_folder(tmp_path / "run"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"run", *others}
    assert (tmp_path / "run" / "_SUCCESS").exists()
