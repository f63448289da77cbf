"""The specification as plain loops: what every kernel and backend must compute.

Python floats are float64 and round once per operation, Python integers do not overflow: so these loops *are* the
definitions of decisions/0002-labels-and-sums.md. They are checked by hand values in tests/test_reference.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Row = Sequence[float]
GOLDEN, WORD = 0x9E3779B97F4A7C15, 2**64


def squared_distance(row: Row, centre: Row) -> float:
    total = 0.0
    for x, c in zip(row, centre, strict=True):
        difference = float(x) - float(c)
        total += difference * difference
    return total


def label(row: Row, centres: Sequence[Row]) -> int:
    distances = [squared_distance(row, centre) for centre in centres]
    return distances.index(min(distances))


def labels(X: Sequence[Row], centres: Sequence[Row]) -> list[int]:
    return [label(row, centres) for row in X]


def runner_up(row: Row, centres: Sequence[Row]) -> int:
    """Return the nearest centre but the label's, ties to the lowest index; -1 with one centre."""
    distances = [squared_distance(row, centre) for centre in centres]
    first = label(row, centres)
    others = [j for j in range(len(centres)) if j != first]
    return min(others, key=lambda j: distances[j], default=-1)


def fixed_point(value: float, shift: float, weight: float, scale: float) -> int:
    return round((float(value) - float(shift)) * float(weight) * float(scale))


def cluster_sums(
    X: Sequence[Row], weights: Sequence[float], of: Sequence[int], n_clusters: int, shift: Row, scale: Row
) -> list[list[int]]:
    sums = [[0] * len(shift) for _ in range(n_clusters)]
    for row, weight, j in zip(X, weights, of, strict=True):
        for t, value in enumerate(row):
            sums[j][t] += fixed_point(value, shift[t], weight, scale[t])
    return sums


def lloyd_step(X: Sequence[Row], centres: Sequence[Row]) -> tuple[list[int], list[list[float]]]:
    """Return labels, and the exact means of the clusters, rounded once; an empty cluster is an error here."""
    of = labels(X, centres)
    means = []
    for j in range(len(centres)):
        members = [row for row, own in zip(X, of, strict=True) if own == j]
        means.append([math.fsum(float(row[t]) for row in members) / len(members) for t in range(len(X[0]))])
    return of, means


def inertia(X: Sequence[Row], weights: Sequence[float], centres: Sequence[Row], of: Sequence[int], run: int) -> float:
    """Add over every `run` rows in order, then add those sums exactly."""
    sums = []
    for start in range(0, len(X), run):
        total = 0.0
        for i in range(start, min(start + run, len(X))):
            total += squared_distance(X[i], centres[of[i]]) * weights[i]
        sums.append(total)
    return math.fsum(sums)


def farthest_rows(X: Sequence[Row], centres: Sequence[Row], of: Sequence[int]) -> list[int]:
    """Return row numbers by falling distance to their centres, ties to the lowest number."""
    return sorted(range(len(X)), key=lambda i: (-squared_distance(X[i], centres[of[i]]), i))


def potential(X: Sequence[Row], weights: Sequence[float], seeds: Sequence[int]) -> float:
    """Return the weighted sum of squared distances to the nearest seed, added in order."""
    total = 0.0
    for row, weight in zip(X, weights, strict=True):
        total += min(squared_distance(row, X[seed]) for seed in seeds) * weight
    return total


def moments(X: Sequence[Row]) -> tuple[list[float], list[list[float]]]:
    """Return the mean and the scatter, each sum rounded once."""
    n, d = len(X), len(X[0])
    mean = [math.fsum(float(row[t]) for row in X) / n for t in range(d)]
    scatter = [
        [math.fsum((float(row[s]) - mean[s]) * (float(row[t]) - mean[t]) for row in X) for t in range(d)]
        for s in range(d)
    ]
    return mean, scatter


def scores(row: Row, mean: Row, axes: Sequence[Row]) -> list[float]:
    """Project one row: axes (n_features, n_components), features added in order."""
    out = []
    for p in range(len(axes[0])):
        total = 0.0
        for t, value in enumerate(row):
            total += (float(value) - float(mean[t])) * float(axes[t][p])
        out.append(total)
    return out


def mix(state: int) -> int:
    """Return the output of splitmix64 for a state."""
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB % WORD
    return state ^ (state >> 31)


def row_key(seed: int, row: int) -> int:
    """Return splitmix64's output number `row` of the stream that `seed` selects."""
    stream = mix((seed * GOLDEN + GOLDEN) % WORD)
    return mix((row * GOLDEN + stream) % WORD)
