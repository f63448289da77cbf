"""Trees are grown as scikit-learn grows them where no two splits tie, and ties go to the lower predicate."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier

from engine.explain.rules.decision_tree import LEAF, grow_tree


@pytest.mark.parametrize("limits", [{"max_leaves": 7}, {"max_depth": 3}, {"min_leaf": 40}, {"max_leaves": 2}])
@pytest.mark.parametrize("n_clusters", [2, 5])
def test_a_tree_is_that_of_scikit_learn_if_no_two_splits_tie(n_clusters: int, limits: dict[str, int]) -> None:
    random = np.random.default_rng(n_clusters)
    bins = random.integers(0, 200, (6, 400)).astype(np.uint8)
    labels = ((bins[0] > 90) + 2 * (bins[3] + bins[1] // 2 > 120) + random.integers(0, 2, 400)) % n_clusters
    weights = random.uniform(0.5, 2.0, 400)
    tree = grow_tree(bins, labels.astype(np.int32), weights, **limits)
    names = {"max_leaves": "max_leaf_nodes", "max_depth": "max_depth", "min_leaf": "min_samples_leaf"}
    peer = DecisionTreeClassifier(criterion="entropy", random_state=0, **{names[n]: v for n, v in limits.items()})
    peer.fit(bins.T.astype(np.float32), labels, sample_weight=weights)
    assert len(tree.leaves) == peer.get_n_leaves()
    assert np.array_equal(tree.predict(bins), peer.predict(bins.T.astype(np.float32)))


def test_of_splits_that_tie_the_lower_predicate_and_threshold_wins() -> None:
    column = np.array([0, 0, 4, 4], np.uint8)
    tree = grow_tree(np.stack([4 - column, column]), np.array([0, 0, 1, 1], np.int32), np.ones(4))
    assert tree.predicate.tolist() == [0, LEAF, LEAF]
    assert tree.bin_threshold.tolist() == [2, 0, 0]
    assert tree.label.tolist() == [0, 1, 0]


def test_a_tree_without_limits_tells_all_rows_that_differ_apart() -> None:
    random = np.random.default_rng(0)
    bins = random.permuted(np.tile(np.arange(250, dtype=np.uint8), (3, 1)), axis=1)
    labels = random.integers(0, 9, 250).astype(np.int32)
    assert np.array_equal(grow_tree(bins, labels, np.ones(250)).predict(bins), labels)


def test_two_splits_that_tell_clusters_apart_together_are_found() -> None:
    bins = np.array([[0, 0, 1, 1], [0, 1, 0, 1]], np.uint8)
    labels = np.array([0, 1, 1, 0], np.int32)
    tree = grow_tree(bins, labels, np.ones(4))
    assert np.array_equal(tree.predict(bins), labels)


@pytest.mark.parametrize("labels", [[3, 3], [0, 1]])
def test_rows_that_are_alike_or_of_one_cluster_are_not_split(labels: list[int]) -> None:
    tree = grow_tree(np.zeros((2, 2), np.uint8), np.array(labels, np.int32), np.array([1.0, 2.0]))
    assert tree.predicate.tolist() == [LEAF]
    assert tree.label.tolist() == [labels[1]]
