"""Log records of an embedding, at level DEBUG: what TSNE(verbose=2) prints, in the words of scikit-learn.

They take time of their own, a KL divergence among it, so nothing is computed unless they are written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from engine.tsne.types import EmbeddingPlan
from engine.utils.array_types import Float32s, Float64s

logger = logging.getLogger(__name__)


def log_iteration(n_iter: int, norm: float, plan: EmbeddingPlan, divergence: Callable[[], float]) -> None:
    """Log the KL divergence and the norm of the gradient after an iteration."""
    if not logger.isEnabledFor(logging.DEBUG):
        return
    error = divergence()
    logger.debug("[t-SNE] Iteration %d: error = %.7f, gradient norm = %.7f", n_iter, error, norm)
    if n_iter == plan.early_exaggeration_iter:
        logger.debug("[t-SNE] KL divergence after %d iterations with early exaggeration: %.6f", n_iter, error)


def log_search(n_rows: int, k: int) -> None:
    """Log how many neighbors of each row are searched."""
    logger.debug("[t-SNE] Computing %d nearest neighbors... (of %d samples)", k, n_rows)


def log_probabilities(n_rows: int, sigmas: list[Float64s], scale: float) -> None:
    """Log the mean of the Gaussians' widths, measured in rows that were multiplied by `scale`."""
    logger.debug("[t-SNE] Computed conditional probabilities for %d samples", n_rows)
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug("[t-SNE] Mean sigma: %.6f", float(np.concatenate(sigmas).mean()) / scale)


def widths(squared: Float64s, probabilities: Float32s) -> Float64s:
    """Return the width of every row's Gaussian (n_rows,), given squared distances (n_rows, k) that ascend, and p(j|i).

    It is that of the nearest and the farthest neighbor that has a probability; infinite where both are equally near.
    """
    if not logger.isEnabledFor(logging.DEBUG):
        return np.empty(0)
    last = np.maximum((probabilities > 0).sum(axis=1) - 1, 0)
    rows = np.arange(len(squared))
    spread = squared[rows, last] - squared[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        logarithm = np.log(probabilities[:, 0].astype(np.float64) / probabilities[rows, last])
        sigmas: Float64s = np.sqrt(spread / (2.0 * logarithm))
    return np.where(spread > 0, sigmas, np.inf)
