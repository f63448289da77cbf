"""Trees with few leaves that part clusters from each other: as many leaves as clusters can then name each of them.

    answers (n_questions, n_rows), clusters, weights  ->  Tree of at most max_leaves

A tree grown for purity often spends two of twelve leaves on one cluster. Here a node is home to some clusters, and is
cut where fewest people end up on the other side than most of their cluster; that is what iterative mistake minimisation
does around centres, with the majority of a cluster's people in place of its centre. Once a leaf is home to one cluster,
leaves are cut where that names most people more.

Source: Moshkovitz, Dasgupta, Rashtchian & Frost, "Explainable k-Means and k-Medians Clustering", ICML 2020.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.explain.binning.binner import Answers
from engine.explain.rules.decision_tree import LEAF, Labels, Tree, Weights, grow, in_depth_order
from engine.kernels.cpu.explain.predicates import tally

Floats = NDArray[np.float64]


Part = tuple[Answers, Labels, Weights]  # people: answers (n_questions, n_rows), clusters, weights


def few_leaves(growing: Part, judging: Part, n_clusters: int, *, max_leaves: int, max_depth: int | None = None) -> Tree:
    """Grow a tree for purity, and one that parts clusters if each can have a leaf; choose by people not grown on.

    What is returned is grown anew, on both parts.
    """

    def parting(answers: Answers, labels: Labels, weights: Weights) -> Tree:
        return grow_apart(answers, labels, weights, n_clusters, max_leaves=max_leaves, max_depth=max_depth)

    def pure(answers: Answers, labels: Labels, weights: Weights) -> Tree:
        return grow(answers, labels, weights, max_depth=max_depth, max_leaves=max_leaves)

    ways = [pure]
    if n_clusters <= max_leaves:  # else some clusters share a leaf, and which ones is not a matter of parting them
        ways.append(parting)
    everybody = (np.concatenate([growing[n], judging[n]], axis=-1) for n in range(3))
    if len(ways) == 1:
        return pure(*everybody)
    answers, labels, weights = judging
    right = [float(weights[way(*growing).predict(answers) == labels].sum()) for way in ways]
    return ways[int(np.argmax(right))](*everybody)


@dataclass
class _Node:
    """People of a node, the clusters it is home to, and the best cut there is."""

    rows: NDArray[np.int64]
    homes: NDArray[np.bool_]
    depth: int
    label: int
    question: int = LEAF
    cut: int = 0
    gain: float = 0.0
    sides: NDArray[np.bool_] | None = None  # of the homes: whether a cluster goes right


def grow_apart(
    answers: Answers,
    labels: Labels,
    weights: Weights,
    n_clusters: int,
    *,
    max_leaves: int,
    max_depth: int | None = None,
) -> Tree:
    """Grow a tree that parts clusters from each other.

    Parameters
    ----------
    answers : uint8 array of shape (n_questions, n_rows)
    labels : int32 array of shape (n_rows,)
    weights : float64 array of shape (n_rows,)
    n_clusters : int
    max_leaves : int
    max_depth : int, optional
    """
    there = np.bincount(labels, minlength=n_clusters) > 0
    nodes = [_Node(np.arange(len(labels)), there, 0, 0)]
    left, right = [LEAF], [LEAF]
    waiting: list[tuple[int, float, int]] = []

    def consider(number: int) -> None:
        node = nodes[number]
        _choose(node, answers, labels, weights, n_clusters)
        if node.question != LEAF and (max_depth is None or node.depth < max_depth):
            heapq.heappush(waiting, (-int(node.homes.sum() > 1), -node.gain, number))

    consider(0)
    n_leaves = 1
    while waiting and n_leaves < max_leaves:
        _, _, number = heapq.heappop(waiting)
        node = nodes[number]
        goes_right = answers[node.question, node.rows] > node.cut
        for child, mine in ((left, ~goes_right), (right, goes_right)):
            homes = node.homes if node.sides is None else node.homes & (node.sides == (child is right))
            child[number] = len(nodes)
            nodes.append(_Node(node.rows[mine], homes, node.depth + 1, node.label))
            left.append(LEAF)
            right.append(LEAF)
            consider(len(nodes) - 1)
        n_leaves += 1
    inner = np.array(left) != LEAF
    question = np.where(inner, [node.question for node in nodes], LEAF).astype(np.int32)
    cut = np.where(inner, [node.cut for node in nodes], 0).astype(np.int32)
    label = np.array([node.label for node in nodes], np.int32)
    return in_depth_order(Tree(question, cut, np.array(left, np.int32), np.array(right, np.int32), label))


def _choose(node: _Node, answers: Answers, labels: Labels, weights: Weights, n_clusters: int) -> None:
    """Give a node its label, and its best cut if there is one."""
    width = int(answers.max(initial=0)) + 1
    counts = np.zeros((len(answers), n_clusters, width))
    tally(answers, node.rows, labels, weights, counts)
    totals = counts[0].sum(axis=1) if len(answers) else np.bincount(labels, weights, n_clusters)
    if totals.any():
        node.label = int(totals.argmax())
    below = counts.cumsum(axis=2)[:, :, :-1]  # people of a cluster left of each cut
    above = totals[:, None] - below
    possible = (below.sum(axis=1) > 0) & (above.sum(axis=1) > 0)
    if not possible.any():
        return
    if node.homes.sum() > 1:
        _part_homes(node, below, above, possible)
    else:
        better = below.max(axis=1) + above.max(axis=1) - totals.max()
        _take(node, np.where(possible, better, 0.0))


def _part_homes(node: _Node, below: Floats, above: Floats, possible: NDArray[np.bool_]) -> None:
    """Choose the cut with fewest people on the other side than most of their cluster, that parts the clusters.

    Fewest over the square root of how many people the smaller side has: on the demo, 1,500 rows and six seeds, twelve
    leaves then name 94.9 % of unseen people, by mistakes alone 93.9, by mistakes over the smaller side 94.4.
    """
    home = node.homes[None, :, None]
    goes_right = above > below
    parts = possible & (goes_right & home).any(axis=1) & (~goes_right & home).any(axis=1)
    if not parts.any():
        return
    mistakes = np.where(home, np.minimum(below, above), 0.0).sum(axis=1)
    right = np.where(home & goes_right, below + above, 0.0).sum(axis=1)
    left = np.where(home & ~goes_right, below + above, 0.0).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cost = np.where(parts, mistakes / np.sqrt(np.minimum(left, right)), np.inf)
    node.question, node.cut = (int(v) for v in np.unravel_index(int(cost.argmin()), cost.shape))
    node.sides = goes_right[node.question, :, node.cut]
    node.gain = float((below[0] + above[0])[:, 0].sum())


def _take(node: _Node, gains: Floats) -> None:
    place = int(gains.argmax())
    if gains.flat[place] > 0.0:
        node.question, node.cut = (int(v) for v in np.unravel_index(place, gains.shape))
        node.gain = float(gains.flat[place])
