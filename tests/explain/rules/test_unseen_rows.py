"""Rules are checked on rows that nothing was learned from, where enough of them can tell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.explain.rules.explanation import _check_on_unseen
from engine.explain.rules.rules import RuleSet

RULES = RuleSet(({0: (1, 1)},), precise=True)


def unseen(n_right: int, n_wrong: int, n_others: int) -> Any:
    """Return rows of cluster 1 and of cluster 0 that the rule matches, and others of cluster 1."""
    matched = np.repeat([1, 1, 0], [n_right, n_wrong, n_others])
    labels = np.repeat([1, 0, 1], [n_right, n_wrong, n_others])
    return matched[None].astype(np.uint8), labels.astype(np.int32), np.ones(len(labels))


@pytest.mark.parametrize(
    ("n_right", "n_wrong", "precise"),
    [(90, 10, True), (86, 14, True), (60, 40, False), (3, 2, True), (1, 4, False), (1, 1, True)],
)
def test_rules_that_are_significantly_less_precise_are_not_called_precise(
    n_right: int, n_wrong: int, precise: bool
) -> None:
    checked = _check_on_unseen(RULES, unseen(n_right, n_wrong, 5), 1, 0.85)
    assert checked == RuleSet(RULES.rules, precise)
    imprecise = RuleSet(RULES.rules, precise=False)
    assert _check_on_unseen(imprecise, unseen(n_right, n_wrong, 5), 1, 0.85) == imprecise


@pytest.mark.parametrize(("n_right", "n_others", "left"), [(5, 95, False), (15, 85, True), (1, 3, True), (1, 9, True)])
def test_rules_that_cover_too_little_of_the_cluster_are_left_out(n_right: int, n_others: int, left: bool) -> None:
    checked = _check_on_unseen(RULES, unseen(n_right, 0, n_others), 1, 0.85)
    assert bool(checked.rules) == left


def test_without_unseen_rows_of_the_cluster_nothing_is_decided() -> None:
    bins, labels, weights = unseen(4, 0, 4)
    assert _check_on_unseen(RULES, (bins, labels * 0, weights), 1, 0.85) == RULES
    assert _check_on_unseen(RULES, (bins * 0, labels, weights), 1, 0.85) == RULES
