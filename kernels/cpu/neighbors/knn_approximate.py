"""Find the k nearest references of queries among those of a few leaves, near enough for weights: keep all scores.

    queries (n_queries, n_features) float32, references packed in leaves, a short list of leaves
      -> numbers (n_queries, k) int32 and squared distances (n_queries, k) float64, ascending

Where rounding may change a distance by more than CLOSE of it, and where a distance may be 0, the definition ranks them.
Exact neighbours among all leaves: knn_exact.py.
"""

from __future__ import annotations

from typing import TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

from engine.kernels.cpu.neighbors.packed_leaves import (
    GROUP,
    LEAF,
    PANEL,
    grouped,
    rank,
    scores_of,
    slack_of,
    store_scores,
)
from engine.kernels.cpu.simd.vectors import (
    LANES,
    greatest,
    highest,
    lane_count,
    lane_numbers,
    least,
    less,
    load,
    lowest,
    splat,
    store_chosen,
)

HALVINGS = 8  # of the range of minima: finer ones leave out less than one more of 1,024
CLOSE = 1e-3  # of a squared distance: what rounding may change where weights, and not ranks, are asked for

Float32s: TypeAlias = NDArray[np.float32]
Float64s: TypeAlias = NDArray[np.float64]
Int32s: TypeAlias = NDArray[np.int32]


@numba.njit(nogil=True, cache=True)
def _bound_of_kth(scores, start, n, k):  # type: ignore[no-untyped-def]
    """Return an upper bound of the k-th least of n scores from index `start`, k at most 4 * LANES.

    Each of 4 * LANES minima is one score, so the k-th least of them is a bound; halving their range finds it nearly.
    """
    a, b = load(scores, start), load(scores, start + LANES)
    c, d = load(scores, start + 2 * LANES), load(scores, start + 3 * LANES)
    for at in range(start + 4 * LANES, start + n, 4 * LANES):
        a, b = least(load(scores, at), a), least(load(scores, at + LANES), b)
        c, d = least(load(scores, at + 2 * LANES), c), least(load(scores, at + 3 * LANES), d)
    low = lowest(least(least(a, b), least(c, d)))
    high = highest(greatest(greatest(a, b), greatest(c, d)))
    if high < np.inf:
        for _ in range(HALVINGS):
            middle = np.float32(0.5) * (low + high)
            limit = splat(middle)
            below = lane_count(less(a, limit)) + lane_count(less(b, limit))
            below += lane_count(less(c, limit)) + lane_count(less(d, limit))
            if below >= k:
                high = middle
            else:
                low = middle
    return high


@numba.njit(nogil=True, cache=True)
def _nearest_by_score(scores, places, count, square, k, out_places, out_squared):  # type: ignore[no-untyped-def]
    """Write the k candidates of least score, sorted, and their squared distances: `square` is the query's ||q||^2."""
    for c in range(count):
        score, place, at = scores[c], places[c], min(c, k)
        if at == k and score >= scores[k - 1]:
            continue
        at = at - 1 if at == k else at
        while at > 0 and scores[at - 1] > score:
            scores[at], places[at] = scores[at - 1], places[at - 1]
            at -= 1
        scores[at], places[at] = score, place
    for c in range(k):
        out_places[c], out_squared[c] = places[c], max(square + 2.0 * scores[c], 0.0)


@numba.njit(nogil=True, cache=True)
def search_all(
    queries: Float32s, panels: Float32s, halves: Float32s, members: Int32s, leaves: Int32s, k: int,
    out_places: Int32s, out_squared: Float64s,
) -> None:  # fmt: skip
    """Write the k nearest references of every query among those of a few leaves, k up to 4 * LANES.

    All scores are kept, and those below a bound of the k-th least are picked without branches: about twenty of 1,024
    for k = 16. Where rounding may change a distance by less than CLOSE of it, scores rank them; else, and where a
    distance may be 0, the definition does.
    """
    n_queries, n_features = queries.shape
    n = leaves.shape[0] * LEAF
    groups, norms = grouped(queries)
    scores, error = np.empty(GROUP * n, np.float32), (n_features + 8) * 2.0**-24
    picked_scores, picked = np.empty(n + LANES, np.float32), np.empty(n + LANES, np.int32)
    for group in range(groups.shape[0] // (GROUP * n_features)):
        for which in range(leaves.shape[0]):
            for offset in range(0, LEAF, PANEL):
                found = scores_of(groups, group, panels, halves, leaves[which] * LEAF + offset, n_features)
                store_scores(scores, which * LEAF + offset, n, found)
        for i in range(group * GROUP, min((group + 1) * GROUP, n_queries)):
            start, norm = (i % GROUP) * n, norms[i]
            bound = _bound_of_kth(scores, start, n, k)
            slack = slack_of(norm, bound, error)
            count, limit = 0, splat(np.float32(bound + slack))
            for which in range(leaves.shape[0]):
                for offset in range(0, LEAF, LANES):
                    score = load(scores, start + which * LEAF + offset)
                    chosen = less(score, limit)
                    store_chosen(picked_scores, count, score, chosen)
                    place = lane_numbers() + splat(np.int32(leaves[which] * LEAF + offset))
                    store_chosen(picked, count, place, chosen)
                    count += lane_count(chosen)
            nearest = np.inf
            for c in range(count):
                nearest = min(nearest, picked_scores[c])
            square = norm * norm
            if square + 2.0 * bound > 2.0 / CLOSE * slack and square + 2.0 * nearest > 2.0 * slack:
                _nearest_by_score(picked_scores, picked, count, square, k, out_places[i], out_squared[i])
            else:
                rank(queries[i], panels, members, picked[:count], k, out_places[i], out_squared[i])
