"""Places of new rows on a finished map: between their neighbours, where t-SNE would put one row more.

    neighbours (n_rows, k) of rows, p(j|i), the landmarks' places and field  ->  places (n_rows, 2), doubtful (n_rows,)

A row starts at the weighted mean of its neighbours' places; where they lie far apart it would fall between clusters,
so it starts at their medoid instead and is called doubtful. Then it moves to where attraction and the landmarks'
repulsion balance: landmarks stay where they are, and new rows do not see each other. A row that equals a landmark is
where that is.
"""

from __future__ import annotations

from typing import TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

from engine.kernels.cpu.neighbors.knn_approximate import search_all
from engine.kernels.cpu.neighbors.packed_leaves import LEAF
from engine.kernels.cpu.tsne.grid_repulsion import ORDER, SPACING, force_at

LONGEST_STEP = np.float32(2.0)  # units of the map

Float32s: TypeAlias = NDArray[np.float32]
Float64s: TypeAlias = NDArray[np.float64]
Int32s: TypeAlias = NDArray[np.int32]
Int64s: TypeAlias = NDArray[np.int64]


@numba.njit(nogil=True, cache=True)
def search_homes(
    queries: Float32s, starts: Int64s, panels: Float32s, halves: Float32s, members: Int32s,
    around: Int32s, k: int, places: Int32s, squared: Float64s,
) -> None:  # fmt: skip
    """Write the k nearest references of queries sorted by home leaf, among the leaves around[home] (n_leaves, n)."""
    for home in range(around.shape[0]):
        first, last = starts[home], starts[home + 1]
        for start in range(first, last, LEAF):
            stop = min(start + LEAF, last)
            search_all(
                queries[start:stop], panels, halves, members, around[home], k, places[start:stop], squared[start:stop]
            )


@numba.njit(nogil=True, cache=True)
def _mean_place(row, p, places):  # type: ignore[no-untyped-def]
    """Return the weighted mean of neighbours' places as (y, x), and their weighted mean distance from it."""
    y = x = distance = 0.0
    for e in range(row.shape[0]):
        y += p[e] * places[row[e], 1]
        x += p[e] * places[row[e], 0]
    for e in range(row.shape[0]):
        distance += p[e] * np.sqrt((places[row[e], 1] - y) ** 2 + (places[row[e], 0] - x) ** 2)
    return y, x, distance


@numba.njit(nogil=True, cache=True)
def spreads(numbers: Int32s, p: Float32s, places: Float32s, out: Float64s) -> None:
    """Write how far the neighbours of every row are from their weighted mean, on the map."""
    for i in range(numbers.shape[0]):
        out[i] = _mean_place(numbers[i], p[i], places)[2]


@numba.njit(nogil=True, cache=True)
def _medoid(row, p, places):  # type: ignore[no-untyped-def]
    """Return the neighbour with the least weighted distance to all, the nearest of equal ones."""
    best, least = 0, np.inf
    for c in range(row.shape[0]):
        total = 0.0
        for e in range(row.shape[0]):
            dx, dy = places[row[e], 0] - places[row[c], 0], places[row[e], 1] - places[row[c], 1]
            total += p[e] * np.sqrt(dx * dx + dy * dy)
        if total < least:
            best, least = c, total
    return row[best]


@numba.njit(nogil=True, cache=True)
def _settle(row, p, places, field, origin, weight, n_steps, y, x):  # type: ignore[no-untyped-def]
    """Return where a row starting at (y, x) ends; `weight` is one landmark's share of Z."""
    one, factor = np.float32(1.0), np.float32(1.0 / SPACING)
    low_y, low_x = np.float32(origin[0] * SPACING), np.float32(origin[1] * SPACING)
    high_y = low_y + np.float32((field.shape[0] - ORDER) * SPACING)
    high_x = low_x + np.float32((field.shape[1] - ORDER) * SPACING)
    for _ in range(n_steps):
        total = pull_y = pull_x = np.float32(0.0)
        for e in range(row.shape[0]):
            dx, dy = places[row[e], 0] - x, places[row[e], 1] - y
            w = p[e] / (one + dx * dx + dy * dy)
            total += w
            pull_y += w * dy
            pull_x += w * dx
        push_y, push_x = force_at(field, y * factor - np.float32(origin[0]), x * factor - np.float32(origin[1]))
        scale = one / total
        step_y, step_x = scale * (pull_y + push_y * weight), scale * (pull_x + push_x * weight)
        length = np.sqrt(step_y * step_y + step_x * step_x)
        if length > LONGEST_STEP:
            step_y, step_x = step_y * (LONGEST_STEP / length), step_x * (LONGEST_STEP / length)
        y = min(max(y + step_y, low_y), high_y)
        x = min(max(x + step_x, low_x), high_x)
    return y, x


@numba.njit(nogil=True, cache=True)
def place(
    numbers: Int32s, squared: Float64s, p: Float32s, places: Float32s, field: Float32s, origin: tuple[float, float],
    weight: float, far_apart: float, n_steps: int, out: Float32s, doubtful: NDArray[np.bool_],
) -> None:  # fmt: skip
    """Write the place (x, y) of every row, and whether its neighbours lie farther apart than `far_apart`."""
    for i in range(numbers.shape[0]):
        row = numbers[i]
        y, x, distance = _mean_place(row, p[i], places)
        doubtful[i] = distance > far_apart and squared[i, 0] > 0.0
        if squared[i, 0] == 0.0:
            out[i] = places[row[0]]
            continue
        if doubtful[i]:
            medoid = _medoid(row, p[i], places)
            y, x = places[medoid, 1], places[medoid, 0]
        out[i, 1], out[i, 0] = _settle(
            row, p[i], places, field, origin, np.float32(weight), n_steps, np.float32(y), np.float32(x)
        )
