"""The PCA estimator, with scikit-learn's interface: exact principal components in one pass over the rows.

    X (n_samples, n_features), or its blocks -> components_, explained_variance_, mean_;   X -> scores

The count, the mean and the scatter of every MOMENT_ROWS rows are computed in float64, about their own mean, and merged
in the order of the rows (Chan, Golub & LeVeque, 1979). So nothing cancels when means are far from zero, X is never
copied, and the result does not depend on threads. Fewer rows than features are kept until all are there: their Gram
matrix is smaller than the covariance. The eigenproblem of either is solved in float64: solver.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, _fit_context
from sklearn.utils import assert_all_finite
from sklearn.utils._param_validation import Interval, RealNotInt, StrOptions
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from engine import backends
from engine.backends.protocol import Backend, Moments
from engine.errors import NonFiniteValueError, TooFewRowsError, UsageError
from engine.execution.threads import map_blocks, row_blocks
from engine.pca.density import ProbabilisticPCA
from engine.pca.dimension import SPARSE_SOLVERS, SVD_SOLVERS, check_n_components
from engine.pca.solver import MOMENT_ROWS, Components, check_finite, has_few_rows, merge_moments
from engine.utils.array_types import Float64s, Rows
from engine.utils.sparse_rows import readable_rows

MOMENTS_PER_BLOCK = 2  # moments of MOMENT_ROWS rows each that a thread computes at a time
SCORE_ROWS = 16384  # rows that a thread projects at a time


class PCA(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Principal component analysis with scikit-learn's interface, in float64 whatever the dtype of X.

    Parameters
    ----------
    n_components : int, float, "auto", "mle" or None, default=None
        Number of components to keep. An int is that number; a float in (0, 1) keeps the fewest components that explain
        more than this share of the variance; "auto" keeps all of up to 30 features, and of more the fewest that explain
        more than 95 %; "mle" estimates the dimension by Minka's maximum likelihood; None keeps
        min(n_samples, n_features), one less with svd_solver="arpack".
    whiten : bool, default=False
        Divide each score by its standard deviation. A variance below n_features * eps times the largest is rounding
        error: its scores are divided as if it were that large.
    copy : bool, default=True
        For compatibility: X is never written to.
    svd_solver : {"auto", "full", "covariance_eigh", "arpack", "randomized"}, default="auto"
        scikit-learn's names, for compatibility. All are the same exact computation: the eigendecomposition of the
        covariance, or of the Gram matrix if X has fewer rows than features. The limits of a name are those that it has
        in scikit-learn: "arpack" keeps less than all components, and "full" and "randomized" take no sparse X.
    tol, iterated_power, n_oversamples, power_iteration_normalizer, random_state : ignored
        For compatibility: nothing is iterated, and nothing is random.
    device : {"auto", "cpu", "cuda"}, default="auto"
        Where moments and scores are computed; components of fewer rows than features are computed on the CPU.

    Attributes
    ----------
    components_ : ndarray of shape (n_components_, n_features), float64
        The entry of largest absolute value in each row is positive, as in scikit-learn.
    explained_variance_, explained_variance_ratio_, singular_values_ : ndarray of shape (n_components_,)
    mean_ : ndarray of shape (n_features,)
    noise_variance_ : float
        Mean of the eigenvalues left out.
    n_components_, n_samples_, n_features_in_ : int
    feature_names_in_ : ndarray of str
        Defined if X has names of features.
    device_ : str
        "cpu" or "cuda".

    Notes
    -----
    Eigenvalues agree with a float64 SVD to 1e-10 relative to the largest, at any distance of the means from zero that
    the dtype of X resolves. Scores are computed in float64 and given in the dtype of X.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [
            Interval(Integral, 0, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="neither"),
            StrOptions({"auto", "mle"}),
            None,
        ],
        "whiten": ["boolean"],
        "copy": ["boolean"],
        "svd_solver": [StrOptions(set(SVD_SOLVERS))],
        "tol": [Interval(Real, 0, None, closed="left")],
        "iterated_power": [StrOptions({"auto"}), Interval(Integral, 0, None, closed="left")],
        "n_oversamples": [Interval(Integral, 1, None, closed="left")],
        "power_iteration_normalizer": [StrOptions({"auto", "QR", "LU", "none"})],
        "random_state": ["random_state"],
        "device": [StrOptions(set(backends.DEVICES))],
    }

    def __init__(
        self,
        n_components: Any = None,
        *,
        whiten: bool = False,
        copy: bool = True,
        svd_solver: str = "auto",
        tol: float = 0.0,
        iterated_power: Any = "auto",
        n_oversamples: int = 10,
        power_iteration_normalizer: str = "auto",
        random_state: Any = None,
        device: str = "auto",
    ) -> None:
        self.n_components = n_components
        self.whiten = whiten
        self.copy = copy
        self.svd_solver = svd_solver
        self.tol = tol
        self.iterated_power = iterated_power
        self.n_oversamples = n_oversamples
        self.power_iteration_normalizer = power_iteration_normalizer
        self.random_state = random_state
        self.device = device

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any = None) -> PCA:
        """Compute the principal components of X (n_samples, n_features), float32 or float64.

        A sparse X (CSR; other formats are converted) is made dense in blocks of rows, and as a whole only if it has
        fewer rows than features.

        Raises
        ------
        ValueError
            If X holds NaN or infinity, fewer than 2 samples, or if n_components or svd_solver do not suit its shape.
        TypeError
            If X is sparse and svd_solver is "full" or "randomized".
        """
        if issparse(X) and self.svd_solver not in SPARSE_SOLVERS:
            raise TypeError(
                'PCA only support sparse inputs with the "arpack" and "covariance_eigh" solvers, while '
                f'"{self.svd_solver}" was passed.'
            )
        checks: dict[str, Any] = {"accept_sparse": "csr", "dtype": [np.float64, np.float32], "order": "C"}
        X = validate_data(self, X, **checks, ensure_min_samples=2, ensure_all_finite=False)
        check_n_components(self.n_components, self.svd_solver, *X.shape)
        parts = row_blocks(X.shape[0], MOMENTS_PER_BLOCK * MOMENT_ROWS)
        try:
            return self._fit_rows(parts, readable_rows(X).__getitem__)
        except NonFiniteValueError:  # the moments show it; to check before would take another pass
            assert_all_finite(X, input_name="X")
            raise

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit_blocks(self, blocks: Iterable[Any], *, read: Callable[[Any], Rows] | None = None) -> PCA:
        """Compute the principal components of rows that come in blocks and are never in memory together.

        Parameters
        ----------
        blocks : iterable of ndarray of shape (n_rows, n_features), float32 or float64, finite
            If every block but the last holds a multiple of MOMENT_ROWS rows, the result has the bits of `fit` on all
            rows. Other sizes change the last digits. The iterable is advanced by the calling thread.
        read : callable, optional
            Returns the ndarray of an item of `blocks`. It is called by the thread that computes the moments, so that
            no more blocks than threads are in memory; before, the calling thread reads as many rows as features.

        Raises
        ------
        NonFiniteValueError
            If a value is NaN or infinite.
        TooFewRowsError
            If there are fewer than 2 rows.
        UsageError
            If blocks differ in their number of features.
        """
        for name in ("feature_names_in_", "n_features_in_"):
            self.__dict__.pop(name, None)
        return self._fit_rows(blocks, read)

    def fit_transform(self, X: Any, y: Any = None) -> Rows:
        """Compute the principal components of X and return its scores (n_samples, n_components_)."""
        scores: Rows = self.fit(X).transform(X)
        return scores

    def transform(self, X: Any) -> Rows:
        """Return the scores of X (n_samples, n_features) in its dtype, of shape (n_samples, n_components_).

        The bits of a row's scores do not depend on the other rows of X.
        """
        check_is_fitted(self)
        backend, _ = backends.resolve(self.device)
        axes = np.ascontiguousarray(self.components_.T / self._scale())
        scores: Rows = self._map_rows(X, lambda rows: backend.scores(rows, self.mean_, axes))
        return scores

    def inverse_transform(self, X: Any) -> Rows:
        """Return the points of feature space (n_samples, n_features) with these scores (n_samples, n_components_)."""
        check_is_fitted(self)
        X = check_array(X, dtype=[np.float64, np.float32])
        points: Rows = ((X * self._scale()) @ self.components_ + self.mean_).astype(X.dtype)
        return points

    def get_covariance(self) -> Float64s:
        """Return the covariance of the model (n_features, n_features): of its components, and of equal noise across."""
        check_is_fitted(self)
        return self._distribution().covariance

    def get_precision(self) -> Float64s:
        """Return the inverse of the covariance (n_features, n_features), or its pseudo-inverse if that is singular."""
        check_is_fitted(self)
        return self._distribution().precision

    def score_samples(self, X: Any) -> Float64s:
        """Return the log-likelihood of every sample of X (n_samples, n_features) in float64, of shape (n_samples,).

        The model is the normal distribution of probabilistic PCA: see density.py. Where its covariance is singular, it
        is the density within the span of the components, and -inf for a sample outside of it.
        """
        check_is_fitted(self)
        likelihoods: Float64s = self._map_rows(X, self._distribution().log_likelihoods)
        return likelihoods

    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean log-likelihood of the samples of X (n_samples, n_features): see score_samples."""
        return float(self.score_samples(X).mean())

    @property
    def _n_features_out(self) -> int:
        return int(self.n_components_)

    def _fit_rows(self, blocks: Iterable[Any], read: Callable[[Any], Rows] | None = None) -> PCA:
        backend, _ = backends.resolve(self.device)
        blocks = iter(blocks)
        first = _read_first_rows(blocks, read)
        n_rows, n_features = sum(map(len, first)), first[0].shape[1]
        if has_few_rows(n_rows, n_features):
            wanted = check_n_components(self.n_components, self.svd_solver, n_rows, n_features)
            components = Components.from_few_rows(first[0] if len(first) == 1 else np.concatenate(first), wanted)
        else:
            moments = _compute_moments(backend, first, blocks, read)
            wanted = check_n_components(self.n_components, self.svd_solver, moments.n_rows, n_features)
            components = Components.from_moments(moments, wanted)
        self.n_features_in_ = n_features
        self.mean_ = components.mean_
        self.components_ = components.components_
        self.explained_variance_ = components.explained_variance_
        self.explained_variance_ratio_ = components.explained_variance_ratio_
        self.singular_values_ = components.singular_values_
        self.noise_variance_ = components.noise_variance_
        self.n_components_ = components.n_components_
        self.n_samples_ = components.n_samples_
        self.device_ = backend.name
        return self

    def _map_rows(self, X: Any, function: Callable[[Rows], Any]) -> Any:
        """Validate X, and return the results of `function` on blocks of its rows, made dense, one after another."""
        X = validate_data(self, X, accept_sparse="csr", dtype=[np.float64, np.float32], order="C", reset=False)
        rows = readable_rows(X)
        parts = map_blocks(lambda part: function(rows[part]), row_blocks(len(rows), SCORE_ROWS))
        return np.concatenate(list(parts))

    def _distribution(self) -> ProbabilisticPCA:
        return ProbabilisticPCA(self.mean_, self.components_, self.explained_variance_, self.noise_variance_)

    def _scale(self) -> Float64s:
        """Return what scores are divided by (n_components_,): standard deviations, or ones."""
        if not self.whiten:
            return np.ones(self.n_components_)
        variances = self.explained_variance_
        floor = len(self.mean_) * np.finfo(np.float64).eps * variances.max(initial=0.0)
        scale: Float64s = np.sqrt(np.maximum(variances, floor if floor > 0 else 1.0))
        return scale

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = self.svd_solver in SPARSE_SOLVERS
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _read_first_rows(blocks: Iterator[Any], read: Callable[[Any], Rows] | None) -> list[Rows]:
    """Read blocks until there are as many rows as features, or none are left."""
    first: list[Rows] = []
    for block in blocks:
        X = block if read is None else read(block)
        if first:
            _check_width(X.shape[1], first[0].shape[1])
        first.append(X)
        if not has_few_rows(sum(map(len, first)), X.shape[1]):
            break
    if not first:
        raise TooFewRowsError("PCA needs at least 2 rows, but there are 0.")
    return first


def _compute_moments(
    backend: Backend, first: list[Rows], rest: Iterator[Any], read: Callable[[Any], Rows] | None
) -> Moments:
    """Return the moments of all rows: those of `first`, which it empties, and of the blocks that follow."""

    def compute(source: Callable[[], Rows]) -> list[Moments]:
        X = source()
        return [backend.moments(X[part]) for part in row_blocks(len(X), MOMENT_ROWS)]

    def sources() -> Iterator[Callable[[], Rows]]:
        while first:
            yield partial(np.asarray, first.pop(0))
        for block in rest:
            yield partial(np.asarray, block) if read is None else partial(read, block)

    total: Moments | None = None
    for block_moments in map_blocks(compute, sources()):
        for moments in block_moments:
            if total is not None:
                _check_width(len(moments.mean), len(total.mean))
            check_finite(moments.scatter)
            total = moments if total is None else merge_moments(total, moments)
    assert total is not None  # there is a first row
    return total


def _check_width(n_features: int, n_expected: int) -> None:
    if n_features != n_expected:
        raise UsageError(f"A block has {n_features} features, but the first one had {n_expected}.")
