"""Count the people that rules and trees match, and match correctly, in one pass over the packed bins of all rows.

    packed bins and labels of all rows, trees, rules  ->  exact counts of people

The pass unpacks only the predicates that trees and rules test. Counts are integers, so blocks and threads cannot change
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from engine.backends.chunked import ChunkedDevice
from engine.backends.protocol import Backend
from engine.execution.passes import current_cluster, over_rows
from engine.execution.threads import row_blocks
from engine.explain.binning.binner import Binner, Bins, PackedBins
from engine.explain.rules.decision_tree import LEAF, Labels, Tree
from engine.explain.rules.scores import AnyRule, rule_terms
from engine.kernels.arrays.explain import predicates as array_kernels
from engine.kernels.cpu.explain import predicates as kernels

Counts = NDArray[np.int64]
ROWS_PER_BLOCK = 65_536  # rows counted by one thread at a time: their bins stay in the L2 cache


@dataclass(frozen=True)
class RuleCounts:
    """Counts of people that trees and rules match.

    Attributes
    ----------
    nodes : list of int64 arrays of shape (n_nodes, n_clusters), one per tree
        People of each cluster in each leaf.
    rules : int64 array of shape (n_rules, 2)
        People that each rule matches, and those of its cluster among them.
    clusters : int64 array of shape (n_clusters, 2)
        The same for the union of a cluster's rules.
    """

    nodes: list[Counts]
    rules: Counts
    clusters: Counts

    def fidelity(self, number: int, tree: Tree) -> float:
        """Return the share of people whose cluster tree `number` predicts correctly."""
        counts = self.nodes[number]
        correct = counts[np.arange(len(counts)), tree.label]
        return float(correct[tree.leaves].sum() / max(counts.sum(), 1))


class RuleCounter:
    """Counts what trees and rules match on blocks of rows.

    Parameters
    ----------
    binner : Binner
    trees : sequence of Tree
    rules : sequence of sequences of Ranges or Score
        The rules of each cluster.
    """

    def __init__(self, binner: Binner, trees: Sequence[Tree], rules: Sequence[Sequence[AnyRule]]) -> None:
        of_rules = [rule_terms(rule) for cluster in rules for rule in cluster]
        terms = [term for of_rule, _ in of_rules for term in of_rule]
        tested = {term.predicate for term in terms}.union(
            *(tree.predicate[tree.predicate != LEAF].tolist() for tree in trees)
        )
        self._binner, self._tested = binner, sorted(tested)
        index = np.zeros(len(binner.predicates) + 1, np.int32)  # of each predicate among the tested ones
        index[self._tested] = np.arange(len(tested))
        index[LEAF] = LEAF
        self._trees = [replace(tree, predicate=index[tree.predicate]) for tree in trees]
        self._n_clusters, self._n_rules = len(rules), sum(map(len, rules))
        self._first_rule = np.cumsum([0, *map(len, rules)])
        self._first_term = np.cumsum([0, *(len(of_rule) for of_rule, _ in of_rules)])
        self._predicate = index[np.array([term.predicate for term in terms], np.int64)]
        self._low = np.array([term.low for term in terms], np.int32)
        self._high = np.array([term.high for term in terms], np.int32)
        self._points = np.array([term.points for term in terms], np.int32)
        self._needed = np.array([needed for _, needed in of_rules], np.int32)

    def count(self, packed: PackedBins, labels: Labels) -> RuleCounts:
        """Count on a block of rows."""
        bins: Bins = self._binner.unpack(packed, self._tested)
        nodes = []
        for tree in self._trees:
            counts = np.zeros((len(tree.predicate), self._n_clusters), np.int64)
            kernels.count_leaf_labels(tree.apply(bins), labels, counts)
            nodes.append(counts)
        rules, clusters = np.zeros((self._n_rules, 2), np.int64), np.zeros((self._n_clusters, 2), np.int64)
        kernels.count_rule_matches(
            bins, labels, self._first_rule, self._first_term, self._predicate, self._low, self._high,
            self._points, self._needed, rules, clusters,
        )  # fmt: skip
        return RuleCounts(nodes, rules, clusters)

    def count_on_device(self, device: ChunkedDevice, packed: PackedBins, labels: Labels) -> RuleCounts:
        """Count on a block of rows, with the arrays of a device."""
        xp, to_host = device.xp, device.to_host
        lines, tables = self._binner.lookup_tables(self._tested)
        bins = array_kernels.evaluate_predicates(xp, xp.asarray(packed), lines, xp.asarray(tables))
        labels_there = xp.asarray(labels.astype(np.int64))
        nodes = [
            to_host(array_kernels.count_leaf_labels(xp, bins, labels_there, tree, self._n_clusters))
            for tree in self._trees
        ]
        rules, clusters = xp.zeros((self._n_rules, 2), np.int64), xp.zeros((self._n_clusters, 2), np.int64)
        columns = (self._predicate, self._low, self._high, self._points)
        terms = list(zip(*(column.tolist() for column in columns), strict=True))
        bounds = pairwise(self._first_term.tolist())
        by_rule = [(terms[first:last], n) for (first, last), n in zip(bounds, self._needed.tolist(), strict=True)]
        by_cluster = [by_rule[first:last] for first, last in pairwise(self._first_rule.tolist())]
        for c, (of_rules, of_cluster) in enumerate(
            array_kernels.count_rule_matches(xp, bins, labels_there, by_cluster)
        ):
            clusters[c, 0], clusters[c, 1] = of_cluster
            for r, of_rule in enumerate(of_rules, int(self._first_rule[c])):
                rules[r, 0], rules[r, 1] = of_rule
        return RuleCounts(nodes, to_host(rules), to_host(clusters))

    def rows_on_device(self, chunk_values: int) -> int:
        """Return the rows of a block of which the bins, and as many masks, are `chunk_values` bytes."""
        return max(chunk_values // (2 * len(self._tested) + 1), 1)


def count_all(
    packed: PackedBins, labels: Labels, counter: RuleCounter, backend: Backend | ChunkedDevice | None = None
) -> RuleCounts:
    """Count what trees and rules match on all rows.

    Parameters
    ----------
    packed : uint8 array of shape (n_lines, n_rows)
    labels : int32 array of shape (n_rows,)
    counter : RuleCounter
    backend : Backend, optional
        A device with arrays of its own counts, to the same counts; not where workers share the rows.
    """
    if isinstance(backend, ChunkedDevice) and current_cluster() is None and len(labels):
        device = backend

        def count_there(chunk_values: int) -> RuleCounts:
            blocks = row_blocks(len(labels), counter.rows_on_device(chunk_values))
            return add_counts(
                counter.count_on_device(device, np.ascontiguousarray(packed[:, rows]), labels[rows]) for rows in blocks
            )

        return device.run_in_chunks(count_there, lambda _: count_all(packed, labels, counter))

    def count_block(rows: slice) -> RuleCounts:
        # Contiguous, as all rows are, or kernels would be compiled for strides as well.
        return counter.count(np.ascontiguousarray(packed[:, rows]), labels[rows])

    return add_counts(over_rows(count_block, len(labels), ROWS_PER_BLOCK, pass_name="rules"))


def add_counts(parts: Iterable[RuleCounts]) -> RuleCounts:
    """Return the sum of the counts of blocks."""
    total: RuleCounts | None = None
    for part in parts:
        if total is None:
            total = part
            continue
        for sums, counts in zip([*total.nodes, total.rules, total.clusters], [*part.nodes, part.rules, part.clusters],
                              strict=True):  # fmt: skip
            sums += counts
    assert total is not None
    return total
