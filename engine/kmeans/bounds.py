"""How far centres have come, and so which rows need not be looked at.

    steps of the centres, labels and slack of the rows  ->  Drift: a threshold a cluster, and the fast centres

A row is skipped while its slack is above the threshold of its cluster. Slack has to pay for the fastest of all centres,
so a single one that still moves would make every row wait: the fastest are left out, and every row is compared to those
(kernels/cpu/kmeans/fast_centers.py). How many is weighed in every iteration on a sample of rows. Proof: decisions/0005.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.backends.protocol import Drift, Float64s, Int32s
from engine.kernels.cpu.kmeans import bounds as drift

SAMPLE = 4096  # rows that tell how many would wait
FAST = (0, 6, 12, 18, 24, 36, 48, 72, 96, 144, 192, 288)  # numbers of fast centres to choose from: whole tiles
# Measured on one Emerald Rapids core, as so many centres more, of 0.2 ns each:
LOOK = 60.0  # to look at a row and note what was found, besides its products with all centres
GLANCE = 55.0  # to compare a row with its own centre, besides the products with fast ones


class Way:
    """What the centres of one run have gone since its start: their own ways, and the fastest other one's."""

    def __init__(self, n_clusters: int) -> None:
        self.own, self.others = np.zeros(n_clusters), np.zeros(n_clusters)
        self.fast = np.empty(0, np.int32)

    def copy(self) -> Way:
        """Return the same way, to go on from here by itself."""
        other = Way(len(self.own))
        other.own, other.others, other.fast = self.own.copy(), self.others.copy(), self.fast
        return other

    def follow(self, steps: Float64s, labels: Int32s, slack: NDArray[np.float32]) -> None:
        """Add the steps that centres have made since rows were last labelled; once a pass."""
        steps = steps * (1.0 + 1e-9)
        order = np.argsort(-steps, kind="stable")
        self.fast = order[: self._best_count(steps, order, labels, slack)].astype(np.int32)
        slow = order[len(self.fast) :]
        self.own += steps
        self.others += steps[slow[0]]
        if len(slow) > 1:
            self.others[slow[0]] += steps[slow[1]] - steps[slow[0]]
        else:
            self.others[slow[0]] -= steps[slow[0]]

    def drift(self) -> Drift:
        """Return thresholds below and above what they are; the second by as much as adding to slack can round."""
        way = self.own + self.others
        least, most = way.astype(np.float32), (way * (1.0 + 2.0**-22)).astype(np.float32)
        least, most = np.nextafter(least, np.float32(-np.inf)), np.nextafter(most, np.float32(np.inf))
        most[self.fast] = np.inf
        return Drift(least, most, self.fast)

    def _best_count(self, steps: Float64s, order: NDArray[np.intp], labels: Int32s, slack: NDArray[np.float32]) -> int:
        """Return how many fast centres make the next pass cheapest."""
        some = slice(None, None, max(1, len(labels) // SAMPLE))
        place = np.empty(len(steps), np.int64)  # of every centre among the fast ones
        place[order] = np.arange(len(steps))
        counts = np.array([count for count in FAST if count == 0 or 2 * count < len(steps)])
        way = self.own + self.others + steps
        waiting = drift.waiting_shares(labels[some], slack[some], way, steps[order[counts]], place, counts)
        costs = waiting * (len(steps) + LOOK) + (1.0 - waiting) * np.where(counts, counts + GLANCE, 0.0)
        return int(counts[costs.argmin()])
