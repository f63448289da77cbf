"""Grow a decision tree on binned rows, best split first, by entropy.

    bins (n_predicates, n_rows), labels, weights, limits  ->  nodes: predicate, bin_threshold, left, right, label

The score of a split is what it takes from the entropy of the node's rows, times their weight. It is computed from one
histogram of bins and clusters for each predicate and node. Scores closer than TIE of the node's weight are ties, which
the lower predicate and then the lower threshold win, so that rounding decides nothing. A node without a split of
positive score is split all the same while its rows differ: two splits together may tell clusters apart. scikit-learn's
trees, which grow in the same way, take over a second to import.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

from engine.kernels.cpu.jit_options import INNER

N_BINS = 256  # of uint8
TIE = 1e-9  # of the weight of a node: rounding is less than a thousandth of that
LEAF = -1


@numba.njit(**INNER, forceinline=True)
def _weighted_log(weight: float) -> float:
    return weight * math.log(weight) if weight > 0.0 else 0.0


@numba.njit(**INNER)
def _find_split(
    bins: NDArray[np.uint8],
    labels: NDArray[np.int32],
    weights: NDArray[np.float64],
    rows: NDArray[np.int32],
    totals: NDArray[np.float64],
    min_leaf: int,
    counts: NDArray[np.int64],
    histogram: NDArray[np.float64],
    left: NDArray[np.float64],
) -> tuple[int, int, float]:
    """Return predicate, threshold and score of the best split of the given rows; LEAF if there is none.

    `totals` are the weights of their clusters. `counts` (N_BINS,) and `histogram` (N_BINS, n_clusters) hold zeros.
    """
    n_clusters = len(totals)
    weight = totals.sum()
    purity = -_weighted_log(weight)
    for cluster in range(n_clusters):
        purity += _weighted_log(totals[cluster])
    best, predicate, threshold = -np.inf, LEAF, 0
    for number in range(len(bins)):
        low, high = N_BINS, -1
        for row in rows:
            value = bins[number, row]
            histogram[value, labels[row]] += weights[row]
            counts[value] += 1
            low, high = min(low, value), max(high, value)
        left[:] = 0.0
        n_left, below = 0, low
        for value in range(low, high + 1):
            if counts[value] == 0:
                continue
            if n_left >= max(min_leaf, 1) and len(rows) - n_left >= min_leaf:
                left_weight, score = 0.0, -purity
                for cluster in range(n_clusters):
                    left_weight += left[cluster]
                    score += _weighted_log(left[cluster]) + _weighted_log(totals[cluster] - left[cluster])
                score -= _weighted_log(left_weight) + _weighted_log(weight - left_weight)
                if score > best + TIE * weight:
                    best, predicate, threshold = score, number, (below + value) // 2
            n_left, below = n_left + counts[value], value
            counts[value] = 0
            for cluster in range(n_clusters):
                left[cluster] += histogram[value, cluster]
                histogram[value, cluster] = 0.0
    return predicate, threshold, best


@numba.njit(nogil=True, cache=True)
def grow_best_first(
    bins: NDArray[np.uint8],
    labels: NDArray[np.int32],
    weights: NDArray[np.float64],
    n_clusters: int,
    max_depth: int,
    max_leaves: int,
    min_leaf: int,
    nodes: NDArray[np.int32],
) -> int:
    """Write predicate, bin_threshold, left, right and label of every node into `nodes` (2 max_leaves - 1, 5).

    Returns the number of nodes. Children have higher numbers than their parents; the predicate of a leaf is LEAF.
    """
    n_rows = len(labels)
    order, moved = np.arange(n_rows, dtype=np.int32), np.empty(n_rows, np.int32)
    counts, histogram = np.zeros(N_BINS, np.int64), np.zeros((N_BINS, n_clusters))
    totals, left = np.empty(n_clusters), np.empty(n_clusters)
    spans = np.zeros((len(nodes), 3), np.int64)  # first row, last row + 1, depth
    splits = np.empty((len(nodes), 2), np.int32)  # predicate and threshold of the best split
    scores = np.full(len(nodes), -np.inf)  # of nodes that wait to be split
    spans[0, 1] = n_rows
    n_nodes, n_leaves, first_new = 1, 1, 0
    while True:
        for node in range(first_new, n_nodes):
            start, stop, depth = spans[node]
            totals[:] = 0.0
            for row in order[start:stop]:
                totals[labels[row]] += weights[row]
            nodes[node] = LEAF
            nodes[node, 1] = 0
            nodes[node, 4] = np.argmax(totals)
            if depth < max_depth and stop - start >= 2 * min_leaf and np.count_nonzero(totals) > 1:
                splits[node, 0], splits[node, 1], scores[node] = _find_split(
                    bins, labels, weights, order[start:stop], totals, min_leaf, counts, histogram, left
                )
        best = np.argmax(scores[:n_nodes])
        if n_leaves >= max_leaves or scores[best] == -np.inf:
            return n_nodes
        start, stop, depth = spans[best]
        predicate, threshold = splits[best]
        middle, n_right = start, 0
        for position in range(start, stop):
            row = order[position]
            if bins[predicate, row] <= threshold:
                order[middle] = row
                middle += 1
            else:
                moved[n_right] = row
                n_right += 1
        order[middle:stop] = moved[:n_right]
        nodes[best, 0], nodes[best, 1], nodes[best, 2], nodes[best, 3] = predicate, threshold, n_nodes, n_nodes + 1
        spans[n_nodes, 0], spans[n_nodes, 1], spans[n_nodes, 2] = start, middle, depth + 1
        spans[n_nodes + 1, 0], spans[n_nodes + 1, 1], spans[n_nodes + 1, 2] = middle, stop, depth + 1
        scores[best] = -np.inf
        first_new, n_nodes, n_leaves = n_nodes, n_nodes + 2, n_leaves + 1
