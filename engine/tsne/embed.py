"""t-SNE of rows that are known to be good: what engine.TSNE is behind its estimator.

    X (n_rows, n_features), perplexity, a start  ->  Map: places, KL divergence, iterations, recall of neighbours

Nothing here imports scikit-learn, which takes longer than a job's map may: the estimator is estimator.py. Neighbours
are neighbors.py, P is affinities.py, repulsion repulsion.py, and gradient_descent.py moves rows.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.backends.protocol import Backend, Float64s, Moments, Rows
from engine.errors import NonFiniteValueError, TooFewRowsError
from engine.execution.threads import map_blocks, row_blocks
from engine.pca.solver import MOMENT_ROWS, Components, merged
from engine.progress import Reporter
from engine.tsne.centering import Frame
from engine.tsne.device import embed
from engine.tsne.types import Map, MapPlan

Float32s = NDArray[np.float32]

EARLY_ITERATIONS = 250  # with exaggeration, as in scikit-learn and openTSNE
LEAST_NORM = 1e-7  # of the gradient, as in scikit-learn
SMALL_SPREAD = 1e-4  # standard deviation of a start: small, so that no row has to pass another one
JITTER = 0.01  # of that: equal rows need a direction to part in
logger = logging.getLogger(__name__)


def map_of(
    X: Rows,
    backend: Backend,
    reporter: Reporter,
    *,
    random: np.random.RandomState,
    perplexity: float = 30.0,
    exaggeration: float = 12.0,
    rate: float | None = None,
    iterations: int = 1000,
    early_iterations: int = EARLY_ITERATIONS,
    momentum: float = 0.8,
    init: Any = "pca",
    n_components: int = 2,
    neighbours: str = "auto",
    frame: Frame | None = None,
) -> Map:
    """Make the map of rows X, C-contiguous and finite; parameters as in engine.TSNE and MapPlan.

    Raises
    ------
    TooFewRowsError
        If there are fewer than 3 x perplexity rows; it names the largest perplexity possible.
    NonFiniteValueError
        If an initial place is not finite.
    """
    _check_perplexity(len(X), perplexity)
    frame = Frame.of(X) if frame is None else frame
    start = init if isinstance(init, str) else "given"
    plan = MapPlan(
        perplexity, exaggeration, early_iterations, iterations, rate, LEAST_NORM, start, momentum, neighbours, frame
    )
    found = embed(backend, X, start_of(X, backend, frame, init, n_components, random), plan, reporter)
    if found.recall < 1.0:
        logger.warning(
            "Neighbours of %d rows are looked for in the clusters around them, which hold %.1f %% of them, measured on "
            "a sample. neighbors='exact' finds all.", len(X), 100 * found.recall,
        )  # fmt: skip
    return found


def _check_perplexity(n_rows: int, perplexity: float) -> None:
    """Raise TooFewRowsError if so few rows cannot have the perplexity."""
    if n_rows < 3 * perplexity:
        raise TooFewRowsError(
            f"perplexity={perplexity:g} needs at least {int(np.ceil(3 * perplexity))} rows, "
            f"but there are n_samples={n_rows}.",
            hint=f"the largest perplexity possible is {np.floor(n_rows / 3 * 100) / 100:g}."
            if n_rows >= 3
            else "a map needs at least 3 rows.",
        )


def start_of(
    X: Rows, backend: Backend, frame: Frame, init: Any, n_components: int, random: np.random.RandomState
) -> Float32s:
    """Return where rows start, (n_rows, n_components)."""
    if not isinstance(init, str):
        given = np.array(init, np.float32)
        if given.shape != (len(X), n_components):
            raise ValueError(f"init is of shape {given.shape}, but the map's is {(len(X), n_components)}.")
        if not np.isfinite(given).all():
            raise NonFiniteValueError("init holds NaN or infinity.")
        return given
    start: Float64s = random.normal(scale=SMALL_SPREAD, size=(len(X), n_components))
    if init == "pca":
        start *= JITTER
        scores = _first_scores(X, backend, frame, min(n_components, *X.shape))
        spread = float(scores[:, 0].std(dtype=np.float64))
        if spread > 0.0:
            start[:, : scores.shape[1]] += scores * (SMALL_SPREAD / spread)
    return start.astype(np.float32)


def _first_scores(X: Rows, backend: Backend, frame: Frame, n_components: int) -> Rows:
    """Return the first principal components' scores of rows in a frame."""
    total: Moments | None = None
    blocks = list(row_blocks(len(X), MOMENT_ROWS))
    for piece in map_blocks(lambda part: backend.moments(frame.rows(X[part])), blocks):
        total = piece if total is None else merged(total, piece)
    assert total is not None
    pca = Components.of(total, n_components)
    axes = np.ascontiguousarray(pca.components_.T)
    return np.concatenate(list(map_blocks(lambda part: backend.scores(frame.rows(X[part]), pca.mean_, axes), blocks)))
