"""Continue the clusters of the previous run: they are the start, and have to be beaten to be given up.

    Z, centers of the previous run, the earlier cluster of every row  ->  Continuation: clustering, and why it is this

The *champion* is K-Means from the previous centers. The *challenger* is K-Means from new seeds. It takes over if its
inertia is lower by more than a set share, and by more than a twentieth of the share of people that it moves, or if a
cluster of the champion has died: if nearly nobody is nearest to its center any more. Both are compared on the same
sample first, so a challenger without a chance costs little.

With a bound on the share of people who may move, a champion that moves more has its centers drawn back towards the
previous ones, as far as needed: labels stay those of the nearest center, and the share is counted, not estimated. It is
label-consistent clustering (arXiv 2512.15210 and 2512.19654 have it for k-center and k-median) by interpolation.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.execution.threads import row_blocks
from engine.kmeans.lloyd import Clustering
from engine.lineage.history import number_clusters
from engine.lineage.matching import Counts
from engine.lineage.people import NEWCOMER
from engine.utils.array_types import Float64s, Int32s, Rows
from engine.utils.formatting import format_percent
from engine.utils.row_sampling import KEY_ROWS, count_labels, sample_rows

CHALLENGE_ROWS = 1 << 17  # rows of the sample on which the champion and the challenger are compared first
CHALLENGE_SEED = 0
GAIN_PER_MOVE = 0.05  # least share of the inertia that a challenger gains for the share of the people it moves
DEAD = 0.1  # a cluster has died if fewer than this share of its expected people are nearest to its center
BISECTIONS = 8  # of the way back to the previous centers: it is found to a 256th part

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Continuation:
    """Tonight's clustering, and the facts about why it is this one, for lineage.json and the manifest."""

    clustering: Clustering
    facts: dict[str, Any]


@dataclass(frozen=True)
class Contest:
    """What decides between champion and challenger.

    Attributes
    ----------
    Z : float32 array of shape (n_rows, n_components)
    start : float32 array of shape (n_previous, n_components)
        The previous centers, in tonight's components.
    shares : float64 array of shape (n_previous,)
        Share of the previous run's people in each cluster.
    earlier : int32 array of shape (n_rows,)
        The previous cluster of each row, or NEWCOMER.
    cluster : callable
        K-Means on rows, from centers, or from seeds if they are None.
    fix : callable
        The clustering of Z by given centers.
    takeover : float
        Share by which the challenger's inertia has to be lower at least; it is more if the challenger moves many.
    max_moved : float or None
        Largest share of the people who stayed that may change their cluster.
    max_moved_anew : float or None
        Largest share of them that new clusters may move, if it is less: what the gate would stop.
    """

    Z: Rows
    start: Rows
    shares: Float64s
    earlier: Int32s
    cluster: Callable[[Rows, int, Rows | None], Clustering]
    fix: Callable[[Rows], Clustering]
    takeover: float
    max_moved: float | None
    max_moved_anew: float | None

    def decide(self, k: int, seeds: Rows | None) -> Continuation:
        """Return tonight's clustering into k clusters; `seeds` are centers that the challenger starts from."""
        if k != len(self.start):
            return self._change_k(k, seeds)
        champion = self.cluster(self.Z, k, self.start)
        dead = self._dead()
        rows = sample_rows(len(self.Z), CHALLENGE_ROWS, CHALLENGE_SEED)
        sample = np.ascontiguousarray(self.Z[rows])
        whole = len(rows) == len(self.Z)
        challenger = self.cluster(sample, k, seeds)
        defender = champion if whole else self.cluster(sample, k, champion.centers)
        gain = 1.0 - challenger.inertia / defender.inertia if defender.inertia else 0.0
        facts: dict[str, Any] = {"takeover": self.takeover, "compared_on": len(rows), "dead": dead}
        if not whole and (gain > self.takeover or dead):
            challenger = self.cluster(self.Z, k, challenger.centers)
            gain = 1.0 - challenger.inertia / champion.inertia if champion.inertia else 0.0
            facts["compared_on"] = len(self.Z)
        facts |= {"gain": gain, "champion_inertia": champion.inertia}
        if facts["compared_on"] == len(self.Z):
            facts["challenger_inertia"] = challenger.inertia
        if gain > self.takeover or (dead and gain >= 0.0):
            why = f"cluster {dead[0]} had died" if dead else f"its inertia is {gain:.2%} lower"
            facts["challenger_moved"] = moved = self.moved(challenger)
            if not dead and gain <= GAIN_PER_MOVE * moved:
                logger.info(
                    "New clusters would have %.2f %% less inertia, and move %s of the rows: too little for so many.",
                    100 * gain, format_percent(moved),
                )  # fmt: skip
            elif self._may_move(challenger):
                words = f"the clusters were made anew, because {why}"
                return Continuation(challenger, {"chosen": "challenger", "why": words, **facts})
            else:
                logger.warning("New clusters would be better (%s), but more rows would move than may.", why)
        return self._bounded(champion, facts)

    def _change_k(self, k: int, seeds: Rows | None) -> Continuation:
        """Return the clustering into another number of clusters, unless it moves too many people."""
        clustering = self.cluster(self.Z, k, seeds)
        words = f"the clusters were made anew, because there are {k} instead of {len(self.start)}"
        if self._may_move(clustering):
            return Continuation(clustering, {"chosen": "challenger", "why": words})
        logger.warning("k stays at %d: with %d, more rows would move than may.", len(self.start), k)
        return self._bounded(self.cluster(self.Z, len(self.start), self.start), {"wanted_k": k})

    def _dead(self) -> list[int]:
        """Return the previous clusters to whose centers nearly nobody is nearest any more."""
        sizes = count_labels(self.fix(self.start).labels, len(self.start))
        return np.flatnonzero(sizes < DEAD * self.shares * len(self.Z)).tolist()

    def _may_move(self, clustering: Clustering) -> bool:
        limits = [limit for limit in (self.max_moved, self.max_moved_anew) if limit is not None]
        return not limits or self.moved(clustering) <= min(limits)

    def moved(self, clustering: Clustering) -> float:
        """Return the share of the people who stayed that would be in a cluster with another number."""
        moves = count_moves(self.earlier, clustering.labels, len(self.start), len(clustering.centers))
        return moved_people(moves) / max(int(moves.sum()), 1)

    def _bounded(self, champion: Clustering, facts: dict[str, Any]) -> Continuation:
        """Return the champion, with centers drawn back towards the previous ones if it moves too many people."""
        facts = {"chosen": "champion", "why": "the clusters of the previous run go on", **facts}
        if self.max_moved is None or self.moved(champion) <= self.max_moved:
            return Continuation(champion, facts)
        low, high, best = 0.0, 1.0, self.fix(self.start)
        if self.moved(best) > self.max_moved:
            logger.warning(
                "%s of the rows moved although the centers did not: max_moved cannot be kept.",
                format_percent(self.moved(best)),
            )
            return Continuation(best, facts | {"way": 0.0})
        for _ in range(BISECTIONS):
            way = (low + high) / 2
            centers = (self.start + way * (champion.centers - self.start)).astype(self.Z.dtype)
            clustering = self.fix(centers)
            if self.moved(clustering) <= self.max_moved:
                low, best = way, clustering
            else:
                high = way
        return Continuation(best, facts | {"way": low})


def count_moves(earlier: Int32s, labels: Int32s, n_old: int, n_new: int) -> Counts:
    """Return the people by their earlier and their new cluster, int64 of shape (n_old, n_new), without newcomers."""
    counts = np.zeros(n_old * n_new, np.int64)
    for rows in row_blocks(len(labels), KEY_ROWS):
        known = earlier[rows] != NEWCOMER
        cells = earlier[rows][known].astype(np.int64) * n_new + labels[rows][known]
        counts += np.bincount(cells, minlength=len(counts))
    return counts.reshape(n_old, n_new)


def moved_people(moves: Counts) -> int:
    """Return the number of people whose new cluster does not have the number of their earlier one."""
    numbers, _ = number_clusters(moves, np.arange(len(moves), dtype=np.int32), len(moves))
    kept = numbers < len(moves)
    return int(moves.sum() - moves[numbers[kept], np.flatnonzero(kept)].sum())
