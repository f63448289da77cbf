"""Cluster bootstrap resamples of a sample of rows again, from new seeds, as tightly as given centers do.

    sample (n_rows, n_features), centers, number of a resample  ->  new label of every row of the sample

A resample is the sample with a weight a row: how often the row was drawn. So all resamples share the sample's quantized
rows, and K-Means of a resample labels the rows that were not drawn, too.

Local search (local_search.py) takes ten times as long as the rest of K-Means, most of it to find that nothing is left
to gain. The given centers tell when it is over: once the inertia is that to which Lloyd's algorithm brings them on the
resample. New seeds that end in a worse minimum are searched further. The given centers tell nothing if they are not as
tight as K-Means can be, such as those of groups that valleys separate: a full search of the first resample finds out,
and then all are searched in full: decisions/0053-cheaper-resamples.md.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from engine.backends.protocol import Backend
from engine.kmeans.initialization import seeds_of_sample
from engine.kmeans.lloyd import Clustering, Samples, lloyd, scaled_tolerance
from engine.kmeans.local_search import improve_seeds
from engine.utils.array_types import Float64s, Int32s, Rows
from engine.utils.row_sampling import row_keys

MOST_DRAWS = 64.0  # of one row in a resample: more have a chance below 10^-80
MAX_ITER, TOLERANCE = 300, 1e-4  # of Lloyd's algorithm, as in a fit
SAME_INERTIA = 1e-4  # relative: what the last iterations of Lloyd's algorithm would gain
MAX_SEARCHES, ROUNDS_PER_SEARCH = 8, 4  # of local search


class Resamples:
    """Resamples of a sample of rows, to be clustered as tightly as given centers do."""

    def __init__(self, sample: Rows, centers: Rows, backend: Backend) -> None:
        """Prepare a C-contiguous sample (n_rows, n_features), and centers (n_clusters, n_features) of its dtype."""
        self._sample, self._centers = sample, centers
        samples = Samples.from_array(sample, np.full(len(sample), MOST_DRAWS), backend)
        self._samples = replace(samples, total_weight=float(len(sample)))
        self._given_are_tight = len(centers) == 1 or self._are_tight()

    def cluster(self, number: int) -> Int32s:
        """Return the labels of all rows (n_rows,) by K-Means of a resample, the same for the same number."""
        samples, given, random = self._resample(number)
        enough = (1.0 + SAME_INERTIA) * given.inertia if self._given_are_tight else -np.inf
        tolerance = scaled_tolerance(samples, TOLERANCE)
        best = lloyd(samples, self._seeds(samples, number, random), max_iter=MAX_ITER, tolerance=tolerance)
        if not self._given_are_tight:
            return self._search_in_full(samples, best.centers, random).labels
        for _ in range(MAX_SEARCHES):
            if best.inertia <= enough:
                break
            seeds = improve_seeds(samples, best.centers, random, max_rounds=ROUNDS_PER_SEARCH, enough=enough)
            found = lloyd(samples, seeds, max_iter=MAX_ITER, tolerance=tolerance)
            best = found if found.inertia < best.inertia else best
        return best.labels

    def _are_tight(self) -> bool:
        """Return whether a full search of the first resample ends no lower than the given centers do."""
        samples, given, random = self._resample(0)
        found = self._search_in_full(samples, self._seeds(samples, 0, random), random)
        return found.inertia >= (1.0 - SAME_INERTIA) * given.inertia

    def _resample(self, number: int) -> tuple[Samples, Clustering, np.random.RandomState]:
        """Return a resample, the clustering to which the given centers lead there, and its generator."""
        samples = replace(self._samples, weights=self.draw(number))
        tolerance = scaled_tolerance(samples, TOLERANCE)
        given = lloyd(samples, self._centers, max_iter=MAX_ITER, tolerance=tolerance)
        return samples, given, np.random.RandomState(number)

    def _seeds(self, samples: Samples, number: int, random: np.random.RandomState) -> Rows:
        drawn = np.flatnonzero(samples.weights)
        return seeds_of_sample(self._sample[drawn], samples.weights[drawn], len(self._centers), number, random)

    @staticmethod
    def _search_in_full(samples: Samples, seeds: Rows, random: np.random.RandomState) -> Clustering:
        centers = improve_seeds(samples, seeds, random)
        return lloyd(samples, centers, max_iter=MAX_ITER, tolerance=scaled_tolerance(samples, TOLERANCE))

    def draw(self, number: int) -> Float64s:
        """Return how often each row is drawn (n_rows,) in a resample as large as the sample."""
        n_rows = len(self._sample)
        drawn = row_keys(number + 1, np.arange(n_rows)) % np.uint64(n_rows)
        return np.bincount(drawn.astype(np.int64), minlength=n_rows).astype(np.float64)
