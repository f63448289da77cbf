"""How well rules and trees hold for everybody: one pass over the codes of all rows.

    codes and labels of all rows, trees, rules  ->  counts of people, exact

The pass answers the few questions that are asked, and counts. Counts are integers, so blocks and threads cannot
change them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.execution.passes import over_rows
from engine.explain.binning.binner import Answers, Codebook, Codes
from engine.explain.rules.decision_tree import LEAF, Labels, Ranges, Tree
from engine.kernels.cpu.explain import predicates as kernels

Counts = NDArray[np.int64]
COUNTED_ROWS = 65_536  # rows counted by one thread at a time: their answers stay in the L2 cache


@dataclass(frozen=True)
class Scores:
    """Counts of people.

    Attributes
    ----------
    nodes : list of int64 arrays of shape (n_nodes, n_clusters), one a tree
        People of each cluster who end in each leaf.
    rules : int64 array of shape (n_rules, 2)
        People a rule matches, and those of its cluster among them.
    clusters : int64 array of shape (n_clusters, 2)
        The same for any rule of a cluster.
    """

    nodes: list[Counts]
    rules: Counts
    clusters: Counts

    def fidelity(self, number: int, tree: Tree) -> float:
        """Return the share of people for whom tree `number` names the cluster they are in."""
        counts = self.nodes[number]
        named = counts[np.arange(len(counts)), tree.label]
        return float(named[tree.leaves].sum() / max(counts.sum(), 1))


class Scorer:
    """Trees and rules, ready to be counted on blocks."""

    def __init__(self, book: Codebook, trees: Sequence[Tree], rules: Sequence[Sequence[Ranges]]) -> None:
        ranges = [(q, low, high) for cluster in rules for rule in cluster for q, (low, high) in rule.items()]
        asked = {q for q, _, _ in ranges}.union(*(tree.question[tree.question != LEAF].tolist() for tree in trees))
        self._book, self._asked = book, sorted(asked)
        place = np.zeros(len(book.questions) + 1, np.int32)
        place[self._asked] = np.arange(len(asked))
        place[LEAF] = LEAF
        self._trees = [Tree(place[tree.question], tree.cut, tree.left, tree.right, tree.label) for tree in trees]
        self._n_clusters, self._n_rules = len(rules), sum(map(len, rules))
        self._first_rule = np.cumsum([0, *map(len, rules)])
        self._first_range = np.cumsum([0, *(len(rule) for cluster in rules for rule in cluster)])
        self._question = place[np.array([q for q, _, _ in ranges], np.int64)]
        self._low = np.array([low for _, low, _ in ranges], np.int32)
        self._high = np.array([high for _, _, high in ranges], np.int32)

    def score(self, codes: Codes, labels: Labels) -> Scores:
        """Count on some rows."""
        answers: Answers = self._book.answers(codes, self._asked)
        nodes = []
        for tree in self._trees:
            counts = np.zeros((len(tree.question), self._n_clusters), np.int64)
            kernels.count_pairs(tree.leaf_of(answers), labels, counts)
            nodes.append(counts)
        rules, clusters = np.zeros((self._n_rules, 2), np.int64), np.zeros((self._n_clusters, 2), np.int64)
        kernels.apply_rules(
            answers, labels, self._first_rule, self._first_range, self._question, self._low, self._high, rules, clusters
        )
        return Scores(nodes, rules, clusters)


def score_all(codes: Codes, labels: Labels, scorer: Scorer) -> Scores:
    """Count on all rows.

    Parameters
    ----------
    codes : uint8 array of shape (n_lines, n_rows)
    labels : int32 array of shape (n_rows,)
    scorer : Scorer
    """

    def counted(rows: slice) -> Scores:
        return scorer.score(codes[:, rows], labels[rows])

    return added(over_rows(counted, len(labels), COUNTED_ROWS, what="rules"))


def added(parts: Iterable[Scores]) -> Scores:
    """Add up counts."""
    total: Scores | None = None
    for part in parts:
        if total is None:
            total = part
            continue
        for mine, more in zip([*total.nodes, total.rules, total.clusters], [*part.nodes, part.rules, part.clusters],
                              strict=True):  # fmt: skip
            mine += more
    assert total is not None
    return total
