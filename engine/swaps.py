"""Better seeds by local search on a sample: centres that are of little use move to where the error is largest.

    RowSet of a sample, centres -> centres of less inertia

Lloyd's algorithm never moves a centre across others, so it keeps two centres in one cluster and one in two. A round
takes some centres whose removal would cost least, puts them beside the centres of the largest error, runs a few Lloyd
steps, and keeps the outcome if the inertia is less. After Fritzke, "The breathing k-means algorithm", arXiv:2006.15666,
which adds centres before it removes others; moving them takes one run of Lloyd's algorithm instead of two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.backends.protocol import Float64s, Int64s, Nearest, Rows
from engine.execution.local import map_blocks
from engine.lloyd import Clustering, RowSet, jobs, lloyd

STEPS = 3  # of Lloyd's algorithm in a round
SHARE = 0.2  # of the centres move in the first round; half as many after every round that gained nothing
PATIENCE = 16  # rounds in a row in which moving a single centre gained nothing: that is enough
FARTHEST = 0.5  # of the way from a centre to a row
TINY = 1e-300
LEAST_ROUNDS, MOST_ROUNDS = 16, 64  # with many clusters a round costs more, and gains less …
ROUND_CLUSTERS = 1600  # … so there are this over k more than the least


def improved(sample: RowSet, centres: Rows, random: np.random.RandomState) -> Rows:
    """Return centres of less inertia on the sample, or those given where none were found."""
    n_clusters = len(centres)
    best = lloyd(sample, centres, max_iter=STEPS, tolerance=0.0)
    if n_clusters == 1 or len(sample.X) <= n_clusters:
        return best.centres
    standing = _Standing.of(sample, best)
    n_moved, failures = max(1, int(SHARE * n_clusters)), 0
    for _ in range(min(MOST_ROUNDS, LEAST_ROUNDS + ROUND_CLUSTERS // n_clusters)):
        start = standing.moved(n_moved, failures, random)
        found = lloyd(sample, start, max_iter=STEPS, tolerance=0.0)
        if found.inertia < best.inertia:
            best, failures = found, 0
            standing = _Standing.of(sample, best)
        elif n_moved > 1:
            n_moved //= 2
        else:
            failures += 1
            if failures == PATIENCE:
                break
    return best.centres


@dataclass(frozen=True)
class _Standing:
    """What every centre of a clustering is worth."""

    X: Rows
    weights: Float64s
    centres: Rows
    errors: Float64s  # (n_rows,): weight x squared distance to the own centre
    order: Int64s  # rows by cluster …
    edges: Int64s  # … and where each cluster begins among them
    worst: Int64s  # centres by their error, the largest first
    idlest: Int64s  # centres by what the inertia would gain without them, the least first
    rivals: Int64s  # per centre, the one that is the runner-up of most of its rows

    @classmethod
    def of(cls, sample: RowSet, found: Clustering) -> _Standing:
        k = len(found.centres)
        near = _nearest(sample, found.centres)
        labels = near.labels.astype(np.int64)
        own, other = np.square(near.distance, dtype=np.float64), np.square(near.second, dtype=np.float64)
        errors = sample.weights * own
        order = np.argsort(labels, kind="stable")
        return cls(
            sample.X,
            sample.weights,
            found.centres,
            errors,
            order,
            np.searchsorted(labels[order], np.arange(k + 1)),
            np.argsort(-np.bincount(labels, errors, k), kind="stable"),
            np.argsort(np.bincount(labels, sample.weights * (other - own), k), kind="stable"),
            _commonest(labels * k + near.runner_up, k),
        )

    def moved(self, count: int, failures: int, random: np.random.RandomState) -> Rows:
        """Return the centres after `count` of them moved; with every failure, to other places."""
        k = len(self.centres)
        targets = np.roll(self.worst, -failures)[:count]
        kept = set(targets.tolist())
        centres = self.centres.copy()
        waiting = list(targets[::-1])
        for idle in np.roll(self.idlest, -(failures // k)).tolist():
            if waiting and idle not in kept:
                kept.add(int(self.rivals[idle]))  # takes over the rows of the one that leaves: they do not leave both
                centres[idle] = self._place(waiting.pop(), random.uniform())
        return centres

    def _place(self, cluster: int, uniform: float) -> Rows:
        """Return a place between a centre and one of its rows, drawn by its error.

        No farther from the centre than rows spread that way: in many dimensions every row is far from all others, and
        what lies halfway to one is near to that row alone.
        """
        members = self.order[self.edges[cluster] : self.edges[cluster + 1]]
        centre: Rows = self.centres[cluster]
        if len(members) == 0:
            return centre
        running = np.cumsum(self.errors[members])
        drawn = min(int(np.searchsorted(running, uniform * running[-1])), len(members) - 1)
        way = self.X[members[drawn]].astype(np.float64) - centre
        length = max(_total(np.square(way)), TINY)
        along = np.cumsum((self.X[members] - centre.astype(np.float64)) * way, axis=1)[:, -1] / length
        weights = self.weights[members] / _total(self.weights[members])
        spread = _total(weights * np.square(along - _total(weights * along))) ** 0.5
        place: Rows = (centre + min(FARTHEST, spread) * way).astype(centre.dtype)
        return place


def _nearest(sample: RowSet, centres: Rows) -> Nearest:
    parts = list(
        map_blocks(
            lambda part: sample.backend.nearest_two(sample.X[part], centres), jobs(len(sample.X), sample.backend)
        )
    )
    return Nearest(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _total(values: Float64s) -> float:
    """Return the sum of values, added in order."""
    return float(np.cumsum(values)[-1])


def _commonest(pairs: Int64s, n_clusters: int) -> Int64s:
    """Return for every cluster the commonest runner-up; pairs are cluster * n_clusters + runner-up. Itself if none."""
    values, counts = np.unique(pairs, return_counts=True)
    rivals = np.arange(n_clusters)
    ascending = np.lexsort((-values, counts))  # the commonest last, and so the one that stays; ties to the lowest
    rivals[values[ascending] // n_clusters] = values[ascending] % n_clusters
    return rivals
