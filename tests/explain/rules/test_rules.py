"""Trees and rules: planted rules are found and simplified, and pruning loses no held-out person."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config import ExplainConfig
from engine.explain.binning.predicates import Predicate
from engine.explain.row_sample import RowCollector, stratified_sample
from engine.explain.rules.conditions import Condition, conjunction_words, rule_words
from engine.explain.rules.decision_tree import LEAF, Ranges, grow_tree, prune_tree, select_predicates
from engine.explain.rules.explanation import find_complementary_categories
from engine.explain.rules.rules import find_rules
from engine.explain.rules.scores import match_rule
from engine.tables import open_table

AGE = Predicate("age", "age", "number", thresholds=(20.0, 27.0, 40.0), whole=True, unit="years")
SHARE = Predicate("share_Documentary", "Documentary share", "number", thresholds=(0.18, 0.5), unit="share of ratings")
PREMIUM, BASIC = (Predicate("plan", "plan", "category", value) for value in ("Premium", "Basic"))


def planted_rows(seed: int, n_rows: int = 900) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    bins = rng.integers(0, 4, (5, n_rows)).astype(np.uint8)
    labels = ((bins[0] >= 2).astype(np.int32) + 2 * (bins[1] == 0)).astype(np.int32)
    return bins, labels, np.ones(n_rows)


def test_a_rule_reads_as_a_person_would_say_it() -> None:
    rule = [Condition(PREMIUM, 1, 1), Condition(AGE, 0, 1), Condition(SHARE, 1, 2)]
    assert conjunction_words(rule) == "plan is Premium and age < 27 and Documentary share ≥ 18 %"
    assert conjunction_words([Condition(PREMIUM, 0, 0), Condition(BASIC, 0, 0)]) == "plan is neither Premium nor Basic"
    assert conjunction_words([Condition(BASIC, 0, 0)]) == "plan is not Basic"
    assert (
        conjunction_words([Condition(AGE, 1, 1), Condition(SHARE, 1, 1)])
        == "20 ≤ age < 27 and 18 % ≤ Documentary share < 50 %"
    )
    assert conjunction_words([]) == "everybody"
    smoker, stroke, gout = (Predicate(name, name, "truth", thresholds=(1.0,)) for name in ("smoker", "stroke", "gout"))
    both = [Condition(smoker, 0, 0), Condition(AGE, 2, 3), Condition(stroke, 0, 0)]
    assert conjunction_words(both) == "age ≥ 27 and neither smoker nor stroke"
    assert conjunction_words([*both, Condition(gout, 0, 0)]) == "age ≥ 27 and none of smoker, stroke and gout"
    assert conjunction_words([Condition(gout, 0, 0), Condition(stroke, 1, 1)]) == "gout is no and stroke is yes"


def test_numbers_that_all_have_meanings_are_put_into_those_words() -> None:
    names = (("1", "excellent"), ("2", "good"), ("3", "fair"), ("4", "poor"), ("5", "very poor"))
    health = Predicate("h", "health", "number", thresholds=(2.0, 3.0, 4.0, 5.0), whole=True, meanings=names)
    assert Condition(health, 2, 4).words() == "health is fair, poor or very poor"
    assert Condition(health, 0, 3).words() == "health is excellent … poor"
    assert Condition(health, 1, 1).words() == "health is good"
    some = Predicate("h", "health", "number", thresholds=(2.0, 3.0), whole=True, meanings=names[::2])
    assert Condition(some, 2, 2).words() == "health ≥ 3 (fair)"


def test_two_categories_that_divide_all_people_are_complementary() -> None:
    gender = [Predicate("g", "gender", "category", value) for value in ("F", "M")]
    bins = np.array([[1, 0, 0], [0, 1, 1]], np.uint8)
    assert find_complementary_categories((*gender, AGE), np.vstack([bins, [[0, 1, 2]]])) == {0: 1, 1: 0}
    assert find_complementary_categories(tuple(gender), np.array([[1, 0, 0], [0, 1, 0]], np.uint8)) == {}


@pytest.mark.parametrize(
    ("predicate", "yes", "no"),
    [
        (Predicate("d", "devices", "label", "TV"), "devices include TV", "devices do not include TV"),
        (Predicate("l", "language", "label", "R"), "language includes R", "language lacks R"),
        (Predicate("c", "city", "rare category"), "city is one of the rarer ones", "city is none of the rarer ones"),
        (Predicate("g", "gender", "missing"), "gender is not given", "gender is given"),
        (Predicate("k", "has kids", "truth", thresholds=(1.0,)), "has kids", "has no kids"),
        (Predicate("k", "is student", "truth", thresholds=(1.0,)), "is student", "is not student"),
        (Predicate("s", "smoker", "truth", thresholds=(1.0,)), "smoker is yes", "smoker is no"),
        (Predicate("s", "group", "truth", thresholds=(2.0,), lower_value=1.0), "group is 2", "group is 1"),
        (Predicate("s", "sex", "truth", thresholds=(1.0,), meanings=(("1", "m"), ("0", "f"))), "sex is m", "sex is f"),
    ],
)  # fmt: skip
def test_every_kind_of_condition_has_words(predicate: Predicate, yes: str, no: str) -> None:
    assert (Condition(predicate, 1, 1).words(), Condition(predicate, 0, 0).words()) == (yes, no)


def test_planted_rules_come_back_without_redundant_bounds() -> None:
    bins, labels, weights = planted_rows(0)
    n_bins, predicates = [4] * 5, np.arange(5)
    for cluster, expected in ((0, {0: (0, 1), 1: (1, 3)}), (3, {0: (2, 3), 1: (0, 0)})):
        tree = grow_tree(bins, (labels == cluster).astype(np.int32), weights, max_depth=6)
        rule_set = find_rules(tree, bins, labels == cluster, weights, n_bins, ExplainConfig(), predicates=predicates)
        assert rule_set.precise
        assert rule_set.rules == (expected,)


def test_a_cluster_without_a_precise_rule_gets_its_best_one_and_says_so() -> None:
    bins, _, weights = planted_rows(1)
    in_cluster = np.random.default_rng(2).random(900) < np.where(bins[0] >= 2, 0.6, 0.1)
    tree = grow_tree(bins, in_cluster.astype(np.int32), weights, max_depth=2)
    rule_set = find_rules(tree, bins, in_cluster, weights, [4] * 5, ExplainConfig(), predicates=np.arange(5))
    assert not rule_set.precise
    assert len(rule_set.rules) == 1
    assert in_cluster[match_rule(rule_set.rules[0], bins)].mean() > 0.5


def test_a_further_rule_is_found_on_rows_that_no_rule_matches_yet() -> None:
    bins, _, weights = planted_rows(5, 3000)
    first = bins[0] == 0
    second = (bins[1] == 3) & (bins[2] >= 2)
    in_cluster = first | second
    near = {0: (0, 0)}
    tree = grow_tree(bins[:, ~first], in_cluster[~first].astype(np.int32), weights[~first], max_depth=4)
    config = ExplainConfig(max_rules=2)
    rule_set = find_rules(tree, bins, in_cluster, weights, [4] * 5, config, predicates=np.arange(5), accepted=(near,))
    assert rule_set.rules == (near, {1: (3, 3), 2: (2, 3)})


def test_accepted_and_further_rules_are_max_rules_together() -> None:
    row = np.arange(1200)
    bins = (row // 300).astype(np.uint8)[None]
    bins = np.concatenate([bins, (row % 2).astype(np.uint8)[None]])
    in_cluster = (bins[0] == 0) | ((bins[0] != 0) & (bins[1] == 0))
    beside = bins[0] != 0
    tree = grow_tree(bins[:, beside], (in_cluster & (bins[0] != 2))[beside].astype(np.int32), np.ones(900), max_depth=3)
    near, found = {0: (0, 0)}, []
    for max_rules in (1, 2):
        config = ExplainConfig(max_rules=max_rules)
        rule_set = find_rules(
            tree, bins, in_cluster, np.ones(1200), [4, 2], config, predicates=np.arange(2), accepted=(near,)
        )
        found.append(len(rule_set.rules))
    assert found == [1, 2]


def test_people_of_an_accepted_rule_do_not_make_a_further_rule_more_precise() -> None:
    row = np.arange(1000)
    bins = np.stack([row >= 800, row % 2]).astype(np.uint8)
    in_cluster = (bins[0] == 0) | ((bins[1] == 0) & (row % 10 < 6))  # three of five further ones
    tree = grow_tree(bins[1:], in_cluster.astype(np.int32), np.ones(1000), max_depth=1)
    near, config = {0: (0, 0)}, ExplainConfig(min_precision=0.9)

    def rules_beside(accepted: tuple[Ranges, ...]) -> tuple[Ranges, ...]:
        predicates = np.array([1])
        return find_rules(
            tree, bins, in_cluster, np.ones(1000), [2], config, predicates=predicates, accepted=accepted
        ).rules

    assert rules_beside(()) == ({1: (0, 0)},)
    assert rules_beside((near,)) == (near,)


@pytest.mark.parametrize(
    ("n_wrong_in_first", "n_right_in_second", "accepted"),
    [
        (0, 85, True),  # the first rule leaves room for the second
        (0, 75, False),  # too imprecise by itself, though the union is precise
        (19, 85, False),  # of the union 0.90, which one standard error more takes below 0.9
    ],
)
def test_a_further_rule_may_be_less_precise_while_all_together_are_precise(
    n_wrong_in_first: int, n_right_in_second: int, accepted: bool
) -> None:
    row = np.arange(1000)
    bins = np.stack([row < 300, (row >= 300) & (row < 400)]).astype(np.uint8)
    in_cluster = ((row >= n_wrong_in_first) & (row < 300)) | ((row >= 300) & (row < 300 + n_right_in_second))
    tree = grow_tree(bins[1:], in_cluster.astype(np.int32), np.ones(1000), max_depth=1)
    first = {0: (1, 1)}
    rule_set = find_rules(
        tree, bins, in_cluster, np.ones(1000), [2], ExplainConfig(min_precision=0.9), predicates=np.array([1]),
        accepted=(first,),
    )  # fmt: skip
    assert rule_set.rules == ((first, {1: (1, 1)}) if accepted else (first,))


def test_rules_match_at_least_min_people() -> None:
    bins, _, weights = planted_rows(3)
    in_cluster = np.zeros(900, bool)
    in_cluster[:8] = True
    tree = grow_tree(bins, in_cluster.astype(np.int32), weights)
    config = ExplainConfig(min_people=9, min_precision=0.01)
    assert find_rules(tree, bins, in_cluster, weights, [4] * 5, config, predicates=np.arange(5)).rules == ()


@given(st.integers(0, 1000))
@settings(max_examples=20)
def test_pruning_never_loses_a_held_out_person(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bins, labels, weights = planted_rows(seed, 300)
    labels = np.where(rng.random(300) < 0.3, rng.integers(0, 4, 300), labels).astype(np.int32)
    held, held_labels, held_weights = planted_rows(seed + 1, 200)
    held_weights = held_weights * rng.integers(1, 5, 200)
    tree = grow_tree(bins, labels, weights)
    small = prune_tree(tree, held, held_labels, held_weights)
    n_correct = [float(held_weights[t.predict(held) == held_labels].sum()) for t in (tree, small)]
    assert n_correct[1] >= n_correct[0]
    assert len(small.leaves) <= len(tree.leaves)
    for node, ranges in enumerate(small.paths([4] * 5)):
        if small.predicate[node] == LEAF:
            assert ((small.apply(held) == node) == match_rule(ranges, held)).all()


def test_the_predicates_that_separate_a_cluster_best_are_selected() -> None:
    bins, labels, weights = planted_rows(4)
    selected = select_predicates(bins, labels, weights, 4, 2)
    assert selected.shape == (4, 2)
    assert set(selected[0]) == {0, 1}


def test_small_clusters_get_their_quota_and_weights_add_up_to_sizes(block_rows: Callable[[int], None]) -> None:
    block_rows(256)
    labels = (np.arange(5000) % 500 == 0).astype(np.int32)  # 10 of 5,000
    labels[17] = 2
    table = open_table(pa.table({"x": np.arange(5000)}))
    collector = RowCollector.draw(5000, 200, seed=0)
    for part in table.blocks(["x"]):
        collector.collect(collector.observe(part))
    sample = stratified_sample(table, collector, labels, 4, quota=8, columns=["x"], seed=0)
    assert sample.table["x"].to_pylist() == sample.rows.tolist()
    assert (np.diff(sample.rows) > 0).all()
    assert (sample.labels == labels[sample.rows]).all()
    assert np.bincount(sample.labels, minlength=4).tolist()[1:] == [8, 1, 0]
    assert np.bincount(sample.labels, sample.weights, 4) == pytest.approx([4989, 10, 1, 0])


def test_a_score_says_what_is_needed_always_and_how_much_of_the_rest() -> None:
    def yes(name: str) -> Condition:
        return Condition(Predicate(name, name, "label", "x"), 1, 1)

    a, b, c, d = (yes(name) for name in "abcd")
    words = [condition.words() for condition in (a, b, c, d)]
    assert rule_words([a, b], [1, 1], 2) == f"{words[0]} and {words[1]}"
    assert rule_words([a, b, c], [1, 1, 1], 2) == f"at least 2 of these 3: {words[0]}; {words[1]}; {words[2]}"
    # b lacks one point at most: 3 of 2, 2, 2 points are two of three conditions
    assert rule_words([a, b, c], [2, 2, 2], 3) == f"at least 2 of these 3: {words[0]}; {words[1]}; {words[2]}"
    assert rule_words([a, b, c, d], [3, 1, 1, 1], 5) == (
        f"{words[0]} and at least 2 of these 3: {words[1]}; {words[2]}; {words[3]}"
    )
    assert rule_words([a, b, c, d], [3, 2, 1, 1], 5) == (
        f"{words[0]} and at least 2 of these 4 points: "
        f"{words[1]} (2 points); {words[2]} (1 point); {words[3]} (1 point)"
    )


def test_a_score_does_not_ask_for_conditions_that_exclude_each_other() -> None:
    young, old, premium = Condition(AGE, 0, 0), Condition(AGE, 2, 2), Condition(PREMIUM, 1, 1)
    basic, flag = Condition(BASIC, 1, 1), Condition(Predicate("x", "x", "label", "y"), 1, 1)
    ages = f"{young.words()}; {old.words()}"
    assert rule_words([young, flag, old], [1, 1, 1], 2) == f"{flag.words()} and at least 1 of these 2: {ages}"
    plans = f"{premium.words()}; {basic.words()}"
    assert rule_words([premium, basic, flag], [1, 1, 1], 2) == f"{flag.words()} and at least 1 of these 2: {plans}"
    # nobody has both plans, so of 2 + 1 + 1 points there are 3
    listed = f"{premium.words()} (2 points); {basic.words()} (1 point); {flag.words()} (1 point)"
    assert rule_words([premium, basic, flag], [2, 1, 1], 1) == f"at least 1 of these 3 points: {listed}"
    # a narrower range within a wider one gives its points as well
    wide = Condition(AGE, 0, 1)
    assert rule_words([young, wide, flag], [1, 1, 1], 3) == conjunction_words([young, wide, flag])
    assert rule_words([young, wide, flag], [1, 1, 1], 2).startswith("at least 2 of these 3: ")
    other, rare = Condition(BASIC, 0, 0), Condition(Predicate("plan", "plan", "rare category"), 1, 1)
    assert rule_words([premium, other, flag], [1, 1, 1], 3) == conjunction_words([premium, other, flag])
    assert rule_words([rare, premium, flag], [1, 1, 1], 2).startswith(f"{flag.words()} and at least 1 of these 2: ")
