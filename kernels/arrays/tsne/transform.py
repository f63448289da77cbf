"""Out-of-sample t-SNE on whole arrays: place new rows by the steps of kernels/cpu/tsne/transform.py.

    neighbors (n_rows, k) among the landmarks, p(j|i), the landmarks' embedding and repulsion field
      -> positions (n_rows, 2) float32, uncertain (n_rows,)

Positions agree with those of the CPU within rounding, since exp and fused operations differ in their last bits. The
neighbors: landmark_neighbors.py.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from engine.kernels.arrays.distance import row_chunks
from engine.kernels.cpu.tsne.grid_repulsion import GRID_SPACING, SPLINE_ORDER
from engine.kernels.cpu.tsne.transform import MAX_STEP_NORM

Array = Any  # of the array module `xp`


class EmbeddedLandmarks(NamedTuple):
    """The embedding of landmarks and its repulsion field, as arrays of one device."""

    embedding: Array  # (n, 2) float32
    potential: Array  # (nodes_y, nodes_x) float32, whose derivatives are forces
    origin: tuple[float, float]
    weight: float  # n / Z, the factor of the repulsion
    max_spread: float  # of the neighbors of a row that is not uncertain


def place_rows(
    xp: Any, neighbors: Array, squared: Array, p: Array, landmarks: EmbeddedLandmarks, n_steps: int, chunk_values: int
) -> tuple[Array, Array]:
    """Return the position (x, y) of every row, and whether its neighbors lie too far apart to be certain of it."""
    neighbor_positions = landmarks.embedding[neighbors]  # (n_rows, k, 2)
    positions64 = neighbor_positions.astype(np.float64)
    start = (p[:, :, None].astype(np.float64) * positions64).sum(axis=1)
    spread = (p * xp.sqrt(xp.square(positions64 - start[:, None, :]).sum(axis=2))).sum(axis=1)
    is_landmark = squared[:, 0] == 0.0
    uncertain = (spread > landmarks.max_spread) & ~is_landmark
    positions, between = start.astype(np.float32), xp.flatnonzero(uncertain)
    for chunk in row_chunks(len(between), 2 * neighbors.shape[1] ** 2, chunk_values):
        rows = between[chunk]
        positions[rows] = _medoids(xp, neighbor_positions[rows], p[rows])
    positions = _optimize_positions(xp, neighbor_positions, p, positions, landmarks, n_steps)
    return xp.where(is_landmark[:, None], neighbor_positions[:, 0], positions), uncertain


def _medoids(xp: Any, neighbor_positions: Array, p: Array) -> Array:
    """Return the position of every row's neighbor with the least weighted distance to all of them."""
    pairwise = xp.sqrt(xp.square(neighbor_positions[:, :, None, :] - neighbor_positions[:, None, :, :]).sum(axis=3))
    medoid = (p[:, None, :].astype(np.float64) * pairwise).sum(axis=2).argmin(axis=1)
    return neighbor_positions[xp.arange(len(neighbor_positions)), medoid]


def _optimize_positions(
    xp: Any, neighbor_positions: Array, p: Array, positions: Array, landmarks: EmbeddedLandmarks, n_steps: int
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
    weights, slopes = _spline_weights_and_derivatives(xp, nodes - cell.astype(np.float32))
    n_columns, around = potential.shape[1], xp.arange(SPLINE_ORDER)
    offsets = around[:, None] * n_columns + around
    values = potential.reshape(-1)[offsets[:, :, None] + (cell[:, 1] * n_columns + cell[:, 0])]  # (down, across, n)
    force = xp.empty((len(nodes), 2), np.float32)
    force[:, 0] = (weights[:, :, 1] * (slopes[:, :, 0] * values).sum(axis=1)).sum(axis=0)
    force[:, 1] = (slopes[:, :, 1] * (weights[:, :, 0] * values).sum(axis=1)).sum(axis=0)
    return force


def _spline_weights_and_derivatives(xp: Any, u: Array) -> tuple[Array, Array]:
    """Return the B-spline weights of the six nodes around positions u in [0, 1) beyond the third, and derivatives.

    Both are (SPLINE_ORDER, *u.shape). By the recursion of B-splines; derivatives are differences of the weights of one
    order less.
    """
    padded = xp.zeros((4, *u.shape), np.float32)  # the weights of an order, between zeros
    padded[1], padded[2] = np.float32(1.0) - u, u
    slopes = padded
    for order in range(2, SPLINE_ORDER):
        number = xp.arange(order + 1, dtype=np.float32).reshape(-1, 1, 1)
        left = (u + (np.float32(order) - number)) * padded[:-1]
        right = ((number + np.float32(1.0)) - u) * padded[1:]
        slopes = padded[:-1] - padded[1:]
        padded = xp.zeros((order + 3, *u.shape), np.float32)
        padded[1:-1] = np.float32(1.0 / order) * (left + right)
    return padded[1:-1], slopes
