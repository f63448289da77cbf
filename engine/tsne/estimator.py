"""Maps: t-SNE in one or two dimensions, with scikit-learn's interface.

    X (n_samples, n_features) -> embedding_ (n_samples, n_components), kl_divergence_;   new rows -> their places

The estimator validates and holds state; what makes the map is embed.py.
"""

from __future__ import annotations

from contextlib import nullcontext
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, _fit_context
from sklearn.utils import check_array, check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from engine import backends
from engine.execution.threads import map_blocks, row_blocks, threads
from engine.progress import Bars, Reporter, Silent
from engine.tsne.centering import Frame
from engine.tsne.device import place, placement_index
from engine.tsne.embed import EARLY_ITERATIONS, map_of

Float32s = NDArray[np.float32]

PLACE_ROWS = 32_768  # rows placed by one thread at a time


class TSNE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """t-SNE whose map has the same bits for a seed, whatever the number of threads.

    Parameters
    ----------
    n_components : {1, 2}, default=2
    perplexity : float, default=30.0
        Effective number of neighbours of a row; 3 times as many are looked at. At most a third of the rows.
    early_exaggeration : float, default=12.0
        Factor of the attraction in the first 250 iterations.
    learning_rate : float or "auto", default="auto"
        "auto" is n_samples / 4 / exaggeration, with the exaggeration of the iteration (Belkina et al., Nature
        Communications 2019); in scikit-learn's unit, in which the gradient has its factor of 4.
    max_iter : int, default=1000
        All iterations, early ones included. At least 250.
    metric : {"euclidean"}, default="euclidean"
    init : {"pca", "random"} or array of shape (n_samples, n_components), default="pca"
        Where rows start. "pca" is scaled to a standard deviation of 1e-4 along the first component. An array is taken
        as it is: give it a small spread, or the exaggerated iterations will fold it.
    neighbors : {"auto", "exact", "clusters"}, default="auto"
        "exact" compares all rows. "clusters" looks into the K-Means clusters around a row, as many as find 96 % of the
        neighbours of a sample. "auto" is exact up to 200,000 rows. On a GPU neighbours are always exact.
    verbose : int, default=0
        Above 0, progress bars are drawn on stderr.
    random_state : int, RandomState instance or None, default=None
        For init="random", and for the small jitter that parts equal rows of init="pca".
    n_jobs : int or None, default=None
        Threads; None are those of `engine.execution.threads`, -1 all CPUs.
    device : {"auto", "cpu", "cuda"}, default="auto"

    Attributes
    ----------
    embedding_ : float32 ndarray of shape (n_samples, n_components)
    kl_divergence_ : float
        KL(P || Q) over all pairs of rows at the end, in nats.
    n_iter_ : int
    neighbors_recall_ : float
        Share of the neighbours that were found: 1 where they are exact, else measured on a sample, and logged.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Where X had names.
    device_ : str
        Where it was computed.

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
        """Make a map of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), float32 or float64
        y : ignored
        reporter : Reporter, optional
            Shows progress, in two stages: neighbours and map.

        Raises
        ------
        TooFewRowsError
            If there are fewer than 3 x perplexity rows; it names the largest perplexity possible.
        NonFiniteValueError
            If an initial place is not finite.
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
            self._rows, self._frame = X, Frame.of(X)
            found = map_of(
                X,
                backend,
                reporter or (Bars() if self.verbose else Silent()),
                random=check_random_state(self.random_state),
                perplexity=self.perplexity,
                exaggeration=self.early_exaggeration,
                rate=None if self.learning_rate == "auto" else 4.0 * self.learning_rate,
                iterations=self.max_iter,
                init=init,
                n_components=self.n_components,
                neighbours=self.neighbors,
                frame=self._frame,
            )
        self.embedding_, self.kl_divergence_, self.n_iter_, self.neighbors_recall_ = found
        self.device_ = backend.name
        self._n_features_out = self.n_components
        return self

    def fit_transform(self, X: Any, y: Any = None, *, reporter: Reporter | None = None) -> Float32s:
        """Make a map of X and return its places (n_samples, n_components)."""
        places: Float32s = self.fit(X, reporter=reporter).embedding_
        return places

    def transform(self, X: Any) -> Float32s:
        """Return places for new rows (n_samples, n_features) on the map, (n_samples, n_components).

        A row goes between the fitted rows nearest to it, where t-SNE would put one row more; see
        engine/tsne/transform.py. Fitted rows get the places they have; X of `fit` is kept for that, not copied: leave
        it as it is. The map does not change, and rows do not depend on each other.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], order="C", reset=False)
        backend, _ = backends.resolve(self.device)
        places = np.zeros((len(self._rows), 2), np.float32)
        places[:, : self.n_components] = self.embedding_
        with nullcontext() if self.n_jobs is None else threads(effective_n_jobs(self.n_jobs)):
            index = placement_index(backend, self._frame.rows(self._rows), places)
            parts = map_blocks(
                lambda part: place(backend, self._frame.rows(X[part]), index).places, row_blocks(len(X), PLACE_ROWS)
            )
            return np.concatenate(list(parts))[:, : self.n_components]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # a map is float32
        return tags
