"""Limits of rules and sentences hold up to the limit itself: a share of 0.3, a half, the least precision."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import engine
from engine.config import FitConfig
from engine.explain.binning.predicates import Predicate
from engine.explain.personas.effect_sizes import EffectSize
from engine.explain.personas.sentences import _missing_clauses
from engine.explain.rules.rules import PRIOR_ERRORS, _RuleEvaluator
from tests.explain.people import people


def open_column(overall_value: float, cluster_value: float, difference: float) -> Any:
    """Return what _missing_clauses reads of an effect size."""
    names = {field.name for field in dataclasses.fields(EffectSize)}
    assert {"feature", "cluster_value", "overall_value", "difference"} <= names
    feature = Predicate("income", "income", "missing")
    return SimpleNamespace(
        feature=feature, cluster_value=cluster_value, overall_value=overall_value, difference=difference, strength=1.0
    )


@pytest.mark.parametrize(("overall_value", "told"), [(0.3, True), (0.2999, False)])
def test_a_column_that_three_tenths_leave_open_is_one_that_others_leave_open(overall_value: float, told: bool) -> None:
    clauses = _missing_clauses([open_column(overall_value, 0.0, -1.0)])
    assert clauses == (["they mostly answer what others leave open: income"] if told else [])


@pytest.mark.parametrize(("cluster_value", "told"), [(0.5, True), (0.4999, False)])
def test_a_column_that_half_of_them_leave_open_is_mostly_left_open(cluster_value: float, told: bool) -> None:
    clauses = _missing_clauses([open_column(0.1, cluster_value, 1.0)])
    assert clauses == (["they mostly leave open income"] if told else [])


def evaluator(n_matched: int, n_right: int) -> tuple[_RuleEvaluator, float]:
    """Return the evaluator of a cluster, with a rule of n_matched people; and the precision of this rule."""
    bins = np.zeros((1, 100), np.uint8)
    bins[0, :n_matched] = 1
    in_cluster = np.zeros(100, bool)
    in_cluster[n_matched - n_right : n_matched + 10] = True
    return _RuleEvaluator(bins, in_cluster, np.ones(100), {0: 2}, ()), n_right / (n_matched + PRIOR_ERRORS)


def test_a_rule_whose_precision_is_the_least_is_selected() -> None:
    rules, precision = evaluator(20, 18)
    rule = {0: (1, 1)}
    assert rules.precision(rules.match(rule)) == precision
    assert rules.select([rule], 3, precision) == [rule]
    assert rules.select([rule], 3, np.nextafter(precision, 1.0)) == []


def test_a_shorter_rule_whose_precision_is_the_least_is_taken() -> None:
    bins = np.vstack([np.repeat([1, 0], [20, 80]), np.repeat([1, 0], [40, 60])]).astype(np.uint8)
    in_cluster = np.arange(100) < 18
    rules = _RuleEvaluator(bins, in_cluster, np.ones(100), {0: 2, 1: 2}, ())
    precision = rules.precision(rules.match({0: (1, 1)}))
    assert rules.simplify({0: (1, 1), 1: (1, 1)}, precision) == {0: (1, 1)}
    assert rules.simplify({0: (1, 1)}, precision) == {0: (1, 1)}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> engine.Run:
    config = FitConfig.merge({}, explain={"min_people": 5, "sample_rows": 600}, skip=["map", "report"])
    return engine.fit(people(), out=tmp_path_factory.mktemp("limits") / "run", id="who", n_clusters=6, config=config)


def test_shares_are_written_with_four_digits(run: engine.Run) -> None:
    document = json.loads((run.path / "rules.json").read_text())
    shares = [
        part[name]
        for cluster in document["clusters"]
        for part in (cluster, *cluster["rules"])
        for name in ("precision", "coverage")
    ]
    shares += [document["full"]["fidelity"], document["full"]["fidelity_unseen"]]
    assert [share for share in shares if share != round(share, 4)] == []
    assert any(share != round(share, 3) for share in shares)
