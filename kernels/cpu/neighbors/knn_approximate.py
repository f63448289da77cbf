"""Find the approximate k nearest neighbors of queries: the nearest references in a few leaves, selected by score.

    queries (n_queries, n_features) float32, references packed in leaves, a few leaves to visit
      -> positions (n_queries, k) int32 and squared distances (n_queries, k) float64, ascending

Distances only weight neighbors in t-SNE, so they may be off by RELATIVE_TOLERANCE. Where rounding may change one by
more, and where one may be 0, the float64 distances of distance.py rank the references. Exact neighbors: knn_exact.py.
"""

from __future__ import annotations

from typing import TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

from engine.kernels.cpu.neighbors.packed_leaves import (
    GROUP_SIZE,
    LEAF_SIZE,
    PANEL_SIZE,
    compute_scores,
    group_queries,
    rank_candidates,
    score_error_bound,
    store_scores,
)
from engine.kernels.cpu.simd.vectors import (
    LANES,
    compress_store,
    count_lanes,
    lane_indices,
    less,
    load,
    maximum,
    minimum,
    reduce_max,
    reduce_min,
    splat,
)

BISECTION_STEPS = 8  # of the range of minima: one more step leaves out less than one more reference of 1,024
RELATIVE_TOLERANCE = 1e-3  # of a squared distance: error by rounding that weights of neighbors may have

Float32s: TypeAlias = NDArray[np.float32]
Float64s: TypeAlias = NDArray[np.float64]
Int32s: TypeAlias = NDArray[np.int32]


@numba.njit(nogil=True, cache=True)
def _kth_score_bound(scores, start, n, k):  # type: ignore[no-untyped-def]
    """Return an upper bound of the k-th least of n scores from index `start`, k at most 4 * LANES.

    Each of 4 * LANES minima is one score, so the k-th least of them is a bound, which bisection approximates.
    """
    a, b = load(scores, start), load(scores, start + LANES)
    c, d = load(scores, start + 2 * LANES), load(scores, start + 3 * LANES)
    for at in range(start + 4 * LANES, start + n, 4 * LANES):
        a, b = minimum(load(scores, at), a), minimum(load(scores, at + LANES), b)
        c, d = minimum(load(scores, at + 2 * LANES), c), minimum(load(scores, at + 3 * LANES), d)
    low = reduce_min(minimum(minimum(a, b), minimum(c, d)))
    high = reduce_max(maximum(maximum(a, b), maximum(c, d)))
    if high < np.inf:
        for _ in range(BISECTION_STEPS):
            middle = np.float32(0.5) * (low + high)
            limit = splat(middle)
            below = count_lanes(less(a, limit)) + count_lanes(less(b, limit))
            below += count_lanes(less(c, limit)) + count_lanes(less(d, limit))
            if below >= k:
                high = middle
            else:
                low = middle
    return high


@numba.njit(nogil=True, cache=True)
def _select_by_score(scores, positions, count, square, k, out_positions, out_squared):  # type: ignore[no-untyped-def]
    """Write the k candidates of least score, ascending, and their squared distances; `square` is ||q||^2."""
    for c in range(count):
        score, position, at = scores[c], positions[c], min(c, k)
        if at == k and score >= scores[k - 1]:
            continue
        at = at - 1 if at == k else at
        while at > 0 and scores[at - 1] > score:
            scores[at], positions[at] = scores[at - 1], positions[at - 1]
            at -= 1
        scores[at], positions[at] = score, position
    for c in range(k):
        out_positions[c], out_squared[c] = positions[c], max(square + 2.0 * scores[c], 0.0)


@numba.njit(nogil=True, cache=True)
def find_approximate_neighbors(
    queries: Float32s, panels: Float32s, half_norms: Float32s, members: Int32s, leaves: Int32s, k: int,
    out_positions: Int32s, out_squared: Float64s,
) -> None:  # fmt: skip
    """Write the positions of the k nearest references of every query among those of a few leaves, k up to 4 * LANES.

    All scores are kept, and those below a bound of the k-th least are picked without branches: about twenty of 1,024
    for k = 16. Scores rank them where rounding changes a distance by less than RELATIVE_TOLERANCE of it; elsewhere, and
    where a distance may be 0, the float64 distances of distance.py do.
    """
    n_queries, n_features = queries.shape
    n = leaves.shape[0] * LEAF_SIZE
    groups, norms = group_queries(queries)
    scores, error = np.empty(GROUP_SIZE * n, np.float32), (n_features + 8) * 2.0**-24
    picked_scores, picked = np.empty(n + LANES, np.float32), np.empty(n + LANES, np.int32)
    for group in range(groups.shape[0] // (GROUP_SIZE * n_features)):
        for leaf in range(leaves.shape[0]):
            for offset in range(0, LEAF_SIZE, PANEL_SIZE):
                vectors = compute_scores(
                    groups, group, panels, half_norms, leaves[leaf] * LEAF_SIZE + offset, n_features
                )
                store_scores(scores, leaf * LEAF_SIZE + offset, n, vectors)
        for i in range(group * GROUP_SIZE, min((group + 1) * GROUP_SIZE, n_queries)):
            start, norm = (i % GROUP_SIZE) * n, norms[i]
            bound = _kth_score_bound(scores, start, n, k)
            margin = score_error_bound(norm, bound, error)
            count, limit = 0, splat(np.float32(bound + margin))
            for leaf in range(leaves.shape[0]):
                for offset in range(0, LEAF_SIZE, LANES):
                    score = load(scores, start + leaf * LEAF_SIZE + offset)
                    chosen = less(score, limit)
                    compress_store(picked_scores, count, score, chosen)
                    position = lane_indices() + splat(np.int32(leaves[leaf] * LEAF_SIZE + offset))
                    compress_store(picked, count, position, chosen)
                    count += count_lanes(chosen)
            nearest = np.inf
            for c in range(count):
                nearest = min(nearest, picked_scores[c])
            square = norm * norm
            if square + 2.0 * bound > 2.0 / RELATIVE_TOLERANCE * margin and square + 2.0 * nearest > 2.0 * margin:
                _select_by_score(picked_scores, picked, count, square, k, out_positions[i], out_squared[i])
            else:
                rank_candidates(queries[i], panels, members, picked[:count], k, out_positions[i], out_squared[i])
