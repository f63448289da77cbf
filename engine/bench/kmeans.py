"""Run K-Means of the engine and of other libraries with the same arguments, for `rooms bench` and benchmarks/.

    X (n_rows, n_features) float32, initial centers, max_iter, tol  ->  centers, iterations run

Every library that accepts initial centers starts from the same ones. `tol` has scikit-learn's meaning, and 0 runs
max_iter iterations; faiss and SuperKMeans have no such criterion and always run max_iter. GPU libraries: gpu.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

KMeansFunction: TypeAlias = Callable[[Any, Any, int, float], tuple[Any, int]]


def engine_kmeans(device: str) -> KMeansFunction:
    """Return a function that fits the engine's K-Means on a device."""

    def fit(X: Any, init: Any, max_iter: int, tol: float) -> tuple[Any, int]:
        from engine import KMeans

        model = KMeans(len(init), init=init, n_init=1, max_iter=max_iter, tol=tol, device=device).fit(X)
        return model.cluster_centers_, model.n_iter_

    return fit


def sklearn_kmeans(algorithm: str) -> KMeansFunction:
    """Return a function that fits scikit-learn's K-Means with an algorithm of scikit-learn: "lloyd" or "elkan"."""

    def fit(X: Any, init: Any, max_iter: int, tol: float) -> tuple[Any, int]:
        from sklearn.cluster import KMeans

        model = KMeans(len(init), init=init, n_init=1, max_iter=max_iter, tol=tol, algorithm=algorithm).fit(X)
        return model.cluster_centers_, model.n_iter_

    return fit


def intelex_kmeans(X: Any, init: Any, max_iter: int, tol: float) -> tuple[Any, int]:
    """Fit the K-Means of scikit-learn-intelex."""
    from sklearnex.cluster import KMeans

    model = KMeans(len(init), init=init, n_init=1, max_iter=max_iter, tol=tol, algorithm="lloyd").fit(X)
    return model.cluster_centers_, int(model.n_iter_)


def faiss_kmeans(X: Any, init: Any, max_iter: int, tol: float) -> tuple[Any, int]:
    """Fit the K-Means of faiss to all rows; by default it would take a sample."""
    from faiss import Kmeans

    model = Kmeans(X.shape[1], len(init), niter=max_iter, max_points_per_centroid=len(X), min_points_per_centroid=1)
    model.train(X, init_centroids=init)
    return model.centroids, max_iter


def superkmeans(X: Any, init: Any, max_iter: int, tol: float) -> tuple[Any, int]:
    """Fit SuperKMeans in its exact mode. It chooses its own initial centers, so only its seconds can be compared."""
    from superkmeans import SuperKMeans

    model = SuperKMeans(
        len(init), X.shape[1], hierarchical=False, iters=max_iter, sampling_fraction=1.0,
        max_points_per_cluster=len(X), early_termination=False, tol=0.0,
    )  # fmt: skip
    return model.train(X), max_iter


IMPLEMENTATIONS: dict[str, KMeansFunction] = {
    "engine": engine_kmeans("cpu"),
    "scikit-learn lloyd": sklearn_kmeans("lloyd"),
    "scikit-learn elkan": sklearn_kmeans("elkan"),
    "scikit-learn-intelex": intelex_kmeans,
    "faiss": faiss_kmeans,
    "SuperKMeans": superkmeans,
}
