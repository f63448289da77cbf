"""Hamerly-style bounds: movement of the centers, and the choice of fast centers."""

from __future__ import annotations

import numpy as np

from engine.kmeans.bounds import FAST_CENTER_COUNTS, CenterMovement

LABELS = np.arange(100, dtype=np.int32).repeat(50)
WORDS = 16  # of a row


def steps_with_long_ones(long: list[int]) -> np.ndarray:
    steps = np.full(100, 1e-3)
    steps[long] = 5.0
    return steps


def test_a_few_centers_that_still_move_are_fast_and_their_rows_are_never_skipped() -> None:
    movement = CenterMovement(100)
    movement.add_steps(steps_with_long_ones([3, 70]), LABELS, np.ones(len(LABELS), np.float32), WORDS)
    thresholds = movement.skip_thresholds()
    assert len(thresholds.fast_centers) == FAST_CENTER_COUNTS[1]
    assert {3, 70} <= set(thresholds.fast_centers.tolist())
    assert np.isinf(thresholds.upper[thresholds.fast_centers]).all()
    slow = np.setdiff1d(np.arange(100), thresholds.fast_centers)
    # The movement of a slow center is its own step and the fastest other slow one's.
    assert ((thresholds.lower[slow] < 2e-3) & (thresholds.upper[slow] > 2e-3)).all()


def test_no_center_is_fast_if_all_rows_are_compared_anyway_or_none_is() -> None:
    for gap_bound in (-np.inf, np.inf):
        movement = CenterMovement(100)
        movement.add_steps(steps_with_long_ones([3]), LABELS, np.full(len(LABELS), gap_bound, np.float32), WORDS)
        thresholds = movement.skip_thresholds()
        assert len(thresholds.fast_centers) == 0
        assert (np.delete(thresholds.upper, 3) > 5.0).all()
        assert thresholds.upper[3] < 5.1  # its own step, and the fastest other one's


def test_no_center_is_fast_where_few_clusters_make_a_full_comparison_as_cheap() -> None:
    labels = np.arange(20, dtype=np.int32).repeat(5000)
    for n_clusters, words in ((20, 8), (20, 30)):
        movement = CenterMovement(n_clusters)
        steps = np.full(n_clusters, 1e-3)
        steps[[3, 11]] = 5.0
        gaps = np.where(np.arange(len(labels)) % 3 == 0, 9.0, 1.0).astype(np.float32)  # two rows of three are compared
        movement.add_steps(steps, labels, gaps, words)
        assert len(movement.fast_centers) == 0


def test_no_center_is_fast_where_comparing_all_rows_takes_less_time_than_the_choice() -> None:
    few = LABELS[::10]
    movement = CenterMovement(100)
    movement.add_steps(steps_with_long_ones([3, 70]), few, np.ones(len(few), np.float32), WORDS)
    assert len(movement.fast_centers) == 0
    assert (movement.skip_thresholds().upper > 5.0).all()  # every row is compared, none is skipped wrongly


def test_the_threshold_of_a_single_center_is_its_own_movement() -> None:
    movement = CenterMovement(1)
    movement.add_steps(np.array([2.0]), np.zeros(4, np.int32), np.full(4, 9, np.float32), WORDS)
    assert np.isclose(movement.skip_thresholds().upper[0], 2.0)
