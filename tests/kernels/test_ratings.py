"""Sums of ratings: equal to plain loops, over any batches, and exact where ratings are half stars."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.kernels.cpu import ratings as kernel

N_USERS, N_ITEMS, N_GENRES, N_DECADES = 3, 4, 2, 2
GENRE_START = np.array([0, 2, 2, 3, 4])
GENRE_CODE = np.array([0, 1, 1, 0])
DECADE = np.array([0, 1, -1, 1])

RATING = st.tuples(
    st.integers(0, N_USERS - 1),
    st.integers(-1, N_ITEMS - 1),
    st.one_of(st.integers(1, 10).map(lambda half: half / 2), st.floats(-10, 10), st.just(float("nan"))),
    st.one_of(st.integers(-5, 5), st.just(int(kernel.NO_TIME))),
)
INCLUDED = st.lists(st.booleans(), min_size=N_ITEMS, max_size=N_ITEMS)


def empty_sums() -> dict[str, Any]:
    return {
        "count": np.zeros(N_USERS, np.int64),
        "total": np.zeros(N_USERS),
        "squares": np.zeros(N_USERS),
        "first": np.full(N_USERS, kernel.NO_TIME),
        "last": np.full(N_USERS, kernel.NO_TIME),
        "genre_count": np.zeros((N_USERS, N_GENRES), np.int32),
        "genre_total": np.zeros((N_USERS, N_GENRES)),
        "decade_count": np.zeros((N_USERS, N_DECADES), np.int32),
    }


def aggregate_by_kernels(
    rows: list[tuple[int, int, float, int]], included: list[bool], keep_unknown: bool, size: int
) -> Any:
    sums, n_rated, counts = empty_sums(), np.zeros(N_ITEMS, np.int64), np.zeros(3, np.int64)
    for start in range(0, len(rows), size):
        user, item, rating, time = (np.array(column) for column in zip(*rows[start : start + size], strict=True))
        rating = rating.astype(float)
        counts += kernel.exclude_ratings(user, item, rating, np.array(included), keep_unknown, n_rated)
        kernel.add_rating_sums(user, rating, sums["count"], sums["total"], sums["squares"])
        kernel.update_time_spans(user, time, sums["first"], sums["last"])
        genres = sums["genre_count"], sums["genre_total"]
        kernel.add_genres_and_decades(
            user, item, rating, GENRE_START, GENRE_CODE, DECADE, *genres, sums["decade_count"]
        )
    return sums, n_rated.tolist(), counts.tolist()


def aggregate_by_loops(rows: list[tuple[int, int, float, int]], included: list[bool], keep_unknown: bool) -> Any:
    sums, n_rated, counts = empty_sums(), [0] * N_ITEMS, [0, 0, 0]
    for user, item, rating, time in rows:
        if rating != rating:
            counts[0] += 1
            continue
        counts[1] += item < 0
        if item >= 0:
            n_rated[item] += 1
        if not (keep_unknown if item < 0 else included[item]):
            counts[2] += 1
            continue
        sums["count"][user] += 1
        sums["total"][user] += rating
        sums["squares"][user] += rating * rating
        if time != kernel.NO_TIME:
            known = sums["first"][user] != kernel.NO_TIME
            sums["first"][user] = min(sums["first"][user], time) if known else time
            sums["last"][user] = max(sums["last"][user], time) if known else time
        if item >= 0:
            for genre in GENRE_CODE[GENRE_START[item] : GENRE_START[item + 1]]:
                sums["genre_count"][user, genre] += 1
                sums["genre_total"][user, genre] += rating
            if DECADE[item] >= 0:
                sums["decade_count"][user, DECADE[item]] += 1
    return sums, n_rated, counts


@given(st.lists(RATING, max_size=30), INCLUDED, st.booleans(), st.integers(1, 31))
def test_sums_are_those_of_plain_loops_over_any_batches(
    rows: list[tuple[int, int, float, int]], included: list[bool], keep_unknown: bool, size: int
) -> None:
    sums, n_rated, counts = aggregate_by_kernels(rows, included, keep_unknown, size)
    expected, expected_rated, expected_counts = aggregate_by_loops(rows, included, keep_unknown)
    assert (n_rated, counts) == (expected_rated, expected_counts)
    for name, values in expected.items():
        assert sums[name].tolist() == values.tolist(), name


def test_the_order_of_half_stars_does_not_change_a_bit_of_a_sum() -> None:
    rng = np.random.default_rng(0)
    rows = list(
        zip(np.zeros(5000, int), rng.integers(0, N_ITEMS, 5000), rng.integers(1, 11, 5000) / 2, [0] * 5000, strict=True)
    )
    forward, _, _ = aggregate_by_kernels(rows, [True] * N_ITEMS, True, 999)
    backward, _, _ = aggregate_by_kernels(rows[::-1], [True] * N_ITEMS, True, 17)
    for name, values in forward.items():
        assert values.tobytes() == backward[name].tobytes(), name
