"""Places for everybody on the map of a few: an atlas of landmarks, and new rows in blocks.

    landmarks X (n, n_features), their places (n, 2)  ->  Atlas;   rows, Atlas  ->  Placed: places, doubtful

A row's home is the leaf of landmarks whose centre is nearest; its neighbours are sought in the LEAVES_AROUND leaves
nearest to its home. What a row gets depends on the row and the atlas alone, so rows stream through in any blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine.kernels.cpu.neighbors.packed_leaves import LEAF
from engine.kernels.cpu.tsne import affinities
from engine.kernels.cpu.tsne import transform as placement
from engine.tsne.neighbors import Leaves
from engine.tsne.repulsion import Field, Grid
from engine.tsne.types import Placed
from engine.utils.row_sampling import sample_rows

Float32s = NDArray[np.float32]
Int32s = NDArray[np.int32]

LEAVES_AROUND = 8  # leaves of 128 landmarks in which a row's neighbours are sought
NEIGHBOURS = 16  # that hold a row, with …
PERPLEXITY = 10.0  # … this many of them counting
STEPS = 6  # to the balance of forces: half of all rows are within 0.01 of it then
MARGIN = 32  # nodes around the landmarks where rows may be pushed to: 10 units of the map
SPREAD_SAMPLE = 10_000  # landmarks that say how far apart neighbours usually are
FAR_APART = 5.0  # times the median: neighbours that lie farther from their mean do not agree on a place


@dataclass(frozen=True)
class Atlas:
    """Landmarks in leaves, where they are, and the field that pushes new rows."""

    leaves: Leaves
    places: Float32s  # (n, 2), in the order of the leaves
    centres: Float32s  # (n_leaves, n_components): a row's home is the nearest
    around: NDArray[np.int32]  # (n_leaves, LEAVES_AROUND)
    field: Field
    far_apart: float

    @classmethod
    def of(cls, X: Float32s, places: Float32s) -> Atlas:
        """Prepare landmarks X (n, n_features) at `places` (n, 2), float32 and C-contiguous."""
        leaves = Leaves.of(X)
        centres = leaves.centres.astype(np.float32)
        n_around = min(LEAVES_AROUND, len(centres))
        around = np.empty((len(centres), n_around), np.int32)
        for leaf in range(len(centres)):
            apart = np.square(leaves.centres - leaves.centres[leaf]).sum(axis=1)
            around[leaf] = np.argsort(apart, kind="stable")[:n_around]
        places = places[leaves.members[: len(X)]]
        xs, ys = np.ascontiguousarray(places[:, 0]), np.ascontiguousarray(places[:, 1])
        field = Grid().field(xs, ys, MARGIN)
        atlas = cls(leaves, places, centres, around, field, np.inf)
        sample = sample_rows(len(X), SPREAD_SAMPLE, seed=0)  # of places
        numbers, _, p = atlas._neighbours(X[leaves.members[sample]], (sample // LEAF).astype(np.int32))
        spreads = np.empty(len(sample))
        placement.spreads(numbers, p, places, spreads)
        return replace(atlas, far_apart=FAR_APART * float(np.median(spreads)))

    def place(self, rows: Float32s, homes: Int32s, n_steps: int = STEPS) -> Placed:
        """Return places of rows (n_rows, n_features), float32 and C-contiguous, whose homes (n_rows,) are known.

        With 0 steps, they stay between their neighbours.
        """
        numbers, squared, p = self._neighbours(rows, homes)
        places, doubtful = np.empty((len(rows), 2), np.float32), np.empty(len(rows), np.bool_)
        placement.place(
            numbers, squared, p, self.places, self.field.potential, self.field.origin,
            len(self.places) / self.field.z, self.far_apart, n_steps, places, doubtful,
        )  # fmt: skip
        return Placed(places, doubtful)

    def _neighbours(self, rows: Float32s, homes: Int32s) -> tuple[Int32s, NDArray[np.float64], Float32s]:
        order = np.argsort(homes, kind="stable")
        starts = np.searchsorted(homes[order], np.arange(len(self.around) + 1))
        k = min(NEIGHBOURS, len(self.places))
        numbers, squared = np.empty((len(rows), k), np.int32), np.empty((len(rows), k))
        leaves = self.leaves
        placement.search_homes(
            rows[order], starts, leaves.panels, leaves.halves, leaves.members, self.around, k, numbers, squared
        )
        p = np.empty((len(rows), k), np.float32)
        affinities.calibrate(squared, min(PERPLEXITY, k), p)
        back = np.empty(len(rows), np.int64)
        back[order] = np.arange(len(rows))
        return numbers[back], squared[back], p[back]
