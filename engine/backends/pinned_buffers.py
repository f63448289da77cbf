"""StagingBuffers of CuPy: pinned host buffers, device buffers, and one stream for each pair of them.

    a piece of rows in a staging buffer  ->  the same on the device, while other streams compute

Streams wait for events; the host waits only before it fills a staging buffer again. Computation runs on the caller's
current stream.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from engine.backends.host_to_device import N_BUFFERS
from engine.utils.array_types import Array


class PinnedStagingBuffers:
    """StagingBuffers of a module like CuPy; `empty_pinned` allocates page-locked NumPy arrays, as cupyx does."""

    def __init__(self, cupy: Any, empty_pinned: Any) -> None:
        cuda = cupy.cuda
        self._cupy, self._empty_pinned = cupy, empty_pinned
        self._streams = [cuda.Stream(non_blocking=True) for _ in range(N_BUFFERS)]
        self._copied = [cuda.Event(disable_timing=True) for _ in range(N_BUFFERS)]  # the staging buffer was copied
        self._read = [cuda.Event(disable_timing=True) for _ in range(N_BUFFERS)]  # the device buffer was read
        self._host: list[Any] = [None] * N_BUFFERS
        self._device: list[Any] = [None] * N_BUFFERS

    def host_buffer(self, pair: int, shape: tuple[int, ...], dtype: Any) -> Any:
        """Return a staging buffer, after its last piece has been copied."""
        n_bytes = prod(shape) * np.dtype(dtype).itemsize
        self._copied[pair].synchronize()
        if self._host[pair] is None or len(self._host[pair]) < n_bytes:
            self._host[pair] = self._empty_pinned((n_bytes,), np.uint8)
        return self._host[pair][:n_bytes].view(dtype).reshape(shape)

    def send(self, pair: int, shape: tuple[int, ...], dtype: Any) -> None:
        """Queue the copy to the device, after all reads of the pair's last piece."""
        n_bytes, stream = prod(shape) * np.dtype(dtype).itemsize, self._streams[pair]
        if self._device[pair] is None or len(self._device[pair]) < n_bytes:
            self._device[pair] = self._cupy.empty(n_bytes, np.uint8)
            self._read[pair].record()  # its previous owner may still read it on this stream
        stream.wait_event(self._read[pair])
        self._device[pair][:n_bytes].set(self._host[pair][:n_bytes], stream=stream)
        self._copied[pair].record(stream)

    def receive(self, pair: int, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return the piece; the current stream waits for its copy."""
        self._cupy.cuda.get_current_stream().wait_event(self._copied[pair])
        n_bytes = prod(shape) * np.dtype(dtype).itemsize
        return self._device[pair][:n_bytes].view(dtype).reshape(shape)

    def release(self, pair: int) -> None:
        """Record that all reads of the piece have been queued on the current stream."""
        self._read[pair].record()
