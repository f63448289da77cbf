"""Peers on a GPU: RAPIDS' cuML, and flash-kmeans.

How they are called is checked against their recorded signatures; nothing here has run on a GPU: not measured yet.
K-Means is called as in kmeans.py; flash-kmeans has a rule of its own for stopping early, which is never met.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.bench.task import EARLY_ITERATIONS, MAP_ITERATIONS, PERPLEXITY, Task


def cuml_kmeans(X: Any, init: Any, max_iter: int, tol: float) -> tuple[Any, int]:
    """Run RAPIDS cuML on rows of the host or of the GPU."""
    from cuml.cluster import KMeans

    model = KMeans(n_clusters=len(init), init=init, n_init=1, max_iter=max_iter, tol=tol, output_type="numpy").fit(X)
    return np.asarray(model.cluster_centers_), int(model.n_iter_)


def flash_kmeans(X: Any, init: Any, max_iter: int, tol: float) -> tuple[Any, int]:
    """Run flash-kmeans on rows of the host or of the GPU; its float32 products are TF32."""
    import torch
    from flash_kmeans import batch_kmeans_Euclid

    rows, start = torch.as_tensor(X, device="cuda")[None], torch.as_tensor(init, device="cuda")[None]
    _, centres, n_iter = batch_kmeans_Euclid(rows, len(init), max_iters=max_iter, tol=0.0, init_centroids=start)
    return centres[0].cpu().numpy(), int(n_iter)


def cuml_pca(task: Task) -> Any:
    from cuml.decomposition import PCA

    return np.asarray(PCA(n_components=task.n_components).fit(task.X.copy()).components_)


def cuml_tsne(task: Task) -> Any:
    from cuml.manifold import TSNE

    model = TSNE(
        perplexity=PERPLEXITY, max_iter=MAP_ITERATIONS, exaggeration_iter=EARLY_ITERATIONS, init="pca", random_state=0,
        learning_rate_method=None, learning_rate=len(task.X) / 12, n_neighbors=int(3 * PERPLEXITY) + 1,
    )  # fmt: skip
    return np.asarray(model.fit_transform(task.X))
