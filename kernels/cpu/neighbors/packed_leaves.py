"""Pack references into leaves and score queries against them: the arithmetic that both neighbor searches share.

    rows (n, n_features) float32  ->  panels, half squared norms;   a group of queries and a panel  ->  scores

References lie in the SIMD lanes: six queries times two vectors of references are twelve accumulators in registers. A
score is ||x||^2 / 2 - q.x in float32, half the squared distance less ||q||^2 / 2; distances are the float64 ones of
distance.py. Which leaves a search visits, and what it keeps: knn_exact.py and knn_approximate.py.
"""

from __future__ import annotations

from typing import TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

from engine.kernels.cpu.simd.vectors import LANES, broadcast, fma, load, store

LEAF_SIZE = 128  # references in a leaf: with 50 features they fill 25 KiB of L1
PANEL_SIZE = 2 * LANES  # references scored at a time: two vectors of lanes
GROUP_SIZE = 6  # queries scored against a panel at a time

Float32s: TypeAlias = NDArray[np.float32]
Float64s: TypeAlias = NDArray[np.float64]
Int32s: TypeAlias = NDArray[np.int32]


@numba.njit(nogil=True, cache=True)
def pack_leaf(X: Float32s, panels: Float32s, half_norms: Float32s) -> None:
    """Pack rows X, negated, into panels (LEAF_SIZE / PANEL_SIZE, n_features, PANEL_SIZE); write half their norms^2."""
    panels[:] = 0.0
    half_norms[:] = np.inf
    for position in range(X.shape[0]):
        total = 0.0
        for t in range(X.shape[1]):
            value = X[position, t]
            panels[position // PANEL_SIZE, t, position % PANEL_SIZE] = -value
            total += np.float64(value) * np.float64(value)
        half_norms[position] = 0.5 * total


@numba.njit(nogil=True, cache=True)
def group_queries(queries: Float32s) -> tuple[Float32s, Float64s]:
    """Return queries in groups (n_groups, n_features, GROUP_SIZE), flat and padded with 0, and their norms."""
    n_queries, n_features = queries.shape
    n_groups = (n_queries + GROUP_SIZE - 1) // GROUP_SIZE
    groups, norms = np.zeros(n_groups * n_features * GROUP_SIZE, np.float32), np.zeros(n_queries)
    for i in range(n_queries):
        for t in range(n_features):
            groups[((i // GROUP_SIZE) * n_features + t) * GROUP_SIZE + i % GROUP_SIZE] = queries[i, t]
            norms[i] += np.float64(queries[i, t]) ** 2
        norms[i] = np.sqrt(norms[i])
    return groups, norms


@numba.njit(nogil=True, cache=True, inline="always")
def compute_scores(groups, group, panels, half_norms, position, n_features):  # type: ignore[no-untyped-def]
    """Return the scores ||x||^2 / 2 - q.x of a group of queries and a panel of references, two vectors per query."""
    a00, a01 = load(half_norms, position), load(half_norms, position + LANES)
    a10, a11, a20, a21, a30, a31, a40, a41, a50, a51 = a00, a01, a00, a01, a00, a01, a00, a01, a00, a01
    start, at = position * n_features, group * GROUP_SIZE * n_features
    for _ in range(n_features):
        x0, x1 = load(panels, start), load(panels, start + LANES)
        q = broadcast(groups, at)
        a00, a01 = fma(q, x0, a00), fma(q, x1, a01)
        q = broadcast(groups, at + 1)
        a10, a11 = fma(q, x0, a10), fma(q, x1, a11)
        q = broadcast(groups, at + 2)
        a20, a21 = fma(q, x0, a20), fma(q, x1, a21)
        q = broadcast(groups, at + 3)
        a30, a31 = fma(q, x0, a30), fma(q, x1, a31)
        q = broadcast(groups, at + 4)
        a40, a41 = fma(q, x0, a40), fma(q, x1, a41)
        q = broadcast(groups, at + 5)
        a50, a51 = fma(q, x0, a50), fma(q, x1, a51)
        start += PANEL_SIZE
        at += GROUP_SIZE
    return a00, a01, a10, a11, a20, a21, a30, a31, a40, a41, a50, a51


@numba.njit(nogil=True, cache=True, inline="always")
def store_scores(scores, at, stride, vectors):  # type: ignore[no-untyped-def]
    """Store the vectors of `compute_scores`: the first query's two at index `at`, every next query's `stride` later."""
    a00, a01, a10, a11, a20, a21, a30, a31, a40, a41, a50, a51 = vectors
    store(scores, at, a00), store(scores, at + LANES, a01)
    store(scores, at + stride, a10), store(scores, at + stride + LANES, a11)
    store(scores, at + 2 * stride, a20), store(scores, at + 2 * stride + LANES, a21)
    store(scores, at + 3 * stride, a30), store(scores, at + 3 * stride + LANES, a31)
    store(scores, at + 4 * stride, a40), store(scores, at + 4 * stride + LANES, a41)
    store(scores, at + 5 * stride, a50), store(scores, at + 5 * stride + LANES, a51)


@numba.njit(nogil=True, cache=True)
def squared_distances(query, panels, candidates, out):  # type: ignore[no-untyped-def]
    """Write the squared distances of a query to candidates, as distance.py defines them; panels hold -x.

    Four candidates at a time: additions to one sum wait for each other, those to different sums do not.
    """
    last = candidates.shape[0] - 1
    n_features = query.shape[0]
    for c in range(0, last + 1, 4):
        c1, c2, c3 = min(c + 1, last), min(c + 2, last), min(c + 3, last)
        p0, p1, p2, p3 = candidates[c], candidates[c1], candidates[c2], candidates[c3]
        at0, at1 = (
            (p0 // PANEL_SIZE) * PANEL_SIZE * n_features + p0 % PANEL_SIZE,
            (p1 // PANEL_SIZE) * PANEL_SIZE * n_features + p1 % PANEL_SIZE,
        )
        at2, at3 = (
            (p2 // PANEL_SIZE) * PANEL_SIZE * n_features + p2 % PANEL_SIZE,
            (p3 // PANEL_SIZE) * PANEL_SIZE * n_features + p3 % PANEL_SIZE,
        )
        total0 = total1 = total2 = total3 = 0.0
        for t in range(n_features):
            value, step = np.float64(query[t]), t * PANEL_SIZE
            d0, d1 = value + np.float64(panels[at0 + step]), value + np.float64(panels[at1 + step])
            d2, d3 = value + np.float64(panels[at2 + step]), value + np.float64(panels[at3 + step])
            total0 += d0 * d0
            total1 += d1 * d1
            total2 += d2 * d2
            total3 += d3 * d3
        out[c3], out[c2], out[c1], out[c] = total3, total2, total1, total0


@numba.njit(nogil=True, cache=True)
def rank_candidates(query, panels, members, candidates, k, positions, squared):  # type: ignore[no-untyped-def]
    """Write the k nearest of a query's candidates, ranked by distance and then by row number."""
    distances = np.empty(candidates.shape[0])
    squared_distances(query, panels, candidates, distances)
    count = 0
    for c in range(candidates.shape[0]):
        candidate, distance = candidates[c], distances[c]
        at = count
        while at > 0 and (
            squared[at - 1] > distance
            or (squared[at - 1] == distance and members[positions[at - 1]] > members[candidate])
        ):
            if at < k:
                squared[at], positions[at] = squared[at - 1], positions[at - 1]
            at -= 1
        if at < k:
            squared[at], positions[at] = distance, candidate
            count = min(count + 1, k)


@numba.njit(nogil=True, cache=True, inline="always")
def score_error_bound(norm, score, error):  # type: ignore[no-untyped-def]
    """Return by how much two computed scores can differ although their distances compare the other way.

    The rounding error of a score is at most error (||q|| ||x|| + ||x||^2 / 2); a reference within reach has
    ||x|| <= ||q|| + sqrt(D). The score of one with more than twice that norm is off by less than its distance is
    larger.
    """
    reach = norm + np.sqrt(max(norm * norm + 2.0 * score, 0.0))
    return 8.0 * error * reach * reach + 1e-30
