"""Who takes part in a stage: the engine on the CPU and on a GPU, and libraries that one would use instead.

    stage  ->  Contender: a name, how to get it, and a function of a Task that returns what its quality is

Libraries are imported when their turn comes. One that cannot be imported is named with the reason, never left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.bench import gpu, kmeans
from engine.bench.kmeans import Fit
from engine.bench.task import EARLY_ITERATIONS, ITERATIONS, MAP_ITERATIONS, PERPLEXITY, Task


@dataclass(frozen=True)
class Contender:
    """A way to compute a stage."""

    name: str
    install: str  # what pip is to be told
    run: Callable[[Task], Any]  # centres, axes or places
    needs_gpu: bool = False


def _kmeans(fit: Fit) -> Callable[[Task], Any]:
    """Return what makes ITERATIONS iterations, and returns the centres."""
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

        # A GPU starts from its own PCA: cuML takes no places to start from.
        start: Any = task.start if device == "cpu" else "pca"
        model = TSNE(perplexity=PERPLEXITY, max_iter=MAP_ITERATIONS, init=start, random_state=0, device=device)
        return model.fit_transform(task.X)

    return run


def _sklearn_tsne(task: Task) -> Any:
    from sklearn.manifold import TSNE

    model = TSNE(perplexity=PERPLEXITY, max_iter=MAP_ITERATIONS, init=task.start, random_state=0, n_jobs=-1)
    return model.fit_transform(task.X)


def _open_tsne(task: Task) -> Any:
    import openTSNE

    model = openTSNE.TSNE(
        perplexity=PERPLEXITY, initialization=task.start, early_exaggeration_iter=EARLY_ITERATIONS,
        n_iter=MAP_ITERATIONS - EARLY_ITERATIONS, negative_gradient_method="fft", n_jobs=-1, random_state=0,
    )  # fmt: skip
    return np.asarray(model.fit(task.X), np.float32)


RAPIDS = "'rooms-engine[cuda13]'"
STAGES: dict[str, list[Contender]] = {
    "kmeans": [
        Contender("engine, cpu", "rooms-engine", _kmeans(kmeans.PEERS["engine"])),
        Contender("engine, cuda", RAPIDS, _kmeans(kmeans.engine_on("cuda")), needs_gpu=True),
        Contender("scikit-learn", "scikit-learn", _kmeans(kmeans.PEERS["scikit-learn lloyd"])),
        Contender("scikit-learn-intelex", "scikit-learn-intelex", _kmeans(kmeans.PEERS["scikit-learn-intelex"])),
        Contender("faiss", "faiss-cpu", _kmeans(kmeans.PEERS["faiss"])),
        Contender("cuML", RAPIDS, _kmeans(gpu.cuml_kmeans), needs_gpu=True),
        Contender("flash-kmeans", "flash-kmeans", _kmeans(gpu.flash_kmeans), needs_gpu=True),
    ],
    "pca": [
        Contender("engine, cpu", "rooms-engine", _engine_pca("cpu")),
        Contender("engine, cuda", RAPIDS, _engine_pca("cuda"), needs_gpu=True),
        Contender("scikit-learn", "scikit-learn", _sklearn_pca),
        Contender("scikit-learn-intelex", "scikit-learn-intelex", _intelex_pca),
        Contender("cuML", RAPIDS, gpu.cuml_pca, needs_gpu=True),
    ],
    "tsne": [
        Contender("engine, cpu", "rooms-engine", _engine_tsne("cpu")),
        Contender("engine, cuda", RAPIDS, _engine_tsne("cuda"), needs_gpu=True),
        Contender("scikit-learn", "scikit-learn", _sklearn_tsne),
        Contender("openTSNE", "openTSNE", _open_tsne),
        Contender("cuML", RAPIDS, gpu.cuml_tsne, needs_gpu=True),
    ],
}
