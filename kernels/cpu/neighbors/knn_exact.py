"""Find the exact k nearest neighbors of queries: filter by float32 scores, then rank what is left in float64.

    queries (n_queries, n_features) float32, references packed in leaves, the leaves to visit
      -> positions (n_queries, k) int32 and squared distances (n_queries, k) float64, ascending

References that score below a query's running limit go to its buffer, which keeps the k best and all that the rounding
of scores leaves open. At the end the buffer is ranked by the float64 distance of distance.py, ties to the lowest row
number, so the filter decides no rank. Scores are those of packed_leaves.py. Which leaves are visited, and in which
order: engine/tsne/neighbors.py.
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
    squared_distances,
    store_scores,
)
from engine.kernels.cpu.simd.vectors import LANES, broadcast, less, mask_to_bits

EXTRA_CANDIDATES = 32  # places of a buffer beyond k, for references that rounding leaves open

Float32s: TypeAlias = NDArray[np.float32]
Float64s: TypeAlias = NDArray[np.float64]
Int32s: TypeAlias = NDArray[np.int32]


@numba.njit(nogil=True, cache=True, inline="always")
def _lanes_below(left, right, limits, i):  # type: ignore[no-untyped-def]
    """Return as bits which references of a panel score below the limit of query i."""
    limit = broadcast(limits, i)
    return mask_to_bits(less(left, limit)) | (mask_to_bits(less(right, limit)) << LANES)


@numba.njit(nogil=True, cache=True)
def _score_panel(groups, group, panels, half_norms, position, n_features, limits, scores, hits):  # type: ignore[no-untyped-def]
    """Score a group of queries against a panel of references; return whether any is below its query's limit.

    Only then write the scores (GROUP_SIZE * PANEL_SIZE,), and which are below as bits of hits (GROUP_SIZE,).
    """
    vectors = compute_scores(groups, group, panels, half_norms, position, n_features)
    a00, a01, a10, a11, a20, a21, a30, a31, a40, a41, a50, a51 = vectors
    i = group * GROUP_SIZE
    h0, h1, h2 = (
        _lanes_below(a00, a01, limits, i),
        _lanes_below(a10, a11, limits, i + 1),
        _lanes_below(a20, a21, limits, i + 2),
    )
    h3, h4, h5 = (
        _lanes_below(a30, a31, limits, i + 3),
        _lanes_below(a40, a41, limits, i + 4),
        _lanes_below(a50, a51, limits, i + 5),
    )
    if h0 | h1 | h2 | h3 | h4 | h5:
        hits[0], hits[1], hits[2], hits[3], hits[4], hits[5] = h0, h1, h2, h3, h4, h5
        store_scores(scores, 0, PANEL_SIZE, vectors)
        return True
    return False


@numba.njit(nogil=True, cache=True)
def _prune_buffer(queries, i, panels, members, k, scores, buffer, count):  # type: ignore[no-untyped-def]
    """Prune a full buffer, many of whose references are equally near, to the k nearest; return k."""
    nearest, squared, distances = np.empty(k, np.int32), np.empty(k), np.empty(count)
    rank_candidates(queries[i], panels, members, buffer[i, :count], k, nearest, squared)
    squared_distances(queries[i], panels, buffer[i, :count], distances)
    left = 0
    for c in range(count):
        tie = distances[c] == squared[-1] and members[buffer[i, c]] <= members[nearest[-1]]
        if distances[c] < squared[-1] or tie:
            scores[i, left], buffer[i, left] = scores[i, c], buffer[i, c]
            left += 1
    return left


@numba.njit(nogil=True, cache=True)
def _insert_hits(hits, panel_scores, at, first, own, k, margin, limit, scores, buffer, i, count):  # type: ignore[no-untyped-def]
    """Insert the references of a panel that scored below the limit into query i's buffer, which is sorted by score.

    Return the hits not yet inserted and their first lane, which are some where the buffer is full, the size of the
    buffer, and the new limit: the k-th best score plus the error margin.
    """
    lane, one = 0, np.uint32(1)
    while hits:
        while not hits & one:
            hits = np.uint32(hits >> one)
            lane += 1
        score = panel_scores[at + lane]
        if score <= limit and first + lane != own:
            slot = count
            while slot > 0 and scores[i, slot - 1] > score:
                scores[i, slot], buffer[i, slot] = scores[i, slot - 1], buffer[i, slot - 1]
                slot -= 1
            scores[i, slot], buffer[i, slot] = score, first + lane
            count += 1
            if count > k:
                limit = scores[i, k - 1] + margin
                while scores[i, count - 1] > limit:
                    count -= 1
        hits = np.uint32(hits ^ one)
        if count == scores.shape[1]:
            break
    return hits, lane, count, limit


@numba.njit(nogil=True, cache=True)
def find_exact_neighbors(
    queries: Float32s, own: int, panels: Float32s, half_norms: Float32s, members: Int32s,
    leaves: Int32s, bounds: Float64s, k: int, out_positions: Int32s, out_squared: Float64s,
) -> int:  # fmt: skip
    """Write the positions of the k nearest references of every query; return how many leaves were visited.

    A reference has a position in the packed leaves, and a row number in `members` (n_leaves * LEAF_SIZE,): ties go to
    the lowest number. If `own` is not negative, query i is the reference at position own + i and does not find itself.
    `leaves` are visited in their order until `bounds`, ascending lower bounds of the distance of any query to any
    reference of a leaf, rule out nearer ones.
    """
    n_queries, n_features = queries.shape
    groups, norms = group_queries(queries)
    n_groups = groups.shape[0] // (GROUP_SIZE * n_features)
    buffer_scores = np.empty((n_queries, k + EXTRA_CANDIDATES), np.float32)
    buffer = np.empty((n_queries, k + EXTRA_CANDIDATES), np.int32)
    counts, limits = np.zeros(n_queries, np.int64), np.full(n_groups * GROUP_SIZE, -np.inf, np.float32)
    limits[:n_queries] = np.inf
    margins = np.full(n_queries, np.inf, np.float32)
    error = (n_features + 8) * 2.0**-24
    scores, hits = np.empty(GROUP_SIZE * PANEL_SIZE, np.float32), np.empty(GROUP_SIZE, np.uint32)
    n_visited = 0
    for leaf in leaves:
        reach = 0.0
        for i in range(n_queries):
            reach = max(reach, norms[i] * norms[i] + 2.0 * limits[i])
        if bounds[n_visited] * bounds[n_visited] > reach:
            break
        n_visited += 1
        for first in range(leaf * LEAF_SIZE, (leaf + 1) * LEAF_SIZE, PANEL_SIZE):
            for group in range(n_groups):
                if not _score_panel(groups, group, panels, half_norms, first, n_features, limits, scores, hits):
                    continue
                for q in range(GROUP_SIZE):
                    i, hit_bits, lane = group * GROUP_SIZE + q, hits[q], 0
                    while hit_bits:
                        at = q * PANEL_SIZE + lane
                        itself = own + i if own >= 0 else -1
                        hit_bits, step, counts[i], limits[i] = _insert_hits(
                            hit_bits, scores, at, first + lane, itself, k, margins[i], limits[i],
                            buffer_scores, buffer, i, counts[i],
                        )  # fmt: skip
                        lane += step
                        if margins[i] == np.inf and counts[i] >= k:
                            margins[i] = score_error_bound(norms[i], buffer_scores[i, k - 1], error)
                            limits[i] = buffer_scores[i, k - 1] + margins[i]
                        if counts[i] == k + EXTRA_CANDIDATES:
                            counts[i] = _prune_buffer(queries, i, panels, members, k, buffer_scores, buffer, counts[i])
    for i in range(n_queries):
        rank_candidates(queries[i], panels, members, buffer[i, : counts[i]], k, out_positions[i], out_squared[i])
    return n_visited
