"""What is kept is what was put, as far as there is room; a shelf that travels is that of the process it comes to."""

from __future__ import annotations

import os
import pickle
from mmap import ALLOCATIONGRANULARITY
from pathlib import Path

import numpy as np
import pytest

from engine.execution import block_cache as shelf_module
from engine.execution.block_cache import Shelf, forget, to_forget


def rows(value: int) -> np.ndarray:
    return np.full(100, value, np.float64)


def test_blocks_are_kept_while_there_is_room() -> None:
    shelf = Shelf(room=2000)
    for number in range(4):
        assert shelf.full == (number == 3)
        shelf.put(number, rows(number), 800 if number < 3 else 1)  # what is refused once leaves no gap
    assert [number for number in range(4) if number in shelf] == [0, 1]
    assert (shelf.get(3), shelf.take(3)) == (None, None)
    assert shelf.get(1).sum() == shelf.take(1).sum() == 100
    assert 1 not in shelf
    shelf.clear()
    shelf.put(0, rows(0), 2000)
    assert 0 in shelf


def test_what_rows_have_become_takes_their_place_if_all_were_kept() -> None:
    shelf = Shelf(room=2000)
    shelf.put(0, "narrow", 500)
    shelf.put(1, "narrow", 500)
    shelf.replace(0, "encoded", 1400)
    shelf.replace(1, "encoded", 700)  # no room
    shelf.replace(2, "encoded", 1)  # was not kept
    assert [shelf.get(number) for number in range(3)] == ["encoded", "narrow", None]
    shelf.put(2, "narrow", 500)
    shelf.replace(1, "encoded", 500)  # another block has to be read again
    assert shelf.get(1) == "narrow"


def test_what_memory_has_no_room_for_lies_in_a_file_without_a_name(tmp_path: Path) -> None:
    shelf = Shelf(800, tmp_path, 3 * ALLOCATIONGRANULARITY)
    for number in range(6):
        shelf.put(number, (rows(number), np.empty(0), [str(number)]), 800)
    assert [number for number in range(6) if number in shelf] == [0, 1, 2, 3]
    assert shelf.full
    assert (shelf.n_bytes, shelf.n_filed) == (800, 2400)
    assert list(tmp_path.iterdir()) == []
    for number in range(4):
        found, nothing, names = shelf.get(number)
        assert (found.tolist(), len(nothing), names) == ([number] * 100, 0, [str(number)])
        assert found.flags.writeable  # kernels are compiled for such arrays
        assert found.ctypes.data % 64 == 0 or number == 0
    kept = shelf.take(2)[0]
    for number in (0, 1, 3):
        shelf.take(number)
    assert not any(number in shelf for number in range(6))
    assert kept.sum() == 200


def test_a_full_disk_is_a_full_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    shelf = Shelf(0, tmp_path, 1 << 20)
    shelf.put(0, rows(0), 800)
    assert shelf.full
    assert 0 not in shelf


def test_a_shelf_without_room_keeps_nothing() -> None:
    shelf = Shelf()
    shelf.put(0, rows(0), 0)
    assert 0 not in shelf


@pytest.fixture
def _clean() -> None:
    forget()


@pytest.mark.usefixtures("_clean")
def test_a_worker_has_one_shelf_a_job_and_forgets_it() -> None:
    ours = Shelf(room=1000)
    theirs = pickle.loads(pickle.dumps(ours))
    theirs.put(0, rows(7), 800)
    again = pickle.loads(pickle.dumps(ours))
    assert again is theirs
    assert again.room == 1000
    assert 0 not in ours
    other = pickle.loads(pickle.dumps(Shelf(room=1000)))
    assert list(shelf_module._shelves.values()) == [other]
    calls = []
    to_forget(lambda: calls.append(1))
    forget()
    assert calls == [1]
    assert shelf_module._shelves == {}
    shelf_module._clears.pop()
