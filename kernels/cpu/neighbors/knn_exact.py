"""Find the k nearest references of queries exactly: screen in float32, rank what is left by the definition.

    queries (n_queries, n_features) float32, references packed in leaves, a list of leaves to look into
      -> numbers (n_queries, k) int32 and squared distances (n_queries, k) float64, ascending

What scores below a query's running threshold goes to its buffer, which keeps the k best and all that the rounding of
scores leaves open. At the end the buffer is ranked by the float64 distance of distance.py, ties to the lowest number:
so screening decides nothing. Scores are packed_leaves.py's; which leaves are looked into, and in which order:
engine/tsne/neighbors.py.
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
    squared_distances,
    store_scores,
)
from engine.kernels.cpu.simd.vectors import LANES, broadcast, lane_bits, less

SPARE = 32  # places in a buffer for what rounding leaves open

Float32s: TypeAlias = NDArray[np.float32]
Float64s: TypeAlias = NDArray[np.float64]
Int32s: TypeAlias = NDArray[np.int32]


@numba.njit(nogil=True, cache=True, inline="always")
def _below(left, right, limits, i):  # type: ignore[no-untyped-def]
    """Return as bits which references of a panel score below the limit of query i."""
    limit = broadcast(limits, i)
    return lane_bits(less(left, limit)) | (lane_bits(less(right, limit)) << LANES)


@numba.njit(nogil=True, cache=True)
def _meet(groups, group, panels, halves, place, n_features, limits, scores, hits):  # type: ignore[no-untyped-def]
    """Score a group of queries and a panel of references.

    Return whether any is below its query's limit; only then write scores (GROUP * PANEL,), and hits (GROUP,) as bits.
    """
    found = scores_of(groups, group, panels, halves, place, n_features)
    a00, a01, a10, a11, a20, a21, a30, a31, a40, a41, a50, a51 = found
    i = group * GROUP
    h0, h1, h2 = _below(a00, a01, limits, i), _below(a10, a11, limits, i + 1), _below(a20, a21, limits, i + 2)
    h3, h4, h5 = _below(a30, a31, limits, i + 3), _below(a40, a41, limits, i + 4), _below(a50, a51, limits, i + 5)
    if h0 | h1 | h2 | h3 | h4 | h5:
        hits[0], hits[1], hits[2], hits[3], hits[4], hits[5] = h0, h1, h2, h3, h4, h5
        store_scores(scores, 0, PANEL, found)
        return True
    return False


@numba.njit(nogil=True, cache=True)
def _keep_nearest(queries, i, panels, members, k, scores, kept, count):  # type: ignore[no-untyped-def]
    """Cut a full buffer, many of whose rows are equally near, back to the k nearest; return k."""
    nearest, squared, distances = np.empty(k, np.int32), np.empty(k), np.empty(count)
    rank(queries[i], panels, members, kept[i, :count], k, nearest, squared)
    squared_distances(queries[i], panels, kept[i, :count], distances)
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
    groups, norms = grouped(queries)
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
                            slacks[i] = slack_of(norms[i], kept_scores[i, k - 1], error)
                            limits[i] = kept_scores[i, k - 1] + slacks[i]
                        if counts[i] == k + SPARE:
                            counts[i] = _keep_nearest(queries, i, panels, members, k, kept_scores, kept, counts[i])
    for i in range(n_queries):
        rank(queries[i], panels, members, kept[i, : counts[i]], k, out_places[i], out_squared[i])
    return seen
