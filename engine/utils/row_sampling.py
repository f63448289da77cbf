"""Draw rows by a counter-based generator keyed on (seed, global row number).

A row's key depends on nothing but the seed and its number: not on files, blocks, threads or workers. The rows
with the smallest keys are a uniform sample without replacement, and can be collected in one streaming pass.

Source: the mixing function is splitmix64 (Steele, Lea & Flood, "Fast splittable pseudorandom number
generators", OOPSLA 2014).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.kernels.cpu.hashing import sample_keys as sampling

KEY_ROWS = 1 << 20  # rows whose keys are held at a time: 8 MiB of keys

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mixed(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return other 64-bit numbers, one for each, whose bits look random."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def row_keys(seed: int, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the 64-bit key of each row number, of shape (n_rows,): uniform, and the same for ever."""
    return mixed(rows.astype(np.uint64) * _GOLDEN + _stream_of(seed))


def sample_rows(n_rows: int, size: int, seed: int) -> NDArray[np.int64]:
    """Return min(size, n_rows) distinct row numbers of 0…n_rows in ascending order, drawn by smallest key.

    Memory is proportional to `size`, not to `n_rows`.
    """
    if size >= n_rows:
        return np.arange(n_rows, dtype=np.int64)
    # Keys are uniform, so a cut slightly above the expected one leaves few rows to sort, whatever n_rows is.
    share = (size + 6.0 * size**0.5 + 16.0) / n_rows
    rows, keys = _rows_below(n_rows, share, seed)
    while len(rows) < size:  # one draw in 10^9
        share *= 2.0
        rows, keys = _rows_below(n_rows, share, seed)
    order = np.argsort(keys, kind="stable")[:size]
    return np.sort(rows[order])


def stratified_rows(labels: NDArray[np.int32], n_clusters: int, size: int, quota: int, seed: int) -> NDArray[np.int64]:
    """Return about `size` row numbers in ascending order, drawn by smallest key within each cluster.

    Clusters get rows in proportion to theirs, but at least `quota`, or all they have.
    """
    sizes = counts_of(labels, n_clusters)
    wanted = np.array([max(quota, round(size * members / len(labels))) for members in sizes.tolist()], np.int64)
    return members_drawn(labels, wanted, seed)


def members_drawn(
    labels: NDArray[np.int32], wanted: NDArray[np.int64], seed: int, without: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Return, in ascending order, the wanted[c] rows of each cluster c with the smallest keys, or all it has.

    Rows `without`, in ascending order, are left out. Memory is proportional to the rows drawn, not to all.
    """
    rows, keys, cuts = np.empty(0, np.int64), np.empty(0, np.uint64), np.full(len(wanted), 2**64 - 1, np.uint64)
    for start in range(0, len(labels), KEY_ROWS):
        part = np.arange(start, min(start + KEY_ROWS, len(labels)), dtype=np.int64)
        part_labels, part_keys = labels[start : start + KEY_ROWS], row_keys(seed, part)
        part = part[(part_keys <= cuts[part_labels]) & (wanted[part_labels] > 0)]
        if without is not None:
            part = np.setdiff1d(part, without, assume_unique=True)
        rows, keys = np.concatenate([rows, part]), np.concatenate([keys, part_keys[part - start]])
        order = np.lexsort((keys, labels[rows]))  # equal keys: by row
        found = labels[rows[order]]
        rank = np.arange(len(order)) - np.searchsorted(found, found)  # within the cluster
        last = order[rank == wanted[found] - 1]
        cuts[labels[rows[last]]] = keys[last]
        kept = np.sort(order[rank < wanted[found]])
        rows, keys = rows[kept], keys[kept]
    return rows


def counts_of(labels: NDArray[np.int32], n_clusters: int) -> NDArray[np.int64]:
    """Return how many rows have each label: np.bincount, which copies all labels as int64, run by run."""
    counts = np.zeros(n_clusters, np.int64)
    for start in range(0, len(labels), KEY_ROWS):
        counts += np.bincount(labels[start : start + KEY_ROWS], minlength=n_clusters)
    return counts


def _rows_below(n_rows: int, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Return the rows whose key lies in the lowest `share` of all keys, and their keys."""
    cut = np.uint64(min(share * 2.0**64, 2.0**64 - 2048.0)) if share < 1.0 else np.uint64(2**64 - 1)
    stream = _stream_of(seed)
    found_rows, found_keys = np.empty(min(KEY_ROWS, n_rows), np.int64), np.empty(min(KEY_ROWS, n_rows), np.uint64)
    rows, keys = [], []
    for start in range(0, n_rows, KEY_ROWS):
        count = sampling.keys_below(start, min(start + KEY_ROWS, n_rows), stream, cut, found_rows, found_keys)
        rows.append(found_rows[:count].copy())
        keys.append(found_keys[:count].copy())
    return np.concatenate(rows), np.concatenate(keys)


def _stream_of(seed: int) -> np.uint64:
    """Return what tells the keys of one seed from those of another."""
    with np.errstate(over="ignore"):
        return np.uint64(mixed(np.array([seed % 2**64], np.uint64) * _GOLDEN + _GOLDEN)[0])
