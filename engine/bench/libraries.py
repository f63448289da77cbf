"""List the contenders of every stage: the engine on the CPU and on a GPU, and the libraries used in its place.

    stage  ->  Contenders: name, pip requirement, and a function of a Task that returns centers, axes or an embedding

A library is imported when its function runs. The report names every library that cannot be imported, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.bench import gpu
from engine.bench.kmeans import IMPLEMENTATIONS, KMeansFunction, engine_kmeans
from engine.bench.task import EARLY_ITERATIONS, ITERATIONS, MAP_ITERATIONS, PERPLEXITY, Task


@dataclass(frozen=True)
class Contender:
    """A library that computes a stage."""

    name: str
    requirement: str  # the argument of `pip install`
    run: Callable[[Task], Any]  # returns centers, principal axes or an embedding
    needs_gpu: bool = False


def _kmeans_centers(fit: KMeansFunction) -> Callable[[Task], Any]:
    """Return a function that runs ITERATIONS iterations of `fit` and returns the centers."""
    return lambda task: fit(task.X, task.start, ITERATIONS, 0.0)[0]


def _engine_pca(device: str) -> Callable[[Task], Any]:
    def run(task: Task) -> Any:
        from engine import PCA

        return PCA(task.n_components, device=device).fit(task.X).components_

    return run


def _sklearn_pca(task: Task) -> Any:
    from sklearn.decomposition import PCA

    return PCA(task.n_components, svd_solver="covariance_eigh").fit(task.X).components_


def _intelex_pca(task: Task) -> Any:
    from sklearnex.decomposition import PCA

    return PCA(task.n_components, svd_solver="covariance_eigh").fit(task.X).components_


def _engine_tsne(device: str) -> Callable[[Task], Any]:
    def run(task: Task) -> Any:
        from engine import TSNE

        # On a GPU the embedding starts from its own PCA: cuML does not accept an initial embedding.
        start: Any = task.start if device == "cpu" else "pca"
        model = TSNE(perplexity=PERPLEXITY, max_iter=MAP_ITERATIONS, init=start, random_state=0, device=device)
        return model.fit_transform(task.X)

    return run


def _sklearn_tsne(task: Task) -> Any:
    from sklearn.manifold import TSNE

    model = TSNE(perplexity=PERPLEXITY, max_iter=MAP_ITERATIONS, init=task.start, random_state=0, n_jobs=-1)
    return model.fit_transform(task.X)


def _opentsne(task: Task) -> Any:
    import openTSNE

    model = openTSNE.TSNE(
        perplexity=PERPLEXITY, initialization=task.start, early_exaggeration_iter=EARLY_ITERATIONS,
        n_iter=MAP_ITERATIONS - EARLY_ITERATIONS, negative_gradient_method="fft", n_jobs=-1, random_state=0,
    )  # fmt: skip
    return np.asarray(model.fit(task.X), np.float32)


GPU_REQUIREMENT = "'rooms-engine[cuda13]'"
STAGES: dict[str, list[Contender]] = {
    "kmeans": [
        Contender("engine, cpu", "rooms-engine", _kmeans_centers(IMPLEMENTATIONS["engine"])),
        Contender("engine, cuda", GPU_REQUIREMENT, _kmeans_centers(engine_kmeans("cuda")), needs_gpu=True),
        Contender("scikit-learn", "scikit-learn", _kmeans_centers(IMPLEMENTATIONS["scikit-learn lloyd"])),
        Contender(
            "scikit-learn-intelex",
            "scikit-learn-intelex",
            _kmeans_centers(IMPLEMENTATIONS["scikit-learn-intelex"]),
        ),
        Contender("faiss", "faiss-cpu", _kmeans_centers(IMPLEMENTATIONS["faiss"])),
        Contender("cuML", GPU_REQUIREMENT, _kmeans_centers(gpu.cuml_kmeans), needs_gpu=True),
        Contender("flash-kmeans", "flash-kmeans", _kmeans_centers(gpu.flash_kmeans), needs_gpu=True),
    ],
    "pca": [
        Contender("engine, cpu", "rooms-engine", _engine_pca("cpu")),
        Contender("engine, cuda", GPU_REQUIREMENT, _engine_pca("cuda"), needs_gpu=True),
        Contender("scikit-learn", "scikit-learn", _sklearn_pca),
        Contender("scikit-learn-intelex", "scikit-learn-intelex", _intelex_pca),
        Contender("cuML", GPU_REQUIREMENT, gpu.cuml_pca, needs_gpu=True),
    ],
    "tsne": [
        Contender("engine, cpu", "rooms-engine", _engine_tsne("cpu")),
        Contender("engine, cuda", GPU_REQUIREMENT, _engine_tsne("cuda"), needs_gpu=True),
        Contender("scikit-learn", "scikit-learn", _sklearn_tsne),
        Contender("openTSNE", "openTSNE", _opentsne),
        Contender("cuML", GPU_REQUIREMENT, gpu.cuml_tsne, needs_gpu=True),
    ],
}
