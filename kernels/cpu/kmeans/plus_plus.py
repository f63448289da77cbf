"""Greedy k-means++: choose seeds far from each other, each the best of several candidates.

    X (n_rows, n_features), weights (n_rows,), uniform (n_seeds, n_trials) -> seeds (n_seeds,), indices of rows

Rows lie in the SIMD lanes; each lane adds over the features in their order, as distance.py defines, so the seeds do
not depend on the width of the lanes. Array expressions are written as loops, because numba takes seconds to compile
them.
Source: Arthur & Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007, with several candidates a
seed, as in scikit-learn.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from engine.kernels.cpu.jit_options import INNER

STRIP_ROWS = 64  # rows of a strip: their distances stay in the L1 cache


def arrange_in_strips(X: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Return the rows as (n_strips, n_features, STRIP_ROWS) of their dtype, the last strip filled with zeros."""
    n_rows, n_features = X.shape
    padded = np.zeros((-(-n_rows // STRIP_ROWS) * STRIP_ROWS, n_features), X.dtype)
    padded[:n_rows] = X
    return np.ascontiguousarray(padded.reshape(-1, STRIP_ROWS, n_features).transpose(0, 2, 1))


@numba.njit(nogil=True, cache=True)
def greedy_kmeans_plusplus(
    strips: NDArray[np.floating[Any]],
    weights: NDArray[np.float64],
    uniform: NDArray[np.float64],
    seeds: NDArray[np.int64],
) -> None:
    """Draw the seeds: the first by weight, every other by weight x squared distance to the nearest seed.

    `uniform` holds numbers in [0, 1), one a candidate. Once every distinct row is a seed, row 0 is repeated.
    """
    n_rows, n_trials = weights.shape[0], uniform.shape[1]
    closest_squared, cumulative = np.full(n_rows, np.inf), np.empty(n_rows)
    candidate_squared = np.empty((n_trials, n_rows))
    potentials, candidates = np.empty(n_trials), np.empty(n_trials, np.int64)
    for index in range(seeds.shape[0]):
        total = 0.0
        for i in range(n_rows):
            total += weights[i] * closest_squared[i] if index else weights[i]
            cumulative[i] = total
        n_candidates = n_trials if index else 1
        for trial in range(n_candidates):
            candidates[trial] = _first_at_least(cumulative, uniform[index, trial] * total)
        evaluate_candidates(strips, weights, closest_squared, candidates[:n_candidates], candidate_squared, potentials)
        best = 0
        for trial in range(1, n_candidates):
            best = trial if potentials[trial] < potentials[best] else best
        seeds[index] = candidates[best]
        for i in range(n_rows):
            closest_squared[i] = candidate_squared[best, i]


@numba.njit(**INNER)
def _first_at_least(cumulative: NDArray[np.float64], value: float) -> int:
    """Return the index of the first entry of an ascending array that is not below `value`, or else of the last."""
    first, last = 0, cumulative.shape[0] - 1
    while first < last:
        middle = (first + last) // 2
        if cumulative[middle] < value:
            first = middle + 1
        else:
            last = middle
    return first


@numba.njit(**INNER)
def compute_strip_distances(
    strips: NDArray[np.floating[Any]], strip: int, row: NDArray[np.float64], out: NDArray[np.float64]
) -> None:
    """Write the squared distances of one row to the rows of a strip, (STRIP_ROWS,)."""
    for i in range(STRIP_ROWS):
        out[i] = 0.0
    for t in range(row.shape[0]):
        value = row[t]
        for i in range(STRIP_ROWS):
            difference = np.float64(strips[strip, t, i]) - value
            out[i] += difference * difference


@numba.njit(nogil=True, cache=True)
def evaluate_candidates(
    strips: NDArray[np.floating[Any]],
    weights: NDArray[np.float64],
    closest_squared: NDArray[np.float64],
    candidates: NDArray[np.int64],
    candidate_squared: NDArray[np.float64],
    potentials: NDArray[np.float64],
) -> None:
    """Compute the potential that every candidate would leave: the weighted sum of squared distances to the seeds.

    candidate_squared (n_trials, n_rows) gets the squared distance of every row to the nearest seed, with the candidate
    among them; potentials (n_trials,) gets its weighted sum over the rows, added in order.
    """
    n_features, n_rows = strips.shape[1], weights.shape[0]
    candidate_rows, squared = np.empty((candidates.shape[0], n_features)), np.empty(STRIP_ROWS)
    for trial in range(candidates.shape[0]):
        potentials[trial] = 0.0
        for t in range(n_features):
            candidate_rows[trial, t] = strips[candidates[trial] // STRIP_ROWS, t, candidates[trial] % STRIP_ROWS]
    for strip in range(strips.shape[0]):
        start = strip * STRIP_ROWS
        for trial in range(candidates.shape[0]):
            compute_strip_distances(strips, strip, candidate_rows[trial], squared)
            potential = potentials[trial]
            for i in range(min(STRIP_ROWS, n_rows - start)):
                least = min(squared[i], closest_squared[start + i])
                candidate_squared[trial, start + i] = least
                potential += least * weights[start + i]
            potentials[trial] = potential
