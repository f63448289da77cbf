"""Rows from the host to a device, piece by piece: each is copied while the one before it is computed on.

    rows, Lanes  ->  (where the piece is, the piece on the device) one after another

Two lanes take turns, each a staging buffer on the host (pinned, so that the device fetches it by itself) and one on
the device. A thread fills the staging buffer of the next piece and sends it off; computing is told to wait for the
piece it is about to read, and a buffer is not written before what reads it has ended. Which is which: `Lanes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from engine.execution.threads import row_blocks

PIECE_BYTES = 1 << 26  # a piece: long beside what starting a copy takes. Not measured yet
N_LANES = 2

Array = Any  # of the array module


class Lanes(Protocol):
    """What a device can do about two buffers. Only `host_buffer` waits; the rest is queued."""

    def host_buffer(self, lane: int, shape: tuple[int, ...], dtype: Any) -> Any:
        """Return a lane's staging buffer as an array of NumPy, once its last piece has left it."""

    def send(self, lane: int, shape: tuple[int, ...], dtype: Any) -> None:
        """Copy the staging buffer to the device, after what was computed on the lane's last piece until `release`."""

    def receive(self, lane: int, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return the piece on the device; what is computed from now on waits for it to be there."""

    def release(self, lane: int) -> None:
        """Note that all that reads the lane's piece is queued."""


def staged(X: Any, lanes: Lanes, piece_bytes: int = PIECE_BYTES) -> Iterator[tuple[slice, Array]]:
    """Yield the rows of X (n_rows, n_features), an array of NumPy, on the device.

    A piece may be used until the next one is asked for.
    """
    row_bytes = max(1, X.shape[1] * X.dtype.itemsize)
    parts = list(row_blocks(len(X), max(1, piece_bytes // row_bytes)))

    def send(number: int) -> None:
        piece = X[parts[number]]
        np.copyto(lanes.host_buffer(number % N_LANES, piece.shape, piece.dtype), piece)
        lanes.send(number % N_LANES, piece.shape, piece.dtype)

    with ThreadPoolExecutor(1, thread_name_prefix="rooms-staging") as pool:
        sent = pool.submit(send, 0) if parts else None
        for number, part in enumerate(parts):
            assert sent is not None
            sent.result()
            if number + 1 < len(parts):
                sent = pool.submit(send, number + 1)
            lane, shape = number % N_LANES, X[part].shape
            try:
                yield part, lanes.receive(lane, shape, X.dtype)
            finally:
                lanes.release(lane)
