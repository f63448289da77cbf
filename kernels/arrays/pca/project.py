"""Project rows onto principal axes in float64, with the bits of kernels/cpu/pca/project.py.

    X, mean, axes  ->  (X - mean) @ axes;   encoded rows, base, axes  ->  base + dense @ dense_axes + hot axes

By definition, a score is summed over the features in their order, and every product and every sum is rounded once. A
matrix product adds in another order and fuses, so float32 scores are filtered and refined, as labels are: a product in
float64 is off by no more than a proven bound, and where all values within the bound round to the same float32, that is
the score. The few rows where they do not are evaluated by the definition, whose products and sums are separate array
operations that nothing can fuse. Float64 scores are all evaluated by the definition.

Bound: with unit roundoff u = 2^-53, a sum of n products is off by at most n u (1 + n u) sum |y_t a_t|, in any order,
fused or not, and sum |y_t a_t| <= ||y|| ||a||. Two such sums differ by at most twice that; SLACK covers the rounding of
the bound.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.kernels.arrays.distance import row_chunks

Array = Any  # of the array module `xp`

SLACK = 1.01
SPARE_TERMS = 4  # roundings besides those of the sum: of norms, and of the ends of the interval


def project(xp: Any, X: Array, mean: Array, axes: Array, chunk_values: int) -> Array:
    """Return the scores (n_rows, n_components) in the dtype of X."""
    out = xp.empty((len(X), axes.shape[1]), X.dtype)
    rows = None
    if X.dtype == np.float32:
        is_open = xp.empty(len(X), bool)
        factor = _error_factor(len(axes)) * xp.sqrt(xp.square(axes).sum(axis=0).max())
        for chunk in row_chunks(len(X), max(axes.shape), chunk_values):
            centered = xp.subtract(X[chunk], mean, dtype=np.float64)
            error = xp.sqrt(xp.square(centered).sum(axis=1)) * factor
            _round_scores(xp, xp.matmul(centered, axes), error, out[chunk], is_open[chunk])
        rows = xp.flatnonzero(is_open)
    for chunk in row_chunks(len(X) if rows is None else len(rows), max(axes.shape), chunk_values):
        target = chunk if rows is None else rows[chunk]
        part = X[target]
        sums = xp.zeros((len(part), axes.shape[1]))
        for t in range(len(axes)):
            sums += (part[:, t].astype(np.float64) - mean[t])[:, None] * axes[t]
        out[target] = sums
    return out


def project_encoded(
    xp: Any,
    encoded: tuple[Array, Array, Array],
    base: Array,
    dense_axes: Array,
    hot_axes: Array,
    n_components: int,
    chunk_values: int,
) -> Array:
    """Return the scores (n_rows, n_components) float32 of encoded rows; axes may be wider than n_components."""
    dense, starts, hot = encoded
    base, dense_axes, hot_axes = base[:n_components], dense_axes[:, :n_components], hot_axes[:, :n_components]
    out, is_open = xp.empty((len(dense), n_components), np.float32), xp.empty(len(dense), bool)
    counts = starts[1:] - starts[:-1]
    most = int(counts.max())
    error_factor = _error_factor(1 + dense.shape[1] + most)
    longest = xp.sqrt(xp.square(dense_axes).sum(axis=0).max()) if len(dense_axes) else 0.0
    largest = xp.abs(hot_axes).max() if len(hot_axes) else 0.0
    chunks = row_chunks(len(dense), max(dense.shape[1], n_components * (1 + most)), chunk_values)
    edges = _read_numbers(xp, starts, [chunk.start for chunk in chunks] + [len(dense)])
    for chunk, first, last in zip(chunks, edges, edges[1:], strict=False):
        wide = dense[chunk].astype(np.float64)
        sums = xp.matmul(wide, dense_axes)
        sums += base
        if last > first:
            rows = xp.searchsorted(starts[chunk], xp.arange(first, last, dtype=starts.dtype), side="right") - 1
            xp.add.at(sums, rows, hot_axes[hot[first:last]])
        error = xp.sqrt(xp.square(wide).sum(axis=1)) * longest
        error += counts[chunk] * largest
        error += xp.abs(base).max()
        error *= error_factor
        _round_scores(xp, sums, error, out[chunk], is_open[chunk])
    open_rows = xp.flatnonzero(is_open)
    for chunk in row_chunks(len(open_rows), n_components, chunk_values):
        rows = open_rows[chunk]
        out[rows] = _project_by_definition(xp, encoded, rows, base, dense_axes, hot_axes)
    return out


def scale_to_unit_length(xp: Any, Z: Array, shortest: float, chunk_values: int) -> None:
    """Divide float32 rows by their lengths, in place; rows shorter than `shortest` have no direction and become 0.

    A length is summed over the components in their order, and every operation is rounded once, in float64.
    """
    for chunk in row_chunks(len(Z), Z.shape[1], chunk_values):
        part = Z[chunk]
        squares = xp.zeros(len(part))
        for p in range(Z.shape[1]):
            squares += xp.square(part[:, p].astype(np.float64))
        lengths = xp.sqrt(squares)
        is_short = lengths < shortest
        lengths[is_short] = 1.0
        with np.errstate(invalid="ignore"):  # the caller rejects values that are not finite
            part /= lengths[:, None]
        part[is_short] = 0.0


def _error_factor(n_terms: int) -> float:
    """Return the bound of the difference of two float64 sums of products, of the sum of absolute products."""
    return SLACK * 2.0 * (n_terms + SPARE_TERMS) * 2.0**-53


def _round_scores(xp: Any, sums: Array, error: Array, out: Array, is_open: Array) -> None:
    """Round sums that are off by at most `error` to float32; a row is open where they may round to something else."""
    low = xp.empty(sums.shape, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        xp.subtract(sums, error[:, None], out=low)
        xp.subtract(sums, -error[:, None], out=out)
    (low.view(np.int32) != out.view(np.int32)).any(axis=1, out=is_open)  # as integers: -0.0 is not 0.0


def _project_by_definition(
    xp: Any, encoded: tuple[Array, Array, Array], rows: Array, base: Array, dense_axes: Array, hot_axes: Array
) -> Array:
    """Return the float64 scores of some encoded rows, summed in the order of their features."""
    dense, starts, hot = encoded
    part = dense[rows]
    sums = xp.zeros((len(rows), len(base)))
    sums += base
    for c in range(dense.shape[1]):
        sums += part[:, c].astype(np.float64)[:, None] * dense_axes[c]
    first, last = starts[rows], starts[rows + 1]
    for q in range(int((last - first).max())):
        longer = xp.flatnonzero(first + q < last)
        sums[longer] += hot_axes[hot[first[longer] + q]]
    return sums


def _read_numbers(xp: Any, array: Array, indices: list[int]) -> list[int]:
    """Return some values of an integer array, by one copy from the device."""
    values: list[int] = array[xp.asarray(indices)].tolist()
    return values
