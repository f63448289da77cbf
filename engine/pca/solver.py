"""Eigenproblem of PCA: principal components, their number, and their signs.

    Moments (n_rows, mean, scatter)  ->  Components, of the covariance (n_features, n_features)
    X (n_rows, n_features)           ->  Components, of the Gram matrix (n_rows, n_rows): fewer rows than features
    axes of a device's library       ->  Components

This is PCA without its estimator (estimator.py), for a fit that has moments and no matrix: nothing here imports
scikit-learn. Which of the two eigenproblems is solved depends on the shape of X alone: decisions/0039-few-rows.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.backends.protocol import Moments, PrincipalAxes
from engine.errors import NonFiniteValueError, TooFewRowsError, UsageError
from engine.execution.threads import one_blas_thread
from engine.pca.dimension import likeliest_dimension
from engine.utils.array_types import Float64s, Rows

# With n_components="auto", all components are kept of so many features, and else those of this share of the variance.
# Components of little variance tell clusters apart, too: decisions/0034-components.md.
KEEP_ALL_FEATURES, AUTO_VARIANCE = 30, 0.95
MOMENT_ROWS = 16384  # rows of one Moments: to merge two takes a hundredth of the time to compute one


@dataclass(frozen=True)
class Components:
    """Principal components, with the attributes of scikit-learn's PCA; see engine.PCA."""

    mean_: Float64s
    components_: Float64s
    explained_variance_: Float64s
    explained_variance_ratio_: Float64s
    singular_values_: Float64s
    noise_variance_: float
    n_samples_: int

    @property
    def n_components_(self) -> int:
        """Number of components kept."""
        return len(self.components_)

    @classmethod
    def from_moments(cls, moments: Moments, n_components: Any) -> Components:
        """Return the principal components of rows with these moments; `n_components` is that of engine.PCA.

        Raises
        ------
        TooFewRowsError
            If there are fewer than 2 rows.
        UsageError
            If n_components exceeds the number of rows or of features.
        """
        _check_rows(moments.n_rows)
        with one_blas_thread():  # bits must not depend on the number of BLAS threads
            eigenvalues, eigenvectors = np.linalg.eigh(moments.scatter / (moments.n_rows - 1))
        found = PrincipalAxes(moments.mean, eigenvalues[::-1], eigenvectors.T[::-1])
        return cls.from_axes(found, moments.n_rows, n_components)

    @classmethod
    def from_axes(cls, found: PrincipalAxes, n_samples: int, n_components: Any) -> Components:
        """Return those of the principal axes of `n_samples` rows that `n_components` keeps; raises UsageError."""
        n_features = len(found.mean)
        eigenvalues = np.maximum(found.variances[: min(n_samples, n_features)], 0.0)
        count = _resolve_n_components(eigenvalues, n_samples, n_features, n_components)
        return cls._from_axes(found.mean, found.axes[:count], eigenvalues, n_samples)

    @classmethod
    def from_few_rows(cls, X: Rows, n_components: Any) -> Components:
        """Return the principal components of rows X (n_rows, n_features), fewer than features, by their Gram matrix.

        Axes are orthonormal to rounding, those of no variance included: a QR decomposition makes them so.

        Raises
        ------
        TooFewRowsError
            If there are fewer than 2 rows.
        NonFiniteValueError
            If a value is NaN or infinite, or its square is.
        UsageError
            If n_components exceeds the number of rows.
        """
        n_samples, n_features = X.shape
        _check_rows(n_samples)
        with np.errstate(over="ignore", invalid="ignore"), one_blas_thread():
            shift = X.mean(axis=0, dtype=np.float64)
            deviations = X - shift
            offset = deviations.mean(axis=0)  # of the mean from the shift: rounding error of large means
            deviations -= offset
            gram = deviations @ deviations.T
            check_finite(gram)
            eigenvalues, eigenvectors = np.linalg.eigh(gram / (n_samples - 1))
            eigenvalues = np.maximum(eigenvalues[::-1], 0.0)
            count = _resolve_n_components(eigenvalues, n_samples, n_features, n_components)
            axes = deviations.T @ eigenvectors[:, ::-1][:, :count]
            del deviations, gram, eigenvectors  # the decomposition takes three times the memory of the axes
            axes, _ = np.linalg.qr(axes)
        return cls._from_axes(shift + offset, axes.T, eigenvalues, n_samples)

    @classmethod
    def _from_axes(cls, mean: Float64s, axes: Float64s, eigenvalues: Float64s, n_samples: int) -> Components:
        """Return components with these axes (n_components, n_features), given all eigenvalues in descending order."""
        count = len(axes)
        largest = np.abs(axes).argmax(axis=1)
        axes = axes * np.sign(axes[np.arange(count), largest])[:, None]
        total = eigenvalues.sum()
        return cls(
            mean_=mean,
            components_=np.ascontiguousarray(axes),
            explained_variance_=eigenvalues[:count],
            explained_variance_ratio_=eigenvalues[:count] / total if total > 0 else np.zeros(count),
            singular_values_=np.sqrt(eigenvalues[:count] * (n_samples - 1)),
            noise_variance_=float(eigenvalues[count:].mean()) if count < len(eigenvalues) else 0.0,
            n_samples_=n_samples,
        )

    @property
    def mean_length(self) -> float:
        """Root mean square of the lengths of the scores: the same bits wherever it is computed."""
        return math.sqrt(math.fsum(self.explained_variance_.tolist()))

    def inverse_transform(self, scores: Rows) -> Rows:
        """Return the points of feature space (n_rows, n_features) with these scores (n_rows, n_components_)."""
        points: Rows = (scores @ self.components_ + self.mean_).astype(scores.dtype)
        return points


def project_points(points: Float64s, pca: Components) -> Float64s:
    """Return the scores of points of feature space (n_points, n_features)."""
    with one_blas_thread():
        scores: Float64s = (points - pca.mean_) @ pca.components_.T
    return scores


def has_few_rows(n_rows: int, n_features: int) -> bool:
    """Return whether components come from the Gram matrix of the rows, which is then smaller than the covariance."""
    return n_rows < n_features


def few_rows_bytes(n_rows: int, n_features: int) -> int:
    """Return the bytes that from_few_rows takes at most beside X: measured with all components kept."""
    return 8 * n_rows * (6 * n_features + 2 * n_rows)


def check_finite(products: Float64s) -> None:
    """Raise NonFiniteValueError unless products of values are finite."""
    if not np.isfinite(products).all():
        raise NonFiniteValueError(
            "PCA needs finite values, but some are NaN, infinite, or so large that their squares are."
        )


def _check_rows(n_rows: int) -> None:
    if n_rows < 2:
        raise TooFewRowsError(f"PCA needs at least 2 rows, but there are {n_rows}.")


def _resolve_n_components(eigenvalues: Float64s, n_samples: int, n_features: int, n_components: Any) -> int:
    """Return the number of components to keep, given all eigenvalues in descending order."""
    n_eigenvalues = len(eigenvalues)
    if n_components is None:
        return n_eigenvalues
    if isinstance(n_components, int | np.integer):
        if n_components > n_eigenvalues:
            raise UsageError(
                f"n_components={n_components} must be between 0 and min(n_samples, n_features)={n_eigenvalues}."
            )
        return int(n_components)
    if n_components == "mle":
        return likeliest_dimension(eigenvalues, n_samples)
    n_varying = min(n_samples - 1, n_features)  # centered rows have no more directions
    if n_components == "auto" and n_features <= KEEP_ALL_FEATURES:
        return n_varying
    share = AUTO_VARIANCE if n_components == "auto" else n_components
    explained = np.cumsum(eigenvalues) / max(eigenvalues.sum(), np.finfo(np.float64).tiny)
    return min(int(np.searchsorted(explained, share, side="right")) + 1, n_varying)


def merge_moments(first: Moments, second: Moments) -> Moments:
    """Return the moments of the rows of both, first those of `first` (Chan, Golub & LeVeque, 1979)."""
    n_rows = first.n_rows + second.n_rows
    step = second.mean - first.mean
    scatter = first.scatter + second.scatter + np.outer(step, step) * (first.n_rows * (second.n_rows / n_rows))
    return Moments(n_rows, first.mean + step * (second.n_rows / n_rows), scatter)
