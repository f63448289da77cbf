"""Find the k nearest references of queries exactly: screen in float32, rank what is left by the definition.

    queries (n_queries, n_features) float32, references packed in leaves, a list of leaves to look into
      -> numbers (n_queries, k) int32 and squared distances (n_queries, k) float64, ascending

References lie in the SIMD lanes: six queries times two vectors of references are twelve accumulators in registers. What
scores below a query's running threshold goes to its buffer, which keeps the k best and all that the rounding of
scores leaves open. At the end the buffer is ranked by the float64 distance of distance.py, ties to the
lowest number: so screening decides nothing. Which leaves are looked into, and in which order: engine/neighbours.py.
"""

from __future__ import annotations

from typing import TypeAlias

import numba
import numpy as np
from engine.kernels.cpu.simd import (
    LANES,
    broadcast,
    fma,
    greatest,
    highest,
    lane_bits,
    lane_count,
    lane_numbers,
    least,
    less,
    load,
    lowest,
    splat,
    store,
    store_chosen,
)
from numpy.typing import NDArray

LEAF = 128  # references that are kept together: 50 features of them fill 25 KiB of L1
PANEL = 2 * LANES  # references that a query meets at a time
GROUP = 6  # queries that a panel meets at a time
SPARE = 32  # places in a buffer for what rounding leaves open
HALVINGS = 8  # of the range of minima: finer ones leave out less than one more of 1,024
CLOSE = 1e-3  # of a squared distance: what rounding may change where weights, and not ranks, are asked for

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


@numba.njit(nogil=True, cache=True, inline="always")
def _below(left, right, limits, i):  # type: ignore[no-untyped-def]
    """Return as bits which references of a panel score below the limit of query i."""
    limit = broadcast(limits, i)
    return lane_bits(less(left, limit)) | (lane_bits(less(right, limit)) << LANES)


@numba.njit(nogil=True, cache=True, inline="always")
def _scores(groups, group, panels, halves, place, n_features):  # type: ignore[no-untyped-def]
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
def _store_scores(scores, at, apart, found):  # type: ignore[no-untyped-def]
    """Store what `_scores` returned: a query's two vectors at index `at`, the next query's `apart` further on."""
    a00, a01, a10, a11, a20, a21, a30, a31, a40, a41, a50, a51 = found
    store(scores, at, a00), store(scores, at + LANES, a01)
    store(scores, at + apart, a10), store(scores, at + apart + LANES, a11)
    store(scores, at + 2 * apart, a20), store(scores, at + 2 * apart + LANES, a21)
    store(scores, at + 3 * apart, a30), store(scores, at + 3 * apart + LANES, a31)
    store(scores, at + 4 * apart, a40), store(scores, at + 4 * apart + LANES, a41)
    store(scores, at + 5 * apart, a50), store(scores, at + 5 * apart + LANES, a51)


@numba.njit(nogil=True, cache=True)
def _meet(groups, group, panels, halves, place, n_features, limits, scores, hits):  # type: ignore[no-untyped-def]
    """Score a group of queries and a panel of references.

    Return whether any is below its query's limit; only then write scores (GROUP * PANEL,), and hits (GROUP,) as bits.
    """
    found = _scores(groups, group, panels, halves, place, n_features)
    a00, a01, a10, a11, a20, a21, a30, a31, a40, a41, a50, a51 = found
    i = group * GROUP
    h0, h1, h2 = _below(a00, a01, limits, i), _below(a10, a11, limits, i + 1), _below(a20, a21, limits, i + 2)
    h3, h4, h5 = _below(a30, a31, limits, i + 3), _below(a40, a41, limits, i + 4), _below(a50, a51, limits, i + 5)
    if h0 | h1 | h2 | h3 | h4 | h5:
        hits[0], hits[1], hits[2], hits[3], hits[4], hits[5] = h0, h1, h2, h3, h4, h5
        _store_scores(scores, 0, PANEL, found)
        return True
    return False


@numba.njit(nogil=True, cache=True)
def _squared_distances(query, panels, candidates, out):  # type: ignore[no-untyped-def]
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
def _rank(query, panels, members, candidates, k, places, squared):  # type: ignore[no-untyped-def]
    """Write the k nearest of a query's candidates, by distance and then by number."""
    distances = np.empty(candidates.shape[0])
    _squared_distances(query, panels, candidates, distances)
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
def _slack(norm, score, error):  # type: ignore[no-untyped-def]
    """Return how much two computed scores may differ though their distances compare the other way.

    A score is off by at most error (||q|| ||x|| + ||x||^2 / 2); a reference within reach has ||x|| <= ||q|| + sqrt(D).
    One with more than twice that norm is off by less than its distance is larger.
    """
    reach = norm + np.sqrt(max(norm * norm + 2.0 * score, 0.0))
    return 8.0 * error * reach * reach + 1e-30


@numba.njit(nogil=True, cache=True)
def _keep_nearest(queries, i, panels, members, k, scores, kept, count):  # type: ignore[no-untyped-def]
    """Cut a full buffer, many of whose rows are equally near, back to the k nearest; return k."""
    nearest, squared, distances = np.empty(k, np.int32), np.empty(k), np.empty(count)
    _rank(queries[i], panels, members, kept[i, :count], k, nearest, squared)
    _squared_distances(queries[i], panels, kept[i, :count], distances)
    left = 0
    for c in range(count):
        tie = distances[c] == squared[-1] and members[kept[i, c]] <= members[nearest[-1]]
        if distances[c] < squared[-1] or tie:
            scores[i, left], kept[i, left] = scores[i, c], kept[i, c]
            left += 1
    return left


@numba.njit(nogil=True, cache=True)
def _collect(hits, found, at, first, own, k, slack, limit, scores, kept, i, count):  # type: ignore[no-untyped-def]
    """Enter the references of a panel that scored below the limit into query i's buffer, which is sorted by score.

    Return how many the buffer holds, and the new limit: the k-th best and what rounding leaves open. A buffer that is
    full ends the work; what is left of `hits` comes back.
    """
    lane, one = 0, np.uint32(1)
    while hits:
        while not hits & one:
            hits = np.uint32(hits >> one)
            lane += 1
        score = found[at + lane]
        if score <= limit and first + lane != own:
            place = count
            while place > 0 and scores[i, place - 1] > score:
                scores[i, place], kept[i, place] = scores[i, place - 1], kept[i, place - 1]
                place -= 1
            scores[i, place], kept[i, place] = score, first + lane
            count += 1
            if count > k:
                limit = scores[i, k - 1] + slack
                while scores[i, count - 1] > limit:
                    count -= 1
        hits = np.uint32(hits ^ one)
        if count == scores.shape[1]:
            break
    return hits, lane, count, limit


@numba.njit(nogil=True, cache=True)
def _grouped(queries: Float32s) -> tuple[Float32s, Float64s]:
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


@numba.njit(nogil=True, cache=True)
def search(
    queries: Float32s, own: int, panels: Float32s, halves: Float32s, members: Int32s,
    leaves: Int32s, bounds: Float64s, k: int, out_places: Int32s, out_squared: Float64s,
) -> int:  # fmt: skip
    """Write the places of the k nearest references of every query; return how many leaves were looked into.

    A reference's place is its position in the leaves, `members` (n_leaves * LEAF,) its number: ties go to the lowest.
    If `own` is not negative, query i is the reference at place own + i, and does not find itself. `leaves` are looked
    into in their order until `bounds`, ascending lower bounds of the distance of any query to any reference of a
    leaf, say that no nearer one can follow.
    """
    n_queries, n_features = queries.shape
    groups, norms = _grouped(queries)
    n_groups = groups.shape[0] // (GROUP * n_features)
    kept_scores = np.empty((n_queries, k + SPARE), np.float32)
    kept = np.empty((n_queries, k + SPARE), np.int32)
    counts, limits = np.zeros(n_queries, np.int64), np.full(n_groups * GROUP, -np.inf, np.float32)
    limits[:n_queries] = np.inf
    slacks = np.full(n_queries, np.inf, np.float32)
    error = (n_features + 8) * 2.0**-24
    scores, hits = np.empty(GROUP * PANEL, np.float32), np.empty(GROUP, np.uint32)
    seen = 0
    for leaf in leaves:
        reach = 0.0
        for i in range(n_queries):
            reach = max(reach, norms[i] * norms[i] + 2.0 * limits[i])
        if bounds[seen] * bounds[seen] > reach:
            break
        seen += 1
        for first in range(leaf * LEAF, (leaf + 1) * LEAF, PANEL):
            for group in range(n_groups):
                if not _meet(groups, group, panels, halves, first, n_features, limits, scores, hits):
                    continue
                for q in range(GROUP):
                    i, rest, lane = group * GROUP + q, hits[q], 0
                    while rest:
                        at = q * PANEL + lane
                        itself = own + i if own >= 0 else -1
                        rest, step, counts[i], limits[i] = _collect(
                            rest, scores, at, first + lane, itself, k, slacks[i], limits[i],
                            kept_scores, kept, i, counts[i],
                        )  # fmt: skip
                        lane += step
                        if slacks[i] == np.inf and counts[i] >= k:
                            slacks[i] = _slack(norms[i], kept_scores[i, k - 1], error)
                            limits[i] = kept_scores[i, k - 1] + slacks[i]
                        if counts[i] == k + SPARE:
                            counts[i] = _keep_nearest(queries, i, panels, members, k, kept_scores, kept, counts[i])
    for i in range(n_queries):
        _rank(queries[i], panels, members, kept[i, : counts[i]], k, out_places[i], out_squared[i])
    return seen


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
    groups, norms = _grouped(queries)
    scores, error = np.empty(GROUP * n, np.float32), (n_features + 8) * 2.0**-24
    picked_scores, picked = np.empty(n + LANES, np.float32), np.empty(n + LANES, np.int32)
    for group in range(groups.shape[0] // (GROUP * n_features)):
        for which in range(leaves.shape[0]):
            for offset in range(0, LEAF, PANEL):
                found = _scores(groups, group, panels, halves, leaves[which] * LEAF + offset, n_features)
                _store_scores(scores, which * LEAF + offset, n, found)
        for i in range(group * GROUP, min((group + 1) * GROUP, n_queries)):
            start, norm = (i % GROUP) * n, norms[i]
            bound = _bound_of_kth(scores, start, n, k)
            slack = _slack(norm, bound, error)
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
                _rank(queries[i], panels, members, picked[:count], k, out_places[i], out_squared[i])
