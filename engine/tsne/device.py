"""Which code embeds and places rows: cuML and the array kernels on a GPU, the numba kernels on the CPU.

    embed(backend, X, start, plan)  ->  Map;   placement_index(backend, landmarks)  ->  place(backend, X, index)

The modules are imported when they are needed: a fit without a map loads none of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.backends.chunked import Chunks
from engine.backends.protocol import Backend, Prepared, Rows
from engine.progress import Reporter
from engine.tsne.types import Map, MapPlan, Placed


def embed(backend: Backend, X: Rows, start: NDArray[np.float32], plan: MapPlan, reporter: Reporter) -> Map:
    """Return the t-SNE map of all rows of X, from `start` (n_rows, 1 or 2); uses all threads by itself."""
    if "cuml" in backend.libraries:
        from engine.tsne import gpu_embed

        device: Any = backend
        return gpu_embed.embed(device, X, start, plan, reporter)
    from engine.tsne import gradient_descent

    return gradient_descent.embed(X, start, plan, reporter)


def placement_index(backend: Backend, X: NDArray[np.float32], places: NDArray[np.float32]) -> Prepared:
    """Make a map ready for new rows: its landmarks X (n, n_features), and their places (n, 2)."""
    if isinstance(backend, Chunks):
        from engine.tsne.gpu_transform import DeviceAtlas

        return DeviceAtlas.of(backend, X, places)
    from engine.tsne.transform import Atlas

    return Atlas.of(X, places)


def place(backend: Backend, X: NDArray[np.float32], index: Prepared) -> Placed:
    """Return places of new rows on a map; a row's does not depend on the others."""
    if not isinstance(backend, Chunks):
        return _place_on_cpu(backend, X, index)
    device = backend

    def work(values: int) -> Placed:
        placed = [index.place(block, values) for _, block in device.pieces(X)]
        return Placed(*(np.concatenate(columns) for columns in zip(*placed, strict=True)))

    return device.within(work, lambda cpu: _place_on_cpu(cpu, device.host(X), index.given))


def _place_on_cpu(backend: Backend, X: NDArray[np.float32], index: Prepared) -> Placed:
    homes = np.full(len(X), -1, np.int32)
    backend.label(X, index.centres, homes)
    placed: Placed = index.place(X, homes)
    return placed
