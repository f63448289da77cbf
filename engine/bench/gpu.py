"""Run the GPU libraries that the engine is compared with: cuML of RAPIDS, and flash-kmeans.

The calls are checked against recorded signatures of the libraries; nothing here has run on a GPU: not measured yet.
The K-Means functions have the signature that kmeans.py describes. flash-kmeans has its own criterion for stopping
early, which tol=0 keeps from being met.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.bench.task import EARLY_ITERATIONS, MAP_ITERATIONS, PERPLEXITY, Task


def cuml_kmeans(X: Any, init: Any, max_iter: int, tol: float) -> tuple[Any, int]:
    """Fit cuML's K-Means to rows in host or GPU memory."""
    from cuml.cluster import KMeans

    model = KMeans(n_clusters=len(init), init=init, n_init=1, max_iter=max_iter, tol=tol, output_type="numpy").fit(X)
    return np.asarray(model.cluster_centers_), int(model.n_iter_)


def flash_kmeans(X: Any, init: Any, max_iter: int, tol: float) -> tuple[Any, int]:
    """Fit flash-kmeans to rows in host or GPU memory; it multiplies float32 values in TF32."""
    import torch
    from flash_kmeans import batch_kmeans_Euclid

    rows, start = torch.as_tensor(X, device="cuda")[None], torch.as_tensor(init, device="cuda")[None]
    _, centers, n_iter = batch_kmeans_Euclid(rows, len(init), max_iters=max_iter, tol=0.0, init_centroids=start)
    return centers[0].cpu().numpy(), int(n_iter)


def cuml_pca(task: Task) -> Any:
    """Fit cuML's PCA and return its components."""
    from cuml.decomposition import PCA

    return np.asarray(PCA(n_components=task.n_components).fit(task.X.copy()).components_)


def cuml_tsne(task: Task) -> Any:
    """Fit cuML's t-SNE and return its embedding."""
    from cuml.manifold import TSNE

    model = TSNE(
        perplexity=PERPLEXITY, max_iter=MAP_ITERATIONS, exaggeration_iter=EARLY_ITERATIONS, init="pca", random_state=0,
        learning_rate_method=None, learning_rate=len(task.X) / 12, n_neighbors=int(3 * PERPLEXITY) + 1,
    )  # fmt: skip
    return np.asarray(model.fit_transform(task.X))
