"""Out-of-sample placement of new rows in a t-SNE embedding of landmarks, like `transform` of openTSNE.

    landmarks X (n, n_features), their embedding (n, 2)  ->  PlacementIndex
    new rows, PlacementIndex  ->  Placement: coordinates, uncertain

A row's home leaf is the leaf of landmarks whose center is nearest; its neighbors are searched in the LEAVES_AROUND
leaves nearest to that one. A row's placement depends on the row and the index alone, so rows can be placed in any
blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from engine.kernels.cpu.neighbors.packed_leaves import LEAF_SIZE
from engine.kernels.cpu.tsne import affinities
from engine.kernels.cpu.tsne import transform as placement
from engine.tsne.neighbors import PackedLeaves
from engine.tsne.repulsion import InterpolationGrid, RepulsionField
from engine.tsne.types import Placement
from engine.utils.array_types import Float32s, Float64s, Int32s
from engine.utils.row_sampling import sample_rows

LEAVES_AROUND = 8  # leaves of 128 landmarks in which a row's neighbors are searched
N_NEIGHBORS = 16  # landmarks that attract a row
PERPLEXITY = 10.0  # of a row's affinities to those landmarks
STEPS = 6  # of gradient descent: after them, half of all rows are within 0.01 of the balance of forces
MARGIN = 32  # nodes of the field around the landmarks, to where rows may be pushed: 10 units of the embedding
SPREAD_SAMPLE_ROWS = 10_000  # landmarks on which the median spread of neighbors is measured
MAX_RELATIVE_SPREAD = 5.0  # times the median spread: a row whose neighbors spread farther is uncertain


@dataclass(frozen=True)
class PlacementIndex:
    """Landmarks in leaves, their embedding, and the field by which they repel new rows."""

    leaves: PackedLeaves
    embedding: Float32s  # (n, 2), in the order of the leaves
    centers: Float32s  # (n_leaves, n_features) of the leaves
    leaves_around: Int32s  # (n_leaves, LEAVES_AROUND): the leaves nearest to every leaf, itself first
    field: RepulsionField
    max_spread: float  # mean distance of a row's neighbors from their mean, beyond which it is uncertain

    @classmethod
    def from_landmarks(cls, X: Float32s, embedding: Float32s) -> PlacementIndex:
        """Index landmarks X (n, n_features) and their `embedding` (n, 2), both float32 and C-contiguous."""
        leaves = PackedLeaves.from_rows(X)
        centers = leaves.centers.astype(np.float32)
        n_around = min(LEAVES_AROUND, len(centers))
        leaves_around = np.empty((len(centers), n_around), np.int32)
        for leaf in range(len(centers)):
            squared = np.square(leaves.centers - leaves.centers[leaf]).sum(axis=1)
            leaves_around[leaf] = np.argsort(squared, kind="stable")[:n_around]
        embedding = embedding[leaves.members[: len(X)]]
        xs, ys = np.ascontiguousarray(embedding[:, 0]), np.ascontiguousarray(embedding[:, 1])
        field = InterpolationGrid().compute_field(xs, ys, MARGIN)
        index = cls(leaves, embedding, centers, leaves_around, field, np.inf)
        sample = sample_rows(len(X), SPREAD_SAMPLE_ROWS, seed=0)  # positions in the order of the leaves
        neighbors, _, p = index._find_neighbors(X[leaves.members[sample]], (sample // LEAF_SIZE).astype(np.int32))
        spreads = np.empty(len(sample))
        placement.compute_neighbor_spreads(neighbors, p, embedding, spreads)
        return replace(index, max_spread=MAX_RELATIVE_SPREAD * float(np.median(spreads)))

    def place(self, rows: Float32s, home_leaf: Int32s, n_steps: int = STEPS) -> Placement:
        """Return the placement of rows (n_rows, n_features), float32 and C-contiguous, with home leaves (n_rows,).

        With 0 steps, rows stay at the weighted mean of their neighbors, or at their medoid.
        """
        neighbors, squared, p = self._find_neighbors(rows, home_leaf)
        coordinates, uncertain = np.empty((len(rows), 2), np.float32), np.empty(len(rows), np.bool_)
        placement.place_rows(
            neighbors, squared, p, self.embedding, self.field.potential, self.field.origin,
            len(self.embedding) / self.field.z, self.max_spread, n_steps, coordinates, uncertain,
        )  # fmt: skip
        return Placement(coordinates, uncertain)

    def _find_neighbors(self, rows: Float32s, home_leaf: Int32s) -> tuple[Int32s, Float64s, Float32s]:
        """Return positions, squared distances and affinities (n_rows, k) of the nearest landmarks of every row."""
        order = np.argsort(home_leaf, kind="stable")
        starts = np.searchsorted(home_leaf[order], np.arange(len(self.leaves_around) + 1))
        k = min(N_NEIGHBORS, len(self.embedding))
        neighbors, squared = np.empty((len(rows), k), np.int32), np.empty((len(rows), k))
        leaves = self.leaves
        placement.find_landmark_neighbors(
            rows[order],
            starts,
            leaves.panels,
            leaves.half_norms,
            leaves.members,
            self.leaves_around,
            k,
            neighbors,
            squared,
        )
        p = np.empty((len(rows), k), np.float32)
        affinities.calibrate_perplexity(squared, min(PERPLEXITY, k), p)
        inverse = np.empty(len(rows), np.int64)
        inverse[order] = np.arange(len(rows))
        return neighbors[inverse], squared[inverse], p[inverse]
