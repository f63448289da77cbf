"""Peers on a GPU: RAPIDS' cuML, and flash-kmeans, from rows in the host's memory.

How cuML is called is checked against its recorded signatures; nothing here has run on a GPU: not measured yet.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.bench.task import EARLY_ITERATIONS, ITERATIONS, MAP_ITERATIONS, PERPLEXITY, Task


def cuml_kmeans(task: Task) -> Any:
    from cuml.cluster import KMeans

    model = KMeans(n_clusters=task.n_clusters, init=task.start, n_init=1, max_iter=ITERATIONS, tol=0.0)
    return np.asarray(model.fit(task.X).cluster_centers_)


def flash_kmeans(task: Task) -> Any:
    import torch
    from flash_kmeans import batch_kmeans_Euclid

    rows, start = torch.from_numpy(task.X).cuda()[None], torch.from_numpy(task.start).cuda()[None]
    _, centres, _ = batch_kmeans_Euclid(rows, task.n_clusters, max_iters=ITERATIONS, tol=0.0, init_centroids=start)
    return centres[0].cpu().numpy()


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
