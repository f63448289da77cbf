"""The history of cluster numbers: births, parents, deaths, names, and how it is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.lineage.history import ClusterHistory, History, Night, number_clusters


def night(number: int, sizes: dict[int, int], moved: int = 0) -> Night:
    why = {"chosen": "champion", "why": "the clusters of the previous run go on"}
    rows = sum(sizes.values())
    return Night(number, f"{number:012x}", rows, sizes, rows if number else 0, moved, why if number else None)


@pytest.fixture
def two_nights() -> History:
    first = History((night(0, {0: 5, 1: 7}),), (ClusterHistory(0, 0, names=((0, "A"),)), ClusterHistory(1, 0)))
    return first.next_night(np.array([0, 2], np.int32), {2: (1,)}, ["B", "C"], night(1, {0: 8, 2: 4}, moved=3))


def test_births_deaths_and_names_are_kept(two_nights: History) -> None:
    assert two_nights.clusters == (
        ClusterHistory(0, 0, names=((0, "A"), (1, "B"))),
        ClusterHistory(1, 0, died=1),
        ClusterHistory(2, 1, (1,), ((1, "C"),)),
    )
    assert (two_nights.night, two_nights.next_number) == (1, 3)
    third = two_nights.next_night(np.array([0, 3], np.int32), {3: ()}, None, night(2, {0: 8, 3: 4}))
    assert [cluster.died for cluster in third.clusters] == [None, 1, 2, None]
    assert third.clusters[3] == ClusterHistory(3, 2)


def test_a_history_is_read_as_it_was_written(two_nights: History, tmp_path: Path) -> None:
    two_nights.write(tmp_path)
    run = type("Run", (), {"path": tmp_path})()
    assert History.read(run) == two_nights


def test_a_history_is_told_in_words(two_nights: History) -> None:
    assert two_nights.describe().splitlines() == [
        "night 0: 12 people, 2 clusters",
        "night 1: 12 people, 2 clusters, 25 % of 12 moved; the clusters of the previous run go on",
        "",
        "0 “B”: 5 → 8; renamed in night 1",
        "1: 7; gone since night 1",
        "2 “C”: 4; born in night 1 out of 1",
    ]


@pytest.mark.parametrize(
    ("moves", "numbers", "parents"),
    [
        ([[90, 2], [1, 80]], [3, 5], {}),
        ([[1, 80], [90, 2]], [5, 3], {}),
        ([[60, 40, 0], [0, 0, 70]], [3, 9, 5], {9: (3,)}),  # a split: the larger part goes on
        ([[50, 0], [0, 0]], [3, 9], {9: ()}),  # born of newcomers, while another one died
        ([[100, 10], [1000, 1]], [5, 9], {9: (3,)}),  # a tenth of its people is too few to inherit a number
    ],
)
def test_numbers_follow_people(moves: list[list[int]], numbers: list[int], parents: dict[int, tuple[int, ...]]) -> None:
    found, found_parents = number_clusters(np.array(moves), np.array([3, 5], np.int32), 9)
    assert (found.tolist(), found_parents) == (numbers, parents)
