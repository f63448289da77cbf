"""Number ids 0, 1, 2 … in order of first appearance, over any number of batches: a hash table of our own.

    ids (n,)  ->  numbers (n,), and the ids known so far

Open addressing with linear probing: `slots` holds numbers of known ids, -1 where empty, its size a power of two.
A kernel stops where the table is half full and returns how far it came, so the caller can grow it and go on.
Integers and texts differ only in how an id is hashed, compared and kept.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

EMPTY = -1
_ROWS_AHEAD = 256  # rows whose places are fetched together: 420,000 texts, one Zen 4 core: 290 -> 75 ns a row
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FNV_PRIME = np.uint64(0x100000001B3)
_FNV_START = np.uint64(0xCBF29CE484222325)


@njit(nogil=True, cache=True)
def _mix(key: np.uint64) -> np.uint64:
    key = (key ^ (key >> np.uint64(32))) * _GOLDEN
    return key ^ (key >> np.uint64(29))


@njit(nogil=True, cache=True)
def _hash_text(data: NDArray[np.uint8], start: int, stop: int) -> np.uint64:
    key = _FNV_START
    for j in range(start, stop):
        key = (key ^ np.uint64(data[j])) * _FNV_PRIME
    mixed: np.uint64 = _mix(key)
    return mixed


@njit(nogil=True, cache=True)
def _same_text(
    a: NDArray[np.uint8], a_start: int, a_stop: int, b: NDArray[np.uint8], b_start: int, b_stop: int
) -> bool:
    if a_stop - a_start != b_stop - b_start:
        return False
    for j in range(a_stop - a_start):  # noqa: SIM110 (numba compiles no all())
        if a[a_start + j] != b[b_start + j]:
            return False
    return True


@njit(nogil=True, cache=True)
def number_integers(
    ids: NDArray[np.int64],
    start: int,
    known: NDArray[np.int64],
    n_known: int,
    slots: NDArray[np.int64],
    numbers: NDArray[np.int64],
) -> tuple[int, int]:
    """Number ids[start:] into `numbers` until the table is half full.

    Parameters
    ----------
    ids, numbers : int64 of shape (n,)
    start : int
    known : int64 of shape (capacity,), the ids numbered so far; capacity >= len(slots) / 2
    n_known : int
    slots : int64 of shape (2^p,)

    Returns
    -------
    stop, n_known : int
        ids[:stop] have their numbers; stop < n asks for more room.
    """
    mask = np.uint64(len(slots) - 1)
    for i in range(start, len(ids)):
        if i > start and ids[i] == ids[i - 1]:  # files are often sorted by user
            numbers[i] = numbers[i - 1]
            continue
        slot = _mix(np.uint64(ids[i])) & mask
        while slots[slot] != EMPTY and known[slots[slot]] != ids[i]:
            slot = (slot + np.uint64(1)) & mask
        if slots[slot] == EMPTY:
            if 2 * n_known >= len(slots):
                return i, n_known
            known[n_known] = ids[i]
            slots[slot] = n_known
            n_known += 1
        numbers[i] = slots[slot]
    return len(ids), n_known


@njit(nogil=True, cache=True)
def place_integers(known: NDArray[np.int64], n_known: int, slots: NDArray[np.int64]) -> None:
    """Fill empty `slots` with the numbers of known ids."""
    mask = np.uint64(len(slots) - 1)
    for number in range(n_known):
        slot = _mix(np.uint64(known[number])) & mask
        while slots[slot] != EMPTY:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = number


@njit(nogil=True, cache=True)
def number_texts(
    offsets: NDArray[np.int32],
    data: NDArray[np.uint8],
    start: int,
    known_offsets: NDArray[np.int64],
    known_data: NDArray[np.uint8],
    n_known: int,
    slots: NDArray[np.int64],
    numbers: NDArray[np.int64],
) -> tuple[int, int]:
    """Number texts start… into `numbers` until the table is half full or the bytes of known texts have no room.

    Text i is data[offsets[i]:offsets[i + 1]], UTF-8, as in an Arrow string array; known texts likewise. The
    rest as in `number_integers`.
    """
    mask = np.uint64(len(slots) - 1)
    places = np.empty(_ROWS_AHEAD, np.uint64)
    warm = np.empty(_ROWS_AHEAD, np.uint8)
    for begin in range(start, len(offsets) - 1, _ROWS_AHEAD):
        end = min(begin + _ROWS_AHEAD, len(offsets) - 1)
        for i in range(begin, end):
            places[i - begin] = _hash_text(data, offsets[i], offsets[i + 1]) & mask
        # A look-up waits for three loads from memory, each for the one before. Loads of different rows overlap if
        # no comparison stands between them: so fetch them for all rows first.
        for i in range(begin, end):
            byte = known_offsets[max(slots[places[i - begin]], 0)]
            warm[i - begin] = known_data[min(byte, len(known_data) - 1)]
        for i in range(begin, end):
            first, last = offsets[i], offsets[i + 1]
            slot = places[i - begin]
            while slots[slot] != EMPTY:
                k = slots[slot]
                if _same_text(data, first, last, known_data, known_offsets[k], known_offsets[k + 1]):
                    break
                slot = (slot + np.uint64(1)) & mask
            if slots[slot] == EMPTY:
                stop = known_offsets[n_known] + last - first
                if 2 * n_known >= len(slots) or stop > len(known_data):
                    return i, n_known
                known_data[known_offsets[n_known] : stop] = data[first:last]
                known_offsets[n_known + 1] = stop
                slots[slot] = n_known
                n_known += 1
            numbers[i] = slots[slot]
    return len(offsets) - 1, n_known


@njit(nogil=True, cache=True)
def place_texts(
    known_offsets: NDArray[np.int64], known_data: NDArray[np.uint8], n_known: int, slots: NDArray[np.int64]
) -> None:
    """Fill empty `slots` with the numbers of known texts."""
    mask = np.uint64(len(slots) - 1)
    for number in range(n_known):
        slot = _hash_text(known_data, known_offsets[number], known_offsets[number + 1]) & mask
        while slots[slot] != EMPTY:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = number
