"""The number of principal components by the limits of a solver's name, and by maximum likelihood.

    n_components, svd_solver, shape of X          ->  n_components that this name allows, or an error
    eigenvalues (n_features,), number of rows     ->  Minka's estimate of the dimension

The names are scikit-learn's: every one is the same exact computation here, and keeps the limits that it has there, so
that what runs with one runs with the other.

Source: Minka, "Automatic choice of dimensionality for PCA", NIPS 2000.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from engine.errors import UsageError
from engine.utils.array_types import Float64s

TRUNCATED_SOLVERS = ("arpack", "randomized")
SPARSE_SOLVERS = ("auto", "arpack", "covariance_eigh")
SVD_SOLVERS = ("auto", "full", "covariance_eigh", "arpack", "randomized")


def check_n_components(n_components: Any, svd_solver: str, n_samples: int, n_features: int) -> Any:
    """Return `n_components`, resolved where it is None; raise UsageError where the name of the solver forbids it."""
    smallest = min(n_samples, n_features)
    if n_components is None:
        return smallest - 1 if svd_solver == "arpack" else smallest
    with_solver = f"with svd_solver='{'full' if svd_solver == 'auto' else svd_solver}'"  # in scikit-learn's words
    if svd_solver in TRUNCATED_SOLVERS:
        if n_components == "mle":
            raise UsageError(
                f"n_components='mle' cannot be a string {with_solver}.", hint="use svd_solver='auto' or 'full'."
            )
        if n_components != "auto" and not 1 <= n_components <= smallest:
            raise UsageError(
                f"n_components={n_components} must be between 1 and min(n_samples, n_features)={smallest} "
                f"{with_solver}."
            )
        if svd_solver == "arpack" and n_components == smallest:
            raise UsageError(
                f"n_components={n_components} must be strictly less than min(n_samples, n_features)={smallest} "
                f"{with_solver}.",
                hint="any other svd_solver computes all components.",
            )
    if n_components == "mle" and n_samples < n_features:
        raise UsageError("n_components='mle' is only supported if n_samples >= n_features.")
    if isinstance(n_components, int | np.integer) and n_components > smallest:
        raise UsageError(
            f"n_components={n_components} must be between 0 and min(n_samples, n_features)={smallest} {with_solver}."
        )
    return n_components


def likeliest_dimension(eigenvalues: Float64s, n_rows: int) -> int:
    """Return the dimension k, from 1 to n_features - 1, of largest evidence by Laplace's method (Minka, eq. 30).

    `eigenvalues` (n_features,) are those of the covariance, in descending order. Dimensions that end in an eigenvalue
    of rounding error have no evidence. One feature has dimension 1.
    """
    n_features = len(eigenvalues)
    floor = np.finfo(np.float64).eps * eigenvalues[0]
    n_varying = int(np.count_nonzero(eigenvalues > floor))
    dimensions = range(1, min(n_features - 1, n_varying) + 1)
    if not dimensions:
        return 1
    evidence = [_log_evidence(np.maximum(eigenvalues, floor), k, n_rows) for k in dimensions]
    return dimensions[int(np.argmax(evidence))]


def _log_evidence(eigenvalues: Float64s, k: int, n_rows: int) -> float:
    """Return the logarithm of the evidence of k dimensions, without terms that all k share."""
    d = len(eigenvalues)
    kept, noise = eigenvalues[:k], eigenvalues[k:].mean()
    halves = [(d - i) / 2 for i in range(k)]
    log_prior = sum(math.lgamma(half) - half * math.log(math.pi) for half in halves) - k * math.log(2)
    log_likelihood = -n_rows / 2 * (float(np.log(kept).sum()) + (d - k) * math.log(noise))
    n_parameters = d * k - k * (k + 1) / 2
    shrunk = np.concatenate([kept, np.full(d - k, noise)])
    log_curvature = 0.0
    for i in range(k):
        below = slice(i + 1, d)
        factors = (1 / shrunk[below] - 1 / shrunk[i]) * (eigenvalues[i] - eigenvalues[below])
        # Two axes of equal variance may be turned into each other: the evidence that this costs is not unbounded.
        log_curvature += float(np.log(np.maximum(factors * n_rows, 1.0)).sum())
    return (
        log_prior + log_likelihood - k / 2 * math.log(n_rows)
        + (n_parameters + k) / 2 * math.log(2 * math.pi) - log_curvature / 2
    )  # fmt: skip
