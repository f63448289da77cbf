"""Scores: rules that ask for enough of their conditions, not for all; and both kinds of rule as terms with points.

    bins (n_predicates, n_rows), Score  ->  the rows that have enough points

A conjunction is the score whose every condition gives one point and is needed, so whatever applies a rule, in counts,
SQL or words, takes `rule_terms` of it. How scores are found is in score_search.py.

Source: M-of-N rules (Towell & Shavlik, "Extracting refined rules from knowledge-based neural networks", Machine
Learning 13, 1993).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine.explain.binning.binner import Bins
from engine.explain.binning.predicates import YES
from engine.explain.rules.decision_tree import Ranges

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Term:
    """A condition of a rule, the bin of a predicate from `low` to `high`, and the points that it gives."""

    predicate: int
    low: int
    high: int
    points: int = 1

    def holds(self, bins: Bins) -> Mask:
        """Return which rows the condition holds for, of shape (n_rows,)."""
        line = bins[self.predicate]
        holds: Mask = (line >= self.low) & (line <= self.high)
        return holds


@dataclass(frozen=True)
class Score:
    """Conditions with points, and the points from which on a person matches."""

    terms: tuple[Term, ...]
    needed: int


AnyRule = Ranges | Score  # a conjunction or a score


def rule_terms(rule: AnyRule) -> tuple[tuple[Term, ...], int]:
    """Return the terms of a rule, and the points needed: of a conjunction, all."""
    if isinstance(rule, Score):
        return rule.terms, rule.needed
    terms = tuple(Term(predicate, low, high) for predicate, (low, high) in rule.items())
    return terms, len(terms)


def match_rule(rule: AnyRule, bins: Bins) -> Mask:
    """Return which rows a rule matches, of shape (n_rows,)."""
    terms, needed = rule_terms(rule)
    points = np.zeros(bins.shape[1], np.uint8)
    for term in terms:
        points += np.uint8(term.points) * term.holds(bins)
    return points >= needed


def affirm_rule(rule: AnyRule, complement: Mapping[int, int]) -> AnyRule:
    """Return a rule that says "gender is F" where that is what "gender is not M" means.

    Parameters
    ----------
    rule : Ranges or Score
    complement : mapping of predicate to predicate
        Of each of two categories that divide all people between them, the other one.
    """

    def affirm(term: Term) -> Term:
        denies = (term.low, term.high) == (0, 0) and term.predicate in complement
        return replace(term, predicate=complement[term.predicate], low=YES, high=YES) if denies else term

    if isinstance(rule, Score):
        return Score(tuple(map(affirm, rule.terms)), rule.needed)
    return {term.predicate: (term.low, term.high) for term in map(affirm, rule_terms(rule)[0])}
