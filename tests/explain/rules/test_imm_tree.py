"""Trees with few leaves: each cluster gets one of its own, and whichever tree is right more often is kept."""

from __future__ import annotations

import numpy as np
import pytest

from engine.explain.rules.decision_tree import LEAF, Tree, grow
from engine.explain.rules.imm_tree import few_leaves, grow_apart


def grid(n_rows: int = 3000, noise: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return answers, clusters and weights: nine clusters, which two questions of ten answers tell apart, and noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 9, n_rows).astype(np.int32)
    places = np.stack([labels % 3, labels // 3]) * 3 + 1 + rng.integers(-1, 2, (2, n_rows))
    answers = np.concatenate([places, rng.integers(0, 10, (3, n_rows))]).astype(np.uint8)
    stray = rng.random(n_rows) < noise
    answers[:, stray] = rng.integers(0, 10, (5, stray.sum()))
    return answers, labels, np.ones(n_rows)


def right(tree: Tree, people: tuple[np.ndarray, np.ndarray, np.ndarray]) -> float:
    return float((tree.predict(people[0]) == people[1]).mean())


def test_as_many_leaves_as_clusters_name_each_of_them_once() -> None:
    tree = grow_apart(*grid(), 9, max_leaves=9)
    assert sorted(tree.label[tree.leaves].tolist()) == list(range(9))
    assert right(tree, grid(seed=1)) == 1.0
    assert set(tree.question.tolist()) == {LEAF, 0, 1}


def test_strays_do_not_lead_the_cuts_astray() -> None:
    grown, unseen = grid(noise=0.2), grid(noise=0.2, seed=1)
    tree = grow_apart(*grown, 9, max_leaves=9)
    assert sorted(tree.label[tree.leaves].tolist()) == list(range(9))
    assert right(tree, unseen) > 0.8


@pytest.mark.parametrize("max_leaves", [1, 2, 5, 9, 30])
@pytest.mark.parametrize("max_depth", [None, 3])
def test_leaves_and_depth_are_no_more_than_asked_for_and_more_of_them_are_no_worse(
    max_leaves: int, max_depth: int | None
) -> None:
    people = grid(noise=0.3)
    tree = grow_apart(*people, 9, max_leaves=max_leaves, max_depth=max_depth)
    assert len(tree.leaves) <= max_leaves
    assert max_depth is None or len(tree.leaves) <= 2**max_depth
    assert right(tree, people) <= right(grow_apart(*people, 9, max_leaves=60), people)


def test_weights_are_people() -> None:
    answers = np.array([[0, 0, 0, 1]], np.uint8)
    labels = np.array([0, 0, 1, 1], np.int32)
    even = grow_apart(answers, labels, np.ones(4), 2, max_leaves=1)
    heavy = grow_apart(answers, labels, np.array([1.0, 1.0, 1.0, 9.0]), 2, max_leaves=1)
    assert (even.label.tolist(), heavy.label.tolist()) == ([0], [1])


def test_clusters_that_no_question_tells_apart_share_a_leaf() -> None:
    tree = grow_apart(np.zeros((2, 10), np.uint8), np.arange(10, dtype=np.int32) % 3, np.ones(10), 4, max_leaves=4)
    assert tree.question.tolist() == [LEAF]
    nobody = grow_apart(np.zeros((0, 3), np.uint8), np.array([2, 2, 1], np.int32), np.ones(3), 3, max_leaves=3)
    assert nobody.label.tolist() == [2]


def test_the_tree_that_is_right_more_often_is_kept() -> None:
    grown, judged = grid(noise=0.2), grid(noise=0.2, seed=1)
    both = tuple(np.concatenate(parts, axis=-1) for parts in zip(grown, judged, strict=True))
    for max_leaves in (3, 9, 18):
        kept = few_leaves(grown, judged, 9, max_leaves=max_leaves)
        pure, parting = grow(*both, max_leaves=max_leaves), grow_apart(*both, 9, max_leaves=max_leaves)
        ways = [right(grow(*grown, max_leaves=max_leaves), judged),
                right(grow_apart(*grown, 9, max_leaves=max_leaves), judged)]  # fmt: skip
        wanted = pure if ways[0] >= ways[1] else parting
        assert kept.question.tolist() == wanted.question.tolist()
        assert kept.cut.tolist() == wanted.cut.tolist()
