"""Convert moments of encoded rows to moments of X, and axes of X to axes of encoded rows.

    EncodedMoments  ->  Moments: n, mean and scatter of X
    mean, axes      ->  Projection, which takes encoded rows to (X - mean) @ axes

Numbers are standardised by the encoder, so their moments about 0 lose nothing to cancellation: the relative error of a
covariance is about (1 + (mean / deviation)²)·2⁻⁵³ per addition, and the encoder's means are below a deviation. Hot
columns are counted in integers: their covariance v_i v_j (n_ij − n_i n_j / n) is exact up to its last three roundings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from engine.backends.protocol import LANES, EncodedMoments, Moments, Projection
from engine.utils.array_types import Float64s

if TYPE_CHECKING:
    from engine.features.layout import Layout


def feature_moments(total: EncodedMoments, layout: Layout) -> Moments:
    """Compute count, mean and scatter of X from the moments of encoded rows; columns in the order of X."""
    n, n_dense = total.n_rows, len(layout.dense_columns)
    values = layout.hot_values.astype(np.float64)
    counts = (total.pairs + total.pairs.T).astype(np.float64)
    rows_hot = np.diag(total.pairs).astype(np.float64)
    np.fill_diagonal(counts, rows_hot)
    mean = np.empty(layout.n_features)
    mean[layout.dense_columns] = total.gram[n_dense, :n_dense] / n
    mean[layout.hot_columns] = values * rows_hot / n
    dense_mean, dense, hot = mean[layout.dense_columns], layout.dense_columns, layout.hot_columns
    scatter = np.empty((layout.n_features, layout.n_features))
    scatter[np.ix_(dense, dense)] = total.gram[:n_dense, :n_dense] - n * np.outer(dense_mean, dense_mean)
    across = values[:, None] * (total.cross[:, :n_dense] - np.outer(rows_hot, dense_mean))
    scatter[np.ix_(hot, dense)] = across
    scatter[np.ix_(dense, hot)] = across.T
    scatter[np.ix_(hot, hot)] = np.outer(values, values) * (counts - np.outer(rows_hot, rows_hot) / n)
    return Moments(n, mean, scatter)


def make_projection(layout: Layout, mean: Float64s, axes: Float64s, shortest: float | None = None) -> Projection:
    """Return the Projection that takes encoded rows to (X - mean) @ axes; axes (n_features, n_components).

    With `shortest`, scores are divided by their length, and those shorter than it become 0.
    """
    n_components = axes.shape[1]
    padded = np.zeros((axes.shape[0], -(-n_components // LANES) * LANES))
    padded[:, :n_components] = axes
    hot_axes = layout.hot_values.astype(np.float64)[:, None] * padded[layout.hot_columns]
    base = np.zeros(padded.shape[1])
    for feature_mean, axis in zip(mean, padded, strict=True):  # in the order of X: the same bits on every machine
        base -= feature_mean * axis
    return Projection(n_components, base, padded[layout.dense_columns], hot_axes, shortest)
