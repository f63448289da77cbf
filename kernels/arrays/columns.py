"""Reduce the columns of a tall array in two steps, so that all multiprocessors of a GPU take part.

    values (n_rows, n_columns)  ->  sum, minimum or maximum of every column (n_columns,)

CuPy gives a reduction one thread block for every 32 of its results: 64 columns of a million rows would be reduced by
two blocks of a GPU that has 132 multiprocessors. The first step leaves GROUPS rows, the second reduces those.
"""

from __future__ import annotations

from typing import Any

Array = Any  # of the array module `xp`

GROUPS = 512  # groups of consecutive rows: 1,024 thread blocks for 64 columns


def reduce_columns(xp: Any, values: Array, method: str) -> Array:
    """Return values.method(axis=0), where `method` is sum, min or max; float sums agree within rounding."""
    size = len(values) // GROUPS
    if size > 1:
        whole = values[: size * GROUPS].reshape(GROUPS, size, values.shape[1])
        partial = getattr(whole, method)(axis=1)
        rest = values[size * GROUPS :]
        values = xp.concatenate([partial, rest]) if len(rest) else partial
    return getattr(values, method)(axis=0)
