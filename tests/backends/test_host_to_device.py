"""Rows are copied to a device while others are computed on: no buffer is overwritten, or read, too soon."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine.backends.array_kmeans import ArrayBackend
from engine.backends.cpu import CpuBackend
from engine.backends.host_to_device import N_BUFFERS, copy_in_pieces
from engine.backends.pinned_buffers import PinnedStagingBuffers
from engine.kmeans.lloyd import Samples
from engine.kmeans.restarts import best_clustering
from tests.gpu.streams import Cuda, empty_pinned
from tests.gpu.strict import StrictModule, to_numpy

ROW_BYTES = 12  # of a row with three float32 features


class Device:
    """A stand-in for CuPy with streams."""

    def __init__(self) -> None:
        self.cuda = Cuda()
        self.cupy = StrictModule()
        self.cupy.__dict__["cuda"] = self.cuda.namespace()
        self.buffers = PinnedStagingBuffers(self.cupy, empty_pinned)


def rows(n_rows: int, n_features: int = 3) -> Any:
    return np.random.default_rng(n_rows).normal(size=(n_rows, n_features)).astype(np.float32)


@pytest.mark.parametrize("n_rows", [0, 1, 9, 10, 11, 20, 21, 95])
def test_every_row_arrives_once_in_its_place(n_rows: int) -> None:
    X, device = rows(n_rows), Device()
    arrived = np.full_like(X, np.nan)
    for part, piece in copy_in_pieces(X, device.buffers, 10 * ROW_BYTES):
        arrived[part] = to_numpy(piece)
    np.testing.assert_array_equal(arrived, X)


def test_pieces_of_other_lengths_and_types_take_turns_on_the_same_buffers() -> None:
    device = Device()
    for X in (rows(40), rows(70).astype(np.float64), rows(12, 5), rows(300)):
        parts = [to_numpy(piece).copy() for _, piece in copy_in_pieces(X, device.buffers, 100 * ROW_BYTES)]
        np.testing.assert_array_equal(np.concatenate(parts), X)


def test_a_piece_is_sent_while_the_one_before_is_computed_on_and_waits_for_its_buffer() -> None:
    device = Device()
    pieces = copy_in_pieces(rows(40), device.buffers, 10 * ROW_BYTES)
    for _ in pieces:
        pass
    copies = [number for number, (_, what) in enumerate(device.cuda.log) if what == "copies"]
    assert len(copies) == 4
    copied, read = device.buffers._copied, device.buffers._read
    for number, position in enumerate(copies):
        pair = number % N_BUFFERS
        before = device.cuda.log[:position]
        assert before.count(("current", f"records {read[pair].name}")) == number // N_BUFFERS + 1
        assert before.count(("host", f"waits for {copied[pair].name}")) == number // N_BUFFERS + 1
    for pair in range(N_BUFFERS):
        queued = [what for stream, what in device.cuda.log if stream == f"stream {pair + 1}"]
        assert queued == 2 * [f"waits for {read[pair].name}", "copies", f"records {copied[pair].name}"]
    waits = [entry for entry in device.cuda.log if entry[0] == "current" and entry[1].startswith("waits")]
    assert waits == [("current", f"waits for {copied[number % N_BUFFERS].name}") for number in range(4)]


def test_iteration_that_ends_early_leaves_the_buffers_usable() -> None:
    device, X = Device(), rows(60)
    pieces = copy_in_pieces(X, device.buffers, 10 * ROW_BYTES)
    next(pieces)
    pieces.close()
    parts = [to_numpy(piece).copy() for _, piece in copy_in_pieces(X, device.buffers, 10 * ROW_BYTES)]
    np.testing.assert_array_equal(np.concatenate(parts), X)


def test_a_missing_wait_for_a_copy_would_show() -> None:
    """The stand-in makes copies as late as possible: without a wait nothing has been copied yet."""
    device = Device()
    device.cupy.cuda.get_current_stream = lambda: SimpleNamespace(wait_event=lambda event: None)
    X = rows(20)
    parts = [to_numpy(piece).copy() for _, piece in copy_in_pieces(X, device.buffers, 10 * ROW_BYTES)]
    assert not np.array_equal(np.concatenate(parts), X)


@pytest.mark.parametrize("weighted", [False, True])
def test_k_means_of_rows_that_come_in_pieces_has_the_bits_of_the_cpu(weighted: bool) -> None:
    device = Device()

    class Streaming(ArrayBackend):
        def free_memory(self) -> int:
            return 0

        def copy_in_pieces(self, X: Any) -> Any:
            return copy_in_pieces(X, device.buffers, 100 * ROW_BYTES)

    X = rows(1500)
    weights = np.random.default_rng(0).random(1500) if weighted else None
    ours, theirs = (
        best_clustering(Samples.from_array(X, weights, backend), 6, random=np.random.RandomState(0))
        for backend in (Streaming(device.cupy), CpuBackend())
    )
    np.testing.assert_array_equal(ours.labels, theirs.labels)
    np.testing.assert_array_equal(ours.centers, theirs.centers)
    assert (ours.inertia, ours.n_iter) == (theirs.inertia, theirs.n_iter)
    backend = Streaming(device.cupy)
    for mine, other in zip(
        backend.nearest_two(X, ours.centers), CpuBackend().nearest_two(X, ours.centers), strict=True
    ):
        np.testing.assert_array_equal(mine, other)
    np.testing.assert_array_equal(backend.distances(X, ours.centers), CpuBackend().distances(X, ours.centers))
