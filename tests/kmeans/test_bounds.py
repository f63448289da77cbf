"""Which centres are left out of the drift: the few that still move, if that spares rows."""

from __future__ import annotations

import numpy as np

from engine.kmeans.bounds import FAST, Way

LABELS = np.arange(100, dtype=np.int32).repeat(50)


def steps_of(moving: list[int]) -> np.ndarray:
    steps = np.full(100, 1e-3)
    steps[moving] = 5.0
    return steps


def test_a_few_centres_that_move_on_are_fast_and_their_rows_wait() -> None:
    way = Way(100)
    way.follow(steps_of([3, 70]), LABELS, np.ones(len(LABELS), np.float32))
    drift = way.drift()
    assert len(drift.fast) == FAST[1]
    assert {3, 70} <= set(drift.fast.tolist())
    assert np.isinf(drift.most[drift.fast]).all()
    others = np.setdiff1d(np.arange(100), drift.fast)
    assert ((drift.least[others] < 2e-3) & (drift.most[others] > 2e-3)).all()  # a step of its own and one of the others


def test_no_centre_is_fast_where_all_rows_wait_anyway_or_none_does() -> None:
    for slack in (-np.inf, np.inf):
        way = Way(100)
        way.follow(steps_of([3]), LABELS, np.full(len(LABELS), slack, np.float32))
        drift = way.drift()
        assert len(drift.fast) == 0
        assert (np.delete(drift.most, 3) > 5.0).all()
        assert drift.most[3] < 5.1  # its own step, and the fastest other one's


def test_a_single_centre_has_no_other_one_to_fear() -> None:
    way = Way(1)
    way.follow(np.array([2.0]), np.zeros(4, np.int32), np.full(4, 9, np.float32))
    assert np.isclose(way.drift().most[0], 2.0)
