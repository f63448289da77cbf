"""Places of new rows on a finished map, on whole arrays: the steps of kernels/cpu/tsne/transform.py.

    rows (n_rows, n_features), their homes, landmarks by leaf  ->  places (n_rows, 2) float32, doubtful (n_rows,)

Rows are taken home by home, so that all of them meet the same landmarks. Neighbours are those of the definition, with
its distances; places agree with the CPU's to rounding, since exp and fused operations differ in their last bits.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from engine.kernels.arrays.distance import runs
from engine.kernels.cpu.tsne.grid_repulsion import ORDER, SPACING
from engine.kernels.cpu.tsne.transform import LONGEST_STEP

Array = Any  # of the array module `xp`


class Ground(NamedTuple):
    """A map on a device."""

    landmarks: Array  # (n, n_features) float32, in the order of leaves
    candidates: list[Array]  # per home, places of the landmarks around it, by their numbers
    places: Array  # (n, 2) float32
    potential: Array  # (cells_y, cells_x) float32: its slopes are forces
    origin: tuple[float, float]
    weight: float  # of one landmark in the field
    far_apart: float


def search(xp: Any, rows: Array, homes: Array, ground: Ground, k: int, values: int) -> tuple[Array, Array]:
    """Return places and squared distances (n_rows, k) of the nearest landmarks around each row's home."""
    numbers, squared = xp.empty((len(rows), k), np.int64), xp.full((len(rows), k), np.inf)
    for home, around in enumerate(ground.candidates):
        here = xp.flatnonzero(homes == home)
        near = ground.landmarks[around]
        for part in runs(len(here), len(around), values):
            found = here[part]
            exact = xp.zeros((len(found), len(around)))
            for t in range(rows.shape[1]):
                difference = rows[found, t][:, None].astype(np.float64) - near[:, t]
                difference *= difference
                exact += difference
            for e in range(min(k, len(around))):  # the least k: sorting them all would touch them more often
                place = exact.argmin(axis=1)
                numbers[found, e] = around[place]
                squared[found, e] = exact[xp.arange(len(found)), place]
                exact[xp.arange(len(found)), place] = np.inf
    return numbers, squared


def place(xp: Any, numbers: Array, squared: Array, p: Array, ground: Ground, n_steps: int) -> tuple[Array, Array]:
    """Return the place (x, y) of every row, and whether its neighbours lie farther apart than they usually do."""
    near = ground.places[numbers]  # (n_rows, k, 2)
    wide = near.astype(np.float64)
    start = (p[:, :, None].astype(np.float64) * wide).sum(axis=1)
    spread = (p * xp.sqrt(xp.square(wide - start[:, None, :]).sum(axis=2))).sum(axis=1)
    itself = squared[:, 0] == 0.0
    doubtful = (spread > ground.far_apart) & ~itself
    between = xp.sqrt(xp.square(near[:, :, None, :] - near[:, None, :, :]).sum(axis=3))
    medoid = (p[:, None, :].astype(np.float64) * between).sum(axis=2).argmin(axis=1)
    at_medoid = near[xp.arange(len(near)), medoid]
    places = xp.where(doubtful[:, None], at_medoid, start.astype(np.float32))
    places = _settled(xp, near, p, places, ground, n_steps)
    return xp.where(itself[:, None], near[:, 0], places), doubtful


def _settled(xp: Any, near: Array, p: Array, places: Array, ground: Ground, n_steps: int) -> Array:
    """Return where rows end that start at `places`: where attraction and the landmarks' repulsion balance."""
    potential, origin = ground.potential, ground.origin
    corner = np.array([origin[1], origin[0]], np.float32)  # x, y as places have them
    cells = np.array([potential.shape[1] - ORDER, potential.shape[0] - ORDER], np.float32)
    low = xp.asarray(corner * np.float32(SPACING))
    high = xp.asarray(corner * np.float32(SPACING) + cells * np.float32(SPACING))
    first, factor = xp.asarray(corner), np.float32(1.0 / SPACING)
    for _ in range(n_steps):
        away = near - places[:, None, :]
        w = p / (np.float32(1.0) + xp.square(away).sum(axis=2))
        pull = (w[:, :, None] * away).sum(axis=1)
        push = _force_at(xp, potential, places * factor - first)
        step = (np.float32(1.0) / w.sum(axis=1))[:, None] * (pull + push * np.float32(ground.weight))
        length = xp.sqrt(xp.square(step).sum(axis=1))
        shorter = np.float32(LONGEST_STEP) / xp.maximum(length, np.float32(LONGEST_STEP))
        places = xp.minimum(xp.maximum(places + step * shorter[:, None], low), high)
    return places


def _force_at(xp: Any, potential: Array, nodes: Array) -> Array:
    """Return the force (x, y) at places (n, 2), x and y counted in nodes from the field's corner."""
    cell = xp.floor(nodes).astype(np.int64)
    u = nodes - cell.astype(np.float32)
    (across, slopes_across), (down, slopes_down) = (_spline(u[:, axis]) for axis in (0, 1))
    force = xp.zeros((len(nodes), 2), np.float32)
    for a in range(ORDER):
        value, slope = xp.zeros((2, len(nodes)), np.float32)
        for b in range(ORDER):
            here = potential[cell[:, 1] + a, cell[:, 0] + b]
            value += across[b] * here
            slope += slopes_across[b] * here
        force[:, 0] += down[a] * slope
        force[:, 1] += slopes_down[a] * value
    return force


def _spline(u: Array) -> tuple[list[Array], list[Array]]:
    """Return the weights of the six nodes around a place u in [0, 1) beyond the third, and their slopes.

    B-splines by recursion; their derivatives are differences of those of one order less.
    """
    weights, fewer = [np.float32(1.0) - u, u], []
    for order in range(2, ORDER):
        fewer, share = weights, np.float32(1.0 / order)
        left = [np.float32(0.0) * u, *weights]
        right = [*weights, np.float32(0.0) * u]
        weights = [
            share * ((u + np.float32(order - i)) * left[i] + (np.float32(i + 1) - u) * right[i])
            for i in range(order + 1)
        ]
    none = np.float32(0.0) * u
    return weights, [before - after for before, after in zip([none, *fewer], [*fewer, none], strict=True)]
