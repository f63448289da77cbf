"""IMM trees give every cluster a leaf of its own, and the more accurate of two small trees is returned."""

from __future__ import annotations

import numpy as np
import pytest

from engine.explain.rules.decision_tree import LEAF, Tree, grow_tree
from engine.explain.rules.imm_tree import grow_imm_tree, grow_small_tree


def grid(n_rows: int = 3000, noise: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return bins, clusters and weights: nine clusters, which two predicates of ten bins separate, and noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 9, n_rows).astype(np.int32)
    informative = np.stack([labels % 3, labels // 3]) * 3 + 1 + rng.integers(-1, 2, (2, n_rows))
    bins = np.concatenate([informative, rng.integers(0, 10, (3, n_rows))]).astype(np.uint8)
    is_noise = rng.random(n_rows) < noise
    bins[:, is_noise] = rng.integers(0, 10, (5, is_noise.sum()))
    return bins, labels, np.ones(n_rows)


def accuracy(tree: Tree, rows: tuple[np.ndarray, np.ndarray, np.ndarray]) -> float:
    return float((tree.predict(rows[0]) == rows[1]).mean())


def test_as_many_leaves_as_clusters_name_each_of_them_once() -> None:
    tree = grow_imm_tree(*grid(), 9, max_leaves=9)
    assert sorted(tree.label[tree.leaves].tolist()) == list(range(9))
    assert accuracy(tree, grid(seed=1)) == 1.0
    assert set(tree.predicate.tolist()) == {LEAF, 0, 1}


def test_noise_does_not_change_the_splits() -> None:
    train, unseen = grid(noise=0.2), grid(noise=0.2, seed=1)
    tree = grow_imm_tree(*train, 9, max_leaves=9)
    assert sorted(tree.label[tree.leaves].tolist()) == list(range(9))
    assert accuracy(tree, unseen) > 0.8


@pytest.mark.parametrize("max_leaves", [1, 2, 5, 9, 30])
@pytest.mark.parametrize("max_depth", [None, 3])
def test_leaves_and_depth_are_no_more_than_asked_for_and_more_of_them_are_no_worse(
    max_leaves: int, max_depth: int | None
) -> None:
    rows = grid(noise=0.3)
    tree = grow_imm_tree(*rows, 9, max_leaves=max_leaves, max_depth=max_depth)
    assert len(tree.leaves) <= max_leaves
    assert max_depth is None or len(tree.leaves) <= 2**max_depth
    assert accuracy(tree, rows) <= accuracy(grow_imm_tree(*rows, 9, max_leaves=60), rows)


def test_weights_are_people() -> None:
    bins = np.array([[0, 0, 0, 1]], np.uint8)
    labels = np.array([0, 0, 1, 1], np.int32)
    even = grow_imm_tree(bins, labels, np.ones(4), 2, max_leaves=1)
    heavy = grow_imm_tree(bins, labels, np.array([1.0, 1.0, 1.0, 9.0]), 2, max_leaves=1)
    assert (even.label.tolist(), heavy.label.tolist()) == ([0], [1])


def test_clusters_that_no_predicate_separates_share_a_leaf() -> None:
    tree = grow_imm_tree(np.zeros((2, 10), np.uint8), np.arange(10, dtype=np.int32) % 3, np.ones(10), 4, max_leaves=4)
    assert tree.predicate.tolist() == [LEAF]
    without_predicates = grow_imm_tree(
        np.zeros((0, 3), np.uint8), np.array([2, 2, 1], np.int32), np.ones(3), 3, max_leaves=3
    )
    assert without_predicates.label.tolist() == [2]


def test_the_tree_that_predicts_more_people_correctly_is_returned() -> None:
    train, validation = grid(noise=0.2), grid(noise=0.2, seed=1)
    both = tuple(np.concatenate(parts, axis=-1) for parts in zip(train, validation, strict=True))
    for max_leaves in (3, 9, 18):
        tree = grow_small_tree(train, validation, 9, max_leaves=max_leaves)
        by_entropy, by_imm = grow_tree(*both, max_leaves=max_leaves), grow_imm_tree(*both, 9, max_leaves=max_leaves)
        accuracies = [accuracy(grow_tree(*train, max_leaves=max_leaves), validation),
                      accuracy(grow_imm_tree(*train, 9, max_leaves=max_leaves), validation)]  # fmt: skip
        expected = by_entropy if accuracies[0] >= accuracies[1] else by_imm
        assert tree.predicate.tolist() == expected.predicate.tolist()
        assert tree.bin_threshold.tolist() == expected.bin_threshold.tolist()


def test_without_predicates_a_tree_is_a_single_leaf() -> None:
    bins, labels = np.empty((0, 10), np.uint8), np.array([1] * 6 + [0] * 4, np.int32)
    assert grow_tree(bins, labels, np.ones(10)).predict(bins).tolist() == [1] * 10
