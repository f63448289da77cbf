"""Metric "cosine": scores of unit length, so that Euclidean K-Means on them clusters directions from the mean.

    encoder, components, metric  ->  Projection of encoded rows to scores, of unit length or as they are

Both a fit and its model project rows by it, so everything after the scores is the same for both metrics. Which
objective is minimised: decisions/0042-cosine.md.
"""

from __future__ import annotations

import warnings
from typing import Any

from engine.backends.protocol import Projection
from engine.config import Metric
from engine.execution.threads import row_blocks
from engine.features.encoded_moments import make_projection
from engine.features.encoder import FeatureEncoder
from engine.pca.solver import Components
from engine.utils.row_sampling import KEY_ROWS

# Length below which scores have no direction, as a share of the mean length: what rounding to float32 leaves of 0.
SHORTEST = 1e-6


class NoDirectionWarning(UserWarning):
    """Warns of rows that are at the mean in every component, so that they have no direction from it."""


def score_projection(encoder: FeatureEncoder, pca: Components, metric: Metric) -> Projection:
    """Return the projection of encoded rows to their scores by a metric."""
    shortest = SHORTEST * pca.mean_length if metric == "cosine" else None
    return make_projection(encoder.layout, pca.mean_, pca.components_.T, shortest)


def count_without_direction(Z: Any) -> int:
    """Return the number of rows without direction among scores Z (n_rows, n_components) of unit length."""
    return sum(int((Z[rows] == 0).all(axis=1).sum()) for rows in row_blocks(len(Z), KEY_ROWS))


def direction_facts(Z: Any, metric: Metric) -> dict[str, Any]:
    """Return facts on the metric of the scores of a fit, and warn of rows without direction."""
    if metric == "euclidean":
        return {"metric": metric}
    n_rows = count_without_direction(Z)
    if n_rows:
        warnings.warn(describe_rows_without_direction(n_rows), NoDirectionWarning, stacklevel=2)
    return {"metric": metric, "rows_without_direction": n_rows}


def describe_rows_without_direction(n_rows: int) -> str:
    """Return what becomes of rows without direction."""
    return (
        f"{n_rows:,} rows have no direction, because they are at the mean of all rows: they are put into the "
        "cluster whose center is nearest to it."
    )
