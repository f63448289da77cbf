"""Evaluate predicates, and count the rows that trees and rules match, on whole arrays.

    packed (n_lines, n_rows) uint8, labels (n_rows,) int64  ->  counts of rows, int64

The counts are those of kernels/cpu/explain/predicates.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

Array = Any  # of the array module `xp`
HostArray = Any
Term = tuple[int, int, int, int]  # a predicate, its lowest and its highest bin, and the points
Counts = tuple[Array, Array]  # rows matched, and rows of the cluster among them


def evaluate_predicates(xp: Any, packed: Array, lines: HostArray, tables: Array) -> Array:
    """Return the bins of rows by predicates: tables[q, byte] for the bytes in line lines[q]; (n_predicates, n_rows)."""
    bins = xp.empty((len(lines), packed.shape[1]), np.uint8)
    for q, line in enumerate(lines.tolist()):
        bins[q] = tables[q][packed[line].astype(np.int32)]
    return bins


def count_leaf_labels(xp: Any, bins: Array, labels: Array, tree: Any, n_clusters: int) -> Array:
    """Return the rows of each label in each leaf of a tree, (n_nodes, n_clusters); `tree` as in decision_tree.py."""
    leaf = xp.zeros(len(labels), np.int64)
    rows_of = [(0, xp.ones(len(labels), np.bool_))]  # of the nodes that are still to be visited
    while rows_of:
        node, rows = rows_of.pop()
        predicate = int(tree.predicate[node])
        if predicate < 0:
            leaf[rows] = node
            continue
        goes_left = bins[predicate] <= np.uint8(tree.bin_threshold[node])
        rows_of += [(int(tree.left[node]), rows & goes_left), (int(tree.right[node]), rows & ~goes_left)]
    n_nodes = len(tree.predicate)
    return xp.bincount(leaf * n_clusters + labels, minlength=n_nodes * n_clusters).reshape(n_nodes, n_clusters)


def count_rule_matches(
    xp: Any, bins: Array, labels: Array, rules: Sequence[Sequence[tuple[Sequence[Term], int]]]
) -> Iterator[tuple[list[Counts], Counts]]:
    """Yield for each cluster the counts of each of its rules, and those of their union, as 0-d arrays.

    Counts are (rows matched, rows of the cluster among them). A rule is its terms and the points that it needs.
    """
    for cluster, cluster_rules in enumerate(rules):
        is_member = labels == cluster
        matched_any = xp.zeros(len(labels), np.bool_)
        counts = []
        for terms, needed in cluster_rules:
            total = xp.zeros(len(labels), np.uint8)
            for predicate, low, high, points in terms:
                holds = (bins[predicate] >= np.uint8(low)) & (bins[predicate] <= np.uint8(high))
                total += holds.astype(np.uint8) * np.uint8(points)
            matched = total >= np.uint8(needed)
            matched_any |= matched
            counts.append((matched.sum(), (matched & is_member).sum()))
        yield counts, (matched_any.sum(), (matched_any & is_member).sum())
