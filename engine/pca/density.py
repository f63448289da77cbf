"""The normal distribution of probabilistic PCA: covariance, precision, and the log-likelihood of rows.

    Components, of them axes (n_components, n_features), variances and noise  ->  covariance, precision
    X (n_rows, n_features)                                                    ->  log-likelihoods (n_rows,)

Along the axes, variances are the eigenvalues; across them, each is their mean of those left out (the noise). Neither
a matrix of n_features x n_features nor its inverse is needed for a likelihood. Where there is no noise, and there are
fewer axes of any variance than features, the distribution lies within their span, and has a density there.

Source: Tipping & Bishop, "Probabilistic principal component analysis", J. R. Statist. Soc. B 61 (1999).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from engine.execution.threads import one_blas_thread
from engine.utils.array_types import Float64s, Rows

# A row lies in the span of a singular distribution up to rounding: of the row, as a share of its squared length, and of
# the variances across, in standard deviations.
LENGTH_TOLERANCE, ROUNDING_DEVIATIONS = 1e-20, 10.0


@dataclass(frozen=True)
class ProbabilisticPCA:
    """A normal distribution of `axes` (n_axes, n_features) with `variances` (n_axes,), and `noise` across them."""

    mean: Float64s
    axes: Float64s
    variances: Float64s
    noise: float

    @property
    def covariance(self) -> Float64s:
        """The covariance (n_features, n_features)."""
        along = (self.axes.T * (self.variances - self.noise)) @ self.axes
        along.flat[:: len(along) + 1] += self.noise
        return along

    @property
    def precision(self) -> Float64s:
        """The inverse of the covariance (n_features, n_features); its pseudo-inverse where it is singular."""
        across = 1 / self.noise if self._has_noise else 0.0
        varying = self.variances > self._floor
        axes = self.axes[varying]
        precision = (axes.T * (1 / self.variances[varying] - across)) @ axes
        precision.flat[:: len(precision) + 1] += across
        return precision

    def log_likelihoods(self, X: Rows) -> Float64s:
        """Return the log-likelihood of every row (n_rows,); -inf for a row outside of the span of a singular one."""
        varying = self.variances > self._floor
        axes, variances = self.axes[varying], self.variances[varying]
        with one_blas_thread():
            deviations = X - self.mean
            scores = deviations @ axes.T
            residuals = np.square(deviations - scores @ axes).sum(axis=1)
        distances = (np.square(scores) / variances).sum(axis=1)
        log_volume = np.log(variances).sum() + len(variances) * math.log(2 * math.pi)
        if self._has_noise:
            n_across = len(self.mean) - len(variances)
            distances += residuals / self.noise
            log_volume += n_across * math.log(2 * math.pi * self.noise)
            return np.asarray(-0.5 * (distances + log_volume))
        lengths = np.square(X.astype(np.float64)).sum(axis=1) + np.square(self.mean).sum()
        rounding = LENGTH_TOLERANCE * lengths + ROUNDING_DEVIATIONS**2 * len(self.mean) * self._floor
        outside = residuals > rounding
        return np.where(outside, -np.inf, -0.5 * (distances + log_volume))

    @property
    def _floor(self) -> float:
        """Variance at and below which one is rounding error."""
        largest = max(self.variances.max(initial=0.0), self.noise)
        return float(len(self.mean) * np.finfo(np.float64).eps * largest)

    @property
    def _has_noise(self) -> bool:
        return self.noise > self._floor
