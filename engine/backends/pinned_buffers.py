"""Two staging buffers in pinned memory, two on the device, and a stream for each pair: `Lanes` of CuPy.

    a piece of rows in a staging buffer  ->  the same on the device, while other streams compute

A stream is told to wait for an event, never the host, but before a staging buffer is filled again. What is computed
runs on the stream that is current where it is called.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from engine.backends.host_to_device import N_LANES

Array = Any  # of CuPy


class PinnedLanes:
    """Lanes of a module like CuPy; `empty_pinned` makes arrays of NumPy that the device fetches by itself."""

    def __init__(self, cupy: Any, empty_pinned: Any) -> None:
        cuda = cupy.cuda
        self._cupy, self._empty_pinned = cupy, empty_pinned
        self._streams = [cuda.Stream(non_blocking=True) for _ in range(N_LANES)]
        self._sent = [cuda.Event(disable_timing=True) for _ in range(N_LANES)]  # the staging buffer has been read
        self._used = [cuda.Event(disable_timing=True) for _ in range(N_LANES)]  # so has the buffer on the device
        self._host: list[Any] = [None] * N_LANES
        self._device: list[Any] = [None] * N_LANES

    def host_buffer(self, lane: int, shape: tuple[int, ...], dtype: Any) -> Any:
        """Return the staging buffer, once its last piece has left it."""
        n_bytes = prod(shape) * np.dtype(dtype).itemsize
        self._sent[lane].synchronize()
        if self._host[lane] is None or len(self._host[lane]) < n_bytes:
            self._host[lane] = self._empty_pinned((n_bytes,), np.uint8)
        return self._host[lane][:n_bytes].view(dtype).reshape(shape)

    def send(self, lane: int, shape: tuple[int, ...], dtype: Any) -> None:
        """Copy it to the device, after what the lane's last piece was used for."""
        n_bytes, stream = prod(shape) * np.dtype(dtype).itemsize, self._streams[lane]
        if self._device[lane] is None or len(self._device[lane]) < n_bytes:
            self._device[lane] = self._cupy.empty(n_bytes, np.uint8)
            self._used[lane].record()  # the memory may be read by whoever had it before, on this stream
        stream.wait_event(self._used[lane])
        self._device[lane][:n_bytes].set(self._host[lane][:n_bytes], stream=stream)
        self._sent[lane].record(stream)

    def receive(self, lane: int, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return the piece; the current stream waits for it."""
        self._cupy.cuda.get_current_stream().wait_event(self._sent[lane])
        n_bytes = prod(shape) * np.dtype(dtype).itemsize
        return self._device[lane][:n_bytes].view(dtype).reshape(shape)

    def release(self, lane: int) -> None:
        """Note that what reads the piece is queued on the current stream."""
        self._used[lane].record()
