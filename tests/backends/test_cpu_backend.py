"""The CPU backend: the precision with which passes of K-Means start."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.backends.cpu import FEW_ROWS, CpuBackend
from engine.execution.array_storage import IN_MEMORY, Storage
from engine.kernels.cpu.kmeans.quantize import INT8, INT16, coarsest_level
from engine.kmeans.lloyd import Samples, lloyd

needs_bytes = pytest.mark.skipif(coarsest_level(64) != INT8, reason="this processor has no products of bytes")


def mixture(n_features: int, n_components: int) -> np.ndarray:
    random = np.random.default_rng(0)
    means = random.normal(size=(n_components, n_features))
    rows = means[random.integers(0, n_components, 10_000)] + random.normal(size=(10_000, n_features))
    return rows.astype(np.float32)


def heavy_tails(n_features: int) -> np.ndarray:
    widths = np.linspace(3.0, 0.3, n_features)
    return (np.random.default_rng(0).standard_t(4, size=(10_000, n_features)) * widths).astype(np.float32)


def starting_level(X: np.ndarray, n_clusters: int | None, storage: Storage = IN_MEMORY) -> int:
    return CpuBackend().allocate_rows(X, storage, n_clusters).level


@needs_bytes
def test_few_centers_are_scored_in_int16_from_the_start() -> None:
    assert starting_level(mixture(24, 20), 20) == INT16
    assert starting_level(mixture(59, 12), 12) == INT16


@needs_bytes
def test_the_share_of_rows_that_bytes_leave_open_decides_for_more_centers() -> None:
    assert starting_level(mixture(32, 100), 100) == INT8
    assert starting_level(heavy_tails(32), 100) == INT16
    assert starting_level(heavy_tails(64), 1000) == INT8  # its products cost more than any share of open rows
    assert starting_level(heavy_tails(32) * np.float32(1e-20), 100) == INT16  # whatever the unit


@needs_bytes
def test_bytes_come_first_where_nothing_is_known_or_memory_is_what_counts(tmp_path: Path) -> None:
    X = mixture(24, 20)
    assert starting_level(X, None) == INT8
    assert starting_level(X, 20, Storage(tmp_path)) == INT8
    assert starting_level(X[:FEW_ROWS], 20) == INT8


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n_features", "n_clusters"), [(24, 20), (32, 100)])
def test_labels_and_centers_do_not_depend_on_the_precision_of_the_start(
    n_features: int, n_clusters: int, dtype: type
) -> None:
    X = heavy_tails(n_features).astype(dtype)
    known, unknown = (
        lloyd(
            Samples.from_array(X, None, CpuBackend(), n_clusters=k), X[:n_clusters].copy(), max_iter=12, tolerance=0.0
        )
        for k in (n_clusters, None)
    )
    assert known.centers.tobytes() == unknown.centers.tobytes()
    assert known.labels.tobytes() == unknown.labels.tobytes()
    assert known.inertia == unknown.inertia
