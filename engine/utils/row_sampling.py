"""Sample rows by a counter-based random number generator keyed on (seed, global row number).

    seed, n_rows, size  ->  row numbers of a uniform sample, ascending

A row's key depends on nothing but the seed and its number: not on files, blocks, threads or workers. The rows
with the smallest keys are a uniform sample without replacement, and can be collected in one streaming pass.

Source: the mixing function is splitmix64 (Steele, Lea & Flood, "Fast splittable pseudorandom number
generators", OOPSLA 2014).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.kernels.cpu.hashing import sample_keys as kernels

KEY_ROWS = 1 << 20  # rows whose keys are held at a time: 8 MiB of keys

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, the increment of splitmix64


def mix64(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the splitmix64 finalizer of each 64-bit number: a bijection whose bits look random."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def row_keys(seed: int, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the 64-bit key of each row number, of shape (n_rows,): uniform, and the same in every run."""
    return mix64(rows.astype(np.uint64) * GOLDEN + _seed_offset(seed))


def sample_rows(n_rows: int, size: int, seed: int) -> NDArray[np.int64]:
    """Return min(size, n_rows) distinct row numbers below n_rows in ascending order: those with the smallest keys.

    Memory is proportional to `size`, not to `n_rows`.
    """
    if size >= n_rows:
        return np.arange(n_rows, dtype=np.int64)
    # Keys are uniform, so a threshold slightly above the expected one leaves few rows to sort, whatever n_rows is.
    share = (size + 6.0 * size**0.5 + 16.0) / n_rows
    rows, keys = _rows_below(n_rows, share, seed)
    while len(rows) < size:  # happens in one draw of 10^9
        share *= 2.0
        rows, keys = _rows_below(n_rows, share, seed)
    order = np.argsort(keys, kind="stable")[:size]
    return np.sort(rows[order])


def sample_stratified_rows(
    labels: NDArray[np.int32], n_clusters: int, size: int, quota: int, seed: int
) -> NDArray[np.int64]:
    """Return about `size` row numbers in ascending order: of each cluster those with the smallest keys.

    A cluster gets a number of rows in proportion to its size, but at least `quota`, or all it has.
    """
    sizes = count_labels(labels, n_clusters)
    n_per_cluster = np.array([max(quota, round(size * members / len(labels))) for members in sizes.tolist()], np.int64)
    return sample_members(labels, n_per_cluster, seed)


def sample_members(
    labels: NDArray[np.int32], n_per_cluster: NDArray[np.int64], seed: int, excluded: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Return, in ascending order, the n_per_cluster[c] rows of each cluster c with the smallest keys, or all it has.

    Rows in `excluded`, in ascending order, are left out. Memory is proportional to the rows drawn, not to all.
    """
    rows, keys = np.empty(0, np.int64), np.empty(0, np.uint64)
    thresholds = np.full(len(n_per_cluster), 2**64 - 1, np.uint64)  # largest key that can still be drawn
    for start in range(0, len(labels), KEY_ROWS):
        part = np.arange(start, min(start + KEY_ROWS, len(labels)), dtype=np.int64)
        part_labels, part_keys = labels[start : start + KEY_ROWS], row_keys(seed, part)
        part = part[(part_keys <= thresholds[part_labels]) & (n_per_cluster[part_labels] > 0)]
        if excluded is not None:
            part = np.setdiff1d(part, excluded, assume_unique=True)
        rows, keys = np.concatenate([rows, part]), np.concatenate([keys, part_keys[part - start]])
        order = np.lexsort((keys, labels[rows]))  # equal keys are ordered by row
        sorted_labels = labels[rows[order]]
        rank = np.arange(len(order)) - np.searchsorted(sorted_labels, sorted_labels)  # within the cluster
        last = order[rank == n_per_cluster[sorted_labels] - 1]
        thresholds[labels[rows[last]]] = keys[last]
        drawn = np.sort(order[rank < n_per_cluster[sorted_labels]])
        rows, keys = rows[drawn], keys[drawn]
    return rows


def count_labels(labels: NDArray[np.int32], n_clusters: int) -> NDArray[np.int64]:
    """Return how many rows have each label: np.bincount in blocks, because it copies its labels as int64."""
    counts = np.zeros(n_clusters, np.int64)
    for start in range(0, len(labels), KEY_ROWS):
        counts += np.bincount(labels[start : start + KEY_ROWS], minlength=n_clusters)
    return counts


def _rows_below(n_rows: int, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Return the rows whose key lies in the lowest `share` of all keys, and their keys."""
    threshold = np.uint64(min(share * 2.0**64, 2.0**64 - 2048.0)) if share < 1.0 else np.uint64(2**64 - 1)
    offset = _seed_offset(seed)
    row_buffer, key_buffer = np.empty(min(KEY_ROWS, n_rows), np.int64), np.empty(min(KEY_ROWS, n_rows), np.uint64)
    rows, keys = [], []
    for start in range(0, n_rows, KEY_ROWS):
        count = kernels.select_small_keys(
            start, min(start + KEY_ROWS, n_rows), offset, threshold, row_buffer, key_buffer
        )
        rows.append(row_buffer[:count].copy())
        keys.append(key_buffer[:count].copy())
    return np.concatenate(rows), np.concatenate(keys)


def _seed_offset(seed: int) -> np.uint64:
    """Return the offset of a seed's key sequence, so that different seeds give different keys."""
    with np.errstate(over="ignore"):
        return np.uint64(mix64(np.array([seed % 2**64], np.uint64) * GOLDEN + GOLDEN)[0])
