"""Hash every string of a column to 64 bits, straight from Arrow's buffers.

    offsets (n + 1,), bytes  ->  keys (n,) uint64

Equal strings have equal keys. Among n different strings, two share a key with a probability of about n^2 / 2^65, so a
caller that needs certainty compares the strings of equal keys.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from engine.kernels.cpu.hashing.factorize import hash_bytes


@njit(nogil=True, cache=True)
def hash_strings(offsets: NDArray[np.int32], data: NDArray[np.uint8], keys: NDArray[np.uint64]) -> None:
    """Write the hash of data[offsets[i]:offsets[i + 1]] into keys[i]."""
    for i in range(len(keys)):
        keys[i] = hash_bytes(data, offsets[i], offsets[i + 1])
