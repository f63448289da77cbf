"""Cluster transitions: every verdict on a few people, and the matching of old to new clusters."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linear_sum_assignment

from engine.lineage.matching import UNMATCHED
from engine.lineage.transitions import ClusterTransition, ClusterTransitions, find_transitions


def transitions(moves: list[list[int]]) -> ClusterTransitions:
    counts = np.array(moves)
    total = max(counts.sum(), 1)
    return find_transitions(counts, counts.sum(axis=1) / total, counts.sum(axis=0) / total)


def test_a_cluster_survives_a_change_of_its_number() -> None:
    result = transitions([[0, 90, 2], [1, 3, 80], [70, 0, 0]])
    assert [(c.verdict, c.others) for c in result.old] == [("kept", (1,)), ("kept", (2,)), ("kept", (0,))]
    assert [(c.verdict, c.others) for c in result.new] == [("kept", (2,)), ("kept", (0,)), ("kept", (1,))]
    assert result.matched.tolist() == [1, 2, 0]


def test_a_share_that_changed_by_a_fifth_is_growth() -> None:
    result = transitions([[100, 0, 0], [45, 60, 0], [0, 0, 300]])
    assert result.old == (
        ClusterTransition(0, "grown", (0,)),
        ClusterTransition(1, "shrunk", (1,)),
        ClusterTransition(2, "kept", (2,)),
    )
    assert result.new == (
        ClusterTransition(0, "grown", (0,)),
        ClusterTransition(1, "shrunk", (1,)),
        ClusterTransition(2, "kept", (2,)),
    )


def test_two_parts_of_a_fifth_are_a_split() -> None:
    result = transitions([[70, 30, 0], [0, 0, 100]])
    assert result.old[0] == ClusterTransition(0, "split", (0, 1))
    assert result.new[:2] == (ClusterTransition(0, "split", (0,)), ClusterTransition(1, "split", (0,)))
    assert result.matched.tolist() == [0, 2]
    tenth = transitions(
        [[90, 10, 0], [0, 0, 100]]
    )  # a tenth is too few for a part, but the new cluster split off all the same
    assert tenth.old[0] == ClusterTransition(0, "kept", (0,))
    assert tenth.new[1] == ClusterTransition(1, "split", (0,))


def test_two_sources_of_a_fifth_are_a_merger() -> None:
    result = transitions([[70, 0], [30, 0], [0, 100]])
    assert result.old[:2] == (ClusterTransition(0, "merged", (0,)), ClusterTransition(1, "merged", (0,)))
    assert result.new[0] == ClusterTransition(0, "merged", (0, 1))
    assert result.matched.tolist() == [0, UNMATCHED, 1]
    absorbed = transitions([[1000, 0], [30, 0], [0, 100]])
    assert absorbed.old[:2] == (ClusterTransition(0, "kept", (0,)), ClusterTransition(1, "merged", (0,)))
    assert absorbed.new[0] == ClusterTransition(0, "kept", (0,))


def test_a_cluster_without_a_majority_anywhere_died_and_one_of_no_majority_was_born() -> None:
    result = transitions([[20, 20, 20, 0], [0, 100, 0, 50], [0, 0, 100, 50], [100, 0, 0, 50]])
    assert result.old[0] == ClusterTransition(0, "died")
    assert result.new[3] == ClusterTransition(3, "born")
    assert result.matched.tolist() == [UNMATCHED, 1, 2, 0]


def test_clusters_of_nobody_in_both_runs_died_and_were_born() -> None:
    result = transitions([[50, 0], [0, 0]])
    assert result.old == (ClusterTransition(0, "kept", (0,)), ClusterTransition(1, "died"))
    assert result.new == (ClusterTransition(0, "kept", (0,)), ClusterTransition(1, "born"))
    assert result.matched.tolist() == [0, UNMATCHED]


def test_a_surviving_cluster_is_matched_to_itself_even_if_fewer_people_would_move_otherwise() -> None:
    moves = np.zeros((7, 7), int)
    moves[0, :2], moves[1, 0] = (51, 49), 49
    moves[1, 2:] = moves[2:, 1] = 10
    assert linear_sum_assignment(moves, maximize=True)[1][:2].tolist() == [1, 0]
    result = transitions(moves.tolist())
    assert (result.old[0].verdict, result.old[0].others) == ("kept", (0,))
    assert result.matched[0] == 0


SMALL = arrays(np.int64, st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=st.integers(0, 9))


@given(SMALL)
def test_verdicts_of_both_runs_agree(moves: np.ndarray) -> None:
    result = transitions(moves.tolist())
    survival = ("kept", "grown", "shrunk")
    pairs = {(c.cluster, *c.others) for c in result.old if c.verdict in survival}
    assert pairs == {(*c.others, c.cluster) for c in result.new if c.verdict in survival}
    assert all(result.matched[old] == new for old, new in pairs)
    partners = result.matched[result.matched != UNMATCHED]
    assert len(set(partners.tolist())) == len(partners)
    reversed_result = transitions(moves.T.tolist())
    mirror = {"split": "merged", "merged": "split", "born": "died", "died": "born", "grown": "shrunk",
              "shrunk": "grown", "kept": "kept"}  # fmt: skip
    assert [ClusterTransition(c.cluster, mirror[c.verdict], c.others) for c in reversed_result.new] == list(result.old)
