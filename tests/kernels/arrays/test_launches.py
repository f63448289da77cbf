"""Array kernels launch few operations and read the rows once: a GPU is bound by launches or by bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.backends.array_kmeans import ArrayBackend
from engine.backends.cpu import CpuBackend
from engine.kernels.arrays.columns import GROUPS, reduce_columns
from engine.kernels.arrays.kmeans import assign, certify, lloyd
from engine.kernels.arrays.pca import moments, project
from engine.kernels.cpu.kmeans import quantize
from engine.tsne.device import build_placement_index, place_rows
from tests.gpu.counting import CountingModule, start_counting, to_plain

XP = CountingModule()
N_ROWS, N_FEATURES, K = 8192, 64, 20


@pytest.fixture(scope="module")
def rows() -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    centers = random.normal(size=(K, N_FEATURES)).astype(np.float32)
    X = centers[random.integers(0, K, N_ROWS)] + random.normal(size=(N_ROWS, N_FEATURES))
    return X.astype(np.float32), centers


def count_pass(X: Any, centers: Any, n_chunks: int, dtype: Any = np.float32) -> tuple[int, float]:
    """Return the operations of labeling rows in so many chunks, and how often X is read."""
    device_X = XP.asarray(X.astype(dtype))
    prepared = certify.prepare_centers(
        XP, centers.astype(dtype), quantize.fit_quantizer(X.astype(dtype), quantize.FLOAT32)
    )
    counter = start_counting(device_X)
    assign.label_rows(XP, device_X, prepared, N_ROWS // n_chunks * N_FEATURES)
    return len(counter.operations), counter.bytes_read / device_X.nbytes


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_chunk_of_a_pass_is_labeled_by_twelve_operations_and_one_read(rows: tuple[Any, Any], dtype: Any) -> None:
    (few, reads), (many, _) = (count_pass(*rows, n_chunks, dtype) for n_chunks in (2, 32))
    per_chunk = (many - few) / 30
    assert per_chunk == (11 if dtype is np.float32 else 12)
    assert few - 2 * per_chunk < 40  # of the job: open rows go through the second level together
    assert 1.0 <= reads <= 1.05


def test_rows_that_change_are_summed_by_twelve_operations_a_chunk(rows: tuple[Any, Any]) -> None:
    X = XP.asarray(rows[0])
    after = XP.asarray(np.arange(N_ROWS) % K)
    grid = XP.asarray(np.zeros(N_FEATURES)), XP.asarray(np.full(N_FEATURES, 1024.0)), 1.0
    counts = []
    for n_chunks in (2, 32):
        counter = start_counting(X)
        before = XP.asarray((np.arange(N_ROWS) + 1) % K)
        lloyd.compute_sum_changes(
            XP, X, XP.asarray(np.arange(N_ROWS)), XP.asarray(np.empty(0)), grid, before, after, K,
            N_ROWS // n_chunks * N_FEATURES,
        )  # fmt: skip
        counts.append(len(counter.operations))
    assert (counts[1] - counts[0]) / 30 <= 12


def test_scores_take_twelve_operations_a_chunk_and_have_the_bits_of_the_definition(rows: tuple[Any, Any]) -> None:
    X, random = rows[0], np.random.default_rng(1)
    axes, mean = random.normal(size=(N_FEATURES, 16)), X.mean(axis=0, dtype=np.float64)
    counts = []
    for n_chunks in (2, 32):
        counter = start_counting(np.empty(0))
        arrays = map(XP.asarray, (X, mean, axes))
        scores = project.project(XP, *arrays, N_ROWS // n_chunks * N_FEATURES)
        counts.append(len(counter.operations))
        np.testing.assert_array_equal(to_plain(scores), CpuBackend().scores(X, mean, axes))
    assert (counts[1] - counts[0]) / 30 <= 13
    assert counts[0] < 700  # the few open rows are evaluated together, with five operations a feature


def count_moments(n_rows: int, block_rows: int) -> tuple[int, float]:
    """Return the operations of the moments of encoded rows, and how often the dense columns are read."""
    dense = XP.asarray(np.random.default_rng(3).normal(size=(n_rows, 20)).astype(np.float32))
    hot = XP.asarray(np.arange(5 * n_rows, dtype=np.int32) % 50)
    starts = XP.asarray(np.arange(n_rows + 1, dtype=np.int32) * 5)
    counter = start_counting(dense)
    moments.compute_encoded_moments(XP, dense, starts, hot, 50, block_rows, 1 << 20)
    return len(counter.operations), counter.bytes_read / dense.nbytes


def test_moments_of_blocks_take_operations_by_the_chunk_and_not_by_the_block_and_read_the_rows_once() -> None:
    (few, reads), (many, _) = count_moments(N_ROWS, N_ROWS // 2), count_moments(N_ROWS, N_ROWS // 64)
    assert few == many == 23  # of which 16 belong to the chunk
    assert reads == 1.0
    chunk_rows = (1 << 20) // 70 // 128 * 128
    per_chunk = count_moments(4 * chunk_rows, 128)[0] - count_moments(3 * chunk_rows, 128)[0]
    assert per_chunk == 16


def test_scores_at_the_border_of_two_float32_values_are_evaluated_by_the_definition() -> None:
    """Products whose sum in another order rounds to another float32."""
    random = np.random.default_rng(2)
    X = random.normal(size=(400, 9)).astype(np.float32)
    axes = random.normal(size=(9, 3))
    exact = np.zeros((400, 3))
    for t in range(8):
        exact += X[:, t, None].astype(np.float64) * axes[t]
    # The last feature moves the first score of 200 rows onto the middle of two float32 values, to about its last bit.
    low = exact[:, 0].astype(np.float32)
    middle = (low.astype(np.float64) + np.nextafter(low, np.float32(np.inf))) / 2
    axes[8] = 1.0
    X[:200, 8] = (middle - exact[:, 0])[:200]
    start_counting(np.empty(0))
    opened = []
    original = project._round_scores

    def record(xp: Any, sums: Any, error: Any, out: Any, is_open: Any) -> None:
        original(xp, sums, error, out, is_open)
        opened.append(int(to_plain(is_open).sum()))

    project._round_scores = record
    try:
        scores = project.project(XP, *map(XP.asarray, (X, np.zeros(9), axes)), 1 << 20)
    finally:
        project._round_scores = original
    np.testing.assert_array_equal(to_plain(scores), CpuBackend().scores(X, np.zeros(9), axes))
    assert 200 <= opened[0] < 210


@pytest.mark.parametrize("n_rows", [1, GROUPS, 2 * GROUPS, 2 * GROUPS + 7, 9 * GROUPS - 1])
@pytest.mark.parametrize("method", ["sum", "min", "max"])
def test_columns_are_reduced_in_two_steps(n_rows: int, method: str) -> None:
    values = np.random.default_rng(n_rows).integers(-1000, 1000, (n_rows, 5))
    counter = start_counting(np.empty(0))
    reduced = reduce_columns(XP, XP.asarray(values), method)
    np.testing.assert_array_equal(to_plain(reduced), getattr(values, method)(axis=0))
    assert counter.longest_column < 3 * GROUPS  # else a few thread blocks would reduce all rows


def count_placement(n_rows: int, n_landmarks: int) -> tuple[int, int]:
    """Return the operations of placing rows whose labels and perplexities converge alike, and the host's waits."""
    random = np.random.default_rng(5)
    landmarks = random.normal(size=(n_landmarks, 4)).astype(np.float32)
    backend = ArrayBackend(XP)
    index = build_placement_index(backend, landmarks, landmarks[:, :2])
    new = random.normal(size=(n_rows, 4)).astype(np.float32)
    counter = start_counting(np.empty(0))
    place_rows(backend, new, index)
    return len(counter.operations), counter.waits


def test_launches_of_placement_grow_neither_with_the_leaves_nor_with_the_rows_of_a_chunk() -> None:
    small, large, longer = count_placement(1000, 1000), count_placement(1000, 8000), count_placement(16_000, 8000)
    for operations, waits in (small, large, longer):
        assert operations < 1500
        assert waits < 40
    assert large[0] < 1.2 * small[0]  # 8 and 63 leaves; open rows and steps of Newton's method vary with the data
    assert longer[0] < 1.2 * large[0]
