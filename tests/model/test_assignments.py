"""The id column has a name of its own, and a device finds the nearest centers of many blocks at once."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.backends.cpu import CpuBackend
from engine.backends.protocol import TwoNearest
from engine.errors import UsageError
from engine.execution.threads import map_blocks, threads
from engine.model import assignments
from engine.model.assignments import NearestTwoByPart, add_map_columns, assignment_table, check_id_name
from engine.tsne.types import Placement
from tests.gpu.chunks import NumpyDevice
from tests.gpu.strict import StrictModule


def test_ids_named_like_any_column_of_the_assignments_are_refused_by_name() -> None:
    nearest = TwoNearest(*(np.zeros(2, kind) for kind in (np.int32, np.float32, np.int32, np.float32)))
    table = assignment_table(
        pa.array(["a", "b"]), "user_id", nearest, np.ones(1, np.float32), None, np.zeros(1, np.int32)
    )
    table = add_map_columns(table, Placement(np.zeros((2, 2), np.float32), np.zeros(2, bool)))
    assert table["runner_up_odds"].null_count == 2  # a model of version 0.1 has none
    names = table.column_names
    assert names == [
        "user_id", "cluster", "distance", "runner_up", "margin", "runner_up_odds", "outlier", "map_x", "map_y",
        "map_doubtful",
    ]  # fmt: skip
    for name in names[1:]:
        with pytest.raises(UsageError, match=f"cannot be named '{name}'"):
            check_id_name(name)
    for name in ("user_id", "row", "Cluster", None):
        check_id_name(name)


class RecordingDevice(NumpyDevice):
    """A device on a stand-in for CuPy that notes for how many rows it found the nearest centers."""

    def __init__(self) -> None:
        super().__init__(StrictModule())
        self.lengths_found: list[int] = []

    def nearest_two(self, X: Any, centers: Any) -> TwoNearest:
        self.lengths_found.append(len(X))
        return super().nearest_two(X, centers)


@pytest.fixture
def parts_of_100(monkeypatch: pytest.MonkeyPatch) -> tuple[RecordingDevice, NearestTwoByPart, TwoNearest]:
    """Return a device, the nearest centers of 330 rows that it finds in parts of 100, and those of the CPU."""
    monkeypatch.setattr(assignments, "ROWS_PER_PART", 100)
    random = np.random.default_rng(0)
    Z, centers = (random.normal(size=(n, 3)).astype(np.float32) for n in (330, 7))
    device = RecordingDevice()
    return device, NearestTwoByPart(device, Z, centers), CpuBackend().nearest_two(Z, centers)


@pytest.mark.parametrize("block_rows", [1, 25, 30, 64, 1000])
def test_a_device_finds_the_nearest_centers_once_a_part_and_blocks_get_theirs(
    block_rows: int, monkeypatch: pytest.MonkeyPatch, parts_of_100: Any
) -> None:
    monkeypatch.setattr(assignments, "KEPT_PARTS", 4)
    device, nearest_two, expected = parts_of_100
    blocks = [slice(start, min(start + block_rows, 330)) for start in range(0, 330, block_rows)]
    with threads(4):
        found = list(map_blocks(lambda block: nearest_two(block.start, block.stop), iter(blocks)))
    for ours, columns in zip(zip(*found, strict=True), expected, strict=True):
        np.testing.assert_array_equal(np.concatenate(ours), columns)
    assert sorted(device.lengths_found) == [30, 100, 100, 100]  # once each, in the order of the threads
    assert [len(column) for column in nearest_two(5, 5)] == 4 * [0]


def test_a_device_keeps_the_latest_parts_and_finds_a_part_again_after_it_was_dropped(
    monkeypatch: pytest.MonkeyPatch, parts_of_100: Any
) -> None:
    monkeypatch.setattr(assignments, "KEPT_PARTS", 3)
    device, nearest_two, expected = parts_of_100
    for start in (0, 100, 200, 300, 150, 0):
        assert nearest_two(start, start + 2).labels.tolist() == expected.labels[start : start + 2].tolist()
    assert device.lengths_found == [100, 100, 100, 30, 100]


def test_the_cpu_finds_nearest_centers_block_by_block_and_workers_find_their_own() -> None:
    Z = np.arange(12, dtype=np.float32).reshape(6, 2)
    nearest_two = pickle.loads(pickle.dumps(NearestTwoByPart(CpuBackend(), Z, Z[:2])))
    assert nearest_two(2, 5).labels.tolist() == [1, 1, 1]
    assert nearest_two._parts == {}
