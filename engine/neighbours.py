"""The nearest of many references: leaves of neighbouring rows, so that far ones need not be looked into.

    X (n_rows, n_features) float32  ->  Leaves: an order of the rows, packed for kernels/cpu/neighbours.py

Rows are halved again and again across their widest feature until LEAF of them are left. A leaf's centre and radius
bound the distance to all its rows, which leaves out most leaves where rows are clustered, and none where they are
noise. The order is also the one in which a map's rows are kept: neighbours are near in memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.kernels.cpu import neighbours
from engine.kernels.cpu.neighbours import LEAF, PANEL

Float32s = NDArray[np.float32]
Float64s = NDArray[np.float64]
Int32s = NDArray[np.int32]

SAMPLE = 4096  # rows that say which feature is the widest


@dataclass(frozen=True)
class Leaves:
    """References in leaves of LEAF rows, the last one not full."""

    n_rows: int
    members: Int32s  # (n_leaves * LEAF,): the row number at every place, -1 where the last leaf is not full
    panels: Float32s  # (n_leaves * LEAF * n_features,)
    halves: Float32s  # (n_leaves * LEAF,)
    centres: Float64s  # (n_leaves, n_features)
    radii: Float64s  # (n_leaves,)

    @classmethod
    def of(cls, X: Float32s) -> Leaves:
        """Sort rows into leaves, and pack them."""
        n_rows, n_features = X.shape
        n_leaves = -(-n_rows // LEAF)
        members = np.full(n_leaves * LEAF, -1, np.int32)
        members[:n_rows] = leaf_order(X)
        panels = np.empty((n_leaves, LEAF // PANEL, n_features, PANEL), np.float32)
        halves = np.empty((n_leaves, LEAF), np.float32)
        centres, radii = np.empty((n_leaves, n_features)), np.empty(n_leaves)
        for leaf in range(n_leaves):
            rows = members[leaf * LEAF : min((leaf + 1) * LEAF, n_rows)]
            neighbours.pack(X, rows, panels[leaf], halves[leaf])
            part = X[rows].astype(np.float64)
            centres[leaf] = part.mean(axis=0)
            radii[leaf] = np.sqrt(np.square(part - centres[leaf]).sum(axis=1).max())
        return cls(n_rows, members, panels.ravel(), halves.ravel(), centres, radii)

    def places(self, leaf: int) -> slice:
        """Return the places of a leaf's rows."""
        return slice(leaf * LEAF, min((leaf + 1) * LEAF, self.n_rows))

    def rows(self, leaf: int) -> Float32s:
        """Return a leaf's rows, unpacked."""
        n_features = self.centres.shape[1]
        packed = self.panels[leaf * LEAF * n_features : (leaf + 1) * LEAF * n_features]
        rows = -packed.reshape(LEAF // PANEL, n_features, PANEL).transpose(0, 2, 1).reshape(LEAF, n_features)
        return rows[: self.places(leaf).stop - leaf * LEAF]

    def nearest_to_leaf(self, leaf: int, k: int) -> tuple[Int32s, Float64s]:
        """Return the places of the k nearest other rows of every row of a leaf, with squared distances.

        Exact: distances are those of kernels/cpu/distance.py, and ties go to the lowest row number.
        """
        apart = np.sqrt(np.square(self.centres - self.centres[leaf]).sum(axis=1))
        bounds = np.maximum((apart - self.radii - self.radii[leaf]) * (1.0 - 1e-9), 0.0)
        bounds[leaf] = 0.0
        order = np.lexsort((apart, bounds)).astype(np.int32)
        rows = self.rows(leaf)
        places, squared = np.empty((len(rows), k), np.int32), np.empty((len(rows), k))
        neighbours.search(
            rows, leaf * LEAF, self.panels, self.halves, self.members, order, bounds[order], k, places, squared
        )
        return places, squared


def leaf_order(X: Float32s) -> Int32s:
    """Return an order of rows in which every LEAF of them are near each other."""
    order = np.arange(len(X), dtype=np.int32)
    pending = [(0, len(X))]
    while pending:
        start, stop = pending.pop()
        if stop - start <= LEAF:
            continue
        some = X[order[start : stop : 1 + (stop - start) // SAMPLE]]
        widest = int(np.argmax(some.var(axis=0, dtype=np.float64)))
        order[start:stop] = order[start:stop][np.argsort(X[order[start:stop], widest], kind="stable")]
        middle = start + LEAF * (-(-(stop - start) // LEAF) // 2)
        pending += [(start, middle), (middle, stop)]
    return order
