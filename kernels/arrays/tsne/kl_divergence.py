"""KL(P || Q) of a finished map, Q normalised over all pairs of rows, P symmetric on edges.

    edges (starts, ends), p that sum to 1, places (n_rows, 2)  ->  divergence in nats

What cuML reports as `kl_divergence_` normalises over edges only, and is another quantity.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.kernels.arrays.distance import runs

Array = Any  # of the array module `xp`


def kl_divergence(xp: Any, starts: Array, ends: Array, p: Array, places: Array, values: int) -> float:
    """Return sum p log(p / q) in float64."""
    total = 0.0
    for part in runs(len(p), 8, values):
        away = places[starts[part]].astype(np.float64) - places[ends[part]]
        share = xp.maximum(p[part].astype(np.float64), 1e-300)
        total += float((p[part] * xp.log(share * (1.0 + xp.square(away).sum(axis=1)))).sum())
    return total + float(np.log(all_pairs(xp, places, values)))


def all_pairs(xp: Any, places: Array, values: int) -> float:
    """Return the sum of 1 / (1 + r^2) over all pairs of different rows."""
    total = -float(len(places))  # every row's pair with itself
    for part in runs(len(places), len(places), values):
        distance = xp.ones((part.stop - part.start, len(places)), np.float32)
        for axis in range(places.shape[1]):
            away = places[part, axis, None] - places[:, axis]
            away *= away
            distance += away
        total += float(xp.reciprocal(distance, out=distance).sum(axis=1, dtype=np.float64).sum())
    return total
