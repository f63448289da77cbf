"""Compute the t-SNE embedding of valid rows: the function behind the estimator engine.TSNE.

    X (n_rows, n_features), perplexity, init  ->  Embedding: coordinates, KL divergence, iterations, neighbor recall

Nothing here imports scikit-learn, whose import takes longer than the embedding of a small job may: the estimator is
estimator.py. The steps are in neighbors.py (search), affinities.py (P), repulsion.py and gradient_descent.py.
"""

from __future__ import annotations

import logging
import warnings
from functools import reduce
from typing import Any

import numpy as np
from scipy.sparse import issparse

from engine.backends.protocol import Backend
from engine.errors import NonFiniteValueError, TooFewRowsError
from engine.execution.threads import map_blocks, row_blocks
from engine.pca.solver import MOMENT_ROWS, Components, has_few_rows, merge_moments
from engine.progress import Reporter
from engine.tsne.centering import Centering
from engine.tsne.device import embed, embed_neighbors
from engine.tsne.types import Embedding, EmbeddingPlan
from engine.utils.array_types import Float32s, Float64s, Int32s, Rows

EARLY_ITERATIONS = 250  # with exaggeration, as in scikit-learn and openTSNE
ROWS_PER_PERPLEXITY = 3  # at least: P has so many neighbors of a row
MIN_GRAD_NORM = 1e-7  # as in scikit-learn
INITIAL_STD = 1e-4  # of the initial embedding: small, so that no row has to pass another one
JITTER = 0.01  # times INITIAL_STD: equal rows need different directions to separate
logger = logging.getLogger(__name__)


def compute_embedding(
    X: Rows,
    backend: Backend,
    reporter: Reporter,
    *,
    random: np.random.RandomState,
    perplexity: float = 30.0,
    early_exaggeration: float = 12.0,
    learning_rate: float | None = None,
    max_iter: int = 1000,
    early_exaggeration_iter: int = EARLY_ITERATIONS,
    final_momentum: float = 0.8,
    init: Any = "pca",
    n_components: int = 2,
    neighbors: str = "auto",
    centering: Centering | None = None,
    min_grad_norm: float = MIN_GRAD_NORM,
    given: tuple[Int32s, Float64s] | None = None,
) -> Embedding:
    """Compute the embedding of rows X, C-contiguous and finite; parameters as in engine.TSNE and EmbeddingPlan.

    If the neighbors (n_rows, k) of the rows and their squared distances are `given`, X may be sparse, and is only read
    for init="pca".

    Raises
    ------
    TooFewRowsError
        If there are fewer than 3 x perplexity rows; it names the largest perplexity possible.
    NonFiniteValueError
        If the initial embedding is not finite.
    """
    _check_perplexity(X.shape[0], perplexity)
    centering = Centering.from_rows(X) if centering is None else centering
    init_name = init if isinstance(init, str) else "given"
    plan = EmbeddingPlan(
        perplexity,
        early_exaggeration,
        early_exaggeration_iter,
        max_iter,
        learning_rate,
        min_grad_norm,
        init_name,
        final_momentum,
        neighbors,
        centering,
    )
    start = initial_embedding(X, backend, centering, init, n_components, random)
    if given is not None:
        return embed_neighbors(*given, start, plan, reporter)
    result = embed(backend, X, start, plan, reporter)
    if result.recall < 1.0:
        logger.warning(
            "Neighbours of %d rows are searched in the clusters around them, which hold %.1f %% of them, measured on "
            "a sample. neighbors='exact' finds all.", len(X), 100 * result.recall,
        )  # fmt: skip
    return result


def usable_perplexity(perplexity: float, n_rows: int) -> float:
    """Return the perplexity, lowered with a warning to a third of the rows if it is more.

    Raises
    ------
    TooFewRowsError
        If it is not less than the number of rows.
    """
    if perplexity >= n_rows:
        raise TooFewRowsError(
            f"perplexity ({perplexity}) must be less than n_samples ({n_rows}).",
            hint=f"use a perplexity of at most {n_rows / 3:.4g}.",
        )
    largest = max(n_rows / ROWS_PER_PERPLEXITY, 1.0)
    if perplexity <= largest:
        return perplexity
    warnings.warn(
        f"perplexity={perplexity:g} is more than a third of n_samples={n_rows}: it is lowered to {largest:.4g}.",
        stacklevel=4,
    )
    return largest


def _check_perplexity(n_rows: int, perplexity: float) -> None:
    """Raise TooFewRowsError if there are fewer than ROWS_PER_PERPLEXITY x perplexity rows."""
    if n_rows < ROWS_PER_PERPLEXITY * perplexity:
        raise TooFewRowsError(
            f"perplexity={perplexity:g} needs at least {int(np.ceil(3 * perplexity))} rows, "
            f"but there are n_samples={n_rows}.",
            hint=f"the largest perplexity possible is {np.floor(n_rows / 3 * 100) / 100:g}."
            if n_rows >= 3
            else "a map needs at least 3 rows.",
        )


def initial_embedding(
    X: Rows, backend: Backend, centering: Centering, init: Any, n_components: int, random: np.random.RandomState
) -> Float32s:
    """Return the initial embedding (n_rows, n_components)."""
    if not isinstance(init, str):
        given = np.array(init, np.float32)
        if given.shape != (X.shape[0], n_components):
            raise ValueError(f"init is of shape {given.shape}, but the map's is {(X.shape[0], n_components)}.")
        if not np.isfinite(given).all():
            raise NonFiniteValueError("init holds NaN or infinity.")
        return given
    start: Float64s = random.normal(scale=INITIAL_STD, size=(X.shape[0], n_components))
    if init == "pca":
        start *= JITTER
        scores = _first_scores(X, backend, centering, min(n_components, *X.shape))
        std = float(scores[:, 0].std(dtype=np.float64))
        if std > 0.0:
            start[:, : scores.shape[1]] += scores * (INITIAL_STD / std)
    return start.astype(np.float32)


def _first_scores(X: Rows, backend: Backend, centering: Centering, n_components: int) -> Rows:
    """Return the scores of centered rows on the first principal components."""
    if issparse(X):
        from engine.pca.estimator import PCA  # imported late: it imports scikit-learn

        sparse_scores: Rows = PCA(n_components, device="cpu").fit_transform(X)
        return sparse_scores
    blocks = list(row_blocks(len(X), MOMENT_ROWS))
    if has_few_rows(*X.shape):
        pca = Components.from_few_rows(centering.apply(X), n_components)
    else:
        moments = reduce(merge_moments, map_blocks(lambda part: backend.moments(centering.apply(X[part])), blocks))
        pca = Components.from_moments(moments, n_components)
    axes = np.ascontiguousarray(pca.components_.T)
    return np.concatenate(
        list(map_blocks(lambda part: backend.scores(centering.apply(X[part]), pca.mean_, axes), blocks))
    )
