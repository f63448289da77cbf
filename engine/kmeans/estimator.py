"""The K-Means estimator, with scikit-learn's interface: the same bits for any number of threads.

    X (n_samples, n_features) -> cluster_centers_, labels_, inertia_

The estimator validates and holds state. Restarts (`n_init`) are in restarts.py, Lloyd's algorithm in lloyd.py, initial
centers in initialization.py, the choice of the number of clusters in select_k.py.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from engine import backends
from engine.backends.protocol import Backend, TwoNearest
from engine.errors import DeviceNotAvailableError
from engine.execution.threads import map_blocks
from engine.kmeans.lloyd import Clustering, Samples, inertia, label_rows, pass_blocks
from engine.kmeans.restarts import best_clustering, library_clustering
from engine.utils.array_types import Float64s, Int32s, Rows
from engine.utils.printed_log import print_log_records
from engine.utils.sparse_rows import readable_rows


class KMeans(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):
    """K-Means by Lloyd's algorithm, with scikit-learn's interface and reproducible to the bit.

    A row's label is its nearest center by the squared distance evaluated in float64, ties to the lowest label; sums
    are integers. So centers and labels depend on the data, the parameters and `random_state`, and on nothing else:
    not on threads, blocks or devices.

    Parameters
    ----------
    n_clusters : int, default=8
    init : {"k-means++", "k-means||", "random"}, callable or array (n_clusters, n_features), default="k-means++"
        "k-means++" seeds greedily on some of the samples, and improves the seeds there by local search; "k-means||"
        does so on candidates that it draws from all samples in a few passes.
        A callable gets (X, n_clusters, random_state=…).
    n_init : "auto" or int, default="auto"
        Runs from different initial centers, of which the one of least inertia is kept. "auto" is 10 for "random" and a
        callable, else 1.
    max_iter : int, default=300
        Maximum number of iterations of a run. With few iterations less time is spent on seeds too: the local search has
        no rounds with `max_iter=1`, and all its rounds from `max_iter=20` on.
    tol : float, default=1e-4
        A run ends when the squared movement of all centers is at most `tol` times the mean variance of the features.
    verbose : int, default=0
        Print the initialization, each iteration with its inertia (one more pass over the rows), and why it ended; or
        log them if the logger `engine.kmeans` has level INFO.
    random_state : int, RandomState instance or None, default=None
    copy_x : bool, default=True
        For compatibility: X is never written to.
    algorithm : {"lloyd", "elkan", "cuml", "fused"}, default="lloyd"
        "elkan" is "lloyd", for compatibility: bounds skip most rows in both.
        "cuml" computes the centers with RAPIDS cuML, on device "cuda" only: its sums are float32, added in any order,
        so bits differ from run to run. Labels and inertia are computed from those centers as with "lloyd".
        "fused" is "lloyd" by fused kernels of a GPU, to the same bits; for float32 samples of up to 1,024 features.
    device : {"auto", "cpu", "cuda"}, default="auto"

    Attributes
    ----------
    cluster_centers_ : ndarray of shape (n_clusters, n_features), of the dtype of X
    labels_ : ndarray of shape (n_samples,), int32
    inertia_ : float
        Weighted sum of squared distances of samples to their centers, in float64.
    n_iter_ : int
        Iterations of the best run, without those on the sample for seeds.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Defined if X has names of features.
    device_ : str
        "cpu" or "cuda".

    Notes
    -----
    With `sample_weight` the mean variance that `tol` refers to is weighted too, so that a weight of 2 equals a sample
    given twice. If weights span more than twelve orders of magnitude, the lightest samples lose digits.
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
        "algorithm": [StrOptions({"lloyd", "elkan", "cuml", "fused"})],
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
        """Compute the clustering of X.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features), float32 or float64
            Sparse rows (CSR; other formats are converted) are clustered on the CPU, to the bits of dense ones. Dense at
            a time are one block of rows a thread and the sample for seeds, of 16,384 rows or 32 a cluster.
        y : ignored
        sample_weight : array-like of shape (n_samples,), not negative, default=None

        Raises
        ------
        ValueError
            If X holds NaN or infinity, or fewer samples than n_clusters.
        DeviceNotAvailableError
            If `device` is not available.
        """
        checks: dict[str, Any] = {"accept_sparse": "csr", "dtype": [np.float64, np.float32], "order": "C"}
        X = validate_data(self, X, **checks, ensure_all_finite=issparse(X))  # passes find other values in dense rows
        if X.shape[0] < self.n_clusters:
            raise ValueError(f"n_samples={X.shape[0]} should be >= n_clusters={self.n_clusters}.")
        if self.algorithm == "elkan" and self.n_clusters == 1:
            warnings.warn(
                "algorithm='elkan' doesn't make sense for a single cluster. Using 'lloyd' instead.",
                RuntimeWarning,
                stacklevel=2,
            )
        weights, backend = _validate_weights(sample_weight, X), self._backend(X)
        if self.algorithm in ("cuml", "fused") and backend.name == "cpu" and self.device != "cpu" and not issparse(X):
            reason = backends.resolve(self.device)[1]
            raise DeviceNotAvailableError(
                f"algorithm={self.algorithm!r} was asked for, but the device is {reason}.",
                hint="use algorithm='lloyd', or see `rooms doctor`.",
            )
        backend = backend.with_fused_kernels() if self.algorithm == "fused" else backend
        # Seeds that a search has found leave few passes, which do not pay for more precision.
        n_unsearched = None if isinstance(self.init, str) and self.init != "random" else self.n_clusters
        with print_log_records("engine.kmeans", logging.INFO) if self.verbose else nullcontext():
            samples = Samples.from_array(readable_rows(X), weights, backend, n_clusters=n_unsearched)
            best = self._best_clustering(samples)
        n_distinct = int(np.count_nonzero(np.bincount(best.labels)))
        if n_distinct < self.n_clusters:
            warnings.warn(
                f"Number of distinct clusters ({n_distinct}) found smaller than n_clusters ({self.n_clusters}). "
                "Possibly due to duplicate points in X.",
                ConvergenceWarning,
                stacklevel=2,
            )
        self.cluster_centers_ = best.centers
        self.labels_ = best.labels
        self.inertia_ = best.inertia
        self.n_iter_ = best.n_iter
        self.device_ = backend.name
        self._n_features_out = self.n_clusters
        return self

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> Int32s:
        """Compute the clustering of X and return the labels (n_samples,) as int32."""
        labels: Int32s = self.fit(X, sample_weight=sample_weight).labels_
        return labels

    def fit_transform(self, X: Any, y: Any = None, sample_weight: Any = None) -> Rows:
        """Compute the clustering of X and return the distances to its centers (n_samples, n_clusters)."""
        transformed: Rows = self.fit(X, sample_weight=sample_weight).transform(X)
        return transformed

    def predict(self, X: Any) -> Int32s:
        """Return the label of every sample of X (n_samples, n_features) as int32 (n_samples,)."""
        X, backend = self._validate_samples(X)
        labels = np.empty(len(X), np.int32)
        label_rows(X, self.cluster_centers_, labels, backend)
        return labels

    def transform(self, X: Any) -> Rows:
        """Return the Euclidean distances of X to the centers (n_samples, n_clusters), in the dtype of X."""
        X, backend = self._validate_samples(X)
        parts = map_blocks(lambda part: backend.distances(X[part], self.cluster_centers_), pass_blocks(len(X), backend))
        return np.concatenate(list(parts))

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the opposite of the inertia of X (n_samples, n_features)."""
        X, backend = self._validate_samples(X)
        weights = _validate_weights(sample_weight, getattr(X, "matrix", X))
        labels = np.empty(len(X), np.int32)
        label_rows(X, self.cluster_centers_, labels, backend)
        return -inertia(X, np.empty(0) if weights is None else weights, self.cluster_centers_, labels, backend)

    def _best_clustering(self, samples: Samples) -> Clustering:
        compute_clustering = library_clustering if self.algorithm == "cuml" else best_clustering
        self._n_init = self._resolve_n_init()
        return compute_clustering(
            samples,
            self.n_clusters,
            init=_draw_from_matrix(self.init, samples) if callable(self.init) else self.init,
            n_init=self._n_init,
            max_iter=self.max_iter,
            tol=self.tol,
            random=check_random_state(self.random_state),
            verbose=bool(self.verbose),
        )

    def _resolve_n_init(self) -> int:
        init_is_array = not isinstance(self.init, str) and not callable(self.init)
        if init_is_array and self.n_init not in ("auto", 1):
            warnings.warn(
                "Explicit initial center position passed: performing only one init in "
                f"{type(self).__name__} instead of n_init={self.n_init}.",
                RuntimeWarning,
                stacklevel=4,
            )
        if init_is_array or (self.n_init == "auto" and isinstance(self.init, str) and self.init != "random"):
            return 1
        return 10 if self.n_init == "auto" else int(self.n_init)

    def _validate_samples(self, X: Any) -> tuple[Rows, Backend]:
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=[np.float64, np.float32], order="C", reset=False)
        return readable_rows(X), self._backend(X)

    def _backend(self, X: Any) -> Backend:
        return backends.for_sparse_rows(self.device, X.shape[1]) if issparse(X) else backends.resolve(self.device)[0]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def nearest_two(X: Rows, centers: Rows, *, device: str = "auto") -> TwoNearest:
    """Return the nearest and the second nearest center of every row, with Euclidean distances.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features), float32 or float64, finite
    centers : ndarray of shape (n_clusters, n_features)
    device : {"auto", "cpu", "cuda"}, default="auto"

    Returns
    -------
    TwoNearest
        `labels` and `second_labels` (n_rows,) int32; `distances` and `second_distances` (n_rows,) float32; `margin()`
        in [0, 1]. The labels are those of `KMeans.predict`. With one center, second labels are -1, second distances
        infinite, and margins 1.
    """
    backend, _ = backends.resolve(device)
    X = np.ascontiguousarray(X)
    parts = list(map_blocks(lambda part: backend.nearest_two(X[part], centers), pass_blocks(len(X), backend)))
    return TwoNearest(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _draw_from_matrix(init: Callable[..., Any], samples: Samples) -> Callable[..., Any]:
    """Return `init` as a function of the samples as the user has given them: sparse rows as a matrix."""
    X = getattr(samples.X, "matrix", samples.X)
    return lambda _, n_clusters, random_state: init(X, n_clusters, random_state=random_state)


def _validate_weights(sample_weight: Any, X: Any) -> Float64s | None:
    if sample_weight is None:
        return None
    weights: Float64s = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    if not weights.any():  # newer versions of scikit-learn raise by themselves
        raise ValueError("Every sample_weight is zero: there is nothing to cluster.")
    return weights
