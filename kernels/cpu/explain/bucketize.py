"""Bucketize numbers by ascending thresholds, as np.searchsorted(side="right"), with a lookup table of cells.

    values (n_rows,) float64, ascending thresholds  ->  codes (n_rows,) uint8: thresholds reached, MISSING for NaN

A monotone function maps values and thresholds to cells. A value has reached all thresholds in lower cells and none in
higher ones, whatever rounding does, for the function is the same for both. Only the thresholds of its own cell are
compared, and `ThresholdLookup` knows their greatest number. Cells are even in the values, or in their bits, which are
even in the logarithm: whichever needs fewer comparisons. With 64 thresholds, a value takes 1.6 or 2.4 ns; comparing
it with all of them takes 17 ns.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

MISSING = 255  # code of a missing value; there are fewer thresholds
N_CELLS = 1024  # of a lookup table, which then stays in the L1 cache
_MAGNITUDE = np.int64(0x7FFF_FFFF_FFFF_FFFF)  # bits of a float64 without its sign


class ThresholdLookup(NamedTuple):
    """Lookup table of thresholds by cell.

    The cell of a value is (value - low) * scale, or, if `even_in_bits`, (its ordered bits >> shift) - first.
    """

    thresholds: NDArray[np.float64]  # padded with NaN, which no value reaches
    n_lower: NDArray[np.uint8]  # (n_cells,): thresholds in lower cells
    n_compared: int  # greatest number of thresholds in one cell
    even_in_bits: bool
    low: float
    scale: float
    first: int
    shift: int


def build_lookup(thresholds: NDArray[np.float64]) -> ThresholdLookup:
    """Return the lookup table of ascending thresholds that needs the fewest comparisons."""
    if len(thresholds) == 0:
        return ThresholdLookup(np.full(1, np.nan), np.zeros(1, np.uint8), 0, False, 0.0, 0.0, 0, 1)
    keys, shift = _ordered_bits(thresholds), 1
    while (keys[-1] >> shift) - (keys[0] >> shift) >= N_CELLS:
        shift += 1
    first = int(keys[0] >> shift)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        scale = (N_CELLS - 1) / (thresholds[-1] - thresholds[0])
        scale = float(scale) if np.isfinite(scale) else 0.0  # of a single threshold
        linear_cells = np.fmin(np.fmax((thresholds - thresholds[0]) * scale, 0.0), N_CELLS - 1).astype(np.int64)
    bit_cells = (keys >> shift) - first
    by_bits = np.bincount(bit_cells).max() < np.bincount(linear_cells).max()
    counts = np.bincount(bit_cells if by_bits else linear_cells)
    padded = np.concatenate([thresholds, np.full(int(counts.max()), np.nan)])
    n_lower = (counts.cumsum() - counts).astype(np.uint8)
    return ThresholdLookup(padded, n_lower, int(counts.max()), bool(by_bits), float(thresholds[0]), scale, first, shift)


def bucketize(values: NDArray[np.float64], lookup: ThresholdLookup, out: NDArray[np.uint8]) -> None:
    """Write how many thresholds each value has reached."""
    table = (lookup.thresholds, lookup.n_lower, lookup.n_compared)
    if lookup.even_in_bits:
        _bucketize_by_bits(values, values.view(np.int64), *table, lookup.first, lookup.shift, out)
    else:
        _bucketize_linearly(values, *table, lookup.low, lookup.scale, out)


@njit(nogil=True, cache=True)
def _bucketize_linearly(values, thresholds, n_lower, n_compared, low, scale, out):  # type: ignore[no-untyped-def]
    top = np.float64(n_lower.shape[0] - 1)
    for i in range(values.shape[0]):
        value = values[i]
        cell = (value - low) * scale
        cell = cell if cell > 0.0 else 0.0  # for NaN, too
        cell = cell if cell < top else top
        code = np.int64(n_lower[np.int64(cell)])
        for _ in range(n_compared):
            code += value >= thresholds[code]
        out[i] = MISSING if value != value else code


@njit(nogil=True, cache=True)
def _bucketize_by_bits(values, bits, thresholds, n_lower, n_compared, first, shift, out):  # type: ignore[no-untyped-def]
    top = n_lower.shape[0] - 1
    for i in range(values.shape[0]):
        value = values[i]
        key = bits[i] if value != 0.0 else np.int64(0)  # -0.0 counts as 0.0
        cell = ((key ^ ((key >> 63) & _MAGNITUDE)) >> shift) - first
        cell = cell if cell > 0 else 0
        cell = cell if cell < top else top
        code = np.int64(n_lower[cell])
        for _ in range(n_compared):
            code += value >= thresholds[code]
        out[i] = MISSING if value != value else code


def _ordered_bits(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the bits of numbers as integers in the order of the numbers."""
    bits = np.where(values == 0.0, 0.0, values).view(np.int64)
    return bits ^ ((bits >> 63) & _MAGNITUDE)
