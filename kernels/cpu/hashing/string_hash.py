"""A 64-bit key of every text of a column, straight from Arrow's buffers.

    offsets (n + 1,), bytes  ->  keys (n,) uint64

Equal texts have equal keys; different texts have different keys but for a chance of about n^2 / 2^65, so whoever
needs certainty compares the texts of equal keys.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from engine.kernels.cpu.hashing.factorize import _hash_text


@njit(nogil=True, cache=True)
def text_keys(offsets: NDArray[np.int32], data: NDArray[np.uint8], keys: NDArray[np.uint64]) -> None:
    """Write the key of data[offsets[i]:offsets[i + 1]] into keys[i]."""
    for i in range(len(keys)):
        keys[i] = _hash_text(data, offsets[i], offsets[i + 1])
