"""K-Means of the engine and of everybody one would use instead, under one rule: `rooms bench` and benchmarks/ share it.

    X (n_rows, n_features) float32, centres to start from, iterations, tol  ->  centres, iterations made

Who takes initial centres starts from the same. `tol` is scikit-learn's, 0 for as many iterations as allowed; faiss and
SuperKMeans know no such rule and make them all. Those that need a GPU: gpu.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

Fit: TypeAlias = Callable[[Any, Any, int, float], tuple[Any, int]]


def engine_on(device: str) -> Fit:
    """Return the engine's K-Means on a device."""

    def fit(X: Any, init: Any, max_iter: int, tol: float) -> tuple[Any, int]:
        from engine import KMeans

        model = KMeans(len(init), init=init, n_init=1, max_iter=max_iter, tol=tol, device=device).fit(X)
        return model.cluster_centers_, model.n_iter_

    return fit


def scikit_learn(algorithm: str) -> Fit:
    """Return scikit-learn's, by an algorithm of its own."""

    def fit(X: Any, init: Any, max_iter: int, tol: float) -> tuple[Any, int]:
        from sklearn.cluster import KMeans

        model = KMeans(len(init), init=init, n_init=1, max_iter=max_iter, tol=tol, algorithm=algorithm).fit(X)
        return model.cluster_centers_, model.n_iter_

    return fit


def intelex(X: Any, init: Any, max_iter: int, tol: float) -> tuple[Any, int]:
    """Run scikit-learn-intelex."""
    from sklearnex.cluster import KMeans

    model = KMeans(len(init), init=init, n_init=1, max_iter=max_iter, tol=tol, algorithm="lloyd").fit(X)
    return model.cluster_centers_, int(model.n_iter_)


def faiss(X: Any, init: Any, max_iter: int, tol: float) -> tuple[Any, int]:
    """Run faiss on all rows, where its default takes a sample."""
    from faiss import Kmeans

    model = Kmeans(X.shape[1], len(init), niter=max_iter, max_points_per_centroid=len(X), min_points_per_centroid=1)
    model.train(X, init_centroids=init)
    return model.centroids, max_iter


def superkmeans(X: Any, init: Any, max_iter: int, tol: float) -> tuple[Any, int]:
    """Run SuperKMeans' exact mode, which starts from centres of its own: only its seconds compare."""
    from superkmeans import SuperKMeans

    model = SuperKMeans(
        len(init), X.shape[1], hierarchical=False, iters=max_iter, sampling_fraction=1.0,
        max_points_per_cluster=len(X), early_termination=False, tol=0.0,
    )  # fmt: skip
    return model.train(X), max_iter


PEERS: dict[str, Fit] = {
    "engine": engine_on("cpu"),
    "scikit-learn lloyd": scikit_learn("lloyd"),
    "scikit-learn elkan": scikit_learn("elkan"),
    "scikit-learn-intelex": intelex,
    "faiss": faiss,
    "SuperKMeans": superkmeans,
}
