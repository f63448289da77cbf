"""Compute the affinities of t-SNE for all rows at once: the arithmetic of kernels/cpu/tsne/affinities.py on arrays.

    squared distances (n_rows, k), ascending  ->  p(j|i) (n_rows, k) float32

exp and log differ between devices in their last bit, so probabilities agree within rounding, not to the bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.kernels.cpu.tsne.affinities import ENTROPY_TOLERANCE, MAX_NEWTON_STEPS

Array = Any  # of the array module `xp`


def calibrate_perplexity(xp: Any, squared: Array, perplexity: float) -> Array:
    """Return p(j|i) of the requested perplexity, by Newton's method on log beta inside a bracket."""
    target = float(np.log(perplexity))
    distances = squared - squared[:, :1]
    scale = distances.mean(axis=1)
    has_spread = scale > 0.0
    distances = distances / xp.where(has_spread, scale, 1.0)[:, None]
    logarithm = xp.zeros(len(squared))
    low, high = xp.full(len(squared), -np.inf), xp.full(len(squared), np.inf)
    weights = xp.ones_like(distances)
    done = ~has_spread  # rows whose neighbors are all equally near
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for _ in range(MAX_NEWTON_STEPS):
            beta = xp.exp(logarithm)
            new_weights = xp.exp(-beta[:, None] * distances)
            weights = xp.where(done[:, None], weights, new_weights)
            total = new_weights.sum(axis=1)
            mean = (new_weights * distances).sum(axis=1) / total
            excess = beta * mean + xp.log(total) - target
            done = done | (xp.abs(excess) < ENTROPY_TOLERANCE) | (logarithm > 600.0)
            if bool(done.all()):
                break
            low, high = xp.where(excess > 0.0, logarithm, low), xp.where(excess > 0.0, high, logarithm)
            slope = -beta * beta * ((new_weights * distances * distances).sum(axis=1) / total - mean * mean)
            step = xp.where(slope < 0.0, logarithm - excess / slope, np.inf)
            bound = xp.where(excess <= 0.0, low, high)
            unbounded = logarithm + xp.where(excess > 0.0, 3.0, -3.0)
            halfway = xp.where(xp.isfinite(bound), 0.5 * (logarithm + bound), unbounded)
            inside = (low < step) & (step < high) & (xp.abs(step - logarithm) <= 3.0)
            logarithm = xp.where(inside, step, halfway)
    return (weights / weights.sum(axis=1)[:, None]).astype(np.float32)
