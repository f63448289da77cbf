"""Greedy k-means++: seeds far apart, each the best of a few draws.

    X (n_rows, n_features), weights (n_rows,), uniform (n_seeds, n_trials) -> seeds (n_seeds,), numbers of rows

Rows lie in the SIMD lanes; each lane adds over the features in their order, as distance.py defines, so the seeds do
not depend on the width of the lanes. Array expressions are spelt out: numba takes seconds to compile them.
Source: Arthur & Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007, with several trials a seed as
in scikit-learn.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from engine.kernels.cpu.jit_options import INNER

STRIP = 64  # rows at a time: what is added up about them stays in the L1 cache


def strips_of(X: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Return the rows as (n_strips, n_features, STRIP) of their dtype, the last strip filled with zeros."""
    n_rows, n_features = X.shape
    padded = np.zeros((-(-n_rows // STRIP) * STRIP, n_features), X.dtype)
    padded[:n_rows] = X
    return np.ascontiguousarray(padded.reshape(-1, STRIP, n_features).transpose(0, 2, 1))


@numba.njit(nogil=True, cache=True)
def greedy_seeds(
    strips: NDArray[np.floating[Any]],
    weights: NDArray[np.float64],
    uniform: NDArray[np.float64],
    seeds: NDArray[np.int64],
) -> None:
    """Write the seeds. The first is drawn by weight, every other by weight x squared distance to the nearest seed.

    `uniform` holds numbers in [0, 1), one a draw. Once every distinct row is a seed, row 0 is repeated.
    """
    n_rows, n_trials = weights.shape[0], uniform.shape[1]
    closest, running = np.full(n_rows, np.inf), np.empty(n_rows)
    lowest, potentials, candidates = np.empty((n_trials, n_rows)), np.empty(n_trials), np.empty(n_trials, np.int64)
    for number in range(seeds.shape[0]):
        total = 0.0
        for i in range(n_rows):
            total += weights[i] * closest[i] if number else weights[i]
            running[i] = total
        tried = n_trials if number else 1
        for trial in range(tried):
            candidates[trial] = _first_at_least(running, uniform[number, trial] * total)
        lowered(strips, weights, closest, candidates[:tried], lowest, potentials)
        best = 0
        for trial in range(1, tried):
            best = trial if potentials[trial] < potentials[best] else best
        seeds[number] = candidates[best]
        for i in range(n_rows):
            closest[i] = lowest[best, i]


@numba.njit(**INNER)
def _first_at_least(running: NDArray[np.float64], value: float) -> int:
    """Return the number of the first entry of a growing array that is not below the value, or else of the last."""
    first, last = 0, running.shape[0] - 1
    while first < last:
        middle = (first + last) // 2
        if running[middle] < value:
            first = middle + 1
        else:
            last = middle
    return first


@numba.njit(**INNER)
def strip_distances(
    strips: NDArray[np.floating[Any]], number: int, row: NDArray[np.float64], out: NDArray[np.float64]
) -> None:
    """Write the squared distances of one row to those of a strip (STRIP,)."""
    for i in range(STRIP):
        out[i] = 0.0
    for t in range(row.shape[0]):
        value = row[t]
        for i in range(STRIP):
            difference = np.float64(strips[number, t, i]) - value
            out[i] += difference * difference


@numba.njit(nogil=True, cache=True)
def lowered(
    strips: NDArray[np.floating[Any]],
    weights: NDArray[np.float64],
    closest: NDArray[np.float64],
    candidates: NDArray[np.int64],
    lowest: NDArray[np.float64],
    potentials: NDArray[np.float64],
) -> None:
    """Write min(closest, squared distance to a candidate) for every candidate, and its weighted sum, added in order."""
    n_features, n_rows = strips.shape[1], weights.shape[0]
    values, total = np.empty((candidates.shape[0], n_features)), np.empty(STRIP)
    for trial in range(candidates.shape[0]):
        potentials[trial] = 0.0
        for t in range(n_features):
            values[trial, t] = strips[candidates[trial] // STRIP, t, candidates[trial] % STRIP]
    for number in range(strips.shape[0]):
        start = number * STRIP
        for trial in range(candidates.shape[0]):
            strip_distances(strips, number, values[trial], total)
            potential = potentials[trial]
            for i in range(min(STRIP, n_rows - start)):
                least = min(total[i], closest[start + i])
                lowest[trial, start + i] = least
                potential += least * weights[start + i]
            potentials[trial] = potential
