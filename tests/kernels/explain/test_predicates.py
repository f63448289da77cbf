"""The kernels that evaluate predicates and apply trees and rules, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from engine.explain.rules.decision_tree import LEAF, grow_tree
from engine.kernels.cpu.explain import predicates as kernels


def test_a_code_is_mapped_by_a_table_and_a_missing_one_has_its_own_entry() -> None:
    out = np.empty(4, np.uint8)
    kernels.map_codes(np.array([1, -1, 0, 1], np.int32), np.array([255, 7, 9], np.uint8), out)
    assert out.tolist() == [9, 255, 7, 9]


def test_bits_of_labels_are_set_and_those_of_unknown_labels_are_not() -> None:
    offsets, codes = np.array([0, 4, 4, 6], np.int32), np.array([1, 1, 3, 2, 0, -1], np.int32)
    missing, bit_of = np.array([False, True, False]), np.array([9, 0, -1, 2], np.int32)
    marks = np.full((2, 3), 77, np.uint8)
    kernels.set_label_bits(offsets, codes, bit_of, missing, 10, marks)
    assert marks.tolist() == [[1 | 4, 0, 0], [0, 4, 2]]
    kernels.set_label_bits(offsets, codes, bit_of, missing, -1, marks)
    assert marks.tolist() == [[1 | 4, 0, 0], [0, 0, 2]]


def test_the_value_of_a_predicate_is_its_table_at_the_bin() -> None:
    codes = np.array([[0, 1, 255], [3, 3, 0]], np.uint8)
    tables = np.stack([np.arange(256), np.arange(256) == 255, np.arange(256) >> 1 & 1]).astype(np.uint8)
    values = np.empty((3, 3), np.uint8)
    kernels.evaluate_predicates(codes, np.array([1, 0, 0]), tables, values)
    assert values.tolist() == [[3, 3, 0], [0, 0, 1], [0, 0, 1]]


def test_leaves_and_labels_are_counted() -> None:
    counts = np.zeros((2, 2), np.int64)
    kernels.count_leaf_labels(np.array([0, 1, 1, 1], np.int32), np.array([1, 0, 0, 1], np.int32), counts)
    assert counts.tolist() == [[0, 1], [2, 1]]


def test_a_row_walks_to_the_leaf_its_values_lead_to() -> None:
    predicate = np.array([0, -1, 1, -1, -1], np.int32)
    threshold, parent, depth = np.array([1, 0, 0, 0, 0]), np.array([-1, 0, 0, 2, 2]), np.array([0, 1, 1, 2, 2])
    values = np.array([[0, 1, 2, 2], [0, 1, 0, 1]], np.uint8)
    leaf = np.empty(4, np.int32)
    kernels.find_leaves(values, predicate, threshold, parent, depth, leaf)
    assert leaf.tolist() == [1, 1, 3, 4]


@pytest.mark.parametrize("n_rows", [1, kernels.ROWS_PER_TILE - 1, kernels.ROWS_PER_TILE, kernels.ROWS_PER_TILE + 1])
def test_leaves_are_those_of_a_walk_from_the_root(n_rows: int) -> None:
    rng = np.random.default_rng(n_rows)
    values, labels = rng.integers(0, 256, (6, n_rows)).astype(np.uint8), rng.integers(0, 9, n_rows).astype(np.int32)
    tree = grow_tree(values, labels, np.ones(n_rows), max_leaves=40)
    expected = []
    for row in values.T:
        node = 0
        while tree.predicate[node] != LEAF:
            node = int(tree.left[node] if row[tree.predicate[node]] <= tree.bin_threshold[node] else tree.right[node])
        expected.append(node)
    assert tree.apply(values).tolist() == expected


def test_histograms_add_weights_by_predicate_cluster_and_value() -> None:
    values = np.array([[0, 1, 1, 2], [3, 3, 0, 0]], np.uint8)
    labels, weights = np.array([0, 1, 1, 0], np.int32), np.array([1.0, 2.0, 0.5, 4.0])
    counts = np.zeros((2, 2, 4))
    kernels.accumulate_histograms(values, np.array([0, 1, 2]), labels, weights, counts)
    assert counts[0].tolist() == [[1.0, 0, 0, 0], [0, 2.5, 0, 0]]
    assert counts[1].tolist() == [[0, 0, 0, 1.0], [0.5, 0, 0, 2.0]]


@pytest.mark.parametrize("n_rows", [0, 1, kernels.ROWS_PER_TILE - 1, kernels.ROWS_PER_TILE + 1])
def test_rules_count_the_rows_they_match_and_those_in_the_cluster(n_rows: int) -> None:
    rng = np.random.default_rng(n_rows)
    values = rng.integers(0, 5, (4, n_rows)).astype(np.uint8)
    labels = rng.integers(0, 3, n_rows).astype(np.int32)
    # cluster 0: a score of 2 of 4 points and a conjunction, cluster 1: none, cluster 2: a rule without a condition
    # matches all rows
    terms = [[(0, 1, 3, 1), (2, 0, 2, 1), (3, 4, 4, 2)], [(1, 4, 4, 1)], []]
    needed = np.array([2, 1, 0], np.int32)
    first_rule, first_term = np.array([0, 2, 2, 3]), np.array([0, 3, 4, 4])
    flat = np.array([term for rule in terms for term in rule], np.int32)
    rules, clusters = np.zeros((3, 2), np.int64), np.zeros((3, 2), np.int64)
    columns = [flat[:, column].copy() for column in range(4)]
    kernels.count_rule_matches(values, labels, first_rule, first_term, *columns, needed, rules, clusters)
    matched = [
        [sum(n for q, lo, hi, n in rule if lo <= values[q, i] <= hi) >= enough for i in range(n_rows)]
        for rule, enough in zip(terms, needed.tolist(), strict=True)
    ]
    cluster_of_rule = [0, 0, 2]
    assert rules.tolist() == [
        [sum(m), sum(x and labels[i] == cluster_of_rule[r] for i, x in enumerate(m))] for r, m in enumerate(matched)
    ]
    either = [a or b for a, b in zip(matched[0], matched[1], strict=True)]
    assert clusters[0].tolist() == [sum(either), sum(x and labels[i] == 0 for i, x in enumerate(either))]
    assert clusters[1].tolist() == [0, 0]
    assert clusters[2].tolist() == [n_rows, int((labels == 2).sum())]
