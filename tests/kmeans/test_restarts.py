"""Restarts of K-Means: resumed at any checkpoint, or on mapped files, they end with the same bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine import backends
from engine.execution.array_storage import IN_MEMORY, Storage
from engine.kmeans.lloyd import Clustering, Samples
from engine.kmeans.restarts import KMeansCheckpoint, best_clustering

cpu, _ = backends.resolve("cpu")
N, K = 3_000, 7


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    rng = np.random.default_rng(5)
    return np.concatenate([rng.normal(size=(N - 40, 5)), np.repeat(rng.normal(size=(4, 5)), 10, 0)]).astype(np.float32)


def cluster(
    X: np.ndarray,
    storage: Storage,
    checkpoint: KMeansCheckpoint | None,
    checkpoints: list[KMeansCheckpoint],
    **options: float,
) -> Clustering:
    samples = Samples.from_array(X, None, cpu, storage)
    random = np.random.RandomState(1)
    return best_clustering(
        samples, K, init="random", n_init=3, random=random, checkpoint=checkpoint, on_checkpoint=checkpoints.append,
        **options,
    )  # type: ignore[arg-type]  # fmt: skip


def same(first: Clustering, second: Clustering) -> bool:
    return (
        first.centers.tobytes() == second.centers.tobytes()
        and first.labels.tobytes() == second.labels.tobytes()
        and (first.inertia, first.n_iter) == (second.inertia, second.n_iter)
    )


@pytest.mark.parametrize("options", [{"tol": 0.0}, {"tol": 0.02}, {"max_iter": 6, "tol": 0.0}])
def test_every_checkpoint_leads_to_the_same_clusters(rows: np.ndarray, options: dict[str, float]) -> None:
    checkpoints: list[KMeansCheckpoint] = []
    whole = cluster(rows, IN_MEMORY, None, checkpoints, **options)
    assert {checkpoint.run for checkpoint in checkpoints} == {0, 1, 2}
    assert len(checkpoints) >= 9
    for number, checkpoint in enumerate(checkpoints):
        later: list[KMeansCheckpoint] = []
        assert same(cluster(rows, IN_MEMORY, checkpoint, later, **options), whole)
        assert [c.iteration.number for c in later] == [c.iteration.number for c in checkpoints[number + 1 :]]


def test_mapped_files_change_no_bit(rows: np.ndarray, tmp_path: Path) -> None:
    whole = cluster(rows, IN_MEMORY, None, [])
    mapped = cluster(rows, Storage(tmp_path), None, [])
    assert same(whole, mapped)
    assert isinstance(mapped.labels, np.memmap)
    assert {path.name for path in tmp_path.iterdir()} == {"labels"}
