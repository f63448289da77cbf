"""Neighbors by tiles of matrix products are those of all float64 distances, whatever rounding does to scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.kernels.arrays.tsne import landmark_neighbors
from engine.kernels.arrays.tsne.landmark_neighbors import GROUPS, arrange_landmarks, find_landmark_neighbors
from tests.gpu.counting import CountingModule, start_counting, to_plain
from tests.gpu.strict import StrictModule, to_numpy

XP = CountingModule()


def leaves_around(n_landmarks: int, n_leaves: int, width: int, seed: int = 0) -> Any:
    """Return ascending positions of random landmarks around every leaf, filled up with n_landmarks."""
    random, around = np.random.default_rng(seed), np.full((n_leaves, width), n_landmarks)
    for leaf in range(n_leaves):
        n_around = min(n_landmarks, width - leaf % 3)
        around[leaf, :n_around] = np.sort(random.choice(n_landmarks, n_around, replace=False))
    return around


def neighbors_by_definition(rows: Any, homes: Any, landmarks: Any, around: Any, k: int) -> tuple[Any, Any]:
    """Rank all landmarks around a row's home by float64 distances, one feature after the other, ties to the first."""
    neighbors, squared = np.empty((len(rows), k), np.int64), np.empty((len(rows), k))
    for i, (row, home) in enumerate(zip(rows, homes, strict=True)):
        candidates = around[home][around[home] < len(landmarks)]
        distances = np.zeros(len(candidates))
        for t in range(len(row)):
            distances += np.square(np.float64(row[t]) - landmarks[candidates, t].astype(np.float64))
        order = np.argsort(distances, kind="stable")[:k]
        neighbors[i], squared[i] = candidates[order], distances[order]
    return neighbors, squared


def check(rows: Any, homes: Any, landmarks: Any, around: Any, k: int, chunk_values: int) -> None:
    xp = StrictModule()
    searched = landmark_neighbors.SearchedLandmarks(*map(xp.asarray, arrange_landmarks(landmarks, around)))
    with np.errstate(over="ignore", invalid="ignore"):
        found = find_landmark_neighbors(xp, xp.asarray(rows), xp.asarray(homes), searched, k, chunk_values)
    for ours, expected in zip(found, neighbors_by_definition(rows, homes, landmarks, around, k), strict=True):
        np.testing.assert_array_equal(to_numpy(ours), expected)


@pytest.mark.parametrize("n_rows", [1, 7, 8, 9, 1000])
@pytest.mark.parametrize("chunk_values", [1, 1 << 15, 1 << 24])
def test_neighbors_are_those_of_the_definition_for_any_number_of_rows_and_chunks(
    n_rows: int, chunk_values: int
) -> None:
    random = np.random.default_rng(n_rows)
    landmarks, rows = random.normal(size=(700, 5)), random.normal(size=(n_rows, 5))
    homes = (random.integers(0, 5, n_rows) ** 2 % 7).astype(np.int32)  # leaves without rows, and uneven ones
    around = leaves_around(700, 7, 2 * GROUPS)
    check(rows.astype(np.float32), homes, landmarks.astype(np.float32), around, 16, chunk_values)


def hard_rows(kind: str) -> tuple[Any, Any]:
    """Return landmarks and rows on which float32 scores say little, or nothing."""
    random = np.random.default_rng(4)
    landmarks, rows = random.normal(size=(300, 4)), random.normal(size=(150, 4))
    if kind == "ties":
        landmarks, rows = random.integers(-1, 2, (300, 4)), random.integers(-1, 2, (150, 4))
    elif kind == "landmarks themselves":
        rows = landmarks[:150]
    elif kind == "far from zero":
        landmarks, rows = 1000 + 1e-3 * landmarks, 1000 + 1e-3 * rows
    elif kind == "nearly equal":
        landmarks, rows = 1 + 1e-7 * landmarks, 1 + 1e-7 * rows
    elif kind == "one row beyond float32's squares":
        rows[0], rows[1] = 1e19, 3e38
    elif kind == "landmarks beyond float32's squares":
        landmarks[::3] *= 1e19
        rows[::2] *= 1e19
    elif kind == "near landmarks beyond float32's squares":  # the others are within them, on the other side of zero
        landmarks[:, 0] = np.where(np.arange(300) % 3, -2.5e19, 2.65e19) * (1 + 1e-4 * landmarks[:, 1])
        rows[:, 0] = 1e18
    elif kind == "tiny":
        landmarks, rows = 1e-22 * landmarks, 1e-22 * rows
    return landmarks.astype(np.float32), rows.astype(np.float32)


@pytest.mark.parametrize(
    "kind",
    [
        "ties", "landmarks themselves", "far from zero", "nearly equal", "one row beyond float32's squares",
        "landmarks beyond float32's squares", "near landmarks beyond float32's squares", "tiny",
    ],
)  # fmt: skip
def test_rounding_ties_and_overflow_change_no_neighbor(kind: str) -> None:
    landmarks, rows = hard_rows(kind)
    homes = (np.arange(len(rows)) % 4).astype(np.int32)
    check(rows, homes, landmarks, leaves_around(300, 4, 4 * GROUPS), 16, 1 << 14)


def test_with_as_few_landmarks_as_neighbors_all_are_neighbors() -> None:
    random = np.random.default_rng(1)
    landmarks, rows = (random.normal(size=(n, 3)).astype(np.float32) for n in (9, 40))
    check(rows, np.zeros(40, np.int32), landmarks, leaves_around(9, 1, 2 * GROUPS), 9, 1 << 20)


def count_search(n_rows: int, n_leaves: int, chunk_values: int) -> tuple[int, int]:
    """Return the operations of a search, and how often the host waits for the device."""
    random = np.random.default_rng(2)
    landmarks, rows = (random.normal(size=(n, 4)).astype(np.float32) for n in (n_leaves * 64, n_rows))
    arranged = arrange_landmarks(landmarks, leaves_around(len(landmarks), n_leaves, 2 * GROUPS))
    searched = landmark_neighbors.SearchedLandmarks(*map(XP.asarray, arranged))
    homes = XP.asarray((np.arange(n_rows) % n_leaves).astype(np.int32))
    counter = start_counting(np.empty(0))
    neighbors, _ = find_landmark_neighbors(XP, XP.asarray(rows), homes, searched, 16, chunk_values)
    assert (to_plain(neighbors) < len(landmarks)).all()
    return len(counter.operations), counter.waits


def test_a_search_takes_as_many_launches_for_a_hundred_leaves_as_for_two() -> None:
    assert count_search(6400, 2, 1 << 24) == count_search(6400, 100, 1 << 24) == (96, 2)


def test_a_chunk_of_scores_takes_fourteen_operations_and_one_wait() -> None:
    """Candidates are ranked after several chunks; here, after the last one."""
    tile = landmark_neighbors.MAX_TILE_ROWS
    chunk_values = 40 * tile * 2 * GROUPS  # 40 tiles; their candidates are far fewer than the values of a chunk
    (few, few_waits), (many, many_waits) = (count_search(n * 40 * tile, 2, chunk_values) for n in (1, 3))
    assert (many - few, many_waits - few_waits) == (2 * 14, 2)
