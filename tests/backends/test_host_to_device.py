"""Rows copied to a device while others are computed on: nothing is overwritten, or read, too soon."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine.backends.array_kmeans import ArrayBackend
from engine.backends.cpu import CpuBackend
from engine.backends.host_to_device import N_LANES, staged
from engine.backends.pinned_buffers import PinnedLanes
from engine.kmeans.lloyd import RowSet
from engine.kmeans.restarts import best_clustering
from tests.gpu.streams import Cuda, empty_pinned
from tests.gpu.strict import StrictModule, bare

ROW_BYTES = 12  # of three features


class Device:
    """What behaves like CuPy, with streams."""

    def __init__(self) -> None:
        self.cuda = Cuda()
        self.cupy = StrictModule()
        self.cupy.__dict__["cuda"] = self.cuda.namespace()
        self.lanes = PinnedLanes(self.cupy, empty_pinned)


def rows(n_rows: int, n_features: int = 3) -> Any:
    return np.random.default_rng(n_rows).normal(size=(n_rows, n_features)).astype(np.float32)


@pytest.mark.parametrize("n_rows", [0, 1, 9, 10, 11, 20, 21, 95])
def test_every_row_arrives_once_in_its_place(n_rows: int) -> None:
    X, device = rows(n_rows), Device()
    found = np.full_like(X, np.nan)
    for part, piece in staged(X, device.lanes, 10 * ROW_BYTES):
        found[part] = bare(piece)
    np.testing.assert_array_equal(found, X)


def test_pieces_of_other_lengths_and_types_take_turns_on_the_same_buffers() -> None:
    device = Device()
    for X in (rows(40), rows(70).astype(np.float64), rows(12, 5), rows(300)):
        parts = [bare(piece).copy() for _, piece in staged(X, device.lanes, 100 * ROW_BYTES)]
        np.testing.assert_array_equal(np.concatenate(parts), X)


def test_a_piece_is_sent_while_the_one_before_is_computed_on_and_waits_for_its_buffer() -> None:
    device = Device()
    pieces = staged(rows(40), device.lanes, 10 * ROW_BYTES)
    for _ in pieces:
        pass
    copies = [number for number, (_, what) in enumerate(device.cuda.log) if what == "copies"]
    assert len(copies) == 4
    sent, used = device.lanes._sent, device.lanes._used
    for number, at in enumerate(copies):
        lane = number % N_LANES
        before = device.cuda.log[:at]
        assert before.count(("current", f"records {used[lane].name}")) == number // N_LANES + 1
        assert before.count(("host", f"waits for {sent[lane].name}")) == number // N_LANES + 1
    for lane in range(N_LANES):
        own = [what for who, what in device.cuda.log if who == f"stream {lane + 1}"]
        assert own == 2 * [f"waits for {used[lane].name}", "copies", f"records {sent[lane].name}"]
    waits = [entry for entry in device.cuda.log if entry[0] == "current" and entry[1].startswith("waits")]
    assert waits == [("current", f"waits for {sent[number % N_LANES].name}") for number in range(4)]


def test_work_that_ends_early_leaves_the_lanes_in_order() -> None:
    device, X = Device(), rows(60)
    pieces = staged(X, device.lanes, 10 * ROW_BYTES)
    next(pieces)
    pieces.close()
    parts = [bare(piece).copy() for _, piece in staged(X, device.lanes, 10 * ROW_BYTES)]
    np.testing.assert_array_equal(np.concatenate(parts), X)


def test_a_copy_that_waited_for_nobody_would_be_seen() -> None:
    """The stand-in makes copies as late as it may: without waiting there is nothing to read."""
    device = Device()
    device.cupy.cuda.get_current_stream = lambda: SimpleNamespace(wait_event=lambda event: None)
    X = rows(20)
    parts = [bare(piece).copy() for _, piece in staged(X, device.lanes, 10 * ROW_BYTES)]
    assert not np.array_equal(np.concatenate(parts), X)


@pytest.mark.parametrize("weighted", [False, True])
def test_k_means_of_rows_that_come_in_pieces_has_the_bits_of_the_cpu(weighted: bool) -> None:
    device = Device()

    class Streaming(ArrayBackend):
        def free_memory(self) -> int:
            return 0

        def staged(self, X: Any) -> Any:
            return staged(X, device.lanes, 100 * ROW_BYTES)

    X = rows(1500)
    weights = np.random.default_rng(0).random(1500) if weighted else None
    ours, theirs = (
        best_clustering(RowSet.of(X, weights, backend), 6, random=np.random.RandomState(0))
        for backend in (Streaming(device.cupy), CpuBackend())
    )
    np.testing.assert_array_equal(ours.labels, theirs.labels)
    np.testing.assert_array_equal(ours.centres, theirs.centres)
    assert (ours.inertia, ours.n_iter) == (theirs.inertia, theirs.n_iter)
    backend = Streaming(device.cupy)
    for mine, other in zip(
        backend.nearest_two(X, ours.centres), CpuBackend().nearest_two(X, ours.centres), strict=True
    ):
        np.testing.assert_array_equal(mine, other)
    np.testing.assert_array_equal(backend.distances(X, ours.centres), CpuBackend().distances(X, ours.centres))
