"""From neighbours to probabilities, all rows at a time: the arithmetic of kernels/cpu/tsne/affinities.py on arrays.

    squared distances (n_rows, k), ascending  ->  p(j|i) (n_rows, k) float32

exp and log differ between devices in their last bit, so probabilities agree to rounding, not in their bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.kernels.cpu.tsne.affinities import STEPS, TOLERANCE

Array = Any  # of the array module `xp`


def calibrate(xp: Any, squared: Array, perplexity: float) -> Array:
    """Return p(j|i) of entropy log(perplexity), by Newton's method on log beta inside a bracket."""
    target = float(np.log(perplexity))
    beyond = squared - squared[:, :1]
    scale = beyond.mean(axis=1)
    spread = scale > 0.0
    beyond = beyond / xp.where(spread, scale, 1.0)[:, None]
    logarithm = xp.zeros(len(squared))
    low, high = xp.full(len(squared), -np.inf), xp.full(len(squared), np.inf)
    weights = xp.ones_like(beyond)
    done = ~spread  # all are equally near
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for _ in range(STEPS):
            beta = xp.exp(logarithm)
            found = xp.exp(-beta[:, None] * beyond)
            weights = xp.where(done[:, None], weights, found)
            total = found.sum(axis=1)
            mean = (found * beyond).sum(axis=1) / total
            excess = beta * mean + xp.log(total) - target
            done = done | (xp.abs(excess) < TOLERANCE) | (logarithm > 600.0)
            if bool(done.all()):
                break
            low, high = xp.where(excess > 0.0, logarithm, low), xp.where(excess > 0.0, high, logarithm)
            slope = -beta * beta * ((found * beyond * beyond).sum(axis=1) / total - mean * mean)
            step = xp.where(slope < 0.0, logarithm - excess / slope, np.inf)
            bound = xp.where(excess <= 0.0, low, high)
            away = logarithm + xp.where(excess > 0.0, 3.0, -3.0)
            halfway = xp.where(xp.isfinite(bound), 0.5 * (logarithm + bound), away)
            inside = (low < step) & (step < high) & (xp.abs(step - logarithm) <= 3.0)
            logarithm = xp.where(inside, step, halfway)
    return (weights / weights.sum(axis=1)[:, None]).astype(np.float32)
