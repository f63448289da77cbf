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

from engine.backends.protocol import Float64s, Int64s, Rows
from engine.execution.threads import in_shares, shares_of
from engine.kernels.cpu.kmeans import center_utility as worth
from engine.kernels.cpu.kmeans.plus_plus import strips_of
from engine.kmeans.lloyd import Clustering, RowSet, lloyd

STEPS = 3  # of Lloyd's algorithm in a round …
LAST_STEPS = 10  # … and at the end, where there are to be fewer rounds than would pay
SHARE = 0.2  # of the centres move in the first round; half as many after every round that gained nothing
PATIENCE = 16  # rounds in a row in which moving a single centre gained nothing: that is enough
NEAR = 16  # a centre and those nearest to it: where its rows would go
FARTHEST = 0.5  # of the way from a centre to a row
LEAST_ROUNDS, MOST_ROUNDS = 16, 64  # with many clusters a round costs more, and gains less …
ROUND_CLUSTERS = 1600  # … so there are this over k more than the least


def improved(sample: RowSet, centres: Rows, random: np.random.RandomState, most_rounds: int = MOST_ROUNDS) -> Rows:
    """Return centres of less inertia on the sample, found in `most_rounds` at most."""
    n_clusters = len(centres)
    run = sample.run(n_clusters)
    best = lloyd(sample, centres, max_iter=STEPS, tolerance=0.0, run=run)
    if n_clusters == 1 or len(sample.X) <= n_clusters:
        return best.centres
    n_rounds = min(MOST_ROUNDS, LEAST_ROUNDS + ROUND_CLUSTERS // n_clusters)
    standing = None
    n_moved, failures = max(1, int(SHARE * n_clusters)), 0
    for _ in range(min(most_rounds, n_rounds)):
        standing = standing or _Standing.of(sample, best)
        start = standing.moved(n_moved, failures, random)
        trial = run.copy()
        trial.follow(best.centres, start)
        found = lloyd(sample, start, max_iter=STEPS, tolerance=0.0, run=trial)
        if found.inertia < best.inertia:
            best, run, failures, standing = found, trial, 0, None
        elif n_moved > 1:
            n_moved //= 2
        else:
            failures += 1
            if failures == PATIENCE:
                break
    if most_rounds < n_rounds:
        best = lloyd(sample, best.centres, max_iter=LAST_STEPS, tolerance=0.0, run=run)
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
    rivals: Int64s  # per centre, the one to which most of its rows would go

    @classmethod
    def of(cls, sample: RowSet, found: Clustering) -> _Standing:
        k = len(found.centres)
        order = np.argsort(found.labels, kind="stable")
        edges = np.searchsorted(found.labels[order], np.arange(k + 1))
        own, other, rivals = _worth(sample.X, found.centres, order, edges)
        errors = sample.weights * own
        return cls(
            sample.X,
            sample.weights,
            found.centres,
            errors,
            order,
            edges,
            np.argsort(-np.bincount(found.labels, errors, k), kind="stable"),
            np.argsort(np.bincount(found.labels, sample.weights * (other - own), k), kind="stable"),
            rivals,
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
        """Return a place for a centre beside that of a cluster, or upon it where it has no rows."""
        members = self.order[self.edges[cluster] : self.edges[cluster + 1]]
        place: Rows = self.centres[cluster].copy()
        if len(members):
            worth.place_between(
                self.X, members, self.weights, self.errors, self.centres[cluster], uniform, FARTHEST, place
            )
        return place


def _worth(X: Rows, centres: Rows, order: Int64s, edges: Int64s) -> tuple[Float64s, Float64s, Int64s]:
    """Return squared distances of rows to their own centre and to the next best one near it; rivals of centres."""
    k, wide = len(centres), centres.astype(np.float64)
    strips = strips_of(wide)
    near, rivals = np.empty((k, min(NEAR, k)), np.int64), np.empty(k, np.int64)
    own, other = np.empty(len(X)), np.empty(len(X))

    def one(clusters: slice) -> None:
        worth.nearest_centres(wide, strips, clusters.start, clusters.stop, near)
        worth.worth(X, order, edges, wide, near, clusters.start, clusters.stop, own, other, rivals)

    in_shares(one, shares_of(k))
    return own, other, rivals
