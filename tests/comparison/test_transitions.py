"""What became of clusters: every verdict on a few people, the matching, and the adjusted Rand index."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linear_sum_assignment

from engine.comparison.transitions import NONE, Change, Changes, changes


def judged(moves: list[list[int]]) -> Changes:
    counts = np.array(moves)
    total = max(counts.sum(), 1)
    return changes(counts, counts.sum(axis=1) / total, counts.sum(axis=0) / total)


def test_numbers_may_change_and_clusters_live_on() -> None:
    found = judged([[0, 90, 2], [1, 3, 80], [70, 0, 0]])
    assert [(c.verdict, c.others) for c in found.old] == [("kept", (1,)), ("kept", (2,)), ("kept", (0,))]
    assert [(c.verdict, c.others) for c in found.new] == [("kept", (2,)), ("kept", (0,)), ("kept", (1,))]
    assert found.matched.tolist() == [1, 2, 0]


def test_a_share_that_changed_by_a_fifth_is_growth() -> None:
    found = judged([[100, 0, 0], [45, 60, 0], [0, 0, 300]])
    assert found.old == (Change(0, "grown", (0,)), Change(1, "shrunk", (1,)), Change(2, "kept", (2,)))
    assert found.new == (Change(0, "grown", (0,)), Change(1, "shrunk", (1,)), Change(2, "kept", (2,)))


def test_two_parts_of_a_fifth_are_a_split() -> None:
    found = judged([[70, 30, 0], [0, 0, 100]])
    assert found.old[0] == Change(0, "split", (0, 1))
    assert found.new[:2] == (Change(0, "split", (0,)), Change(1, "split", (0,)))
    assert found.matched.tolist() == [0, 2]
    chip = judged([[90, 10, 0], [0, 0, 100]])  # a tenth that went is not a part, but it came from somewhere
    assert chip.old[0] == Change(0, "kept", (0,))
    assert chip.new[1] == Change(1, "split", (0,))


def test_two_sources_of_a_fifth_are_a_merger() -> None:
    found = judged([[70, 0], [30, 0], [0, 100]])
    assert found.old[:2] == (Change(0, "merged", (0,)), Change(1, "merged", (0,)))
    assert found.new[0] == Change(0, "merged", (0, 1))
    assert found.matched.tolist() == [0, NONE, 1]
    swallowed = judged([[1000, 0], [30, 0], [0, 100]])
    assert swallowed.old[:2] == (Change(0, "kept", (0,)), Change(1, "merged", (0,)))
    assert swallowed.new[0] == Change(0, "kept", (0,))


def test_a_cluster_without_a_majority_anywhere_died_and_one_of_no_majority_was_born() -> None:
    found = judged([[20, 20, 20, 0], [0, 100, 0, 50], [0, 0, 100, 50], [100, 0, 0, 50]])
    assert found.old[0] == Change(0, "died")
    assert found.new[3] == Change(3, "born")
    assert found.matched.tolist() == [NONE, 1, 2, 0]


def test_clusters_of_nobody_in_both_runs_died_and_were_born() -> None:
    found = judged([[50, 0], [0, 0]])
    assert found.old == (Change(0, "kept", (0,)), Change(1, "died"))
    assert found.new == (Change(0, "kept", (0,)), Change(1, "born"))
    assert found.matched.tolist() == [0, NONE]


def test_what_lives_on_is_matched_to_itself_even_if_fewer_would_move_otherwise() -> None:
    moves = np.zeros((7, 7), int)
    moves[0, :2], moves[1, 0] = (51, 49), 49
    moves[1, 2:] = moves[2:, 1] = 10
    assert linear_sum_assignment(moves, maximize=True)[1][:2].tolist() == [1, 0]
    found = judged(moves.tolist())
    assert (found.old[0].verdict, found.old[0].others) == ("kept", (0,))
    assert found.matched[0] == 0


SMALL = arrays(np.int64, st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=st.integers(0, 9))


@given(SMALL)
def test_verdicts_of_both_runs_agree(moves: np.ndarray) -> None:
    found = judged(moves.tolist())
    alive = ("kept", "grown", "shrunk")
    pairs = {(c.cluster, *c.others) for c in found.old if c.verdict in alive}
    assert pairs == {(*c.others, c.cluster) for c in found.new if c.verdict in alive}
    assert all(found.matched[old] == new for old, new in pairs)
    partners = found.matched[found.matched != NONE]
    assert len(set(partners.tolist())) == len(partners)
    turned = judged(moves.T.tolist())
    mirror = {"split": "merged", "merged": "split", "born": "died", "died": "born", "grown": "shrunk",
              "shrunk": "grown", "kept": "kept"}  # fmt: skip
    assert [Change(c.cluster, mirror[c.verdict], c.others) for c in turned.new] == list(found.old)
