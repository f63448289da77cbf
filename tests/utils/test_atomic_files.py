"""Atomic files and directories are whole or absent, whatever fails."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from engine.errors import OutOfResourcesError, OutputExistsError
from engine.utils.atomic_directory import SUCCESS, commit, write_directory_atomically
from engine.utils.atomic_files import new_folder, remove, scratch_folder, write_atomically


class HalfWayError(Exception):
    """An error in the middle of a write."""


def fail_half_way(path: Path) -> None:
    path.write_text("half")
    raise HalfWayError


def file_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_gets_its_name_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "table"
    target.write_text("old")
    with write_atomically(target) as path:
        path.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    with pytest.raises(HalfWayError), write_atomically(target) as path:
        fail_half_way(path)
    assert target.read_text() == "new"
    assert file_names(tmp_path) == ["table"]


def test_a_full_disk_has_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(OutOfResourcesError, match=f"disk of {tmp_path} is full"), write_atomically(tmp_path / "table"):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OutOfResourcesError, match="is full"), write_directory_atomically(tmp_path / "run"):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")
    assert file_names(tmp_path) == []


def test_what_killed_processes_left_is_deleted_and_what_they_set_aside_put_back(tmp_path: Path) -> None:
    target = tmp_path / "run"
    left = [
        ".run.staging-abcd1234",
        "..run.staging-abcd1234." + "0" * 32,
        ".run.probe-abcd1234",
        ".runs.staging-abcd1234",
    ]
    for name in left:
        (tmp_path / name).mkdir()
    (tmp_path / ".run.old-abcd1234" / "run").mkdir(parents=True)
    (tmp_path / ".run.old-abcd1234" / "run" / SUCCESS).touch()
    with pytest.raises(OutputExistsError), write_directory_atomically(target):
        pass
    assert file_names(tmp_path) == [".runs.staging-abcd1234", "run"]  # the last one is of another target


def test_a_staging_folder_that_is_in_use_stays(tmp_path: Path) -> None:
    target = tmp_path / "run"
    with write_directory_atomically(target) as folder:
        (folder / "report.html").write_text("first")
        aside = tmp_path / ".run.old-abcd1234"
        aside.mkdir()
        with write_directory_atomically(target) as other:
            assert other != folder
        assert folder.exists()
        assert aside.exists()  # the first process may have set it aside
        shutil.rmtree(target)
    assert (target / "report.html").read_text() == "first"
    with write_directory_atomically(target, overwrite=True):
        pass
    assert file_names(tmp_path) == ["run"]


@pytest.mark.parametrize("n_taken", [0, 2])
def test_a_folder_that_another_process_deletes_before_it_is_locked_is_made_again(
    n_taken: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, taken = fcntl.flock, []

    def take(descriptor: int, operation: int) -> None:
        folder = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if len(taken) < n_taken:
            taken.append(folder)
            folder.rmdir()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", take)
    with write_directory_atomically(tmp_path / "run") as folder:
        assert folder.exists()
    assert file_names(tmp_path) == ["run"]
    assert len(set(taken)) == n_taken


def test_a_file_system_without_locks_leaves_the_folders_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int, operation: int) -> NoReturn:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    (tmp_path / ".run.staging-abcd1234").mkdir()
    with write_directory_atomically(tmp_path / "run"):
        pass
    assert file_names(tmp_path) == [".run.staging-abcd1234", "run"]


def test_a_new_folder_stays_unless_the_block_fails(tmp_path: Path) -> None:
    with new_folder(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "file").touch()
    assert file_names(tmp_path / "a" / "b") == ["file"]
    with pytest.raises(HalfWayError), new_folder(tmp_path / "c"):
        fail_half_way(tmp_path / "c" / "file")
    assert file_names(tmp_path) == ["a"]


def test_a_scratch_folder_is_deleted(tmp_path: Path) -> None:
    with scratch_folder(tmp_path, "x-") as folder:
        (folder / "file").touch()
        assert folder.parent == tmp_path
    assert file_names(tmp_path) == []


def test_a_path_that_is_removed_may_be_absent(tmp_path: Path) -> None:
    remove(tmp_path / "absent")
    (tmp_path / "file").touch()
    remove(tmp_path / "file")
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    remove(tmp_path / "folder")
    assert file_names(tmp_path) == []


def test_a_run_that_cannot_be_renamed_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, new = tmp_path / "run", tmp_path / "new"
    for folder, text in ((target, "old"), (new, "new")):
        folder.mkdir()
        (folder / SUCCESS).touch()
        (folder / "report.html").write_text(text)
    rename = Path.rename

    def fail(self: Path, to: Path) -> Path:
        if self == new:
            raise KeyboardInterrupt
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(KeyboardInterrupt):
        commit(new, target, overwrite=True)
    assert (target / "report.html").read_text() == "old"
    assert file_names(tmp_path) == ["new", "run"]
    monkeypatch.setattr(Path, "rename", rename)
    commit(new, target, overwrite=True)
    assert (target / "report.html").read_text() == "new"
    assert file_names(tmp_path) == ["run"]


def test_an_old_run_that_cannot_be_restored_stays_in_the_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, new = tmp_path / "run", tmp_path / "new"
    for folder in (target, new):
        folder.mkdir()
        (folder / SUCCESS).touch()
    (target / "report.html").write_text("old")
    rename = Path.rename

    def only_the_backup(self: Path, to: Path) -> Path:
        if to == target:
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", only_the_backup)
    with pytest.raises(OSError, match="Input/output error"):
        commit(new, target, overwrite=True)
    assert [path.read_text() for path in tmp_path.rglob("report.html")] == ["old"]


def make_run(target: Path) -> None:
    with write_directory_atomically(target) as folder:
        (folder / "assignments").mkdir()
        (folder / "assignments" / "part-00000.parquet").write_text("old")
        (folder / "manifest.json").write_text("{}")


@pytest.mark.parametrize(
    "name",
    ["notes.txt", "assignments/part-00000-4f1c.c000.snappy.parquet", "model/notebook.ipynb", "more/part-00000.parquet",
     "part.0.parquet", "export/model.sql", "manifest.json.bak"],
)  # fmt: skip
def test_files_of_others_in_a_directory_are_never_deleted(name: str, tmp_path: Path) -> None:
    target = tmp_path / "run"
    make_run(target)
    (target / name).parent.mkdir(exist_ok=True)
    (target / name).write_text("mine")
    with pytest.raises(OutputExistsError, match=re.escape(name)), write_directory_atomically(target, overwrite=True):
        pass
    assert (target / name).read_text() == "mine"
    assert (target / "assignments" / "part-00000.parquet").read_text() == "old"
    with write_directory_atomically(target, overwrite=True, keeps_all=True) as folder:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("mine")
    assert (target / name).read_text() == "mine"


@pytest.mark.parametrize("make", [lambda path: path.symlink_to(path.parent.parent), Path.mkdir], ids=["link", "folder"])
def test_a_link_or_an_empty_folder_of_others_is_never_deleted(make: Callable[[Path], None], tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    make(tmp_path / "run" / "other")
    with pytest.raises(OutputExistsError, match="other"), write_directory_atomically(tmp_path / "run", overwrite=True):
        pass


def test_files_that_desktops_leave_are_no_files_of_others(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    (tmp_path / "run" / ".DS_Store").touch()
    with write_directory_atomically(tmp_path / "run", overwrite=True):
        pass
    assert file_names(tmp_path / "run") == [SUCCESS]
