"""Out-of-sample t-SNE: place new rows in the embedding of the landmarks, where one row more would be embedded.

    neighbors (n_rows, k) among the landmarks, p(j|i), the landmarks' embedding and repulsion field
      -> positions (n_rows, 2), uncertain (n_rows,)

A row starts at the weighted mean of its neighbors' positions. Where these lie far apart, it would fall between
clusters: it starts at their medoid instead and counts as uncertain. Then it moves to where attraction and the
landmarks' repulsion balance: the landmarks are fixed, and new rows do not act on each other. A row that equals a
landmark takes its position.
"""

from __future__ import annotations

from typing import TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

from engine.kernels.cpu.neighbors.knn_approximate import find_approximate_neighbors
from engine.kernels.cpu.neighbors.packed_leaves import LEAF_SIZE
from engine.kernels.cpu.tsne.grid_repulsion import GRID_SPACING, SPLINE_ORDER, interpolate_force

MAX_STEP_NORM = np.float32(2.0)  # units of the embedding

Float32s: TypeAlias = NDArray[np.float32]
Float64s: TypeAlias = NDArray[np.float64]
Int32s: TypeAlias = NDArray[np.int32]
Int64s: TypeAlias = NDArray[np.int64]


@numba.njit(nogil=True, cache=True)
def find_landmark_neighbors(
    queries: Float32s, starts: Int64s, panels: Float32s, halves: Float32s, members: Int32s,
    around: Int32s, k: int, neighbors: Int32s, squared: Float64s,
) -> None:  # fmt: skip
    """Write the k nearest landmarks of queries sorted by home leaf, among those of the leaves around[home].

    `starts` (n_leaves + 1,) says where the queries of a home begin, `around` (n_leaves, n) which leaves are visited.
    """
    for home in range(around.shape[0]):
        first, last = starts[home], starts[home + 1]
        for start in range(first, last, LEAF_SIZE):
            stop = min(start + LEAF_SIZE, last)
            find_approximate_neighbors(
                queries[start:stop],
                panels,
                halves,
                members,
                around[home],
                k,
                neighbors[start:stop],
                squared[start:stop],
            )


@numba.njit(nogil=True, cache=True)
def _weighted_mean(row, p, embedding):  # type: ignore[no-untyped-def]
    """Return the weighted mean (y, x) of a row's neighbors in the embedding, and their mean distance from it."""
    y = x = distance = 0.0
    for e in range(row.shape[0]):
        y += p[e] * embedding[row[e], 1]
        x += p[e] * embedding[row[e], 0]
    for e in range(row.shape[0]):
        distance += p[e] * np.sqrt((embedding[row[e], 1] - y) ** 2 + (embedding[row[e], 0] - x) ** 2)
    return y, x, distance


@numba.njit(nogil=True, cache=True)
def compute_neighbor_spreads(neighbors: Int32s, p: Float32s, embedding: Float32s, out: Float64s) -> None:
    """Write the weighted mean distance of every row's neighbors from their weighted mean, in the embedding."""
    for i in range(neighbors.shape[0]):
        out[i] = _weighted_mean(neighbors[i], p[i], embedding)[2]


@numba.njit(nogil=True, cache=True)
def _medoid(row, p, embedding):  # type: ignore[no-untyped-def]
    """Return the neighbor with the least weighted distance to all in the embedding; of equal ones, the nearest."""
    best, least = 0, np.inf
    for c in range(row.shape[0]):
        total = 0.0
        for e in range(row.shape[0]):
            dx, dy = embedding[row[e], 0] - embedding[row[c], 0], embedding[row[e], 1] - embedding[row[c], 1]
            total += p[e] * np.sqrt(dx * dx + dy * dy)
        if total < least:
            best, least = c, total
    return row[best]


@numba.njit(nogil=True, cache=True)
def _optimize_position(row, p, embedding, field, origin, weight, n_steps, y, x):  # type: ignore[no-untyped-def]
    """Return the position (y, x) after n_steps from the given one; `weight` (n_landmarks / Z) scales the repulsion."""
    one, factor = np.float32(1.0), np.float32(1.0 / GRID_SPACING)
    low_y, low_x = np.float32(origin[0] * GRID_SPACING), np.float32(origin[1] * GRID_SPACING)
    high_y = low_y + np.float32((field.shape[0] - SPLINE_ORDER) * GRID_SPACING)
    high_x = low_x + np.float32((field.shape[1] - SPLINE_ORDER) * GRID_SPACING)
    for _ in range(n_steps):
        total = pull_y = pull_x = np.float32(0.0)
        for e in range(row.shape[0]):
            dx, dy = embedding[row[e], 0] - x, embedding[row[e], 1] - y
            w = p[e] / (one + dx * dx + dy * dy)
            total += w
            pull_y += w * dy
            pull_x += w * dx
        push_y, push_x = interpolate_force(
            field, y * factor - np.float32(origin[0]), x * factor - np.float32(origin[1])
        )
        scale = one / total
        step_y, step_x = scale * (pull_y + push_y * weight), scale * (pull_x + push_x * weight)
        length = np.sqrt(step_y * step_y + step_x * step_x)
        if length > MAX_STEP_NORM:
            step_y, step_x = step_y * (MAX_STEP_NORM / length), step_x * (MAX_STEP_NORM / length)
        y = min(max(y + step_y, low_y), high_y)
        x = min(max(x + step_x, low_x), high_x)
    return y, x


@numba.njit(nogil=True, cache=True)
def place_rows(
    neighbors: Int32s, squared: Float64s, p: Float32s, embedding: Float32s, field: Float32s,
    origin: tuple[float, float], weight: float, max_spread: float, n_steps: int,
    out: Float32s, uncertain: NDArray[np.bool_],
) -> None:  # fmt: skip
    """Write the position (x, y) of every row, and whether its neighbors spread beyond `max_spread`."""
    for i in range(neighbors.shape[0]):
        row = neighbors[i]
        y, x, distance = _weighted_mean(row, p[i], embedding)
        uncertain[i] = distance > max_spread and squared[i, 0] > 0.0
        if squared[i, 0] == 0.0:
            out[i] = embedding[row[0]]
            continue
        if uncertain[i]:
            medoid = _medoid(row, p[i], embedding)
            y, x = embedding[medoid, 1], embedding[medoid, 0]
        out[i, 1], out[i, 0] = _optimize_position(
            row, p[i], embedding, field, origin, np.float32(weight), n_steps, np.float32(y), np.float32(x)
        )
