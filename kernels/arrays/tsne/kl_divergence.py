"""Compute the KL divergence of t-SNE, KL(P || Q), with Q normalized over all pairs of rows.

    edges (sources, targets) of the symmetric P, p that sum to 1, embedding (n_rows, 2)  ->  divergence in nats

The `kl_divergence_` of cuML normalizes over edges only and is a different quantity.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.kernels.arrays.distance import row_chunks

Array = Any  # of the array module `xp`


def kl_divergence(xp: Any, sources: Array, targets: Array, p: Array, embedding: Array, chunk_values: int) -> float:
    """Return the sum of p log(p / q) over all edges, in float64."""
    total = 0.0
    for chunk in row_chunks(len(p), 8, chunk_values):
        difference = embedding[sources[chunk]].astype(np.float64) - embedding[targets[chunk]]
        p_chunk = xp.maximum(p[chunk].astype(np.float64), 1e-300)
        total += float((p[chunk] * xp.log(p_chunk * (1.0 + xp.square(difference).sum(axis=1)))).sum())
    return total + float(np.log(compute_normalization(xp, embedding, chunk_values)))


def compute_normalization(xp: Any, embedding: Array, chunk_values: int) -> float:
    """Return Z, the sum of 1 / (1 + r^2) over all ordered pairs of different rows."""
    total = -float(len(embedding))  # every row's pair with itself
    for chunk in row_chunks(len(embedding), len(embedding), chunk_values):
        distance = xp.ones((chunk.stop - chunk.start, len(embedding)), np.float32)
        for axis in range(embedding.shape[1]):
            difference = embedding[chunk, axis, None] - embedding[:, axis]
            difference *= difference
            distance += difference
        total += float(xp.reciprocal(distance, out=distance).sum(axis=1, dtype=np.float64).sum())
    return total
