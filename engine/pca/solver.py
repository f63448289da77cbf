"""Principal components of moments: the eigenproblem, how many are kept, and their signs.

    Moments (n_rows, mean, scatter)  ->  Components  ->  scores, and back

What engine.PCA is behind its estimator, for jobs that have moments and no matrix, and no use for scikit-learn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.backends.protocol import Float64s, Moments, Rows
from engine.errors import TooFewRowsError
from engine.execution.threads import one_blas_thread

MOMENT_ROWS = 16384  # rows whose moments are taken together: merging them takes a hundredth of that


@dataclass(frozen=True)
class Components:
    """Principal components, named as scikit-learn's PCA names them; see engine.PCA."""

    mean_: Float64s
    components_: Float64s
    explained_variance_: Float64s
    explained_variance_ratio_: Float64s
    singular_values_: Float64s
    noise_variance_: float
    n_samples_: int

    @property
    def n_components_(self) -> int:
        """How many components were kept."""
        return len(self.components_)

    @classmethod
    def of(cls, moments: Moments, wanted: Any) -> Components:
        """Solve for the components of rows with these moments; `wanted` is engine.PCA's n_components.

        Raises
        ------
        TooFewRowsError
            If there are fewer than 2 rows.
        ValueError
            If more components are wanted than there are rows or features.
        """
        n_samples, n_features = moments.n_rows, len(moments.mean)
        if n_samples < 2:
            raise TooFewRowsError(f"PCA needs at least 2 rows, but there are {n_samples}.")
        with one_blas_thread():  # so that bits do not depend on BLAS threads
            values, vectors = np.linalg.eigh(moments.scatter / (n_samples - 1))
        kept = min(n_samples, n_features)
        values = np.maximum(values[::-1][:kept], 0.0)
        axes = vectors.T[::-1]
        count = _count(values, n_samples, n_features, wanted)
        largest = np.abs(axes).argmax(axis=1)
        axes = axes * np.sign(axes[np.arange(len(axes)), largest])[:, None]
        total = values.sum()
        return cls(
            mean_=moments.mean,
            components_=np.ascontiguousarray(axes[:count]),
            explained_variance_=values[:count],
            explained_variance_ratio_=values[:count] / total if total > 0 else np.zeros(count),
            singular_values_=np.sqrt(values[:count] * (n_samples - 1)),
            noise_variance_=float(values[count:].mean()) if count < kept else 0.0,
            n_samples_=n_samples,
        )

    def inverse_transform(self, scores: Rows) -> Rows:
        """Return scores (n_rows, n_components_) in the space of the features (n_rows, n_features)."""
        restored: Rows = (scores @ self.components_ + self.mean_).astype(scores.dtype)
        return restored


def _count(values: Float64s, n_samples: int, n_features: int, wanted: Any) -> int:
    """Return how many components are wanted, given all eigenvalues in descending order."""
    if wanted is None:
        return len(values)
    if wanted == "auto":
        edge = values.sum() / n_features * (1.0 + np.sqrt(n_features / n_samples)) ** 2
        return max(int((values > edge).sum()), min(2, len(values)))
    if isinstance(wanted, int | np.integer):
        if wanted > len(values):
            raise ValueError(f"n_components={wanted} must be between 1 and min(n_samples, n_features)={len(values)}.")
        return int(wanted)
    shares = np.cumsum(values) / max(values.sum(), np.finfo(np.float64).tiny)
    return min(int(np.searchsorted(shares, wanted, side="right")) + 1, len(values))


def merged(first: Moments, second: Moments) -> Moments:
    """Return the moments of the rows of both (Chan, Golub & LeVeque, 1979)."""
    n_rows = first.n_rows + second.n_rows
    step = second.mean - first.mean
    scatter = first.scatter + second.scatter + np.outer(step, step) * (first.n_rows * (second.n_rows / n_rows))
    return Moments(n_rows, first.mean + step * (second.n_rows / n_rows), scatter)
