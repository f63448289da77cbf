"""t-SNE on a GPU: exact neighbours by the array kernels, the embedding by cuML, the KL divergence over all pairs.

    X (n_rows, n_features), a plan  ->  Map

Nothing here has run on a GPU: not measured yet.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.backends.chunked import Chunks
from engine.backends.protocol import Rows
from engine.errors import UsageError
from engine.kernels.arrays.neighbors import knn_exact as neighbours
from engine.kernels.arrays.tsne import affinities
from engine.kernels.arrays.tsne import kl_divergence as divergence
from engine.progress import Reporter
from engine.tsne import gradient_descent
from engine.tsne.types import Map, MapPlan

MOST_NEIGHBOURS = 1023  # of cuML's t-SNE
logger = logging.getLogger(__name__)


def embed(device: Chunks, X: Rows, start: NDArray[np.float32], plan: MapPlan, reporter: Reporter) -> Map:
    """Embed rows with cuML, which chooses the start itself and has two dimensions only; other maps are the CPU's.

    Raises
    ------
    UsageError
        If cuML cannot make this map, and the device has no spare backend.
    """
    if plan.start == "given" or start.shape[1] != 2:
        what = "from given places" if plan.start == "given" else f"of {start.shape[1]} components"
        if device.spare is None:
            raise UsageError(f"cuML makes no map {what}.", hint="use device 'cpu' or 'auto' for this map.")
        logger.warning("cuML makes no map %s: the CPU makes it.", what)
        return gradient_descent.embed(X, start, plan, reporter)
    k = min(len(X) - 1, MOST_NEIGHBOURS - 1, max(1, int(3 * plan.perplexity)))

    def work(values: int) -> Map:
        rows = device.xp.asarray(plan.frame.rows(X))
        with reporter.stage("neighbours", len(X)) as advance:
            numbers, squared = neighbours.nearest(device.xp, rows, k, values)
            advance(len(X))
        with reporter.stage("map", plan.iterations) as advance:
            places, n_iter = _tsne(device, rows, numbers, squared, plan)
            advance(plan.iterations)
        p = affinities.calibrate(device.xp, squared, plan.perplexity)
        starts, ends, joint = _joint(device, numbers, p)
        kl = divergence.kl_divergence(device.xp, starts, ends, joint, places, values)
        return Map(device.host(places), kl, n_iter)

    return device.within(work, lambda _: gradient_descent.embed(X, start, plan, reporter))


def _tsne(device: Chunks, rows: Any, numbers: Any, squared: Any, plan: MapPlan) -> tuple[Any, int]:
    """Return places (n_rows, 2), centred, and the number of iterations."""
    from cuml.manifold import TSNE

    xp, n_rows = device.xp, len(rows)
    own = xp.arange(n_rows, dtype=np.int64)[:, None]
    indices = xp.concatenate([own, numbers], axis=1)
    distances = xp.concatenate([xp.zeros((n_rows, 1), np.float32), xp.sqrt(squared).astype(np.float32)], axis=1)
    model = TSNE(
        n_components=2,
        perplexity=plan.perplexity,
        early_exaggeration=plan.exaggeration,
        learning_rate=n_rows / plan.exaggeration if plan.rate is None else plan.rate,
        max_iter=plan.iterations,
        min_grad_norm=plan.least_norm,
        init=plan.start,
        random_state=0,
        method="fft",
        n_neighbors=indices.shape[1],
        exaggeration_iter=plan.early_iterations,
        learning_rate_method=None,  # "adaptive" would replace perplexity, neighbours and exaggeration
        output_type="cupy",
    )
    places = xp.ascontiguousarray(model.fit_transform(rows, knn_graph=(indices, distances)))
    return places - places.mean(axis=0), int(model.n_iter_)


def _joint(device: Chunks, numbers: Any, p: Any) -> tuple[Any, Any, Any]:
    """Return the edges of the symmetric P, which sums to 1: starts, ends, weights."""
    from scipy.sparse import csr_matrix

    n_rows, k = numbers.shape
    conditional = csr_matrix(
        (device.host(p).ravel(), device.host(numbers).ravel(), np.arange(n_rows + 1) * k), shape=(n_rows, n_rows)
    )
    joint = ((conditional + conditional.T) * np.float32(0.5 / n_rows)).tocoo()
    put = device.xp.asarray
    return put(joint.row.astype(np.int64)), put(joint.col.astype(np.int64)), put(joint.data)
