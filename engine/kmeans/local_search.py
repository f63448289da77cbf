"""Local search on seeds: the centers of least utility move to the clusters of the largest error (breathing K-Means).

    Samples, centers (n_clusters, n_features) -> centers of less inertia on these rows

Lloyd's algorithm never moves a center across others: two centers stay in one cluster, and one center in two. A round
moves the centers whose removal would raise the inertia least beside those of the largest error, runs a few iterations
of Lloyd's algorithm, and keeps the outcome if the inertia is less. After Fritzke, "The breathing k-means algorithm",
arXiv:2006.15666, which adds centers before it removes others; moving them takes one run of Lloyd's algorithm instead
of two. Measurements: decisions/0004-seeding.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.execution.threads import map_shares, thread_shares
from engine.kernels.cpu.kmeans import center_utility
from engine.kernels.cpu.kmeans.plus_plus import arrange_in_strips
from engine.kmeans.lloyd import Clustering, Samples, lloyd
from engine.utils.array_types import Float64s, Int64s, Rows

ROUND_ITERATIONS = 3  # iterations of Lloyd's algorithm in a round
LAST_ITERATIONS = 10  # iterations at the end, if the caller allows fewer rounds than would pay
FIRST_SHARE = 0.2  # share of the centers that move in the first round; half as many after each without gain
MAX_FAILURES = 16  # rounds in a row in which moving a single center gained nothing
N_NEAR = 16  # a center and the centers nearest to it, among which its rows find their second nearest
MAX_STEP = 0.5  # largest share of the way from a center to one of its rows
# With more clusters a round takes longer and gains less: MIN_ROUNDS + ROUNDS_TIMES_CLUSTERS // n_clusters rounds.
MIN_ROUNDS, MAX_ROUNDS = 16, 64
ROUNDS_TIMES_CLUSTERS = 1600


def improve_seeds(
    sample: Samples,
    centers: Rows,
    random: np.random.RandomState,
    max_rounds: int = MAX_ROUNDS,
    enough: float = -np.inf,
) -> Rows:
    """Return centers of less inertia on the sample, found in at most `max_rounds` rounds of local search.

    The search is over as soon as the inertia is at most `enough`.
    """
    n_clusters = len(centers)
    state = sample.new_state(n_clusters)
    best = lloyd(sample, centers, max_iter=ROUND_ITERATIONS, tolerance=0.0, state=state)
    if n_clusters == 1 or len(sample.X) <= n_clusters:
        return best.centers
    n_rounds = min(MAX_ROUNDS, MIN_ROUNDS + ROUNDS_TIMES_CLUSTERS // n_clusters)
    utilities = None
    n_moved, n_failures = max(1, int(FIRST_SHARE * n_clusters)), 0
    for _ in range(min(max_rounds, n_rounds)):
        if best.inertia <= enough:
            return best.centers
        utilities = utilities or _CenterUtilities.from_clustering(sample, best)
        start = utilities.move_centers(n_moved, n_failures, random)
        trial_state = state.copy()
        trial_state.update_bounds(best.centers, start)
        trial = lloyd(sample, start, max_iter=ROUND_ITERATIONS, tolerance=0.0, state=trial_state)
        if trial.inertia < best.inertia:
            best, state, n_failures, utilities = trial, trial_state, 0, None
        elif n_moved > 1:
            n_moved //= 2
        else:
            n_failures += 1
            if n_failures == MAX_FAILURES:
                break
    if max_rounds < n_rounds:
        best = lloyd(sample, best.centers, max_iter=LAST_ITERATIONS, tolerance=0.0, state=state)
    return best.centers


@dataclass(frozen=True)
class _CenterUtilities:
    """Error and utility of every center: utility is how much the inertia would rise without it."""

    X: Rows
    weights: Float64s
    centers: Rows
    row_errors: Float64s  # (n_rows,): weight x squared distance to the nearest center
    order: Int64s  # (n_rows,): numbers of rows, sorted by cluster
    edges: Int64s  # (n_clusters + 1,): the rows of cluster c are order[edges[c] : edges[c + 1]]
    largest_error: Int64s  # (n_clusters,): centers by the error of their rows, the largest first
    least_useful: Int64s  # (n_clusters,): centers by utility, the least first
    second_nearest: Int64s  # (n_clusters,): per center, the second nearest one of most of its rows

    @classmethod
    def from_clustering(cls, sample: Samples, clustering: Clustering) -> _CenterUtilities:
        k, labels = len(clustering.centers), clustering.labels
        order = np.argsort(labels, kind="stable")
        edges = np.searchsorted(labels[order], np.arange(k + 1))
        nearest, second, second_nearest = _distances_to_two_nearest(sample.X, clustering.centers, order, edges)
        row_errors = sample.weights * nearest
        errors = np.bincount(labels, row_errors, k)
        utilities = np.bincount(labels, sample.weights * (second - nearest), k)
        return cls(
            sample.X,
            sample.weights,
            clustering.centers,
            row_errors,
            order,
            edges,
            np.argsort(-errors, kind="stable"),
            np.argsort(utilities, kind="stable"),
            second_nearest,
        )

    def move_centers(self, count: int, n_failures: int, random: np.random.RandomState) -> Rows:
        """Return the centers after `count` of them moved beside others; after every failure, beside different ones."""
        k = len(self.centers)
        targets = np.roll(self.largest_error, -n_failures)[:count]
        fixed = set(targets.tolist())
        centers = self.centers.copy()
        remaining = list(targets[::-1])
        for moved in np.roll(self.least_useful, -(n_failures // k)).tolist():
            if remaining and moved not in fixed:
                # Takes over most rows of the center that leaves, so it stays in this round.
                fixed.add(int(self.second_nearest[moved]))
                centers[moved] = self._position_beside(remaining.pop(), random.uniform())
        return centers

    def _position_beside(self, cluster: int, uniform: float) -> Rows:
        """Return a position beside the center of a cluster (n_features,), or the center where no row is off it."""
        members = self.order[self.edges[cluster] : self.edges[cluster + 1]]
        position: Rows = self.centers[cluster].copy()
        if self.row_errors[members].any():
            center_utility.draw_center(
                self.X, members, self.weights, self.row_errors, self.centers[cluster], uniform, MAX_STEP, position
            )
        return position


def _distances_to_two_nearest(
    X: Rows, centers: Rows, order: Int64s, edges: Int64s
) -> tuple[Float64s, Float64s, Int64s]:
    """Return squared distances of rows to the nearest and the second nearest center, and the latter of most rows.

    The second nearest center is sought among the N_NEAR centers near the nearest one: decisions/0004-seeding.md.
    """
    k, exact = len(centers), centers.astype(np.float64)
    strips = arrange_in_strips(exact)
    near, second_nearest = np.empty((k, min(N_NEAR, k)), np.int64), np.empty(k, np.int64)
    nearest, second = np.empty(len(X)), np.empty(len(X))

    def compute_share(clusters: slice) -> None:
        center_utility.find_neighboring_centers(exact, strips, clusters.start, clusters.stop, near)
        center_utility.compute_utility_terms(
            X, order, edges, exact, near, clusters.start, clusters.stop, nearest, second, second_nearest
        )

    map_shares(compute_share, thread_shares(k))
    return nearest, second, second_nearest
