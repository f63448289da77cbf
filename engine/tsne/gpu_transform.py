"""A finished map on a device, and places of new rows on it: engine/tsne/transform.py on an array module.

    landmarks, their places  ->  DeviceAtlas;   rows  ->  Placed

The atlas is made on the host, where that takes a second, and copied; rows are labelled by their home, and find their
neighbours and their place on the device.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.backends.chunked import Chunks
from engine.backends.cpu import sample_of
from engine.kernels.arrays.kmeans import assign
from engine.kernels.arrays.kmeans import filter as screen
from engine.kernels.arrays.tsne import affinities
from engine.kernels.arrays.tsne import transform as placement
from engine.kernels.cpu.kmeans import quantize as codes
from engine.tsne.transform import NEIGHBOURS, PERPLEXITY, STEPS, Atlas
from engine.tsne.types import Placed


@dataclass(frozen=True)
class DeviceAtlas:
    """An atlas in both memories."""

    device: Chunks
    given: Atlas
    ground: placement.Ground

    @classmethod
    def of(cls, device: Chunks, X: NDArray[np.float32], places: NDArray[np.float32]) -> DeviceAtlas:
        """Prepare landmarks X (n, n_features) at `places` (n, 2)."""
        atlas, put = Atlas.of(X, places), device.xp.asarray
        leaves = atlas.leaves
        candidates = []
        for around in atlas.around:
            near = np.concatenate([np.arange(leaves.places(leaf).start, leaves.places(leaf).stop) for leaf in around])
            candidates.append(put(near[np.argsort(leaves.members[near])]))  # by number: ties go to the lowest
        landmarks = np.ascontiguousarray(X[leaves.members[: len(X)]])
        field, weight = atlas.field, len(X) / atlas.field.z
        return cls(
            device,
            atlas,
            placement.Ground(
                put(landmarks),
                candidates,
                put(atlas.places),
                put(field.potential),
                field.origin,
                weight,
                atlas.far_apart,
            ),
        )

    def place(self, rows: NDArray[np.float32], values: int) -> Placed:
        """Return places of rows (n_rows, n_features), `values` distances at a time."""
        xp, ground = self.device.xp, self.ground
        X = xp.asarray(rows)
        ready = screen.ready(xp, self.given.centres, codes.frame_of(self.device.host(sample_of(rows)), codes.FLOATS))
        homes = assign.label_rows(xp, X, ready, values).labels
        k = min(NEIGHBOURS, len(ground.landmarks))
        numbers, squared = placement.search(xp, X, homes, ground, k, values)
        p = affinities.calibrate(xp, squared, min(PERPLEXITY, k))
        places, doubtful = placement.place(xp, numbers, squared, p, ground, STEPS)
        return Placed(self.device.host(places), self.device.host(doubtful))
