"""Grow decision trees that predict the cluster, by scikit-learn on binned rows, and keep them as plain arrays.

    bins (n_predicates, n_rows), clusters, weights  ->  Tree

Three uses: the overview of at most eight leaves; the full tree, with reduced-error pruning on held-out rows (Quinlan,
"Simplifying decision trees", 1987); and one tree per cluster against the rest, whose nodes are the candidate rules. The
words of conditions are in conditions.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.explain.binning.binner import Bins
from engine.kernels.cpu.explain.predicates import find_leaves

Labels = NDArray[np.int32]
Weights = NDArray[np.float64]
Ranges = dict[int, tuple[int, int]]  # predicate -> lowest and highest bin of a conjunction
LEAF = -1


@dataclass(frozen=True)
class Tree:
    """A binary tree: node i sends rows whose bin of predicate[i] is at most bin_threshold[i] left, others right.

    Nodes come depth first, left before right. `predicate` of a leaf is LEAF; `label` is what a node would predict if it
    were a leaf.
    """

    predicate: NDArray[np.int32]
    bin_threshold: NDArray[np.int32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    label: Labels

    @property
    def leaves(self) -> NDArray[np.int64]:
        """Node numbers of the leaves."""
        return np.flatnonzero(self.predicate == LEAF)

    def apply(self, bins: Bins) -> NDArray[np.int32]:
        """Return the leaf that each row ends in."""
        leaf = np.empty(bins.shape[1], np.int32)
        find_leaves(bins, self.predicate, self.bin_threshold, *self._parents_and_depths, leaf)
        return leaf

    @cached_property
    def _parents_and_depths(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Every node's parent, LEAF for the root, and its depth below the root."""
        parent, depth = np.full(len(self.predicate), LEAF, np.int32), np.zeros(len(self.predicate), np.int32)
        for node in np.flatnonzero(self.predicate != LEAF).tolist():
            for child in (self.left[node], self.right[node]):
                parent[child], depth[child] = node, depth[node] + 1
        return parent, depth

    def predict(self, bins: Bins) -> Labels:
        """Return the predicted label of each row."""
        return self.label[self.apply(bins)]

    def paths(self, n_bins: list[int]) -> list[Ranges]:
        """Return, for every node, the ranges of bins that lead to it, with one range per predicate."""
        ranges: list[Ranges] = [{} for _ in self.predicate]
        for node in range(len(self.predicate)):  # children have higher numbers than their parents
            predicate, threshold = int(self.predicate[node]), int(self.bin_threshold[node])
            if predicate == LEAF:
                continue
            low, high = ranges[node].get(predicate, (0, n_bins[predicate] - 1))
            ranges[self.left[node]] = {**ranges[node], predicate: (low, min(high, threshold))}
            ranges[self.right[node]] = {**ranges[node], predicate: (max(low, threshold + 1), high)}
        return ranges


def grow_tree(
    bins: Bins,
    labels: Labels,
    weights: Weights,
    *,
    max_depth: int | None = None,
    max_leaves: int | None = None,
    min_leaf: int = 1,
) -> Tree:
    """Grow a tree on sampled rows, each weighted by the number of people it stands for.

    Parameters
    ----------
    bins : uint8 array of shape (n_predicates, n_rows)
    labels : int32 array of shape (n_rows,)
    weights : float64 array of shape (n_rows,)
    max_depth, max_leaves : int, optional
    min_leaf : int, default=1
        Smallest number of rows in a leaf.
    """
    from sklearn.tree import DecisionTreeClassifier

    if len(bins) == 0:  # no category is frequent enough to be told: one leaf, which scikit-learn grows from a constant
        bins = np.zeros((1, bins.shape[1]), bins.dtype)
    # Entropy splits many clusters more evenly than Gini impurity: on the demo, a tree of depth three then predicts the
    # cluster of 63 % instead of 45 % of the people, and one of 24 leaves of 96 % instead of 95 %.
    fitted = DecisionTreeClassifier(
        criterion="entropy", max_depth=max_depth, max_leaf_nodes=max_leaves, min_samples_leaf=min_leaf, random_state=0
    ).fit(np.ascontiguousarray(bins.T, np.float32), labels, sample_weight=weights / weights.mean())
    inner: Any = fitted.tree_
    is_leaf = inner.children_left < 0
    tree = Tree(
        np.where(is_leaf, LEAF, inner.feature).astype(np.int32),
        np.where(is_leaf, 0, np.floor(inner.threshold)).astype(np.int32),
        inner.children_left.astype(np.int32),
        inner.children_right.astype(np.int32),
        fitted.classes_[inner.value[:, 0, :].argmax(axis=1)].astype(np.int32),
    )
    return renumber_depth_first(tree)


def prune_tree(tree: Tree, bins: Bins, labels: Labels, weights: Weights) -> Tree:
    """Prune branches that predict no more held-out people correctly than their node would as a leaf.

    Sibling leaves with the same label are merged, too.
    """
    leaf = tree.apply(bins)
    parents = np.full(len(tree.predicate), LEAF)
    for side in (tree.left, tree.right):
        inner = np.flatnonzero(tree.predicate != LEAF)
        parents[side[inner]] = inner
    n_correct = np.zeros(len(tree.predicate))
    node = leaf.astype(np.int64)
    while (node >= 0).any():  # every row climbs from its leaf to the root
        below_root = node >= 0
        correct = labels[below_root] == tree.label[node[below_root]]
        np.add.at(n_correct, node[below_root][correct], weights[below_root][correct])
        node[below_root] = parents[node[below_root]]
    best, predicate = n_correct.copy(), tree.predicate.copy()
    for number in range(len(predicate) - 1, -1, -1):
        if predicate[number] == LEAF:
            continue
        left, right = tree.left[number], tree.right[number]
        of_branch = best[left] + best[right]
        both_leaves = predicate[left] == LEAF and predicate[right] == LEAF
        same_label = both_leaves and tree.label[left] == tree.label[right]
        if n_correct[number] >= of_branch or same_label:
            predicate[number] = LEAF
        else:
            best[number] = of_branch
    return renumber_depth_first(Tree(predicate, tree.bin_threshold, tree.left, tree.right, tree.label))


def renumber_depth_first(tree: Tree) -> Tree:
    """Renumber nodes depth-first, left before right, and leave out those below a leaf."""
    order: list[int] = []
    stack = [0]
    while stack:
        node = stack.pop()
        order.append(node)
        if tree.predicate[node] != LEAF:
            stack += [int(tree.right[node]), int(tree.left[node])]
    new_number = np.full(len(tree.predicate), LEAF, np.int32)
    new_number[order] = np.arange(len(order), dtype=np.int32)
    predicate = tree.predicate[order]
    leaf = predicate == LEAF
    left = np.where(leaf, LEAF, new_number[np.where(leaf, 0, tree.left[order])]).astype(np.int32)
    right = np.where(leaf, LEAF, new_number[np.where(leaf, 0, tree.right[order])]).astype(np.int32)
    bin_threshold = np.where(leaf, 0, tree.bin_threshold[order]).astype(np.int32)
    return Tree(predicate, bin_threshold, left, right, tree.label[order])


def select_predicates(
    bins: Bins, labels: Labels, weights: Weights, n_clusters: int, n_selected: int
) -> NDArray[np.int64]:
    """Return, for every cluster, the predicates whose best single split separates it best from the others.

    Best by the decrease of Gini impurity; of shape (n_clusters, min(n_selected, n_predicates)), best first.
    """
    gains = np.zeros((n_clusters, len(bins)))
    total = np.bincount(labels, weights, n_clusters)
    for number, row_bins in enumerate(bins):
        width = int(row_bins.max()) + 1
        counts = np.bincount(labels.astype(np.int64) * width + row_bins, weights, n_clusters * width)
        below = counts.reshape(n_clusters, width).cumsum(axis=1)[
            :, :-1
        ]  # people of a cluster at or below each bin threshold
        if below.shape[1] == 0:
            continue
        left = below.sum(axis=0)
        right = total.sum() - left
        with np.errstate(invalid="ignore", divide="ignore"):
            purity = below**2 / left + (total[:, None] - below) ** 2 / right
        gains[:, number] = np.nan_to_num(purity).max(axis=1) - total**2 / total.sum()
    return np.argsort(-gains, axis=1, kind="stable")[:, :n_selected]
