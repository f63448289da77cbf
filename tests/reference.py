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


def label(row: Row, centers: Sequence[Row]) -> int:
    distances = [squared_distance(row, centre) for centre in centers]
    return distances.index(min(distances))


def labels(X: Sequence[Row], centers: Sequence[Row]) -> list[int]:
    return [label(row, centers) for row in X]


def runner_up(row: Row, centers: Sequence[Row]) -> int:
    """Return the nearest centre but the label's, ties to the lowest index; -1 with one centre."""
    distances = [squared_distance(row, centre) for centre in centers]
    first = label(row, centers)
    others = [j for j in range(len(centers)) if j != first]
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


def lloyd_step(X: Sequence[Row], centers: Sequence[Row]) -> tuple[list[int], list[list[float]]]:
    """Return labels, and the exact means of the clusters, rounded once; an empty cluster is an error here."""
    of = labels(X, centers)
    means = []
    for j in range(len(centers)):
        members = [row for row, own in zip(X, of, strict=True) if own == j]
        means.append([math.fsum(float(row[t]) for row in members) / len(members) for t in range(len(X[0]))])
    return of, means


def inertia(X: Sequence[Row], weights: Sequence[float], centers: Sequence[Row], of: Sequence[int], run: int) -> float:
    """Add over every `run` rows in order, then add those sums exactly."""
    sums = []
    for start in range(0, len(X), run):
        total = 0.0
        for i in range(start, min(start + run, len(X))):
            total += squared_distance(X[i], centers[of[i]]) * weights[i]
        sums.append(total)
    return math.fsum(sums)


def farthest_rows(X: Sequence[Row], centers: Sequence[Row], of: Sequence[int]) -> list[int]:
    """Return row numbers by falling distance to their centers, ties to the lowest number."""
    return sorted(range(len(X)), key=lambda i: (-squared_distance(X[i], centers[of[i]]), i))


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


def nearest(row: Row, X: Sequence[Row], k: int, own: int) -> list[tuple[int, float]]:
    """Return numbers and squared distances of the k nearest rows but `own`, ties to the lowest number."""
    found = [(squared_distance(row, other), number) for number, other in enumerate(X) if number != own]
    return [(number, distance) for distance, number in sorted(found)[:k]]


def conditional_probabilities(squared: Sequence[float], perplexity: float) -> list[float]:
    """Return exp(-beta d) / sum, with beta by bisection such that the entropy is log(perplexity)."""
    low, high = 0.0, 1e6
    for _ in range(300):
        beta = (low + high) / 2
        weights = [math.exp(-beta * (d - squared[0])) for d in squared]
        p = [w / math.fsum(weights) for w in weights]
        entropy = -math.fsum(q * math.log(q) for q in p if q > 0)
        low, high = (beta, high) if entropy > math.log(perplexity) else (low, beta)
    return p


def joint_probabilities(X: Sequence[Row], perplexity: float, k: int) -> list[list[float]]:
    """Return the symmetric P of t-SNE on k neighbours."""
    n = len(X)
    joint = [[0.0] * n for _ in range(n)]
    for i in range(n):
        found = nearest(X[i], X, k, own=i)
        for (j, _), p in zip(found, conditional_probabilities([d for _, d in found], perplexity), strict=True):
            joint[i][j] += p / (2 * n)
            joint[j][i] += p / (2 * n)
    return joint


def repulsion(places: Sequence[Row]) -> tuple[list[list[float]], float]:
    """Return sum_j (y_i - y_j) / (1 + r^2)^2 of every place, and the sum of 1 / (1 + r^2) over all pairs."""
    forces, total = [], 0.0
    for i, (x, y) in enumerate(places):
        force = [0.0, 0.0]
        for j, (u, v) in enumerate(places):
            if i != j:
                q = 1.0 / (1.0 + (x - u) ** 2 + (y - v) ** 2)
                total += q
                force[0] += q * q * (x - u)
                force[1] += q * q * (y - v)
        forces.append(force)
    return forces, total


def attraction(joint: Sequence[Row], places: Sequence[Row]) -> list[list[float]]:
    """Return sum_j p_ij (y_i - y_j) / (1 + r^2) of every place."""
    pulls = []
    for i, (x, y) in enumerate(places):
        pull = [0.0, 0.0]
        for j, (u, v) in enumerate(places):
            q = joint[i][j] / (1.0 + (x - u) ** 2 + (y - v) ** 2)
            pull[0] += q * (x - u)
            pull[1] += q * (y - v)
        pulls.append(pull)
    return pulls


def kl_divergence(joint: Sequence[Row], places: Sequence[Row]) -> float:
    """Return sum p log(p / q) over all pairs, q normalised over all pairs."""
    _, total = repulsion(places)
    return math.fsum(
        p * math.log(p * total * (1.0 + squared_distance(places[i], places[j])))
        for i, row in enumerate(joint)
        for j, p in enumerate(row)
        if p > 0
    )
