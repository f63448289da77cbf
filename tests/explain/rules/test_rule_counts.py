"""Counts of what trees and rules match, on a device and on the CPU, against a loop over rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.backends.cpu import CpuBackend
from engine.execution.array_storage import IN_MEMORY
from engine.explain.binning.binned_table import BinnedTable
from engine.explain.rules import rule_metrics
from engine.explain.rules.decision_tree import LEAF, Tree
from engine.explain.rules.rule_metrics import RuleCounter, count_all
from engine.explain.rules.scores import Score, Term
from engine.features.fit import fit_encoder
from engine.tables import open_table
from engine.utils.formatting import Vocabulary
from tests.features.test_gpu_encoder import MODULES, ROLES, everything
from tests.gpu.chunks import NumpyDevice

N_ROWS, N_CLUSTERS = 400, 3


@pytest.fixture(scope="module")
def binned() -> BinnedTable:
    rows: pa.Table = everything(N_ROWS).select(["age", "visits", "plan", "genres"])
    encoder = fit_encoder(open_table(rows), column_roles={"visits": "count", "genres": ROLES["genres"]}).encoder
    words = Vocabulary.from_schema(rows.schema, encoder.columns, {}, {})
    table = BinnedTable(encoder, rows, words, N_ROWS, IN_MEMORY)
    table.complete(open_table(rows))
    return table


def random_tree(random: Any, n_predicates: int, bins: Any) -> Tree:
    """Return a tree of two levels, its nodes depth first."""
    predicate = np.array([random.integers(n_predicates), random.integers(n_predicates), LEAF, LEAF, LEAF], np.int32)
    threshold = np.array([bins[p].max() // 2 if p >= 0 else 0 for p in predicate], np.int32)
    left, right = np.array([1, 2, -1, -1, -1], np.int32), np.array([4, 3, -1, -1, -1], np.int32)
    return Tree(predicate, threshold, left, right, np.zeros(5, np.int32))


def matches(rule: Any, row: Any) -> bool:
    if isinstance(rule, Score):
        return sum(t.points for t in rule.terms if t.low <= row[t.predicate] <= t.high) >= rule.needed
    return all(low <= row[p] <= high for p, (low, high) in rule.items())


def count_by_loops(bins: Any, labels: Any, trees: list[Tree], rules: Any) -> tuple[Any, Any, Any]:
    nodes = [np.zeros((len(tree.predicate), N_CLUSTERS), np.int64) for tree in trees]
    matched, union = np.zeros((sum(map(len, rules)), 2), np.int64), np.zeros((N_CLUSTERS, 2), np.int64)
    for row, label in zip(bins.T, labels, strict=True):
        for counts, tree in zip(nodes, trees, strict=True):
            node = 0
            while tree.predicate[node] != LEAF:
                goes_left = row[tree.predicate[node]] <= tree.bin_threshold[node]
                node = (tree.left if goes_left else tree.right)[node]
            counts[node, label] += 1
        number = 0
        for cluster, cluster_rules in enumerate(rules):
            hits = [matches(rule, row) for rule in cluster_rules]
            for hit in hits:
                matched[number] += [hit, hit and label == cluster]
                number += 1
            union[cluster] += [any(hits), any(hits) and label == cluster]
    return nodes, matched, union


@pytest.mark.parametrize("xp", [None, *MODULES])
def test_counts_are_those_of_a_loop_over_rows(binned: BinnedTable, xp: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(6)
    binner, bins = binned.binner, binned.binner.unpack(binned.packed)
    labels = random.integers(0, N_CLUSTERS, N_ROWS).astype(np.int32)
    trees = [random_tree(random, len(bins), bins) for _ in range(3)]
    terms = (Term(0, 0, 1), Term(0, 1, 200, 2), Term(3, 1, 1, 3), Term(1, 0, 200))
    scores = [Score(terms, needed) for needed in (1, 4, 7)]
    conjunctions = [{0: (0, 1)}, {3: (1, 1), 1: (0, 200)}]
    rules: Any = [[], [*conjunctions, *scores], [{int(p): (1, 255)} for p in random.integers(0, 9, 4)]]
    counter = RuleCounter(binner, trees, rules)
    nodes, matched, union = count_by_loops(bins, labels, trees, rules)
    monkeypatch.setattr(rule_metrics, "ROWS_PER_BLOCK", 150)
    values = 150 * (2 * len(counter._tested) + 1)  # blocks of 150 rows
    device = CpuBackend() if xp is None else NumpyDevice(xp, chunk_values=values)
    counts = count_all(binned.packed, labels, counter, device)
    for mine, expected in zip([*counts.nodes, counts.rules, counts.clusters], [*nodes, matched, union], strict=True):
        np.testing.assert_array_equal(mine, expected)
    assert (matched[:, 0] >= 1).sum() >= 6
    assert len(set(matched[2:5, 0].tolist())) == 3  # each number of points needed matters


def test_where_device_memory_runs_out_the_cpu_counts(binned: BinnedTable, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(RuleCounter, "count_on_device", fail)
    counter = RuleCounter(binned.binner, [], [[{0: (0, 1)}], [], []])
    labels = np.zeros(N_ROWS, np.int32)
    counts = count_all(binned.packed, labels, counter, NumpyDevice(fallback=CpuBackend()))
    np.testing.assert_array_equal(counts.rules, count_all(binned.packed, labels, counter).rules)
