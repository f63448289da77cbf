"""t-SNE on a GPU: exact neighbors by the array kernels, the embedding by cuML, the KL divergence over all pairs.

    X (n_rows, n_features), a plan  ->  Embedding

Nothing here has run on a GPU: not measured yet.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from engine.backends.chunked import ChunkedDevice
from engine.errors import UsageError
from engine.kernels.arrays.neighbors import knn_exact
from engine.kernels.arrays.tsne import affinities
from engine.kernels.arrays.tsne import kl_divergence as divergence
from engine.progress import Reporter
from engine.tsne import gradient_descent
from engine.tsne.types import Embedding, EmbeddingPlan
from engine.utils.array_types import Float32s, Rows

MAX_NEIGHBORS = 1023  # of cuML's t-SNE, each row counted as its own neighbor
logger = logging.getLogger(__name__)


def embed(device: ChunkedDevice, X: Rows, start: Float32s, plan: EmbeddingPlan, reporter: Reporter) -> Embedding:
    """Embed rows in two dimensions with cuML, from an initial embedding that cuML computes.

    The fallback backend embeds rows that start at given coordinates, or in one dimension.

    Raises
    ------
    UsageError
        If cuML does not support the plan, and the device has no fallback backend.
    """
    if plan.init == "given" or start.shape[1] != 2:
        what = "from given places" if plan.init == "given" else f"of {start.shape[1]} components"
        if device.fallback is None:
            raise UsageError(f"cuML makes no map {what}.", hint="use device 'cpu' or 'auto' for this map.")
        logger.warning("cuML makes no map %s: the CPU makes it.", what)
        return gradient_descent.embed(X, start, plan, reporter)
    k = min(len(X) - 1, MAX_NEIGHBORS - 1, max(1, int(3 * plan.perplexity)))

    def compute(chunk_values: int) -> Embedding:
        rows = device.xp.asarray(plan.centering.apply(X))
        with reporter.stage("neighbours", len(X)) as advance:
            neighbors, squared = knn_exact.find_exact_neighbors(device.xp, rows, k, chunk_values)
            advance(len(X))
        with reporter.stage("map", plan.max_iter) as advance:
            embedding, n_iter = _run_cuml(device, rows, neighbors, squared, plan)
            advance(plan.max_iter)
        kl = measure_divergence(device, neighbors, squared, embedding, plan.perplexity, chunk_values)
        return Embedding(device.to_host(embedding), kl, n_iter, library="cuML")

    return device.run_in_chunks(compute, lambda _: gradient_descent.embed(X, start, plan, reporter))


def measure_divergence(
    device: ChunkedDevice, neighbors: Any, squared: Any, embedding: Any, perplexity: float, chunk_values: int
) -> float:
    """Return KL(P || Q) in nats of an embedding (n_rows, 2) of rows with these neighbors and squared distances."""
    p = affinities.calibrate_perplexity(device.xp, squared, perplexity)
    starts, ends, joint = _joint_probabilities(device, neighbors, p)
    return divergence.kl_divergence(device.xp, starts, ends, joint, embedding, chunk_values)


def _run_cuml(device: ChunkedDevice, rows: Any, neighbors: Any, squared: Any, plan: EmbeddingPlan) -> tuple[Any, int]:
    """Return the centered embedding (n_rows, 2) by cuML, and the number of iterations."""
    xp, n_rows = device.xp, len(rows)
    self_index = xp.arange(n_rows, dtype=np.int64)[:, None]
    indices = xp.concatenate([self_index, neighbors], axis=1)
    distances = xp.concatenate([xp.zeros((n_rows, 1), np.float32), xp.sqrt(squared).astype(np.float32)], axis=1)
    init = plan.init
    if rows.shape[1] == 1:  # cuML wants two features; principal components of these would stay on a line
        rows, init = xp.concatenate([rows, xp.zeros((n_rows, 1), rows.dtype)], axis=1), "random"
    with device.library_call("cuML's t-SNE"):
        from cuml.manifold import TSNE

        model = TSNE(
            n_components=2,
            perplexity=plan.perplexity,
            early_exaggeration=plan.early_exaggeration,
            learning_rate=plan.learning_rate_for(n_rows, plan.early_exaggeration),
            max_iter=plan.max_iter,
            min_grad_norm=plan.min_grad_norm,
            init=init,
            random_state=0,
            method="fft",
            n_neighbors=indices.shape[1],
            exaggeration_iter=plan.early_exaggeration_iter,
            learning_rate_method=None,  # "adaptive" would replace perplexity, neighbors and exaggeration
            output_type="cupy",
        )
        embedding = xp.ascontiguousarray(model.fit_transform(rows, knn_graph=(indices, distances)))
        n_iter = int(model.n_iter_)
    return embedding - embedding.mean(axis=0), n_iter


def _joint_probabilities(device: ChunkedDevice, neighbors: Any, p: Any) -> tuple[Any, Any, Any]:
    """Return the edges of the symmetric P, which sums to 1: starts, ends, weights."""
    from scipy.sparse import csr_matrix

    n_rows, k = neighbors.shape
    conditional = csr_matrix(
        (device.to_host(p).ravel(), device.to_host(neighbors).ravel(), np.arange(n_rows + 1) * k),
        shape=(n_rows, n_rows),
    )
    joint = ((conditional + conditional.T) * np.float32(0.5 / n_rows)).tocoo()
    put = device.xp.asarray
    return put(joint.row.astype(np.int64)), put(joint.col.astype(np.int64)), put(joint.data)
