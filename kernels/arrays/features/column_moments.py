"""Compute the moments of columns of numbers, block by block, on whole arrays.

    values (n_columns, n_blocks, n_rows) float64 with NaN  ->  BlockMoments, each (n_columns, n_blocks)

The bits are those of kernels/cpu/features/column_moments.py for every block: the same additions in the same order.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from engine.kernels.cpu.features.column_moments import LANES, RUN_ROWS

Array = Any  # of the array module `xp`


class BlockMoments(NamedTuple):
    """Moments of every block of every column; without values, (0, 0, 0, inf, -inf)."""

    n: Array  # int64
    mean: Array
    m2: Array
    minimum: Array
    maximum: Array


def compute_moments(xp: Any, values: Array) -> BlockMoments:
    """Return the moments of blocks of at least one row."""
    missing = xp.isnan(values)
    n = values.shape[2] - missing.sum(axis=2)
    divisor = xp.maximum(n, 1)
    mean = _add_values(xp, xp.where(missing, 0.0, values)) / divisor
    deviations = values - mean[:, :, None]
    deviations = xp.where(xp.isnan(deviations), 0.0, deviations)
    rest = _add_values(xp, deviations) / divisor  # rounding error of the mean
    m2 = _add_values(xp, deviations * deviations) - n * rest * rest
    minimum = xp.where(missing, np.inf, values).min(axis=2) + 0.0  # no -0.0
    maximum = xp.where(missing, -np.inf, values).max(axis=2) + 0.0
    return BlockMoments(n, mean + rest, m2, minimum, maximum)


def _add_values(xp: Any, values: Array) -> Array:
    """Return the sum of every block's values, (n_columns, n_blocks): by lanes and runs, then in pairs."""
    n_columns, n_blocks, n_rows = values.shape
    n_runs = -(-n_rows // RUN_ROWS)
    if n_rows != n_runs * RUN_ROWS:
        padded = xp.zeros((n_columns, n_blocks, n_runs * RUN_ROWS))
        padded[:, :, :n_rows] = values
        values = padded
    steps = values.reshape(n_columns, n_blocks, n_runs, RUN_ROWS // LANES, LANES)
    lanes = xp.zeros((n_columns, n_blocks, n_runs, LANES))
    for step in range(RUN_ROWS // LANES):
        lanes += steps[:, :, :, step]
    sums = lanes.reshape(n_columns, n_blocks, n_runs * LANES)
    n = n_runs * LANES
    while n > 1:
        half = (n + 1) // 2
        sums[:, :, : n - half] += sums[:, :, half:n]
        n = half
    return sums[:, :, 0]
