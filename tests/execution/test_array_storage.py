"""Arrays in memory and in files: alike to whoever uses them, and no longer there than they have to be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.errors import OutOfResourcesError
from engine.execution.array_storage import IN_MEMORY, Storage


def test_a_named_array_is_found_again_as_it_was(tmp_path: Path) -> None:
    Z = Storage(tmp_path).array("Z", (3, 2), np.float32)
    Z[:] = np.arange(6).reshape(3, 2)
    again = Storage(tmp_path).opened("Z", (3, 2), np.float32)
    assert again is not None
    assert again.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert (tmp_path / "Z").read_bytes() == Z.tobytes()  # raw: other processes find row i by its place
    again[0, 0] = 7
    assert Z[0, 0] == 7


def test_what_is_not_there_or_of_another_shape_is_not_found(tmp_path: Path) -> None:
    Storage(tmp_path).array("Z", (3, 2), np.float32)
    assert Storage(tmp_path).opened("Y", (3, 2), np.float32) is None
    assert Storage(tmp_path).opened("Z", (3, 3), np.float32) is None
    assert IN_MEMORY.opened("Z", (3, 2), np.float32) is None


def test_a_new_array_of_the_same_name_leaves_the_old_one_to_its_users(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    first = storage.array("labels", (4,), np.int32)
    first[:] = 1
    second = storage.array("labels", (4,), np.int32)
    second[:] = 2
    assert first.tolist() == [1, 1, 1, 1]


def test_scratch_has_no_name_and_goes_with_its_last_user(tmp_path: Path) -> None:
    maps = Path("/proc/self/maps")
    slack = Storage(tmp_path).scratch((1 << 20,), np.float32)
    slack[:] = 1.0
    assert isinstance(slack, np.memmap)
    assert not list(tmp_path.iterdir())
    assert any(str(tmp_path) in line for line in maps.read_text().splitlines())
    del slack
    assert not any(str(tmp_path) in line for line in maps.read_text().splitlines())


def test_arrays_without_rows_are_fine_in_files_too(tmp_path: Path) -> None:
    assert Storage(tmp_path).scratch((0, 5), np.float32).shape == (0, 5)


def test_in_memory_there_are_no_files() -> None:
    assert not isinstance(IN_MEMORY.array("Z", (3, 2), np.float32), np.memmap)
    assert not isinstance(IN_MEMORY.scratch((3, 2), np.float32), np.memmap)


def test_a_disk_that_is_too_small_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(OutOfResourcesError, match=r"no room for .* GiB of temporary files"):
        Storage(tmp_path).array("Z", (1 << 40, 16), np.float32)
