"""Out-of-sample t-SNE on whole arrays: place new rows by the steps of kernels/cpu/tsne/transform.py.

    rows (n_rows, n_features), their home leaves, landmarks by leaf
      -> positions (n_rows, 2) float32, uncertain (n_rows,)

Rows are processed by home leaf, since those of one home have the same candidates. Neighbors and their distances are
exact among these; positions agree with those of the CPU within rounding, since exp and fused operations differ in
their last bits.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from engine.kernels.arrays.distance import row_chunks
from engine.kernels.cpu.tsne.grid_repulsion import GRID_SPACING, SPLINE_ORDER
from engine.kernels.cpu.tsne.transform import MAX_STEP_NORM

Array = Any  # of the array module `xp`


class LandmarkArrays(NamedTuple):
    """Landmarks, their embedding and its repulsion field, as arrays of one device."""

    X: Array  # (n, n_features) float32, the landmarks in the order of leaves
    candidates: list[Array]  # per home leaf, positions of the landmarks around it, sorted by row number
    embedding: Array  # (n, 2) float32
    potential: Array  # (nodes_y, nodes_x) float32, whose derivatives are forces
    origin: tuple[float, float]
    weight: float  # n / Z, the factor of the repulsion
    max_spread: float  # of the neighbors of a row that is not uncertain


def find_landmark_neighbors(
    xp: Any, rows: Array, homes: Array, landmarks: LandmarkArrays, k: int, chunk_values: int
) -> tuple[Array, Array]:
    """Return the k nearest landmarks around each row's home leaf, and squared distances, both (n_rows, k)."""
    neighbors, squared = xp.empty((len(rows), k), np.int64), xp.full((len(rows), k), np.inf)
    for home, around in enumerate(landmarks.candidates):
        home_rows = xp.flatnonzero(homes == home)
        home_landmarks = landmarks.X[around]
        for chunk in row_chunks(len(home_rows), len(around), chunk_values):
            queries = home_rows[chunk]
            distances = xp.zeros((len(queries), len(around)))
            for t in range(rows.shape[1]):
                difference = rows[queries, t][:, None].astype(np.float64) - home_landmarks[:, t]
                difference *= difference
                distances += difference
            for e in range(min(k, len(around))):  # selects the least k; a full sort reads the distances more often
                nearest = distances.argmin(axis=1)
                neighbors[queries, e] = around[nearest]
                squared[queries, e] = distances[xp.arange(len(queries)), nearest]
                distances[xp.arange(len(queries)), nearest] = np.inf
    return neighbors, squared


def place_rows(
    xp: Any, neighbors: Array, squared: Array, p: Array, landmarks: LandmarkArrays, n_steps: int
) -> tuple[Array, Array]:
    """Return the position (x, y) of every row, and whether its neighbors lie too far apart to be certain of it."""
    neighbor_positions = landmarks.embedding[neighbors]  # (n_rows, k, 2)
    positions64 = neighbor_positions.astype(np.float64)
    start = (p[:, :, None].astype(np.float64) * positions64).sum(axis=1)
    spread = (p * xp.sqrt(xp.square(positions64 - start[:, None, :]).sum(axis=2))).sum(axis=1)
    is_landmark = squared[:, 0] == 0.0
    uncertain = (spread > landmarks.max_spread) & ~is_landmark
    pairwise = xp.sqrt(xp.square(neighbor_positions[:, :, None, :] - neighbor_positions[:, None, :, :]).sum(axis=3))
    medoid = (p[:, None, :].astype(np.float64) * pairwise).sum(axis=2).argmin(axis=1)
    at_medoid = neighbor_positions[xp.arange(len(neighbor_positions)), medoid]
    positions = xp.where(uncertain[:, None], at_medoid, start.astype(np.float32))
    positions = _optimize_positions(xp, neighbor_positions, p, positions, landmarks, n_steps)
    return xp.where(is_landmark[:, None], neighbor_positions[:, 0], positions), uncertain


def _optimize_positions(
    xp: Any, neighbor_positions: Array, p: Array, positions: Array, landmarks: LandmarkArrays, n_steps: int
) -> Array:
    """Return the positions after n_steps towards the balance of attraction and the landmarks' repulsion."""
    potential, origin = landmarks.potential, landmarks.origin
    corner = np.array([origin[1], origin[0]], np.float32)  # (x, y)
    extent = np.array([potential.shape[1] - SPLINE_ORDER, potential.shape[0] - SPLINE_ORDER], np.float32)
    low = xp.asarray(corner * np.float32(GRID_SPACING))
    high = xp.asarray(corner * np.float32(GRID_SPACING) + extent * np.float32(GRID_SPACING))
    first, factor = xp.asarray(corner), np.float32(1.0 / GRID_SPACING)
    for _ in range(n_steps):
        difference = neighbor_positions - positions[:, None, :]
        w = p / (np.float32(1.0) + xp.square(difference).sum(axis=2))
        attraction = (w[:, :, None] * difference).sum(axis=1)
        repulsion = _interpolate_forces(xp, potential, positions * factor - first)
        step = (np.float32(1.0) / w.sum(axis=1))[:, None] * (attraction + repulsion * np.float32(landmarks.weight))
        length = xp.sqrt(xp.square(step).sum(axis=1))
        shrink = np.float32(MAX_STEP_NORM) / xp.maximum(length, np.float32(MAX_STEP_NORM))
        positions = xp.minimum(xp.maximum(positions + step * shrink[:, None], low), high)
    return positions


def _interpolate_forces(xp: Any, potential: Array, nodes: Array) -> Array:
    """Return the force (x, y) at positions (n, 2) in nodes from the corner of the potential."""
    cell = xp.floor(nodes).astype(np.int64)
    u = nodes - cell.astype(np.float32)
    (across, slopes_across), (down, slopes_down) = (_spline_weights_and_derivatives(u[:, axis]) for axis in (0, 1))
    force = xp.zeros((len(nodes), 2), np.float32)
    for a in range(SPLINE_ORDER):
        value, slope = xp.zeros((2, len(nodes)), np.float32)
        for b in range(SPLINE_ORDER):
            node_potential = potential[cell[:, 1] + a, cell[:, 0] + b]
            value += across[b] * node_potential
            slope += slopes_across[b] * node_potential
        force[:, 0] += down[a] * slope
        force[:, 1] += slopes_down[a] * value
    return force


def _spline_weights_and_derivatives(u: Array) -> tuple[list[Array], list[Array]]:
    """Return the B-spline weights of the six nodes around a position u in [0, 1) beyond the third, and derivatives.

    By the recursion of B-splines; derivatives are differences of the weights of one order less.
    """
    weights, lower_order = [np.float32(1.0) - u, u], []
    for order in range(2, SPLINE_ORDER):
        lower_order, share = weights, np.float32(1.0 / order)
        left = [np.float32(0.0) * u, *weights]
        right = [*weights, np.float32(0.0) * u]
        weights = [
            share * ((u + np.float32(order - i)) * left[i] + (np.float32(i + 1) - u) * right[i])
            for i in range(order + 1)
        ]
    zero = np.float32(0.0) * u
    return weights, [
        left_weight - right_weight
        for left_weight, right_weight in zip([zero, *lower_order], [*lower_order, zero], strict=True)
    ]
