"""Copy rows from the host to a device in pieces: double buffering, so that copying overlaps with computing.

    rows, StagingBuffers  ->  (slice of the rows, these rows on the device), one piece after another

Two pairs of buffers take turns, each a staging buffer on the host (pinned, so that the device can copy it
asynchronously) and one on the device. A thread fills the staging buffer of the next piece and queues its copy.
Computation on a piece waits for its copy, and no buffer is overwritten before the reads of it have ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from engine.execution.threads import row_blocks
from engine.utils.array_types import Array

PIECE_BYTES = 1 << 26  # of a piece: its copy takes long compared with the start of a copy. Not measured yet
N_BUFFERS = 2


class StagingBuffers(Protocol):
    """N_BUFFERS pairs of a staging buffer and a device buffer. Only `host_buffer` blocks; other methods queue work."""

    def host_buffer(self, pair: int, shape: tuple[int, ...], dtype: Any) -> Any:
        """Return a staging buffer as a NumPy array, after its last piece has been copied."""

    def send(self, pair: int, shape: tuple[int, ...], dtype: Any) -> None:
        """Queue the copy of a staging buffer to the device, after the reads that the last `release` recorded."""

    def receive(self, pair: int, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return the piece on the device; computation queued from now on waits for its copy."""

    def release(self, pair: int) -> None:
        """Record that all reads of the pair's piece have been queued."""


def copy_in_pieces(X: Any, buffers: StagingBuffers, piece_bytes: int = PIECE_BYTES) -> Iterator[tuple[slice, Array]]:
    """Yield the rows of X (n_rows, n_features), a NumPy array, on the device.

    A piece is valid until the next one is requested.
    """
    row_bytes = max(1, X.shape[1] * X.dtype.itemsize)
    parts = list(row_blocks(len(X), max(1, piece_bytes // row_bytes)))

    def send(number: int) -> None:
        piece = X[parts[number]]
        np.copyto(buffers.host_buffer(number % N_BUFFERS, piece.shape, piece.dtype), piece)
        buffers.send(number % N_BUFFERS, piece.shape, piece.dtype)

    with ThreadPoolExecutor(1, thread_name_prefix="rooms-staging") as pool:
        sent = pool.submit(send, 0) if parts else None
        for number, part in enumerate(parts):
            assert sent is not None
            sent.result()
            if number + 1 < len(parts):
                sent = pool.submit(send, number + 1)
            pair, shape = number % N_BUFFERS, X[part].shape
            try:
                yield part, buffers.receive(pair, shape, X.dtype)
            finally:
                buffers.release(pair)
