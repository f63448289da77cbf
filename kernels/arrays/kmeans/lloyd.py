"""Update the cluster sums of Lloyd's algorithm with the rows of a block that changed cluster.

    X (n_rows, n_features), labels before and after  ->  sums (n_clusters, n_features), masses (n_clusters,) int64

A row is added as round(w (x - shift) 2^e), an integer, so the order of additions does not matter, and they can be
atomic. Sums are added modulo 2^64 as uint64, the only 64-bit integers that CuPy adds atomically, and read as int64.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.kernels.arrays.distance import row_chunks

Array = Any  # of the array module `xp`


def compute_sum_changes(
    xp: Any,
    X: Array,
    weights: Array,
    grid: tuple[Array, Array, float],
    before: Array,
    after: Array,
    n_clusters: int,
    chunk_values: int,
) -> tuple[Array, Array]:
    """Return the changes of sums and masses: a row is added to the cluster it joins, subtracted from the one it leaves.

    `before` is -1 where a row was in no cluster; `grid` is the shift, the scale of sums and the scale of masses.
    """
    shift, scale, mass_scale = grid
    sums = xp.zeros((n_clusters, X.shape[1]), np.int64)
    masses = xp.zeros(n_clusters, np.int64)
    for chunk in row_chunks(len(X), X.shape[1], chunk_values):
        terms = X[chunk].astype(np.float64)
        terms -= shift
        row_masses = xp.ones(len(terms), np.int64)
        if len(weights):
            terms *= weights[chunk, None]
            row_masses = xp.rint(weights[chunk] * mass_scale).astype(np.int64)
        terms *= scale
        rounded = xp.rint(terms).astype(np.int64)
        _add_at(xp, sums, after[chunk], rounded)
        _add_at(xp, masses, after[chunk], row_masses)
        left = xp.flatnonzero(before[chunk] >= 0)
        _add_at(xp, sums, before[chunk][left], -rounded[left])
        _add_at(xp, masses, before[chunk][left], -row_masses[left])
    return sums, masses


def compute_square_sums(
    xp: Any, X: Array, weights: Array, grid: tuple[Array, Array, Array], chunk_values: int
) -> tuple[Array, Array]:
    """Return the sums of w (x - shift) and of w (x - shift)^2, of shape (n_features,), in fixed point.

    `grid` is the shift, the scale of sums and the scale of squares.
    """
    shift, scale, square_scale = grid
    sums, square = xp.zeros(X.shape[1], np.int64), xp.zeros(X.shape[1], np.int64)
    for chunk in row_chunks(len(X), X.shape[1], chunk_values):
        difference = X[chunk].astype(np.float64)
        difference -= shift
        squares = difference * difference
        if len(weights):
            difference *= weights[chunk, None]
            squares *= weights[chunk, None]
        difference *= scale
        squares *= square_scale
        sums += xp.rint(difference).astype(np.int64).sum(axis=0)
        square += xp.rint(squares).astype(np.int64).sum(axis=0)
    return sums, square


def _add_at(xp: Any, target: Array, indices: Array, values: Array) -> None:
    """Add int64 values to target[indices], where an index may occur several times."""
    xp.add.at(target.view(np.uint64), indices, values.view(np.uint64))
