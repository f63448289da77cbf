"""Choose the fixed point in which rows are summed, so that no sum depends on the order of its terms.

    least and largest value per feature, weights -> Grid;   integer sums -> centres, variances

Rows are centred on the middle of each feature's range, which no order of addition can change, and scaled by a power
of two so that neither one term passes 2^51 nor all of them 2^61. Bits that are left: decisions/0002-labels-and-sums.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.backends.protocol import Float64s, Grid, Int64s

SUM_BITS, TERM_BITS = 61, 51


def fixed_point_grid(
    low: Float64s, high: Float64s, dtype: np.dtype[Any], n_rows: int, weights: tuple[float, float] | None = None
) -> Grid:
    """Return the grid for `n_rows` rows of `dtype` between low and high; `weights` is their sum and their largest."""
    total, largest = (float(n_rows), 1.0) if weights is None else weights
    shift = (0.5 * low + 0.5 * high).astype(dtype).astype(np.float64)
    reach = _exponent(np.maximum(high - shift, shift - low))
    room = min(SUM_BITS - int(_exponent(total)), TERM_BITS - int(_exponent(largest)))
    mass_scale = 1.0 if weights is None else float(_power(room))
    return Grid(shift, _power(room - reach), _power(room - 2 * reach), mass_scale)


def centres_of(sums: Int64s, masses: Int64s, grid: Grid) -> Float64s:
    """Return the mean of every cluster; one without mass is put where the heaviest (then lowest) is."""
    source = np.where(masses > 0, np.arange(len(masses)), masses.argmax())
    ratio = sums[source].astype(np.float64) / masses[source].astype(np.float64)[:, None]
    means: Float64s = ratio * grid.mass_scale / grid.scale + grid.shift
    return means


def variances_of(sums: Int64s, squares: Int64s, grid: Grid, total: float) -> Float64s:
    """Return the variance of every feature, from sums over all rows of total weight `total`."""
    mean = sums / grid.scale / total
    variances: Float64s = np.maximum(squares / grid.square_scale / total - mean * mean, 0.0)
    return variances


def _exponent(value: Any) -> Any:
    """Return e with value < 2^e."""
    return np.frexp(value)[1].astype(np.int64)


def _power(exponent: Any) -> Any:
    return np.ldexp(1.0, np.clip(exponent, -1022, 1022))
