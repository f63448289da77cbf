"""Matching clusters by shared people: the best matching, whatever the numbering and the direction."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from engine.lineage.matching import UNMATCHED, match_clusters

small_counts = st.tuples(st.integers(1, 5), st.integers(1, 5)).flatmap(
    lambda shape: arrays(np.int64, shape, elements=st.integers(0, 4))
)


def total(shared: np.ndarray, matched: np.ndarray) -> int:
    rows = np.flatnonzero(matched != UNMATCHED)
    return int(shared[rows, matched[rows]].sum())


def best_matchings(shared: np.ndarray) -> list[dict[int, int]]:
    """Return all matchings that share most people, and of those the ones of the largest sum of Jaccard indices."""
    n = max(shared.shape)
    padded = np.zeros((n, n), np.int64)
    padded[: shared.shape[0], : shared.shape[1]] = shared
    either = padded.sum(axis=1)[:, None] + padded.sum(axis=0) - padded
    scores = {}
    for columns in permutations(range(n)):
        pairs = [(i, j) for i, j in enumerate(columns) if padded[i, j]]
        scores[columns] = (
            sum(int(padded[i, j]) for i, j in pairs),
            sum(round(2**20 * float(padded[i, j] / either[i, j])) for i, j in pairs),
        )
    best = max(scores.values())
    return [{i: j for i, j in enumerate(columns) if padded[i, j]} for columns, score in scores.items() if score == best]


@given(small_counts)
def test_pairs_are_those_of_every_best_matching(shared: np.ndarray) -> None:
    matched = match_clusters(shared)
    of_all = best_matchings(shared)
    expected = set.intersection(*(set(one.items()) for one in of_all))
    assert {(i, int(j)) for i, j in enumerate(matched) if j != UNMATCHED} == expected


@given(small_counts, st.randoms(use_true_random=False))
def test_neither_numbering_nor_direction_decides(shared: np.ndarray, random) -> None:  # type: ignore[no-untyped-def]
    matched = match_clusters(shared)
    order = random.sample(range(len(shared)), len(shared))
    columns = random.sample(range(shared.shape[1]), shared.shape[1])
    renumbered = match_clusters(shared[np.ix_(order, columns)])
    assert [UNMATCHED if j == UNMATCHED else columns[j] for j in renumbered] == [int(matched[i]) for i in order]
    backwards = match_clusters(np.ascontiguousarray(shared.T))
    pairs = {(i, int(j)) for i, j in enumerate(matched) if j != UNMATCHED}
    assert pairs == {(int(i), j) for j, i in enumerate(backwards) if i != UNMATCHED}


@pytest.mark.parametrize(
    ("shared", "expected"),
    [
        ([[5, 5], [5, 5]], [UNMATCHED, UNMATCHED]),
        ([[5, 5], [5, 5], [0, 0]], [UNMATCHED, UNMATCHED, UNMATCHED]),
        ([[0, 0], [0, 3]], [UNMATCHED, 1]),
        ([[300_000_000, 1], [1, 299_999_999]], [0, 1]),
        ([[1, 2], [2, 4]], [0, 1]),  # five people either way but for the index: 4 of 8 and 1 of 5
    ],
)
def test_a_few_tables(shared: list[list[int]], expected: list[int]) -> None:
    assert match_clusters(np.array(shared)).tolist() == expected


def test_the_sum_of_people_at_netflix_scale_is_exact() -> None:
    rng = np.random.default_rng(0)
    shared = rng.integers(0, 1000, (40, 40)) + 7_000_000 * np.eye(40, dtype=np.int64)[rng.permutation(40)]
    assert total(shared, match_clusters(shared)) == shared.max(axis=1).sum()
