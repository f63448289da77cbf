"""Out-of-sample placement on a GPU: engine/tsne/transform.py on an array module.

    landmarks, their embedding  ->  ArrayPlacementIndex;   new rows  ->  Placement

The index is built on the host, where that takes a second, and copied. Home leaves, neighbors and coordinates of rows
are computed on the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.backends.chunked import ChunkedDevice
from engine.backends.cpu import evenly_spaced_rows
from engine.backends.fused_kmeans import FusedKMeans
from engine.kernels.arrays.distance import row_chunks
from engine.kernels.arrays.kmeans import assign
from engine.kernels.arrays.kmeans import certify as row_filter
from engine.kernels.arrays.tsne import affinities, landmark_neighbors
from engine.kernels.arrays.tsne import transform as placement
from engine.kernels.cpu.kmeans import quantize
from engine.kernels.cpu.neighbors.packed_leaves import LEAF_SIZE
from engine.kernels.cuda.tsne import fused_neighbors
from engine.tsne.transform import N_NEIGHBORS, PERPLEXITY, STEPS, PlacementIndex
from engine.tsne.types import Placement
from engine.utils.array_types import Float32s


@dataclass(frozen=True)
class ArrayPlacementIndex:
    """A PlacementIndex in the memories of host and device."""

    device: ChunkedDevice
    host_index: PlacementIndex
    searched: landmark_neighbors.SearchedLandmarks | fused_neighbors.FusedLandmarks  # the latter: by fused kernels
    embedded: placement.EmbeddedLandmarks

    @classmethod
    def from_host(cls, device: ChunkedDevice, index: PlacementIndex, X: Float32s) -> ArrayPlacementIndex:
        """Copy the index of landmarks X (n, n_features) to a device."""
        leaves, put = index.leaves, device.xp.asarray
        around = np.full((len(leaves.centers), index.leaves_around.shape[1] * LEAF_SIZE), len(X))
        for home, nearest in enumerate(index.leaves_around):
            slices = [leaves.positions(leaf) for leaf in nearest]
            positions = np.concatenate([np.arange(part.start, part.stop) for part in slices])
            # In the order of row numbers: of landmarks that are equally near, the one with the lowest is the neighbor.
            around[home, : len(positions)] = positions[np.argsort(leaves.members[positions])]
        searched = _search_index(device, X[leaves.members[: len(X)]], around)
        field, weight = index.field, len(X) / index.field.z
        embedded = placement.EmbeddedLandmarks(
            put(index.embedding), put(field.potential), field.origin, weight, index.max_spread
        )
        return cls(device, index, searched, embedded)

    def place(self, rows: Float32s, chunk_values: int) -> Placement:
        """Return the placement of rows (n_rows, n_features), with `chunk_values` distances in memory at a time."""
        xp, to_host = self.device.xp, self.device.to_host
        X = xp.asarray(rows)
        quantizer = quantize.fit_quantizer(to_host(evenly_spaced_rows(rows)), quantize.FLOAT32)
        centers = row_filter.prepare_centers(xp, self.host_index.centers, quantizer)
        home_leaf = assign.label_rows(xp, X, centers, chunk_values).labels
        k = min(N_NEIGHBORS, len(self.host_index.embedding))
        coordinates, uncertain = np.empty((len(X), 2), np.float32), np.empty(len(X), np.bool_)
        for chunk in row_chunks(len(X), k, chunk_values):
            neighbors, squared = self._find_neighbors(X[chunk], home_leaf[chunk], k, chunk_values)
            p = affinities.calibrate_perplexity(xp, squared, min(PERPLEXITY, k))
            placed = placement.place_rows(xp, neighbors, squared, p, self.embedded, STEPS, chunk_values)
            coordinates[chunk], uncertain[chunk] = map(to_host, placed)
        return Placement(coordinates, uncertain)

    def _find_neighbors(self, rows: Any, home_leaf: Any, k: int, chunk_values: int) -> tuple[Any, Any]:
        """Return positions and squared distances (n_rows, k) of the nearest landmarks of rows of the device."""
        if isinstance(self.searched, fused_neighbors.FusedLandmarks):
            assert isinstance(self.device, FusedKMeans)
            return fused_neighbors.find_landmark_neighbors(self.device.fused_device, rows, home_leaf, self.searched, k)
        return landmark_neighbors.find_landmark_neighbors(
            self.device.xp, rows, home_leaf, self.searched, k, chunk_values
        )


def _search_index(
    device: ChunkedDevice, landmarks: Float32s, around: Any
) -> landmark_neighbors.SearchedLandmarks | fused_neighbors.FusedLandmarks:
    """Copy landmarks to a device, for its fused kernels if it has them and they take so many features."""
    if isinstance(device, FusedKMeans) and landmarks.shape[1] <= fused_neighbors.MAX_FEATURES:
        return fused_neighbors.prepare_landmarks(device.fused_device, landmarks, around)
    arranged = landmark_neighbors.arrange_landmarks(landmarks, around)
    return landmark_neighbors.SearchedLandmarks(*map(device.xp.asarray, arranged))
