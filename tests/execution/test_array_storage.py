"""Arrays in memory and in mapped files: the same interface, and files that are deleted in time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.errors import OutOfResourcesError
from engine.execution.array_storage import IN_MEMORY, Storage


def test_a_named_array_is_opened_with_the_values_that_were_written(tmp_path: Path) -> None:
    Z = Storage(tmp_path).array("Z", (3, 2), np.float32)
    Z[:] = np.arange(6).reshape(3, 2)
    again = Storage(tmp_path).open("Z", (3, 2), np.float32)
    assert again is not None
    assert again.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert (tmp_path / "Z").read_bytes() == Z.tobytes()  # raw: other processes find row i by its offset
    again[0, 0] = 7
    assert Z[0, 0] == 7


def test_a_missing_array_and_one_of_another_shape_are_not_opened(tmp_path: Path) -> None:
    Storage(tmp_path).array("Z", (3, 2), np.float32)
    assert Storage(tmp_path).open("Y", (3, 2), np.float32) is None
    assert Storage(tmp_path).open("Z", (3, 3), np.float32) is None
    assert IN_MEMORY.open("Z", (3, 2), np.float32) is None


def test_a_new_array_of_the_same_name_leaves_the_old_one_to_its_users(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    first = storage.array("labels", (4,), np.int32)
    first[:] = 1
    second = storage.array("labels", (4,), np.int32)
    second[:] = 2
    assert first.tolist() == [1, 1, 1, 1]


def test_a_scratch_array_has_no_name_and_its_file_goes_with_its_last_user(tmp_path: Path) -> None:
    maps = Path("/proc/self/maps")
    scratch = Storage(tmp_path).scratch((1 << 20,), np.float32)
    scratch[:] = 1.0
    assert isinstance(scratch, np.memmap)
    assert not list(tmp_path.iterdir())
    assert any(str(tmp_path) in line for line in maps.read_text().splitlines())
    del scratch
    assert not any(str(tmp_path) in line for line in maps.read_text().splitlines())


def test_an_array_without_rows_needs_no_mapping(tmp_path: Path) -> None:
    assert Storage(tmp_path).scratch((0, 5), np.float32).shape == (0, 5)


def test_in_memory_there_are_no_files() -> None:
    assert not isinstance(IN_MEMORY.array("Z", (3, 2), np.float32), np.memmap)
    assert not isinstance(IN_MEMORY.scratch((3, 2), np.float32), np.memmap)


def test_a_disk_that_is_too_small_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(OutOfResourcesError, match=r"no room for .* GiB of temporary files"):
        Storage(tmp_path).array("Z", (1 << 40, 16), np.float32)
