"""Eigenproblem of the covariance: principal components of moments, their number, and their signs.

    Moments (n_rows, mean, scatter), or the axes that a device's library found  ->  Components

This is PCA without its estimator (estimator.py), for a fit that has moments and no matrix: nothing here imports
scikit-learn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.backends.protocol import Moments, PrincipalAxes
from engine.errors import TooFewRowsError, UsageError
from engine.execution.threads import one_blas_thread
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
        if moments.n_rows < 2:
            raise TooFewRowsError(f"PCA needs at least 2 rows, but there are {moments.n_rows}.")
        with one_blas_thread():  # bits must not depend on the number of BLAS threads
            eigenvalues, eigenvectors = np.linalg.eigh(moments.scatter / (moments.n_rows - 1))
        found = PrincipalAxes(moments.mean, eigenvalues[::-1], eigenvectors.T[::-1])
        return cls.from_axes(found, moments.n_rows, n_components)

    @classmethod
    def from_axes(cls, found: PrincipalAxes, n_samples: int, n_components: Any) -> Components:
        """Return those of the principal axes of `n_samples` rows that `n_components` keeps; raises UsageError."""
        n_features = len(found.mean)
        n_eigenvalues = min(n_samples, n_features)
        eigenvalues = np.maximum(found.variances[:n_eigenvalues], 0.0)
        axes = found.axes
        count = _resolve_n_components(eigenvalues, n_features, n_components)
        largest = np.abs(axes).argmax(axis=1)
        axes = axes * np.sign(axes[np.arange(len(axes)), largest])[:, None]
        total = eigenvalues.sum()
        return cls(
            mean_=found.mean,
            components_=np.ascontiguousarray(axes[:count]),
            explained_variance_=eigenvalues[:count],
            explained_variance_ratio_=eigenvalues[:count] / total if total > 0 else np.zeros(count),
            singular_values_=np.sqrt(eigenvalues[:count] * (n_samples - 1)),
            noise_variance_=float(eigenvalues[count:].mean()) if count < n_eigenvalues else 0.0,
            n_samples_=n_samples,
        )

    def inverse_transform(self, scores: Rows) -> Rows:
        """Return the points of feature space (n_rows, n_features) with these scores (n_rows, n_components_)."""
        points: Rows = (scores @ self.components_ + self.mean_).astype(scores.dtype)
        return points


def project_points(points: Float64s, pca: Components) -> Float64s:
    """Return the scores of points of feature space (n_points, n_features)."""
    with one_blas_thread():
        scores: Float64s = (points - pca.mean_) @ pca.components_.T
    return scores


def _resolve_n_components(eigenvalues: Float64s, n_features: int, n_components: Any) -> int:
    """Return the number of components to keep, given all eigenvalues in descending order."""
    n_eigenvalues = len(eigenvalues)
    if n_components is None or (n_components == "auto" and n_features <= KEEP_ALL_FEATURES):
        return n_eigenvalues
    if n_components == "auto":
        n_components = AUTO_VARIANCE
    if isinstance(n_components, int | np.integer):
        if n_components > n_eigenvalues:
            raise UsageError(
                f"n_components={n_components} must be between 1 and min(n_samples, n_features)={n_eigenvalues}."
            )
        return int(n_components)
    explained = np.cumsum(eigenvalues) / max(eigenvalues.sum(), np.finfo(np.float64).tiny)
    return min(int(np.searchsorted(explained, n_components, side="right")) + 1, n_eigenvalues)


def merge_moments(first: Moments, second: Moments) -> Moments:
    """Return the moments of the rows of both, first those of `first` (Chan, Golub & LeVeque, 1979)."""
    n_rows = first.n_rows + second.n_rows
    step = second.mean - first.mean
    scatter = first.scatter + second.scatter + np.outer(step, step) * (first.n_rows * (second.n_rows / n_rows))
    return Moments(n_rows, first.mean + step * (second.n_rows / n_rows), scatter)
