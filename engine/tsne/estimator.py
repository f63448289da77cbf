"""The TSNE estimator: t-SNE in one to three dimensions, with scikit-learn's interface.

    X (n_samples, n_features) -> embedding_ (n_samples, n_components), kl_divergence_;   new rows -> their coordinates

The estimator validates parameters and holds fitted state; embed.py computes the embedding.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack, nullcontext
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from joblib import effective_n_jobs
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, _fit_context
from sklearn.utils import check_array, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from engine import backends
from engine.errors import UsageError
from engine.execution.threads import map_blocks, row_blocks, threads
from engine.progress import Bars, Reporter, Silent
from engine.tsne.affinities import neighbor_count
from engine.tsne.centering import Centering
from engine.tsne.device import build_placement_index, place_rows, rows_placed_at_once
from engine.tsne.embed import EARLY_ITERATIONS, MIN_GRAD_NORM, compute_embedding, usable_perplexity
from engine.tsne.exact_descent import MOST_ROWS
from engine.tsne.metric_neighbors import METRICS, MetricNeighbors, check_distances, find_metric_neighbors
from engine.utils.array_types import Float32s
from engine.utils.printed_log import print_log_records


class TSNE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """t-SNE that returns the same bits for a seed, whatever the number of threads.

    Parameters
    ----------
    n_components : int, default=2
        With three and more, repulsion is computed over all pairs of rows, for up to 10,000 rows; more than three need
        method="exact".
    perplexity : float, default=30.0
        Effective number of neighbors of a row, less than n_samples; P has 3 times as many. More than a third of the
        rows are lowered to that, with a warning.
    early_exaggeration : float, default=12.0
        Factor of the attraction in the first 250 iterations.
    learning_rate : float or "auto", default="auto"
        "auto" is n_samples / 4 / exaggeration, with the exaggeration of the iteration (Belkina et al., Nature
        Communications 2019), and at least 50: else maps of few rows without clusters may stay a point. In
        scikit-learn's unit, in which the gradient has its factor of 4.
    max_iter : int, default=1000
        All iterations, early ones included. At least 250.
    n_iter_without_progress : ignored
        For compatibility.
    min_grad_norm : float, default=1e-7
        The descent stops when the norm of the gradient is not above this; it is checked every 50 iterations.
    metric : str or callable, default="euclidean"
        A metric of sklearn.metrics.pairwise_distances, a function of two rows, or "precomputed": X is then the
        distances (n_samples, n_samples), or the graph of some of them if it is sparse. With another metric than
        "euclidean", and for sparse X, scikit-learn searches the neighbors, and all is computed on the CPU.
    metric_params : dict or None, default=None
        Parameters of the metric.
    init : {"pca", "random"} or array of shape (n_samples, n_components), default="pca"
        Initial embedding. "pca" is scaled to a standard deviation of 1e-4 along the first component. An array is used
        unchanged: give it a small spread, or the exaggerated iterations will fold it.
    neighbors : {"auto", "exact", "clusters"}, default="auto"
        "exact" compares all rows. "clusters" searches the K-Means clusters around a row, as many as find 96 % of the
        neighbors of a sample. "auto" is exact up to 200,000 rows. On a GPU neighbors are always exact.
    verbose : int, default=0
        1 draws progress bars on stderr. 2 prints the KL divergence and the norm of the gradient of every 50th
        iteration, in scikit-learn's words; or logs them if the logger `engine.tsne` has level DEBUG.
    random_state : int, RandomState instance or None, default=None
        Seed of init="random", and of the small jitter that separates equal rows of init="pca".
    method : {"barnes_hut", "exact"}, default="barnes_hut"
        For compatibility. "exact" computes the distances of all pairs if the metric is not euclidean.
    angle : ignored
        For compatibility: repulsion is computed on a grid, more exactly than by Barnes and Hut's method.
    n_jobs : int or None, default=None
        Number of threads; None uses those of `engine.execution.threads`, -1 all CPUs.
    device : {"auto", "cpu", "cuda"}, default="auto"

    Attributes
    ----------
    embedding_ : float32 ndarray of shape (n_samples, n_components)
    kl_divergence_ : float
        KL(P || Q) over all pairs of rows at the end, in nats.
    n_iter_ : int
    perplexity_ : float
        The perplexity used.
    neighbors_recall_ : float
        Share of the true nearest neighbors that the search found: 1 if it is exact, else measured on a sample, and
        logged.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only if X had string column names.
    device_ : str
        Device that computed the embedding.

    References
    ----------
    van der Maaten & Hinton, "Visualizing data using t-SNE", JMLR 2008.
    Linderman et al., "Fast interpolation-based t-SNE for improved visualization of single-cell RNA-seq data", 2019.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "perplexity": [Interval(Real, 0, None, closed="neither")],
        "early_exaggeration": [Interval(Real, 1, None, closed="left")],
        "learning_rate": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, EARLY_ITERATIONS, None, closed="left")],
        "n_iter_without_progress": [Interval(Integral, -1, None, closed="left")],
        "min_grad_norm": [Interval(Real, 0, None, closed="left")],
        "metric": [StrOptions(set(METRICS) | {"precomputed"}), callable],
        "metric_params": [dict, None],
        "init": [StrOptions({"pca", "random"}), "array-like"],
        "neighbors": [StrOptions({"auto", "exact", "clusters"})],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
        "method": [StrOptions({"barnes_hut", "exact"})],
        "angle": [Interval(Real, 0, 1, closed="both")],
        "n_jobs": [None, Integral],
        "device": [StrOptions(set(backends.DEVICES))],
    }

    def __init__(
        self,
        n_components: int = 2,
        *,
        perplexity: float = 30.0,
        early_exaggeration: float = 12.0,
        learning_rate: Any = "auto",
        max_iter: int = 1000,
        n_iter_without_progress: int = 300,
        min_grad_norm: float = MIN_GRAD_NORM,
        metric: Any = "euclidean",
        metric_params: dict[str, Any] | None = None,
        init: Any = "pca",
        neighbors: str = "auto",
        verbose: int = 0,
        random_state: Any = None,
        method: str = "barnes_hut",
        angle: float = 0.5,
        n_jobs: int | None = None,
        device: str = "auto",
    ) -> None:
        self.n_components = n_components
        self.perplexity = perplexity
        self.early_exaggeration = early_exaggeration
        self.learning_rate = learning_rate
        self.max_iter = max_iter
        self.n_iter_without_progress = n_iter_without_progress
        self.min_grad_norm = min_grad_norm
        self.metric = metric
        self.metric_params = metric_params
        self.init = init
        self.neighbors = neighbors
        self.verbose = verbose
        self.random_state = random_state
        self.method = method
        self.angle = angle
        self.n_jobs = n_jobs
        self.device = device

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any = None, *, reporter: Reporter | None = None) -> TSNE:
        """Compute the embedding of X.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features), float32 or float64
        y : ignored
        reporter : Reporter, optional
            Receives progress in two stages, "neighbours" and "map".

        Raises
        ------
        TooFewRowsError
            If there are fewer than 3 rows, or not more than the perplexity.
        UsageError
            If distances are negative or not square, or what is asked for is not offered.
        NonFiniteValueError
            If the initial embedding is not finite.
        ValueError
            If X holds NaN or infinity, or `init` has another shape.
        DeviceNotAvailableError
            If `device` does not answer.
        """
        checks: dict[str, Any] = {"accept_sparse": "csr", "dtype": [np.float64, np.float32], "order": "C"}
        X = validate_data(self, X, **checks, ensure_min_samples=2)
        self._check_offered(X)
        init = self.init
        if not isinstance(init, str):
            init = check_array(init, dtype=np.float32, ensure_all_finite=False)
        self.perplexity_ = usable_perplexity(self.perplexity, X.shape[0])
        as_rows = self.metric == "euclidean" and not issparse(X)
        on_cpu = not as_rows or self.n_components > 2
        backend, _ = backends.resolve("cpu" if on_cpu else self.device)
        with ExitStack() as contexts:
            if self.n_jobs is not None:
                contexts.enter_context(threads(effective_n_jobs(self.n_jobs)))
            if self.verbose > 1:
                contexts.enter_context(print_log_records("engine.tsne", logging.DEBUG))
            self._rows = X if as_rows and self.n_components <= 2 else None
            self._centering = Centering() if issparse(X) else Centering.from_rows(X)
            result = compute_embedding(
                X,
                backend,
                reporter or (Bars() if self.verbose == 1 else Silent()),
                random=check_random_state(self.random_state),
                perplexity=self.perplexity_,
                early_exaggeration=self.early_exaggeration,
                learning_rate=None if self.learning_rate == "auto" else 4.0 * self.learning_rate,
                max_iter=self.max_iter,
                init=init,
                n_components=self.n_components,
                neighbors=self.neighbors,
                centering=self._centering,
                min_grad_norm=self.min_grad_norm,
                given=None if as_rows else self._find_neighbors(X),
            )
        self.embedding_, self.kl_divergence_, self.n_iter_, self.neighbors_recall_ = result[:4]
        self.device_ = backend.name
        self._n_features_out = self.n_components
        return self

    def _find_neighbors(self, X: Any) -> MetricNeighbors:
        return find_metric_neighbors(
            X,
            neighbor_count(X.shape[0], self.perplexity_),
            metric=self.metric,
            metric_params=self.metric_params,
            all_pairs=self.method == "exact",
            n_jobs=self.n_jobs,
        )

    def _check_offered(self, X: Any) -> None:
        """Raise UsageError where parameters do not suit each other or X."""
        if self.n_components > 3 and self.method == "barnes_hut":
            raise UsageError(
                "'n_components' should be inferior to 4 for method='barnes_hut'.", hint="use method='exact'."
            )
        if self.n_components > 2 and X.shape[0] > MOST_ROWS:
            raise UsageError(
                f"A map of {self.n_components} dimensions takes at most {MOST_ROWS:,} rows, but there are "
                f"n_samples={X.shape[0]}.",
                hint="use n_components=2, or fit a sample of the rows.",
            )
        needs_cpu = self.metric != "euclidean" or issparse(X) or self.n_components > 2
        if self.device == "cuda" and needs_cpu:
            raise UsageError(
                "Sparse rows, other metrics than 'euclidean' and maps of three dimensions are computed on the CPU "
                "only, and device='cuda' was asked for.",
                hint="use device='auto'.",
            )
        if self.metric != "precomputed":
            return
        if isinstance(self.init, str) and self.init == "pca":
            raise UsageError(
                'The parameter init="pca" cannot be used with metric="precomputed".', hint='use init="random".'
            )
        if issparse(X) and self.method == "exact":
            raise TypeError("method='exact' takes no sparse distances: use method='barnes_hut', or dense distances.")
        check_distances(X)

    def fit_transform(self, X: Any, y: Any = None, *, reporter: Reporter | None = None) -> Float32s:
        """Compute the embedding of X and return it, (n_samples, n_components)."""
        embedding: Float32s = self.fit(X, reporter=reporter).embedding_
        return embedding

    def transform(self, X: Any) -> Float32s:
        """Return coordinates (n_samples, n_components) of new rows (n_samples, n_features) in the fitted embedding.

        A row is placed among the fitted rows nearest to it, where t-SNE would put one more row; see
        engine/tsne/transform.py. A fitted row keeps its coordinates: for that, the estimator holds X of `fit` without
        a copy, so do not change it. The embedding does not change, and new rows do not affect each other.
        """
        check_is_fitted(self)
        if self._rows is None:
            raise UsageError(
                "New rows are placed in maps of one or two dimensions that were fitted on dense rows with "
                "metric='euclidean' only.",
                hint="fit such a map, or fit on all rows.",
            )
        X = validate_data(self, X, dtype=[np.float64, np.float32], order="C", reset=False)
        backend, _ = backends.resolve(self.device)
        embedding = np.zeros((len(self._rows), 2), np.float32)
        embedding[:, : self.n_components] = self.embedding_
        with nullcontext() if self.n_jobs is None else threads(effective_n_jobs(self.n_jobs)):
            index = build_placement_index(backend, self._centering.apply(self._rows), embedding)
            parts = map_blocks(
                lambda part: place_rows(backend, self._centering.apply(X[part]), index).coordinates,
                row_blocks(len(X), rows_placed_at_once(backend, len(X))),
            )
            return np.concatenate(list(parts))[:, : self.n_components]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = self.metric == "precomputed"
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = []  # the embedding is always float32
        return tags
