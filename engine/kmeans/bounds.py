"""Hamerly-style bounds: movement of the centers, and the thresholds below which a row keeps its label unseen.

    steps of the centers, labels and gap bounds of the rows  ->  SkipThresholds: a threshold a cluster, and fast centers

A row keeps its label while its own center and the fastest other one together have moved less than the gap between its
two nearest centers (Hamerly, "Making k-means even faster", SDM 2010). Movements are cumulated since the run began, and
a row's gap bound is its gap plus that sum when it was measured, so that no pass has to lower the bounds of all rows: a
row is skipped while its gap bound exceeds the threshold of its cluster.

One center that still moves would lower every bound. So the few fastest centers are left out of the sum, and every row
is compared with those instead (kernels/cpu/kmeans/fast_centers.py), after the grouped bounds of Yinyang K-Means (Ding
et al., ICML 2015). In every iteration their number is chosen by its cost on a sample of rows. Proof: decisions/0005.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.backends.protocol import SkipThresholds
from engine.kernels.cpu.kmeans import bounds as bound_kernels
from engine.kernels.cpu.simd.vectors import LANES
from engine.utils.array_types import Float64s, Int32s

SAMPLE_ROWS = 4096  # rows on which the number of fast centers is chosen
FAST_CENTER_COUNTS = (0, 6, 12, 18, 24, 36, 48, 72, 96, 144, 192, 288)  # choices: whole tiles of the kernel
# Nanoseconds of a row whose values take w words, measured on one Zen 4 core: each is a constant plus w times the other.
CENTER_COST = 0.08 * 16 / LANES, 0.018 * 16 / LANES  # to score and rank a center
FULL_COMPARISON_COST = 8.0, 0.7  # to read a row that is compared with all centers, and to store label and bound
FAST_COMPARISON_COST = 10.0, 0.8  # to read a row that is compared with the fast centers, and to measure its own center
LEAST_PASS_COST = 4e4  # of a pass that compares all rows with all centers: below, the choice takes longer than it saves


class CenterMovement:
    """Distance each center has moved since the run began, and the distance moved by the fastest other center.

    Attributes
    ----------
    distance : float64 ndarray of shape (n_clusters,)
        Sum of the steps of each center.
    fastest_other : float64 ndarray of shape (n_clusters,)
        Sum over iterations of the longest step of any other center, fast centers of the iteration left out.
    fast_centers : int32 ndarray of shape (n_fast,)
        Centers of the longest last steps, with which every row is compared in the next pass.
    """

    def __init__(self, n_clusters: int) -> None:
        self.distance, self.fastest_other = np.zeros(n_clusters), np.zeros(n_clusters)
        self.fast_centers = np.empty(0, np.int32)

    def copy(self) -> CenterMovement:
        """Return an independent copy."""
        duplicate = CenterMovement(len(self.distance))
        duplicate.distance, duplicate.fastest_other = self.distance.copy(), self.fastest_other.copy()
        duplicate.fast_centers = self.fast_centers
        return duplicate

    def add_steps(self, steps: Float64s, labels: Int32s, gap_bound: NDArray[np.float32], words: int) -> None:
        """Add the lengths of the centers' steps (n_clusters,) since rows were last labelled, and choose fast centers.

        It is called once between two passes, which read `words` 32-bit words of a row.
        """
        steps = steps * (1.0 + 1e-9)
        order = np.argsort(-steps, kind="stable")
        self.fast_centers = order[: self._best_count(steps, order, labels, gap_bound, words)].astype(np.int32)
        slow = order[len(self.fast_centers) :]
        self.distance += steps
        self.fastest_other += steps[slow[0]]
        if len(slow) > 1:
            self.fastest_other[slow[0]] += steps[slow[1]] - steps[slow[0]]
        else:
            self.fastest_other[slow[0]] -= steps[slow[0]]

    def skip_thresholds(self) -> SkipThresholds:
        """Return the thresholds of the next pass in float32, rounded down and rounded up.

        The upper ones are raised by as much as the addition of a threshold to a gap can round.
        """
        total = self.distance + self.fastest_other
        lower, upper = total.astype(np.float32), (total * (1.0 + 2.0**-22)).astype(np.float32)
        lower, upper = np.nextafter(lower, np.float32(-np.inf)), np.nextafter(upper, np.float32(np.inf))
        upper[self.fast_centers] = np.inf
        return SkipThresholds(lower, upper, self.fast_centers)

    def _best_count(
        self, steps: Float64s, order: NDArray[np.intp], labels: Int32s, gap_bound: NDArray[np.float32], words: int
    ) -> int:
        """Return the number of fast centers that makes the next pass cheapest, by a sample of the rows."""
        if 2 * FAST_CENTER_COUNTS[1] >= len(steps):  # none is the only choice
            return 0
        a_center, full_row, fast_row = (
            fixed + words * per_word for fixed, per_word in (CENTER_COST, FULL_COMPARISON_COST, FAST_COMPARISON_COST)
        )
        if len(labels) * (len(steps) * a_center + full_row) < LEAST_PASS_COST:
            return 0
        sample = slice(None, None, max(1, len(labels) // SAMPLE_ROWS))
        rank = np.empty(len(steps), np.int64)  # of every center, by the length of its step
        rank[order] = np.arange(len(steps))
        counts = np.array([count for count in FAST_CENTER_COUNTS if count == 0 or 2 * count < len(steps)])
        total = self.distance + self.fastest_other + steps
        # Contiguous, or the kernel is compiled for strides as well.
        labels, gap_bound = np.ascontiguousarray(labels[sample]), np.ascontiguousarray(gap_bound[sample])
        full = bound_kernels.estimate_active_shares(labels, gap_bound, total, steps[order[counts]], rank, counts)
        costs = full * (len(steps) * a_center + full_row) + (1.0 - full) * np.where(
            counts, counts * a_center + fast_row, 0.0
        )
        return int(counts[costs.argmin()])
