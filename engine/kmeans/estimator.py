"""K-Means with one answer: the same bits for any number of threads and any run of blocks.

    X (n_samples, n_features) -> cluster_centers_, labels_, inertia_

The estimator validates and holds state. The best of several runs is restarts.py, passes over rows are lloyd.py,
starting centres initialization.py, the number of clusters select_k.py.
"""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from engine import backends
from engine.backends.protocol import Backend, Float64s, Int32s, Nearest, Rows
from engine.execution.threads import map_blocks
from engine.kmeans.lloyd import Clustering, RowSet, inertia, jobs, label_rows
from engine.kmeans.restarts import best_clustering, library_clustering


class KMeans(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):
    """K-Means by Lloyd's algorithm, with scikit-learn's interface and reproducible to the bit.

    A row's label is the nearest centre by the squared distance evaluated in float64, ties to the lowest label; sums
    are integers. So centres and labels depend on the data, the parameters and `random_state`, and on nothing else:
    not on threads, blocks or devices.

    Parameters
    ----------
    n_clusters : int, default=8
    init : {"k-means++", "k-means||", "random"}, callable or array (n_clusters, n_features), default="k-means++"
        "k-means++" seeds greedily on a sample of the rows and improves the seeds there before all rows are touched;
        "k-means||" does so on candidates that it draws from all rows in a few passes.
        A callable gets (X, n_clusters, random_state=…).
    n_init : "auto" or int, default="auto"
        Runs from different starts, the best one kept. "auto" is 10 for "random" and a callable, else 1.
    max_iter : int, default=300
        Passes over all samples, at most. With few of them the seeds are improved less as well: `max_iter=1` is the
        soonest done, and from 20 on nothing is left out.
    tol : float, default=1e-4
        A run ends when the squared movement of all centres is at most `tol` times the mean variance of the features.
    verbose : int, default=0
        Iterations are logged (logger `engine.kmeans.lloyd`, level INFO).
    random_state : int, RandomState instance or None, default=None
    copy_x : bool, default=True
        For compatibility: X is never written to.
    algorithm : {"lloyd", "cuml"}, default="lloyd"
        "cuml" lets RAPIDS find the centres, on device "cuda" only: its sums are float32, added in any order, so bits
        differ from run to run. Labels and inertia are computed as always, from those centres.
    device : {"auto", "cpu", "cuda"}, default="auto"

    Attributes
    ----------
    cluster_centers_ : ndarray of shape (n_clusters, n_features), of the dtype of X
    labels_ : ndarray of shape (n_samples,), int32
    inertia_ : float
        Weighted sum of squared distances of samples to their centres, in float64.
    n_iter_ : int
        Passes over all samples in the best run, without those on the seeding sample.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Where X had names.
    device_ : str
        Where it was computed.

    Notes
    -----
    With `sample_weight` the mean variance that `tol` refers to is weighted too, so that a weight of 2 equals a row
    given twice. Weights that span more than twelve orders of magnitude lose digits on the lightest rows.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "init": [StrOptions({"k-means++", "k-means||", "random"}), callable, "array-like"],
        "n_init": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
        "copy_x": ["boolean"],
        "algorithm": [StrOptions({"lloyd", "cuml"})],
        "device": [StrOptions(set(backends.DEVICES))],
    }

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Any = "k-means++",
        n_init: Any = "auto",
        max_iter: int = 300,
        tol: float = 1e-4,
        verbose: int = 0,
        random_state: Any = None,
        copy_x: bool = True,
        algorithm: str = "lloyd",
        device: str = "auto",
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.verbose = verbose
        self.random_state = random_state
        self.copy_x = copy_x
        self.algorithm = algorithm
        self.device = device

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> KMeans:
        """Find the clusters of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), float32 or float64
        y : ignored
        sample_weight : array-like of shape (n_samples,), not negative, default=None

        Raises
        ------
        ValueError
            If X holds NaN or infinity, or fewer samples than n_clusters.
        DeviceNotAvailableError
            If `device` does not answer.
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32], order="C", ensure_all_finite=False)
        if len(X) < self.n_clusters:
            raise ValueError(f"n_samples={len(X)} should be >= n_clusters={self.n_clusters}.")
        backend, _ = backends.resolve(self.device)
        rows = RowSet.of(X, _checked_weights(sample_weight, X), backend)
        best = self._best_run(rows)
        found = int(np.count_nonzero(np.bincount(best.labels)))
        if found < self.n_clusters:
            warnings.warn(
                f"Number of distinct clusters ({found}) found smaller than n_clusters ({self.n_clusters}). "
                "Possibly due to duplicate points in X.",
                ConvergenceWarning,
                stacklevel=2,
            )
        self.cluster_centers_ = best.centres
        self.labels_ = best.labels
        self.inertia_ = best.inertia
        self.n_iter_ = best.n_iter
        self.device_ = backend.name
        self._n_features_out = self.n_clusters
        return self

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> Int32s:
        """Find the clusters of X and return its labels (n_samples,)."""
        labels: Int32s = self.fit(X, sample_weight=sample_weight).labels_
        return labels

    def fit_transform(self, X: Any, y: Any = None, sample_weight: Any = None) -> Rows:
        """Find the clusters of X and return its distances to their centres (n_samples, n_clusters)."""
        transformed: Rows = self.fit(X, sample_weight=sample_weight).transform(X)
        return transformed

    def predict(self, X: Any) -> Int32s:
        """Return the label of every row of X (n_samples, n_features) as int32 (n_samples,)."""
        X, backend = self._checked_rows(X)
        labels = np.empty(len(X), np.int32)
        label_rows(X, self.cluster_centers_, labels, backend)
        return labels

    def transform(self, X: Any) -> Rows:
        """Return the Euclidean distances of X to the centres (n_samples, n_clusters), in the dtype of X."""
        X, backend = self._checked_rows(X)
        parts = map_blocks(lambda part: backend.distances(X[part], self.cluster_centers_), jobs(len(X), backend))
        return np.concatenate(list(parts))

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the opposite of the inertia of X (n_samples, n_features)."""
        X, backend = self._checked_rows(X)
        weights = _checked_weights(sample_weight, X)
        labels = np.empty(len(X), np.int32)
        label_rows(X, self.cluster_centers_, labels, backend)
        return -inertia(X, np.empty(0) if weights is None else weights, self.cluster_centers_, labels, backend)

    def _best_run(self, rows: RowSet) -> Clustering:
        clustering = best_clustering if self.algorithm == "lloyd" else library_clustering
        return clustering(
            rows,
            self.n_clusters,
            init=self.init,
            n_runs=self._n_runs(),
            max_iter=self.max_iter,
            tol=self.tol,
            random=check_random_state(self.random_state),
            verbose=bool(self.verbose),
        )

    def _n_runs(self) -> int:
        given = not isinstance(self.init, str) and not callable(self.init)
        if given and self.n_init not in ("auto", 1):
            warnings.warn(
                "Explicit initial center position passed: performing only one init in "
                f"{type(self).__name__} instead of n_init={self.n_init}.",
                RuntimeWarning,
                stacklevel=4,
            )
        if given or (self.n_init == "auto" and isinstance(self.init, str) and self.init != "random"):
            return 1
        return 10 if self.n_init == "auto" else int(self.n_init)

    def _checked_rows(self, X: Any) -> tuple[Rows, Backend]:
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], order="C", reset=False)
        return X, backends.resolve(self.device)[0]


def nearest_two(X: Rows, centres: Rows, *, device: str = "auto") -> Nearest:
    """Return the nearest and the second nearest centre of every row, with Euclidean distances.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features), float32 or float64, finite
    centres : ndarray of shape (n_clusters, n_features)
    device : {"auto", "cpu", "cuda"}, default="auto"

    Returns
    -------
    Nearest
        `labels` and `runner_up` (n_rows,) int32; `distance` and `second` (n_rows,) float32; `margin()` in [0, 1].
        The labels are those of `KMeans.predict`. With one centre runner_up is -1, second infinite, and margin 1.
    """
    backend, _ = backends.resolve(device)
    X = np.ascontiguousarray(X)
    parts = list(map_blocks(lambda part: backend.nearest_two(X[part], centres), jobs(len(X), backend)))
    return Nearest(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _checked_weights(sample_weight: Any, X: Rows) -> Float64s | None:
    if sample_weight is None:
        return None
    weights: Float64s = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    if not weights.any():  # newer versions of scikit-learn look for this themselves
        raise ValueError("Every sample_weight is zero: there is nothing to cluster.")
    return weights
