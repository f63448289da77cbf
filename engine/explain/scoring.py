"""How well rules and trees hold for everybody: one pass over the table, reading only the columns they ask about.

    table, labels of all rows, trees, rules  ->  counts of people, exact

The pass answers the few questions that are asked, each with the few cuts that are asked about, and counts. Counts are
integers, so blocks and threads cannot change them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.execution.passes import over_table
from engine.explain.questions import Answers, Questions
from engine.explain.tree import LEAF, Labels, Ranges, Tree
from engine.kernels.cpu import answers as kernels
from engine.tables import Block, Table

Counts = NDArray[np.int64]


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

    def __init__(self, questions: Questions, trees: Sequence[Tree], rules: Sequence[Sequence[Ranges]]) -> None:
        ranges = [(q, low, high) for cluster in rules for rule in cluster for q, (low, high) in rule.items()]
        tests = [test for tree in trees for test in tree.tests()]
        self.questions, answer_of = questions.needed_for([*ranges, *tests])
        place = {old: new for new, old in enumerate(sorted({q for q, _ in answer_of}))}
        self._trees = [_asked_anew(tree, place, answer_of) for tree in trees]
        self._n_clusters, self._n_rules = len(rules), sum(map(len, rules))
        self._first_rule = np.cumsum([0, *map(len, rules)])
        self._first_range = np.cumsum([0, *(len(rule) for cluster in rules for rule in cluster)])
        self._question = np.array([place[q] for q, _, _ in ranges], np.int32)
        self._low = np.array([answer_of[q, low] for q, low, _ in ranges], np.int32)
        self._high = np.array([answer_of[q, high + 1] - 1 for q, _, high in ranges], np.int32)

    def score(self, answers: Answers, labels: Labels) -> Scores:
        """Count on rows whose `questions` are answered."""
        nodes = []
        for tree in self._trees:
            cells = tree.leaf_of(answers).astype(np.int64) * self._n_clusters + labels
            counts = np.bincount(cells, minlength=len(tree.question) * self._n_clusters)
            nodes.append(counts.reshape(len(tree.question), self._n_clusters))
        rules, clusters = np.zeros((self._n_rules, 2), np.int64), np.zeros((self._n_clusters, 2), np.int64)
        kernels.apply_rules(
            answers, labels, self._first_rule, self._first_range, self._question, self._low, self._high, rules, clusters
        )
        return Scores(nodes, rules, clusters)


def score_table(table: Table, labels: Labels, scorer: Scorer) -> Scores:
    """Count on every row of a table.

    Parameters
    ----------
    table : Table
    labels : int32 array of shape (n_rows,)
    scorer : Scorer
    """
    if not scorer.questions.columns:
        return scorer.score(np.zeros((0, len(labels)), np.uint8), labels)

    def counted(block: Block) -> Scores:
        return scorer.score(scorer.questions.answer(block.rows), labels[block.start : block.start + len(block)])

    return added(over_table(counted, table, scorer.questions.columns, coded=True, what="rules"))


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


def _asked_anew(tree: Tree, place: dict[int, int], answer_of: dict[tuple[int, int], int]) -> Tree:
    question, cut = tree.question.copy(), tree.cut.copy()
    for node in np.flatnonzero(tree.question != LEAF):
        old = int(tree.question[node])
        question[node] = place[old]
        cut[node] = answer_of[old, int(tree.cut[node]) + 1] - 1
    return Tree(question, cut, tree.left, tree.right, tree.label)
