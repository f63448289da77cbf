"""Choose the code that embeds and places rows: cuML and the array kernels on a GPU, the numba kernels on the CPU.

    embed(backend, X, start, plan)  ->  Embedding
    build_placement_index(backend, landmarks)  ->  index;   place_rows(backend, X, index)  ->  Placement

The modules are imported when they are called: a fit without a map loads none of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.backends.chunked import ChunkedDevice
from engine.backends.cpu import CpuBackend
from engine.backends.protocol import Backend
from engine.progress import Reporter
from engine.tsne.types import Embedding, EmbeddingPlan, Placement
from engine.utils.array_types import Float32s, Float64s, Int32s, Rows

PLACE_ROWS = 32_768  # rows placed by one thread of the CPU at a time


def embed(backend: Backend, X: Rows, start: Float32s, plan: EmbeddingPlan, reporter: Reporter) -> Embedding:
    """Return the t-SNE embedding of all rows of X from `start` (n_rows, n_components), with all threads."""
    if "cuml" in backend.libraries:
        from engine.tsne import gpu_embed

        device: Any = backend
        return gpu_embed.embed(device, X, start, plan, reporter)
    from engine.tsne import gradient_descent

    return gradient_descent.embed(X, start, plan, reporter)


def embed_neighbors(
    positions: Int32s, squared: Float64s, start: Float32s, plan: EmbeddingPlan, reporter: Reporter
) -> Embedding:
    """Return the embedding, on the CPU, of rows whose neighbors (n_rows, k) and squared distances are known."""
    from engine.tsne import affinities, gradient_descent

    P = affinities.affinities_of_neighbors(positions, squared, plan.perplexity)
    return gradient_descent.embed_affinities(P, start, plan, reporter)


def build_placement_index(backend: Backend, landmarks: Float32s, embedding: Float32s) -> Any:
    """Index landmarks (n, n_features) and their embedding (n, 2) for the placement of new rows.

    Return a PlacementIndex on the CPU, and if a device with a fallback fails; an ArrayPlacementIndex on other devices.
    """
    from engine.tsne.transform import PlacementIndex

    index = PlacementIndex.from_landmarks(landmarks, embedding)
    if not isinstance(backend, ChunkedDevice):
        return index
    from engine.tsne.gpu_transform import ArrayPlacementIndex

    device = backend
    return device.run_in_chunks(lambda _: ArrayPlacementIndex.from_host(device, index, landmarks), lambda cpu: index)


def rows_placed_at_once(backend: Backend, n_rows: int) -> int:
    """Return how many of `n_rows` rows are placed in one block: many on a device, where a launch costs time."""
    return backend.rows_per_block(n_rows) if isinstance(backend, ChunkedDevice) else PLACE_ROWS


def place_rows(backend: Backend, X: Float32s, index: Any) -> Placement:
    """Return the placement of new rows X (n_rows, n_features); no row's depends on the others.

    The CPU takes rows of a device, too.
    """
    from engine.tsne.transform import PlacementIndex

    if isinstance(index, PlacementIndex):
        cpu = CpuBackend() if isinstance(backend, ChunkedDevice) else backend
        return _place_on_cpu(cpu, X.get() if hasattr(X, "get") else X, index)
    assert isinstance(backend, ChunkedDevice)
    device = backend

    def place_in_chunks(chunk_values: int) -> Placement:
        placements = [index.place(block, chunk_values) for _, block in device.pieces(X)]
        return Placement(*(np.concatenate(columns) for columns in zip(*placements, strict=True)))

    return device.run_in_chunks(place_in_chunks, lambda cpu: _place_on_cpu(cpu, device.to_host(X), index.host_index))


def _place_on_cpu(backend: Backend, X: Float32s, index: Any) -> Placement:
    home_leaf = np.full(len(X), -1, np.int32)
    backend.label(X, index.centers, home_leaf)
    placement: Placement = index.place(X, home_leaf)
    return placement
