"""One pass of Lloyd's algorithm over a block: label its rows, and move those that changed between the sums.

    X (n_rows, n_features), labels before and after  ->  sums (n_clusters, n_features), masses (n_clusters,) int64

A row enters as round(w (x - shift) 2^e), an integer, so additions commute and atomic ones do no harm: sums are added
up modulo 2^64 as uint64, the only 64-bit integers that CuPy adds atomically, and mean the same as int64.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.kernels.arrays.distance import runs

Array = Any  # of the array module `xp`


def moved_sums(
    xp: Any,
    X: Array,
    weights: Array,
    grid: tuple[Array, Array, float],
    before: Array,
    after: Array,
    n_clusters: int,
    values: int,
) -> tuple[Array, Array]:
    """Return what rows add to the sums and masses of clusters they come to, and take from those they leave.

    `before` is -1 where a row was in no cluster; `grid` is shift, scale and the scale of masses.
    """
    shift, scale, mass_scale = grid
    sums = xp.zeros((n_clusters, X.shape[1]), np.int64)
    masses = xp.zeros(n_clusters, np.int64)
    for part in runs(len(X), X.shape[1], values):
        terms = X[part].astype(np.float64)
        terms -= shift
        own = xp.ones(len(terms), np.int64)
        if len(weights):
            terms *= weights[part, None]
            own = xp.rint(weights[part] * mass_scale).astype(np.int64)
        terms *= scale
        whole = xp.rint(terms).astype(np.int64)
        _add_at(xp, sums, after[part], whole)
        _add_at(xp, masses, after[part], own)
        left = xp.flatnonzero(before[part] >= 0)
        _add_at(xp, sums, before[part][left], -whole[left])
        _add_at(xp, masses, before[part][left], -own[left])
    return sums, masses


def square_sums(
    xp: Any, X: Array, weights: Array, grid: tuple[Array, Array, Array], values: int
) -> tuple[Array, Array]:
    """Return the sums of w (x - shift) and of w (x - shift)^2 (n_features,), in fixed point.

    `grid` is shift, scale and the scale of squares.
    """
    shift, scale, square_scale = grid
    sums, square = xp.zeros(X.shape[1], np.int64), xp.zeros(X.shape[1], np.int64)
    for part in runs(len(X), X.shape[1], values):
        difference = X[part].astype(np.float64)
        difference -= shift
        squares = difference * difference
        if len(weights):
            difference *= weights[part, None]
            squares *= weights[part, None]
        difference *= scale
        squares *= square_scale
        sums += xp.rint(difference).astype(np.int64).sum(axis=0)
        square += xp.rint(squares).astype(np.int64).sum(axis=0)
    return sums, square


def _add_at(xp: Any, target: Array, places: Array, values: Array) -> None:
    """Add int64 values at places, some of which come several times."""
    xp.add.at(target.view(np.uint64), places, values.view(np.uint64))
