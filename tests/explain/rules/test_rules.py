"""Trees, rules and their scores: planted rules come back, simplified, and all counts are what plain loops count."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import blocks as block
from engine.config import ExplainConfig
from engine.explain.binning.predicates import Question
from engine.explain.row_sample import PickedRows, stratified
from engine.explain.rules.conditions import Condition, rule_words
from engine.explain.rules.decision_tree import LEAF, Ranges, grow, pruned, telling_questions
from engine.explain.rules.explanation import opposites
from engine.explain.rules.rules import find_rules, matched_by
from engine.tables import open_table

AGE = Question("age", "age", "number", cuts=(20.0, 27.0, 40.0), whole=True, unit="years")
SHARE = Question("share_Documentary", "Documentary share", "number", cuts=(0.18, 0.5), unit="share of ratings")
PREMIUM, BASIC = (Question("plan", "plan", "category", value) for value in ("Premium", "Basic"))


def drawn(seed: int, n_rows: int = 900) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    answers = rng.integers(0, 4, (5, n_rows)).astype(np.uint8)
    labels = ((answers[0] >= 2).astype(np.int32) + 2 * (answers[1] == 0)).astype(np.int32)
    return answers, labels, np.ones(n_rows)


def test_a_rule_reads_as_a_person_would_say_it() -> None:
    rule = [Condition(PREMIUM, 1, 1), Condition(AGE, 0, 1), Condition(SHARE, 1, 2)]
    assert rule_words(rule) == "plan is Premium and age < 27 and Documentary share ≥ 18 %"
    assert rule_words([Condition(PREMIUM, 0, 0), Condition(BASIC, 0, 0)]) == "plan is neither Premium nor Basic"
    assert rule_words([Condition(BASIC, 0, 0)]) == "plan is not Basic"
    assert (
        rule_words([Condition(AGE, 1, 1), Condition(SHARE, 1, 1)])
        == "20 ≤ age < 27 and 18 % ≤ Documentary share < 50 %"
    )
    assert rule_words([]) == "everybody"
    smoker, stroke, gout = (Question(name, name, "truth", cuts=(1.0,)) for name in ("smoker", "stroke", "gout"))
    both = [Condition(smoker, 0, 0), Condition(AGE, 2, 3), Condition(stroke, 0, 0)]
    assert rule_words(both) == "age ≥ 27 and neither smoker nor stroke"
    assert rule_words([*both, Condition(gout, 0, 0)]) == "age ≥ 27 and none of smoker, stroke and gout"
    assert rule_words([Condition(gout, 0, 0), Condition(stroke, 1, 1)]) == "gout is no and stroke is yes"


def test_numbers_that_all_have_names_are_asked_for_by_them() -> None:
    names = (("1", "excellent"), ("2", "good"), ("3", "fair"), ("4", "poor"), ("5", "very poor"))
    health = Question("h", "health", "number", cuts=(2.0, 3.0, 4.0, 5.0), whole=True, meanings=names)
    assert Condition(health, 2, 4).words() == "health is fair, poor or very poor"
    assert Condition(health, 0, 3).words() == "health is excellent … poor"
    assert Condition(health, 1, 1).words() == "health is good"
    some = Question("h", "health", "number", cuts=(2.0, 3.0), whole=True, meanings=names[::2])
    assert Condition(some, 2, 2).words() == "health ≥ 3 (fair)"


def test_of_two_answers_the_one_they_give_is_said() -> None:
    gender = [Question("g", "gender", "category", value) for value in ("F", "M")]
    answers = np.array([[1, 0, 0], [0, 1, 1]], np.uint8)
    assert opposites((*gender, AGE), np.vstack([answers, [[0, 1, 2]]])) == {0: 1, 1: 0}
    assert opposites(tuple(gender), np.array([[1, 0, 0], [0, 1, 0]], np.uint8)) == {}


@pytest.mark.parametrize(
    ("question", "yes", "no"),
    [
        (Question("d", "devices", "label", "TV"), "devices include TV", "devices do not include TV"),
        (Question("l", "language", "label", "R"), "language includes R", "language lacks R"),
        (Question("c", "city", "rare category"), "city is one of the rarer ones", "city is none of the rarer ones"),
        (Question("g", "gender", "missing"), "gender is not given", "gender is given"),
        (Question("k", "has kids", "truth", cuts=(1.0,)), "has kids", "has no kids"),
        (Question("k", "is student", "truth", cuts=(1.0,)), "is student", "is not student"),
        (Question("s", "smoker", "truth", cuts=(1.0,)), "smoker is yes", "smoker is no"),
        (Question("s", "group", "truth", cuts=(2.0,), low=1.0), "group is 2", "group is 1"),
        (Question("s", "sex", "truth", cuts=(1.0,), meanings=(("1", "m"), ("0", "f"))), "sex is m", "sex is f"),
    ],
)  # fmt: skip
def test_every_kind_of_condition_has_words(question: Question, yes: str, no: str) -> None:
    assert (Condition(question, 1, 1).words(), Condition(question, 0, 0).words()) == (yes, no)


def test_planted_rules_come_back_without_redundant_bounds() -> None:
    answers, labels, weights = drawn(0)
    n_answers, asked = [4] * 5, np.arange(5)
    for cluster, expected in ((0, {0: (0, 1), 1: (1, 3)}), (3, {0: (2, 3), 1: (0, 0)})):
        tree = grow(answers, (labels == cluster).astype(np.int32), weights, max_depth=6)
        found = find_rules(tree, answers, labels == cluster, weights, n_answers, ExplainConfig(), questions=asked)
        assert found.precise
        assert found.rules == (expected,)


def test_a_cluster_without_a_precise_rule_gets_its_best_one_and_says_so() -> None:
    answers, _, weights = drawn(1)
    member = np.random.default_rng(2).random(900) < np.where(answers[0] >= 2, 0.6, 0.1)
    tree = grow(answers, member.astype(np.int32), weights, max_depth=2)
    found = find_rules(tree, answers, member, weights, [4] * 5, ExplainConfig(), questions=np.arange(5))
    assert not found.precise
    assert len(found.rules) == 1
    assert member[matched_by(found.rules[0], answers)].mean() > 0.5


def test_a_further_rule_is_as_precise_among_whom_no_rule_matches_yet() -> None:
    answers, _, weights = drawn(5, 3000)
    first = answers[0] == 0
    second = (answers[1] == 3) & (answers[2] >= 2)
    member = first | second
    near = {0: (0, 0)}
    tree = grow(answers[:, ~first], member[~first].astype(np.int32), weights[~first], max_depth=4)
    config = ExplainConfig(max_rules=2)
    found = find_rules(tree, answers, member, weights, [4] * 5, config, questions=np.arange(5), taken=(near,))
    assert found.rules == (near, {1: (3, 3), 2: (2, 3)})


def test_whom_a_taken_rule_matches_cannot_excuse_whom_a_further_one_matches_wrongly() -> None:
    place = np.arange(1000)
    answers = np.stack([place >= 800, place % 2]).astype(np.uint8)
    member = (answers[0] == 0) | ((answers[1] == 0) & (place % 10 < 6))  # three of five further ones
    tree = grow(answers[1:], member.astype(np.int32), np.ones(1000), max_depth=1)
    near, config = {0: (0, 0)}, ExplainConfig(min_precision=0.9)

    def found(taken: tuple[Ranges, ...]) -> tuple[Ranges, ...]:
        asked = np.array([1])
        return find_rules(tree, answers, member, np.ones(1000), [2], config, questions=asked, taken=taken).rules

    assert found(()) == ({1: (0, 0)},)
    assert found((near,)) == (near,)


def test_rules_match_no_fewer_people_than_may_show() -> None:
    answers, _, weights = drawn(3)
    member = np.zeros(900, bool)
    member[:8] = True
    tree = grow(answers, member.astype(np.int32), weights)
    config = ExplainConfig(min_people=9, min_precision=0.01)
    assert find_rules(tree, answers, member, weights, [4] * 5, config, questions=np.arange(5)).rules == ()


@given(st.integers(0, 1000))
@settings(max_examples=20)
def test_pruning_never_loses_a_held_out_person(seed: int) -> None:
    rng = np.random.default_rng(seed)
    answers, labels, weights = drawn(seed, 300)
    labels = np.where(rng.random(300) < 0.3, rng.integers(0, 4, 300), labels).astype(np.int32)
    held, held_labels, held_weights = drawn(seed + 1, 200)
    held_weights = held_weights * rng.integers(1, 5, 200)
    tree = grow(answers, labels, weights)
    small = pruned(tree, held, held_labels, held_weights)
    right = [float(held_weights[t.predict(held) == held_labels].sum()) for t in (tree, small)]
    assert right[1] >= right[0]
    assert len(small.leaves) <= len(tree.leaves)
    for node, ranges in enumerate(small.paths([4] * 5)):
        if small.question[node] == LEAF:
            assert ((small.leaf_of(held) == node) == matched_by(ranges, held)).all()


def test_the_most_telling_question_comes_first() -> None:
    answers, labels, weights = drawn(4)
    telling = telling_questions(answers, labels, weights, 4, 2)
    assert telling.shape == (4, 2)
    assert set(telling[0]) == {0, 1}


def test_small_clusters_get_their_quota_and_weights_add_up_to_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block, "BLOCK_ROWS", 256)
    labels = (np.arange(5000) % 500 == 0).astype(np.int32)  # 10 of 5,000
    labels[17] = 2
    table = open_table(pa.table({"x": np.arange(5000)}))
    kept = PickedRows.drawn(5000, 200, seed=0)
    for part in table.blocks(["x"]):
        kept.collect(kept.observe(part))
    sample = stratified(table, kept, labels, 4, quota=8, columns=["x"], seed=0)
    assert sample.table["x"].to_pylist() == sample.rows.tolist()
    assert (np.diff(sample.rows) > 0).all()
    assert (sample.labels == labels[sample.rows]).all()
    assert np.bincount(sample.labels, minlength=4).tolist()[1:] == [8, 1, 0]
    assert np.bincount(sample.labels, sample.weights, 4) == pytest.approx([4989, 10, 1, 0])
