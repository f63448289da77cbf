"""Scores: found on planted clusters, checked on validation rows, and their points against all ways to give points."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from engine.explain.rules import score_search
from engine.explain.rules.rules import RuleSet
from engine.explain.rules.score_search import find_score, prefer_score
from engine.explain.rules.scores import Score, Term, affirm_rule, match_rule, rule_terms
from engine.kernels.cpu.explain.scores import best_points, best_range_beside

N = 4000


def answers(seed: int = 0, n_columns: int = 8) -> Any:
    """Return bins of yes-no answers."""
    return (np.random.default_rng(seed).random((n_columns, N)) < 0.5).astype(np.uint8)


def find(bins: Any, member: Any, min_precision: float = 0.9) -> Score | None:
    n_bins = {number: int(line.max()) + 1 for number, line in enumerate(bins)}
    return find_score(bins, member, np.ones(N), n_bins, min_precision)


def test_a_cluster_of_enough_answers_is_found_as_such() -> None:
    bins = answers()
    member = bins[:6].sum(axis=0) >= 4
    score = find(bins, member)
    assert score is not None
    assert sorted((t.predicate, t.low, t.high, t.points) for t in score.terms) == [(q, 1, 1, 1) for q in range(6)]
    assert score.needed == 4


def test_answers_that_count_more_have_more_points() -> None:
    bins = answers(1)
    member = 3 * bins[0].astype(int) + 2 * bins[1] + bins[2] + bins[3] + (1 - bins[4]) >= 5
    score = find(bins, member, min_precision=0.98)
    assert score is not None
    assert (match_rule(score, bins) == member).mean() > 0.98
    points = {t.predicate: (t.low, t.points) for t in score.terms}
    assert points[0][1] > points[2][1]
    assert points[4][0] == 0


def test_ranges_of_numbers_are_conditions_of_a_score() -> None:
    rng = np.random.default_rng(2)
    bins = rng.integers(0, 30, (4, N)).astype(np.uint8)
    member = ((bins >= 10) & (bins < 20)).sum(axis=0) >= 2
    score = find(bins, member, min_precision=0.8)
    assert score is not None
    matched = match_rule(score, bins)
    assert member[matched].mean() >= 0.8
    assert matched[member].mean() >= 0.8
    assert any(t.low > 0 and t.high < 29 for t in score.terms)


def test_a_cluster_that_nothing_tells_apart_has_no_score() -> None:
    member = np.random.default_rng(3).random(N) < 0.2
    assert find(answers(3), member) is None


def test_members_of_every_weight_count_as_the_people_they_stand_for() -> None:
    """Rows outside that stand for many people cost as much precision as many rows."""
    bins = answers(4)
    member = bins[:3].sum(axis=0) == 3
    weights = np.where(member, 1.0, 100.0)
    score = find_score(bins, member, weights, dict.fromkeys(range(8), 2), 0.9)
    assert score is not None
    assert weights[match_rule(score, bins) & member].sum() / weights[match_rule(score, bins)].sum() >= 0.9


def worth_of(inside: float, outside: float, size: float, row: float, least: float, n_errors: float) -> float:
    """Return what people are worth, as score_search.py says it."""
    people = inside + outside + row
    precision = inside / people
    reached = precision - n_errors * np.sqrt(precision * (1 - precision) * row / people)
    return float(inside / size if reached >= least else reached - least - 1)


@pytest.mark.parametrize("most_others", [10, 200])  # with so many others, nothing is precise
@pytest.mark.parametrize("n_terms", range(1, 6))
def test_the_points_are_the_best_of_all(n_terms: int, most_others: int) -> None:
    rng = np.random.default_rng(n_terms)
    least, row, n_errors, cost, unequal = 0.8, 2.0, 1.0, 0.01, 0.02
    patterns = np.arange(1 << n_terms)
    members, others = rng.integers(0, 40, len(patterns)) * 1.0, rng.integers(0, most_others, len(patterns)) * 1.0
    points, needed, worth = best_points(patterns, members, others, n_terms, 3, row, least, n_errors, cost, unequal)

    def value(ways: Any, enough: int) -> float:
        matched = sum(way * (patterns >> bit & 1) for bit, way in enumerate(ways)) >= enough
        gain = worth_of(members[matched].sum(), others[matched].sum(), members.sum(), row, least, n_errors)
        return gain - cost * np.count_nonzero(ways) - unequal * (max(ways) > 1)

    ways = product(range(4), repeat=n_terms)
    every = [value(way, enough) for way in ways for enough in range(1, sum(way) + 1)]
    assert worth == pytest.approx(max(every))
    assert value(points.tolist(), needed) == pytest.approx(max(every))


@pytest.mark.parametrize("least", [0.2, 0.99])  # many ranges are precise, or none
@pytest.mark.parametrize("seed", range(3))
def test_the_range_is_the_best_beside_the_points_of_other_terms(seed: int, least: float) -> None:
    rng = np.random.default_rng(seed)
    n_cells, n_levels, row, n_errors = np.array([5, 2, 12]), 4, 1.5, 1.0
    lines = np.stack([rng.integers(0, n, N) for n in n_cells]).astype(np.uint8)
    points, member = rng.integers(0, n_levels, N), rng.random(N) < 0.3
    histograms, tails = np.zeros((3, 2 * n_levels, 12)), np.zeros((n_levels + 1, 2))
    for line in range(3):
        np.add.at(histograms[line], (2 * points + member, lines[line]), 1.0)
    for level in range(n_levels):
        tails[level] = [(~member[points >= level]).sum(), member[points >= level].sum()]
    settings = (member.sum() * 1.0, row, least, n_errors)

    def value(line: int, low: int, high: int, extra: int) -> float:
        total = points + extra * ((lines[line] >= low) & (lines[line] <= high))
        matched = [total >= needed for needed in range(1, n_levels + extra)]
        return max(worth_of(member[of].sum(), (~member[of]).sum(), *settings) for of in matched)

    ranges = [
        (line, low, high, extra)
        for line, n in enumerate(n_cells.tolist())
        for low in range(n)
        for high in range(low, n)
        for extra in range(1, 4)
        if (low, high) != (0, n - 1)
    ]
    best = max(value(*each) for each in ranges)
    worth, *found = best_range_beside(histograms, n_cells, tails, 3, *settings, -np.inf)
    assert worth == pytest.approx(best)
    assert value(*found) == pytest.approx(best)
    assert best_range_beside(histograms, n_cells, tails, 3, *settings, best - 1e-6)[1:] == tuple(found)
    assert best_range_beside(histograms, n_cells, tails, 3, *settings, best)[1] == -1


def test_points_of_the_same_conditions_are_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[bytes] = []

    def counted(patterns: Any, members: Any, *rest: Any) -> Any:
        searched.append(members.tobytes())
        return best_points(patterns, members, *rest)

    monkeypatch.setattr(score_search, "best_points", counted)
    bins = answers()
    start = [Term(q, 1, 1) for q in range(6)]
    score = find_score(bins, bins[:6].sum(axis=0) >= 4, np.ones(N), dict.fromkeys(range(8), 2), 0.9, start, 6)
    assert score is not None
    assert len(searched) == len(set(searched))


def test_a_score_takes_the_place_of_rules_only_where_it_covers_more_of_unseen_members() -> None:
    bins = answers(5)
    member = bins[:6].sum(axis=0) >= 4
    labels, weights = member.astype(np.int32), np.ones(N)
    half = np.arange(N) < N // 2
    parts = [(np.ascontiguousarray(bins[:, rows]), labels[rows], weights[rows]) for rows in (half, ~half)]
    few = RuleSet(({0: (1, 1), 1: (1, 1), 2: (1, 1), 3: (1, 1)},), precise=True)
    n_bins = dict.fromkeys(range(8), 2)
    chosen = prefer_score(few, *parts, 1, n_bins, 0.9)
    assert isinstance(chosen.rules[0], Score)
    assert prefer_score(chosen, *parts, 1, n_bins, 0.9) is chosen  # nothing is significantly better
    shuffled = (parts[1][0], np.random.default_rng(0).permutation(parts[1][1]), parts[1][2])
    assert prefer_score(few, parts[0], shuffled, 1, n_bins, 0.9) is few  # what was learned does not hold there
    empty = tuple(part[..., :0] for part in parts[1])
    assert prefer_score(few, parts[0], empty, 1, n_bins, 0.9) is few  # nothing to check it on


def test_complementary_categories_are_affirmed_in_both_kinds_of_rule() -> None:
    score = Score((Term(0, 0, 0, 2), Term(2, 0, 0)), 2)
    assert affirm_rule(score, {0: 1, 1: 0}) == Score((Term(1, 1, 1, 2), Term(2, 0, 0)), 2)
    assert affirm_rule({0: (0, 0), 2: (0, 0)}, {0: 1, 1: 0}) == {1: (1, 1), 2: (0, 0)}
    assert rule_terms({3: (1, 2)}) == ((Term(3, 1, 2),), 1)


def test_no_score_is_searched_where_rules_leave_too_few_members_out_to_be_better(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of four members that rules miss, a score that matches all of them would not gain significantly."""
    bins = answers(6, 2)
    rules = RuleSet(({0: (1, 1)},), precise=True)
    labels = bins[0].astype(np.int32)
    labels[np.flatnonzero(labels == 0)[:4]] = 1
    part = (bins, labels, np.ones(N))
    monkeypatch.setattr(score_search, "find_score", None)
    assert prefer_score(rules, part, part, 1, {0: 2, 1: 2}, 0.9) is rules
    labels[np.flatnonzero(labels == 0)[:1]] = 1
    with pytest.raises(TypeError):  # of five, it might
        prefer_score(rules, part, part, 1, {0: 2, 1: 2}, 0.9)
