"""References in leaves, queries in groups: the arithmetic that every search for neighbours has in common.

    rows (n, n_features) float32  ->  panels, half squared norms;   a group of queries and a panel  ->  scores

References lie in the SIMD lanes: six queries times two vectors of references are twelve accumulators in registers. A
score is ||x||^2 / 2 - q.x in float32, half the squared distance but for ||q||^2 / 2; the distance is the float64 one of
distance.py. Who is looked at, and for how long: knn_exact.py and knn_approximate.py.
"""

from __future__ import annotations

from typing import TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

from engine.kernels.cpu.simd.vectors import LANES, broadcast, fma, load, store

LEAF = 128  # references that are kept together: 50 features of them fill 25 KiB of L1
PANEL = 2 * LANES  # references that a query meets at a time
GROUP = 6  # queries that a panel meets at a time

Float32s: TypeAlias = NDArray[np.float32]
Float64s: TypeAlias = NDArray[np.float64]
Int32s: TypeAlias = NDArray[np.int32]


@numba.njit(nogil=True, cache=True)
def pack(X: Float32s, panels: Float32s, halves: Float32s) -> None:
    """Write rows X into the panels of a leaf (LEAF / PANEL, n_features, PANEL), negated, and half their norms^2."""
    panels[:] = 0.0
    halves[:] = np.inf
    for place in range(X.shape[0]):
        total = 0.0
        for t in range(X.shape[1]):
            value = X[place, t]
            panels[place // PANEL, t, place % PANEL] = -value
            total += np.float64(value) * np.float64(value)
        halves[place] = 0.5 * total


@numba.njit(nogil=True, cache=True)
def grouped(queries: Float32s) -> tuple[Float32s, Float64s]:
    """Return queries as groups of GROUP (groups, n_features, GROUP), flat and 0 beyond the last, and their norms."""
    n_queries, n_features = queries.shape
    n_groups = (n_queries + GROUP - 1) // GROUP
    groups, norms = np.zeros(n_groups * n_features * GROUP, np.float32), np.zeros(n_queries)
    for i in range(n_queries):
        for t in range(n_features):
            groups[((i // GROUP) * n_features + t) * GROUP + i % GROUP] = queries[i, t]
            norms[i] += np.float64(queries[i, t]) ** 2
        norms[i] = np.sqrt(norms[i])
    return groups, norms


@numba.njit(nogil=True, cache=True, inline="always")
def scores_of(groups, group, panels, halves, place, n_features):  # type: ignore[no-untyped-def]
    """Return the scores of a group of queries and a panel of references, ||x||^2 / 2 - q.x, in two vectors a query."""
    a00, a01 = load(halves, place), load(halves, place + LANES)
    a10, a11, a20, a21, a30, a31, a40, a41, a50, a51 = a00, a01, a00, a01, a00, a01, a00, a01, a00, a01
    start, at = place * n_features, group * GROUP * n_features
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
        start += PANEL
        at += GROUP
    return a00, a01, a10, a11, a20, a21, a30, a31, a40, a41, a50, a51


@numba.njit(nogil=True, cache=True, inline="always")
def store_scores(scores, at, apart, found):  # type: ignore[no-untyped-def]
    """Store what `scores_of` returned: a query's two vectors at index `at`, the next query's `apart` further on."""
    a00, a01, a10, a11, a20, a21, a30, a31, a40, a41, a50, a51 = found
    store(scores, at, a00), store(scores, at + LANES, a01)
    store(scores, at + apart, a10), store(scores, at + apart + LANES, a11)
    store(scores, at + 2 * apart, a20), store(scores, at + 2 * apart + LANES, a21)
    store(scores, at + 3 * apart, a30), store(scores, at + 3 * apart + LANES, a31)
    store(scores, at + 4 * apart, a40), store(scores, at + 4 * apart + LANES, a41)
    store(scores, at + 5 * apart, a50), store(scores, at + 5 * apart + LANES, a51)


@numba.njit(nogil=True, cache=True)
def squared_distances(query, panels, candidates, out):  # type: ignore[no-untyped-def]
    """Write the squared distances of a query and references, as distance.py defines them; panels hold -x.

    Four at a time: additions to one sum wait for each other, those to other sums do not.
    """
    last = candidates.shape[0] - 1
    n_features = query.shape[0]
    for c in range(0, last + 1, 4):
        c1, c2, c3 = min(c + 1, last), min(c + 2, last), min(c + 3, last)
        p0, p1, p2, p3 = candidates[c], candidates[c1], candidates[c2], candidates[c3]
        at0, at1 = (p0 // PANEL) * PANEL * n_features + p0 % PANEL, (p1 // PANEL) * PANEL * n_features + p1 % PANEL
        at2, at3 = (p2 // PANEL) * PANEL * n_features + p2 % PANEL, (p3 // PANEL) * PANEL * n_features + p3 % PANEL
        total0 = total1 = total2 = total3 = 0.0
        for t in range(n_features):
            value, step = np.float64(query[t]), t * PANEL
            d0, d1 = value + np.float64(panels[at0 + step]), value + np.float64(panels[at1 + step])
            d2, d3 = value + np.float64(panels[at2 + step]), value + np.float64(panels[at3 + step])
            total0 += d0 * d0
            total1 += d1 * d1
            total2 += d2 * d2
            total3 += d3 * d3
        out[c3], out[c2], out[c1], out[c] = total3, total2, total1, total0


@numba.njit(nogil=True, cache=True)
def rank(query, panels, members, candidates, k, places, squared):  # type: ignore[no-untyped-def]
    """Write the k nearest of a query's candidates, by distance and then by number."""
    distances = np.empty(candidates.shape[0])
    squared_distances(query, panels, candidates, distances)
    count = 0
    for c in range(candidates.shape[0]):
        candidate, distance = candidates[c], distances[c]
        at = count
        while at > 0 and (
            squared[at - 1] > distance or (squared[at - 1] == distance and members[places[at - 1]] > members[candidate])
        ):
            if at < k:
                squared[at], places[at] = squared[at - 1], places[at - 1]
            at -= 1
        if at < k:
            squared[at], places[at] = distance, candidate
            count = min(count + 1, k)


@numba.njit(nogil=True, cache=True, inline="always")
def slack_of(norm, score, error):  # type: ignore[no-untyped-def]
    """Return how much two computed scores may differ though their distances compare the other way.

    A score is off by at most error (||q|| ||x|| + ||x||^2 / 2); a reference within reach has ||x|| <= ||q|| + sqrt(D).
    One with more than twice that norm is off by less than its distance is larger.
    """
    reach = norm + np.sqrt(max(norm * norm + 2.0 * score, 0.0))
    return 8.0 * error * reach * reach + 1e-30
