"""Fixed-point sums in int64, which do not depend on the order of their terms.

    least and largest value per feature, weights -> FixedPointGrid;   integer sums -> cluster means, variances

Rows are centered on the middle of each feature's range, which no order of addition can change, and scaled by a power
of two, such that no term exceeds 2^51 and no sum 2^61. The precision that remains: decisions/0002-labels-and-sums.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.backends.protocol import FixedPointGrid
from engine.utils.array_types import Float64s, Int64s

SUM_BITS, TERM_BITS = 61, 51  # a sum is at most 2^61, a term at most 2^51


def fixed_point_grid(
    low: Float64s, high: Float64s, dtype: np.dtype[Any], n_rows: int, weights: tuple[float, float] | None = None
) -> FixedPointGrid:
    """Return the grid for `n_rows` rows of `dtype` between low and high (n_features,).

    `weights` is the sum of all weights and the largest one; None stands for weights of 1.
    """
    total_weight, largest_weight = (float(n_rows), 1.0) if weights is None else weights
    shift = (0.5 * low + 0.5 * high).astype(dtype).astype(np.float64)
    value_bits = _exponent(np.maximum(high - shift, shift - low))
    free_bits = min(SUM_BITS - int(_exponent(total_weight)), TERM_BITS - int(_exponent(largest_weight)))
    mass_scale = 1.0 if weights is None else float(_power_of_two(free_bits))
    return FixedPointGrid(
        shift, _power_of_two(free_bits - value_bits), _power_of_two(free_bits - 2 * value_bits), mass_scale
    )


def cluster_means(sums: Int64s, masses: Int64s, grid: FixedPointGrid) -> Float64s:
    """Return cluster means (n_clusters, n_features); a cluster without mass gets that of the heaviest, then lowest."""
    source = np.where(masses > 0, np.arange(len(masses)), masses.argmax())
    ratio = sums[source].astype(np.float64) / masses[source].astype(np.float64)[:, None]
    means: Float64s = ratio * grid.mass_scale / grid.scale + grid.shift
    return means


def feature_variances(sums: Int64s, squares: Int64s, grid: FixedPointGrid, total_weight: float) -> Float64s:
    """Return the variance of every feature (n_features,), from sums over all rows."""
    mean = sums / grid.scale / total_weight
    variances: Float64s = np.maximum(squares / grid.square_scale / total_weight - mean * mean, 0.0)
    return variances


def _exponent(value: Any) -> Any:
    """Return e with value < 2^e."""
    return np.frexp(value)[1].astype(np.int64)


def _power_of_two(exponent: Any) -> Any:
    return np.ldexp(1.0, np.clip(exponent, -1022, 1022))
