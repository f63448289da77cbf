"""Permutation importance: what a tree loses if a column is shuffled."""

import numpy as np
import pytest

from engine.explain.binning.predicates import Predicate
from engine.explain.rules.decision_tree import grow_tree
from engine.explain.rules.permutation import permutation_importance

N = 4000


def predicate(column: str, value: str) -> Predicate:
    return Predicate(column, column, "category", value=value)


def rows(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return bins of a column of three values, of one that is yes or no, and of noise; clusters by the first two."""
    random = np.random.default_rng(seed)
    plan, owner, noise = random.integers(3, size=N), random.random(N) < 0.2, random.integers(2, size=N)
    bins = np.vstack([plan == 0, plan == 1, owner, noise]).astype(np.uint8)
    return bins, (2 * (plan == 0) + owner).astype(np.int32), np.ones(N)


PREDICATES = [predicate("plan", "a"), predicate("plan", "b"), predicate("owner", "yes"), predicate("noise", "yes")]


def test_importance_is_the_accuracy_that_shuffling_costs():
    bins, labels, weights = rows()
    importance = permutation_importance(grow_tree(bins, labels, weights), PREDICATES, (bins, labels, weights))
    # A shuffled yes or no of share p is right for p^2 + (1 - p)^2 of the people.
    assert importance["plan"] == pytest.approx(1 - (1 / 9 + 4 / 9), abs=0.03)
    assert importance["owner"] == pytest.approx(1 - (0.04 + 0.64), abs=0.03)
    assert "noise" not in importance


def test_shuffled_values_are_those_of_everybody():
    # One in a hundred people is an owner, and half of the sampled rows: without weights, the importance would be 0.5.
    owner = np.arange(N) % 2
    bins, labels = owner[None].astype(np.uint8), owner.astype(np.int32)
    weights = np.where(owner == 1, 1.0, 99.0)
    importance = permutation_importance(grow_tree(bins, labels, weights), PREDICATES[2:3], (bins, labels, weights))
    assert importance["owner"] == pytest.approx(1 - (0.0001 + 0.9801), abs=0.01)


def test_a_column_of_several_predicates_has_one_importance():
    bins, _, weights = rows()
    labels = (bins[0] + 2 * bins[1]).astype(np.int32)
    tree = grow_tree(bins, labels, weights)
    assert set(tree.predicate.tolist()) == {-1, 0, 1}
    importance = permutation_importance(tree, PREDICATES, (bins, labels, weights))
    assert list(importance) == ["plan"]
    assert importance["plan"] == pytest.approx(2 / 3, abs=0.03)
    assert importance == permutation_importance(tree, PREDICATES, (bins, labels, weights))
