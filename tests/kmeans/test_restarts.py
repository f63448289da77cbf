"""Clusterings that are left at any step, and gone on with, end with the same bits; so do those on mapped files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine import backends
from engine.execution.array_storage import IN_MEMORY, Storage
from engine.kmeans.lloyd import Clustering, RowSet
from engine.kmeans.restarts import Pause, best_clustering

cpu, _ = backends.resolve("cpu")
N, K = 3_000, 7


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    rng = np.random.default_rng(5)
    return np.concatenate([rng.normal(size=(N - 40, 5)), np.repeat(rng.normal(size=(4, 5)), 10, 0)]).astype(np.float32)


def clustered(
    X: np.ndarray, storage: Storage, pause: Pause | None, pauses: list[Pause], **options: float
) -> Clustering:
    row_set = RowSet.of(X, None, cpu, storage)
    random = np.random.RandomState(1)
    return best_clustering(
        row_set, K, init="random", n_runs=3, random=random, pause=pause, watch=pauses.append, **options,
    )  # type: ignore[arg-type]  # fmt: skip


def same(found: Clustering, other: Clustering) -> bool:
    return (
        found.centres.tobytes() == other.centres.tobytes()
        and found.labels.tobytes() == other.labels.tobytes()
        and (found.inertia, found.n_iter) == (other.inertia, other.n_iter)
    )


@pytest.mark.parametrize("options", [{"tol": 0.0}, {"tol": 0.02}, {"max_iter": 6, "tol": 0.0}])
def test_every_pause_leads_to_the_same_clusters(rows: np.ndarray, options: dict[str, float]) -> None:
    pauses: list[Pause] = []
    whole = clustered(rows, IN_MEMORY, None, pauses, **options)
    assert {pause.run for pause in pauses} == {0, 1, 2}
    assert len(pauses) >= 9
    for number, pause in enumerate(pauses):
        later: list[Pause] = []
        assert same(clustered(rows, IN_MEMORY, pause, later, **options), whole)
        assert [p.step.iteration for p in later] == [p.step.iteration for p in pauses[number + 1 :]]


def test_mapped_files_change_no_bit(rows: np.ndarray, tmp_path: Path) -> None:
    whole = clustered(rows, IN_MEMORY, None, [])
    mapped = clustered(rows, Storage(tmp_path), None, [])
    assert same(whole, mapped)
    assert isinstance(mapped.labels, np.memmap)
    assert {path.name for path in tmp_path.iterdir()} == {"labels"}
