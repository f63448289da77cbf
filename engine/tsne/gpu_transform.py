"""Out-of-sample placement on a GPU: engine/tsne/transform.py on an array module.

    landmarks, their embedding  ->  ArrayPlacementIndex;   new rows  ->  Placement

The index is built on the host, where that takes a second, and copied. Home leaves, neighbors and coordinates of rows
are computed on the device.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.backends.chunked import ChunkedDevice
from engine.backends.cpu import evenly_spaced_rows
from engine.kernels.arrays.kmeans import assign
from engine.kernels.arrays.kmeans import certify as row_filter
from engine.kernels.arrays.tsne import affinities
from engine.kernels.arrays.tsne import transform as placement
from engine.kernels.cpu.kmeans import quantize
from engine.tsne.transform import N_NEIGHBORS, PERPLEXITY, STEPS, PlacementIndex
from engine.tsne.types import Placement
from engine.utils.array_types import Float32s


@dataclass(frozen=True)
class ArrayPlacementIndex:
    """A PlacementIndex in the memories of host and device."""

    device: ChunkedDevice
    host_index: PlacementIndex
    landmarks: placement.LandmarkArrays

    @classmethod
    def from_host(cls, device: ChunkedDevice, index: PlacementIndex, X: Float32s) -> ArrayPlacementIndex:
        """Copy the index of landmarks X (n, n_features) to a device."""
        leaves, put = index.leaves, device.xp.asarray
        candidates = []
        for around in index.leaves_around:
            slices = [leaves.positions(leaf) for leaf in around]
            positions = np.concatenate([np.arange(part.start, part.stop) for part in slices])
            candidates.append(put(positions[np.argsort(leaves.members[positions])]))  # by number: ties go to the lowest
        landmarks = np.ascontiguousarray(X[leaves.members[: len(X)]])
        field, weight = index.field, len(X) / index.field.z
        return cls(
            device,
            index,
            placement.LandmarkArrays(
                put(landmarks),
                candidates,
                put(index.embedding),
                put(field.potential),
                field.origin,
                weight,
                index.max_spread,
            ),
        )

    def place(self, rows: Float32s, chunk_values: int) -> Placement:
        """Return the placement of rows (n_rows, n_features), with `chunk_values` distances in memory at a time."""
        xp, landmarks = self.device.xp, self.landmarks
        X = xp.asarray(rows)
        quantizer = quantize.fit_quantizer(self.device.to_host(evenly_spaced_rows(rows)), quantize.FLOAT32)
        centers = row_filter.prepare_centers(xp, self.host_index.centers, quantizer)
        home_leaf = assign.label_rows(xp, X, centers, chunk_values).labels
        k = min(N_NEIGHBORS, len(landmarks.X))
        neighbors, squared = placement.find_landmark_neighbors(xp, X, home_leaf, landmarks, k, chunk_values)
        p = affinities.calibrate_perplexity(xp, squared, min(PERPLEXITY, k))
        coordinates, uncertain = placement.place_rows(xp, neighbors, squared, p, landmarks, STEPS)
        return Placement(self.device.to_host(coordinates), self.device.to_host(uncertain))
