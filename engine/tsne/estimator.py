"""The TSNE estimator: t-SNE in one or two dimensions, with scikit-learn's interface.

    X (n_samples, n_features) -> embedding_ (n_samples, n_components), kl_divergence_;   new rows -> their coordinates

The estimator validates parameters and holds fitted state; embed.py computes the embedding.
"""

from __future__ import annotations

from contextlib import nullcontext
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from joblib import effective_n_jobs
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, _fit_context
from sklearn.utils import check_array, check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from engine import backends
from engine.execution.threads import map_blocks, row_blocks, threads
from engine.progress import Bars, Reporter, Silent
from engine.tsne.centering import Centering
from engine.tsne.device import build_placement_index, place_rows
from engine.tsne.embed import EARLY_ITERATIONS, compute_embedding
from engine.utils.array_types import Float32s

TRANSFORM_ROWS = 32_768  # rows placed by one thread at a time


class TSNE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """t-SNE that returns the same bits for a seed, whatever the number of threads.

    Parameters
    ----------
    n_components : {1, 2}, default=2
    perplexity : float, default=30.0
        Effective number of neighbors of a row; P has 3 times as many. At most a third of the rows.
    early_exaggeration : float, default=12.0
        Factor of the attraction in the first 250 iterations.
    learning_rate : float or "auto", default="auto"
        "auto" is n_samples / 4 / exaggeration, with the exaggeration of the iteration (Belkina et al., Nature
        Communications 2019); in scikit-learn's unit, in which the gradient has its factor of 4.
    max_iter : int, default=1000
        All iterations, early ones included. At least 250.
    metric : {"euclidean"}, default="euclidean"
    init : {"pca", "random"} or array of shape (n_samples, n_components), default="pca"
        Initial embedding. "pca" is scaled to a standard deviation of 1e-4 along the first component. An array is used
        unchanged: give it a small spread, or the exaggerated iterations will fold it.
    neighbors : {"auto", "exact", "clusters"}, default="auto"
        "exact" compares all rows. "clusters" searches the K-Means clusters around a row, as many as find 96 % of the
        neighbors of a sample. "auto" is exact up to 200,000 rows. On a GPU neighbors are always exact.
    verbose : int, default=0
        Above 0, progress bars are drawn on stderr.
    random_state : int, RandomState instance or None, default=None
        Seed of init="random", and of the small jitter that separates equal rows of init="pca".
    n_jobs : int or None, default=None
        Number of threads; None uses those of `engine.execution.threads`, -1 all CPUs.
    device : {"auto", "cpu", "cuda"}, default="auto"

    Attributes
    ----------
    embedding_ : float32 ndarray of shape (n_samples, n_components)
    kl_divergence_ : float
        KL(P || Q) over all pairs of rows at the end, in nats.
    n_iter_ : int
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
        "n_components": [Options(Integral, {1, 2})],
        "perplexity": [Interval(Real, 0, None, closed="neither")],
        "early_exaggeration": [Interval(Real, 1, None, closed="left")],
        "learning_rate": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, EARLY_ITERATIONS, None, closed="left")],
        "metric": [StrOptions({"euclidean"})],
        "init": [StrOptions({"pca", "random"}), "array-like"],
        "neighbors": [StrOptions({"auto", "exact", "clusters"})],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
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
        metric: str = "euclidean",
        init: Any = "pca",
        neighbors: str = "auto",
        verbose: int = 0,
        random_state: Any = None,
        n_jobs: int | None = None,
        device: str = "auto",
    ) -> None:
        self.n_components = n_components
        self.perplexity = perplexity
        self.early_exaggeration = early_exaggeration
        self.learning_rate = learning_rate
        self.max_iter = max_iter
        self.metric = metric
        self.init = init
        self.neighbors = neighbors
        self.verbose = verbose
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.device = device

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any = None, *, reporter: Reporter | None = None) -> TSNE:
        """Compute the embedding of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), float32 or float64
        y : ignored
        reporter : Reporter, optional
            Receives progress in two stages, "neighbours" and "map".

        Raises
        ------
        TooFewRowsError
            If there are fewer than 3 x perplexity rows; it names the largest perplexity possible.
        NonFiniteValueError
            If the initial embedding is not finite.
        ValueError
            If X holds NaN or infinity, or `init` has another shape.
        DeviceNotAvailableError
            If `device` does not answer.
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32], order="C", ensure_min_samples=2)
        init = self.init
        if not isinstance(init, str):
            init = check_array(init, dtype=np.float32, ensure_all_finite=False)
        backend, _ = backends.resolve(self.device)
        with nullcontext() if self.n_jobs is None else threads(effective_n_jobs(self.n_jobs)):
            self._rows, self._centering = X, Centering.from_rows(X)
            result = compute_embedding(
                X,
                backend,
                reporter or (Bars() if self.verbose else Silent()),
                random=check_random_state(self.random_state),
                perplexity=self.perplexity,
                early_exaggeration=self.early_exaggeration,
                learning_rate=None if self.learning_rate == "auto" else 4.0 * self.learning_rate,
                max_iter=self.max_iter,
                init=init,
                n_components=self.n_components,
                neighbors=self.neighbors,
                centering=self._centering,
            )
        self.embedding_, self.kl_divergence_, self.n_iter_, self.neighbors_recall_ = result[:4]
        self.device_ = backend.name
        self._n_features_out = self.n_components
        return self

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
        X = validate_data(self, X, dtype=[np.float64, np.float32], order="C", reset=False)
        backend, _ = backends.resolve(self.device)
        embedding = np.zeros((len(self._rows), 2), np.float32)
        embedding[:, : self.n_components] = self.embedding_
        with nullcontext() if self.n_jobs is None else threads(effective_n_jobs(self.n_jobs)):
            index = build_placement_index(backend, self._centering.apply(self._rows), embedding)
            parts = map_blocks(
                lambda part: place_rows(backend, self._centering.apply(X[part]), index).coordinates,
                row_blocks(len(X), TRANSFORM_ROWS),
            )
            return np.concatenate(list(parts))[:, : self.n_components]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # the embedding is always float32
        return tags
