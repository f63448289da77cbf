"""Terms of the utility of centers: the distance of every row to its center, and to the one it would go to without it.

    X (n_rows, n_features), rows ordered by cluster, centers (n_clusters, n_features)
      -> neighbors (n_clusters, n_neighbors): each center and those nearest to it
      -> distances, second_distances (n_rows,) squared; second_nearest (n_clusters,)

The utility of a center is how much the inertia would rise without it: the sum of second distance - distance over its
rows. Second nearest is the nearest among the neighbors of a row's center: nearly always it is the nearest of all other
centers, and takes n_neighbors products instead of n_clusters to find. Distances are those of distance.py, to the bit;
centers lie in the SIMD lanes. Sums are added in order, so utilities and new centers do not depend on the host.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from engine.kernels.cpu.distance import squared_distances
from engine.kernels.cpu.kmeans.plus_plus import STRIP_ROWS, compute_strip_distances

MIN_SQUARED_LENGTH = 1e-300  # added to a squared length, so that a length of 0 can be divided by
Rows = NDArray[np.floating[Any]]
Float64s = NDArray[np.float64]
Int64s = NDArray[np.int64]


@numba.njit(nogil=True, cache=True)
def find_neighboring_centers(centers: Float64s, strips: Float64s, first: int, last: int, neighbors: Int64s) -> None:
    """Write each of the centers first…last - 1 and those nearest to it, nearest first, ties to the lowest index.

    `strips` holds `centers` (n_clusters, n_features) as arrange_in_strips returns them.
    """
    n_clusters, n_neighbors = neighbors.shape
    squared, neighbor_distances = np.empty(STRIP_ROWS), np.full((last - first, n_neighbors), np.inf)
    for c in range(first, last):
        neighbors[c] = c
    for start in range(0, n_clusters, STRIP_ROWS):
        for c in range(first, last):
            compute_strip_distances(strips, start // STRIP_ROWS, centers[c], squared)
            for j in range(start, min(start + STRIP_ROWS, n_clusters)):
                value = squared[j - start]
                if j == c or not value < neighbor_distances[c - first, n_neighbors - 1]:
                    continue
                position = n_neighbors - 1
                while position > 1 and value < neighbor_distances[c - first, position - 1]:
                    neighbor_distances[c - first, position] = neighbor_distances[c - first, position - 1]
                    neighbors[c, position] = neighbors[c, position - 1]
                    position -= 1
                neighbor_distances[c - first, position], neighbors[c, position] = value, j


@numba.njit(nogil=True, cache=True)
def compute_utility_terms(
    X: Rows,
    order: Int64s,
    edges: Int64s,
    centers: Float64s,
    neighbors: Int64s,
    first: int,
    last: int,
    distances: Float64s,
    second_distances: Float64s,
    second_nearest: Int64s,
) -> None:
    """Write the squared distances of the rows of clusters first…last - 1 to their center and to the second nearest.

    second_nearest[c] is the center to which most rows of cluster c would go without c; c itself if c has no rows.
    The rows of cluster c are order[edges[c] : edges[c + 1]].
    """
    n_features, n_neighbors = X.shape[1], neighbors.shape[1]
    neighbor_tile = np.empty((n_features, n_neighbors))
    squared, counts = np.empty(n_neighbors), np.empty(n_neighbors, np.int64)
    for c in range(first, last):
        for t in range(n_features):
            for j in range(n_neighbors):
                neighbor_tile[t, j] = centers[neighbors[c, j], t]
        counts[:] = 0
        for p in range(edges[c], edges[c + 1]):
            i = order[p]
            squared_distances(X[i], neighbor_tile, squared)
            second = 1
            for j in range(2, n_neighbors):
                second = j if squared[j] < squared[second] else second
            distances[i], second_distances[i] = squared[0], squared[second]
            counts[second] += 1
        most_common = 0
        for j in range(1, n_neighbors):
            most_common = j if counts[j] > counts[most_common] else most_common
        second_nearest[c] = neighbors[c, most_common]


@numba.njit(nogil=True, cache=True)
def draw_center(
    X: Rows, members: Int64s, weights: Float64s, errors: Float64s, center: Rows, uniform: float, max_step: float,
    out: Rows,
) -> None:  # fmt: skip
    """Write a new center between a center and one of its rows, drawn in proportion to its error.

    It lies at most the share `max_step` of the way to the row, and no farther than the standard deviation of the
    cluster's rows in that direction: in many dimensions every row is far from all others, so a point halfway to one row
    is near to that row alone. `weights` and `errors` are those of all rows.
    """
    n_members, n_features = members.shape[0], X.shape[1]
    cumulative, mass, squared_length = 0.0, 0.0, MIN_SQUARED_LENGTH
    for p in range(n_members):
        cumulative += errors[members[p]]
        mass += weights[members[p]]
    threshold, cumulative, drawn = uniform * cumulative, 0.0, 0
    for p in range(n_members):
        cumulative += errors[members[p]]
        drawn = p
        if cumulative >= threshold:
            break
    direction, projections = np.empty(n_features), np.zeros(n_members)
    for t in range(n_features):
        direction[t] = np.float64(X[members[drawn], t]) - np.float64(center[t])
        squared_length += direction[t] * direction[t]
    mean = spread = 0.0
    for p in range(n_members):
        for t in range(n_features):
            projections[p] += (np.float64(X[members[p], t]) - np.float64(center[t])) * direction[t]
        projections[p] /= squared_length
        mean += weights[members[p]] / mass * projections[p]
    for p in range(n_members):
        spread += weights[members[p]] / mass * (projections[p] - mean) ** 2
    step = min(max_step, np.sqrt(spread))
    for t in range(n_features):
        out[t] = np.float64(center[t]) + step * direction[t]
