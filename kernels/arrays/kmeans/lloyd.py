"""Update the cluster sums of Lloyd's algorithm with the rows of a block that changed cluster.

    X (n_rows, n_features), labels before and after  ->  sums (n_clusters, n_features), masses (n_clusters,) int64

A row is added as round(w (x - shift) 2^e), an integer, so the order of additions does not matter, and they can be
atomic. Sums are added modulo 2^64 as uint64, the only 64-bit integers that CuPy adds atomically, and read as int64.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.kernels.arrays.columns import reduce_columns
from engine.kernels.arrays.distance import row_chunks

Array = Any  # of the array module `xp`


def compute_sum_changes(
    xp: Any,
    X: Array,
    rows: Array | None,
    weights: Array,
    grid: tuple[Array, Array, float],
    before: Array,
    after: Array,
    n_clusters: int,
    chunk_values: int,
) -> tuple[Array, Array]:
    """Return the changes of sums and masses: a row is added to the cluster it joins, subtracted from the one it leaves.

    Only some rows of X changed, or all if `rows` is None; weights and labels are those of these rows. `before` is -1
    where a row was in no cluster; `grid` is the shift, the scale of sums and the scale of masses.
    """
    shift, scale, mass_scale = grid
    sums = xp.zeros((n_clusters + 1, X.shape[1]), np.int64)  # the last one is that of label -1: no cluster
    masses = xp.zeros(n_clusters + 1, np.int64)
    row_masses = xp.ones(len(after), np.int64)
    if len(weights):
        row_masses = xp.rint(weights * mass_scale).astype(np.int64)
    _add_at(xp, masses, after, row_masses)
    is_first = len(before) == 0 or bool((before < 0).all())
    if not is_first:
        _add_at(xp, masses, before, -row_masses)
    for chunk in row_chunks(len(after), X.shape[1], chunk_values):
        terms = xp.subtract(X[chunk] if rows is None else X[rows[chunk]], shift, dtype=np.float64)
        if len(weights):
            terms *= weights[chunk, None]
        terms *= scale
        rounded = xp.rint(terms, out=terms).astype(np.int64)
        _add_at(xp, sums, after[chunk], rounded)
        if not is_first:
            rounded *= -1
            _add_at(xp, sums, before[chunk], rounded)
    return sums[:n_clusters], masses[:n_clusters]


def compute_square_sums(
    xp: Any, X: Array, weights: Array, grid: tuple[Array, Array, Array], chunk_values: int
) -> tuple[Array, Array]:
    """Return the sums of w (x - shift) and of w (x - shift)^2, of shape (n_features,), in fixed point.

    `grid` is the shift, the scale of sums and the scale of squares.
    """
    shift, scale, square_scale = grid
    sums, square = xp.zeros(X.shape[1], np.int64), xp.zeros(X.shape[1], np.int64)
    for chunk in row_chunks(len(X), X.shape[1], chunk_values):
        difference = xp.subtract(X[chunk], shift, dtype=np.float64)
        squares = difference * difference
        if len(weights):
            difference *= weights[chunk, None]
            squares *= weights[chunk, None]
        difference *= scale
        squares *= square_scale
        sums += reduce_columns(xp, xp.rint(difference, out=difference).astype(np.int64), "sum")
        square += reduce_columns(xp, xp.rint(squares, out=squares).astype(np.int64), "sum")
    return sums, square


def _add_at(xp: Any, target: Array, indices: Array, values: Array) -> None:
    """Add int64 values to target[indices], where an index may occur several times."""
    xp.add.at(target.view(np.uint64), indices, values.view(np.uint64))
