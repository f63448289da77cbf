"""Maps: t-SNE in one or two dimensions, with scikit-learn's interface.

    X (n_samples, n_features) -> embedding_ (n_samples, n_components), kl_divergence_;   new rows -> their places

The estimator validates and holds state. Neighbours are exact (neighbours.py), P symmetric (affinities.py), repulsion is
computed on a grid (repulsion.py), and descent.py moves rows.
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
from engine.backends.protocol import MapPlan, Rows
from engine.decomposition import PCA
from engine.errors import NonFiniteValueError, TooFewRowsError
from engine.execution.local import map_blocks, row_blocks, threads
from engine.progress import Bars, Reporter, Silent

Float32s = NDArray[np.float32]

EARLY_ITERATIONS = 250  # with exaggeration, as in scikit-learn and openTSNE
LEAST_NORM = 1e-7  # of the gradient, as in scikit-learn
SMALL_SPREAD = 1e-4  # standard deviation of a start: small, so that no row has to pass another one
PLACE_ROWS = 32_768  # rows placed by one thread at a time
FRAME_ROWS = 4096
JITTER = 0.01  # of that: equal rows need a direction to part in


class TSNE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """t-SNE with exact neighbours; the same bits for a seed, whatever the number of threads.

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
    verbose : int, default=0
        Above 0, progress bars are drawn on stderr.
    random_state : int, RandomState instance or None, default=None
        For init="random", and for the small jitter that parts equal rows of init="pca".
    n_jobs : int or None, default=None
        Threads; None are those of `engine.execution.local`, -1 all CPUs.
    device : {"auto", "cpu", "cuda"}, default="auto"

    Attributes
    ----------
    embedding_ : float32 ndarray of shape (n_samples, n_components)
    kl_divergence_ : float
        KL(P || Q) over all pairs of rows at the end, in nats.
    n_iter_ : int
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
        if len(X) < 3 * self.perplexity:
            raise TooFewRowsError(
                f"perplexity={self.perplexity:g} needs at least {int(np.ceil(3 * self.perplexity))} rows, "
                f"but there are n_samples={len(X)}.",
                hint=f"the largest perplexity possible is {np.floor(len(X) / 3 * 100) / 100:g}."
                if len(X) >= 3
                else "a map needs at least 3 rows.",
            )
        backend, _ = backends.resolve(self.device)
        rate = None if self.learning_rate == "auto" else 4.0 * self.learning_rate
        start = self.init if isinstance(self.init, str) else "given"
        plan = MapPlan(
            self.perplexity, self.early_exaggeration, EARLY_ITERATIONS, self.max_iter, rate, LEAST_NORM, start
        )
        reporter = reporter or (Bars() if self.verbose else Silent())
        with nullcontext() if self.n_jobs is None else threads(effective_n_jobs(self.n_jobs)):
            self._frame = _Frame.of(X)
            self._rows = self._frame.rows(X)
            found = backend.embed(self._rows, self._start(self._rows), plan, reporter)
        self.embedding_, self.kl_divergence_, self.n_iter_ = found
        self.device_ = backend.name
        self._n_features_out = self.n_components
        return self

    def fit_transform(self, X: Any, y: Any = None, *, reporter: Reporter | None = None) -> Float32s:
        """Make a map of X and return its places (n_samples, n_components)."""
        places: Float32s = self.fit(X, reporter=reporter).embedding_
        return places

    def transform(self, X: Any) -> Float32s:
        """Return places for new rows (n_samples, n_features) on the map, (n_samples, n_components).

        A row goes between the fitted rows nearest to it, where t-SNE would put one row more; see engine/placement.py.
        Fitted rows get the places they have. The map does not change, and rows do not depend on each other.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], order="C", reset=False)
        backend, _ = backends.resolve(self.device)
        places = np.zeros((len(self._rows), 2), np.float32)
        places[:, : self.n_components] = self.embedding_
        with nullcontext() if self.n_jobs is None else threads(effective_n_jobs(self.n_jobs)):
            atlas = backend.atlas(self._rows, places)
            parts = map_blocks(
                lambda part: backend.place(self._frame.rows(X[part]), atlas).places, row_blocks(len(X), PLACE_ROWS)
            )
            return np.concatenate(list(parts))[:, : self.n_components]

    def _start(self, X: Rows) -> Float32s:
        """Return where rows start, (n_samples, n_components)."""
        random = check_random_state(self.random_state)
        if not isinstance(self.init, str):
            given = check_array(self.init, dtype=np.float32, ensure_all_finite=False)
            if given.shape != (len(X), self.n_components):
                raise ValueError(f"init is of shape {given.shape}, but the map's is {(len(X), self.n_components)}.")
            if not np.isfinite(given).all():
                raise NonFiniteValueError("init holds NaN or infinity.")
            return np.array(given, np.float32)
        noise = random.normal(scale=SMALL_SPREAD, size=(len(X), self.n_components))
        if self.init == "random":
            return np.asarray(noise, np.float32)
        start = JITTER * noise
        scores = PCA(min(self.n_components, *X.shape), device=self.device).fit_transform(X)
        spread = float(scores[:, 0].std(dtype=np.float64))
        if spread > 0.0:
            start[:, : scores.shape[1]] += scores * (SMALL_SPREAD / spread)
        return np.asarray(start, np.float32)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # a map is float32
        return tags


class _Frame:
    """Where rows are measured from, and in which unit: neighbours are found in float32, centred in float64 before."""

    def __init__(self, shift: NDArray[np.float64], factor: float) -> None:
        self.shift, self.factor = shift, factor

    @classmethod
    def of(cls, X: Rows) -> _Frame:
        """Return the frame in which rows are centred and their largest value is about 1."""
        shift = X.mean(axis=0, dtype=np.float64)
        extent = max(float(np.abs(X.max(axis=0) - shift).max()), float(np.abs(X.min(axis=0) - shift).max()))
        return cls(shift, 2.0 ** -int(np.frexp(extent)[1]))

    def rows(self, X: Rows) -> Float32s:
        """Return rows in this frame, float32."""
        framed = np.empty(X.shape, np.float32)
        for part in row_blocks(len(X), FRAME_ROWS):  # float64 in between
            framed[part] = (X[part] - self.shift) * self.factor
        return framed
