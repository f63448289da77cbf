"""What centres are worth: how far their rows are from them, and from where they would go instead.

    X (n_rows, n_features), rows by cluster, centres (n_clusters, n_features)
      -> near (n_clusters, n_near): each centre and those nearest to it
      -> own, other (n_rows,) squared distances; rivals (n_clusters,)

A row goes to the nearest of the centres near its own, which is all but always the nearest of all others, and is found
in n_near products instead of n_clusters. Distances are those of distance.py, to the bit: centres lie in the SIMD lanes.
Sums are added in order, so what centres are worth, and where they go, does not depend on the host.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from engine.kernels.cpu.distance import squared_distances
from engine.kernels.cpu.kmeans.plus_plus import STRIP, strip_distances

TINY = 1e-300  # a length of 0 is none to divide by
Rows = NDArray[np.floating[Any]]
Float64s = NDArray[np.float64]
Int64s = NDArray[np.int64]


@numba.njit(nogil=True, cache=True)
def nearest_centres(centres: Float64s, strips: Float64s, first: int, last: int, near: Int64s) -> None:
    """Write the numbers of centres first…last and of those nearest to each, in that order, ties to the lowest number.

    `strips` are those of `centres` (n_clusters, n_features).
    """
    n_clusters, n_near = near.shape
    squared, least = np.empty(STRIP), np.full((last - first, n_near), np.inf)
    for c in range(first, last):
        near[c] = c
    for start in range(0, n_clusters, STRIP):
        for c in range(first, last):
            strip_distances(strips, start // STRIP, centres[c], squared)
            for j in range(start, min(start + STRIP, n_clusters)):
                value = squared[j - start]
                if j == c or not value < least[c - first, n_near - 1]:
                    continue
                place = n_near - 1
                while place > 1 and value < least[c - first, place - 1]:
                    least[c - first, place], near[c, place] = least[c - first, place - 1], near[c, place - 1]
                    place -= 1
                least[c - first, place], near[c, place] = value, j


@numba.njit(nogil=True, cache=True)
def worth(
    X: Rows,
    order: Int64s,
    edges: Int64s,
    centres: Float64s,
    near: Int64s,
    first: int,
    last: int,
    own: Float64s,
    other: Float64s,
    rivals: Int64s,
) -> None:
    """Write own and other of the rows of clusters first…last, and where most of a cluster's rows would go.

    The rows of cluster c are order[edges[c] : edges[c + 1]]. A cluster without rows is its own rival.
    """
    n_features, n_near = X.shape[1], near.shape[1]
    tile, squared, votes = np.empty((n_features, n_near)), np.empty(n_near), np.empty(n_near, np.int64)
    for c in range(first, last):
        for t in range(n_features):
            for j in range(n_near):
                tile[t, j] = centres[near[c, j], t]
        votes[:] = 0
        for p in range(edges[c], edges[c + 1]):
            i = order[p]
            squared_distances(X[i], tile, squared)
            rival = 1
            for j in range(2, n_near):
                rival = j if squared[j] < squared[rival] else rival
            own[i], other[i] = squared[0], squared[rival]
            votes[rival] += 1
        commonest = 0
        for j in range(1, n_near):
            commonest = j if votes[j] > votes[commonest] else commonest
        rivals[c] = near[c, commonest]


@numba.njit(nogil=True, cache=True)
def place_between(
    X: Rows, members: Int64s, weights: Float64s, errors: Float64s, centre: Rows, uniform: float, farthest: float,
    out: Rows,
) -> None:  # fmt: skip
    """Write a place between a centre and one of its rows, drawn by its error: `farthest` of the way there at most.

    No farther from the centre than rows spread that way: in many dimensions every row is far from all others, and
    what lies halfway to one is near to that row alone. `weights` and `errors` are of all rows.
    """
    n_members, n_features = members.shape[0], X.shape[1]
    running, mass, length = 0.0, 0.0, TINY
    for p in range(n_members):
        running += errors[members[p]]
        mass += weights[members[p]]
    wanted, running, drawn = uniform * running, 0.0, 0
    for p in range(n_members):
        running += errors[members[p]]
        drawn = p
        if running >= wanted:
            break
    way, along = np.empty(n_features), np.zeros(n_members)
    for t in range(n_features):
        way[t] = np.float64(X[members[drawn], t]) - np.float64(centre[t])
        length += way[t] * way[t]
    mean = spread = 0.0
    for p in range(n_members):
        for t in range(n_features):
            along[p] += (np.float64(X[members[p], t]) - np.float64(centre[t])) * way[t]
        along[p] /= length
        mean += weights[members[p]] / mass * along[p]
    for p in range(n_members):
        spread += weights[members[p]] / mass * (along[p] - mean) ** 2
    share = min(farthest, np.sqrt(spread))
    for t in range(n_features):
        out[t] = np.float64(centre[t]) + share * way[t]
