"""Passes over encoded rows: the same bits from the cache and from the table; moments and scores are those of X."""

from __future__ import annotations

from collections.abc import Callable
from mmap import ALLOCATIONGRANULARITY
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine import backends
from engine.backends.protocol import Moments
from engine.datasets.demo_table import DemoMembers
from engine.execution.block_cache import BlockCache
from engine.execution.threads import threads
from engine.features.columnar_block import read_block
from engine.features.compact_block import CompactBlock
from engine.features.encoded_moments import make_projection
from engine.features.encoded_table import IndexedBlock
from engine.features.fit import FittedFeatures, fit_encoder
from engine.pca.solver import Components
from engine.tables import open_table
from engine.tables.file_table import FileTable
from tests import reference

N = 700
BLOCK = 64
cpu, _ = backends.resolve("cpu")


@pytest.fixture(scope="module")
def members() -> pa.Table:
    return pa.concat_tables([block.rows for block in DemoMembers(N).blocks()]).drop_columns(["user_id"])


class Observer:
    """Collects the first row and the number of rows of every block, in order."""

    def __init__(self) -> None:
        self.collected: list[tuple[int, int]] = []

    def observe(self, block: IndexedBlock) -> tuple[int, int]:
        return block.start, block.rows.n_rows

    def collect(self, result: tuple[int, int]) -> None:
        self.collected.append(result)

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        raise AssertionError("there is no checkpoint in this test")


@pytest.fixture(autouse=True)
def _small_blocks(block_rows: Callable[[int], None]) -> None:
    block_rows(BLOCK)


@pytest.fixture(scope="module")
def compact_bytes(members: pa.Table) -> int:
    """Return the bytes that the compact blocks of all rows take."""
    read_specs = fit_encoder(open_table(members)).encoder.layout.read_specs
    return sum(
        CompactBlock.from_columnar(read_block(members.slice(start, 64), read_specs)).n_bytes
        for start in range(0, N, 64)
    )


def fit_features(members: Any, memory: int) -> FittedFeatures:
    return fit_encoder(open_table(members), cache=BlockCache(memory))


def cached_blocks(features: FittedFeatures) -> list[int]:
    return [number for number in range(-(-N // BLOCK)) if number in features.rows.cache]


def run_passes(features: FittedFeatures) -> tuple[Moments, np.ndarray]:
    moments = features.rows.compute_moments(cpu, lambda _: None)
    pca = Components.from_moments(moments, 5)
    axes = make_projection(features.encoder.layout, pca.mean_, pca.components_.T)
    return moments, np.concatenate(list(features.rows.map(lambda _, rows: cpu.encoded_scores(rows, axes), last=True)))


@pytest.mark.parametrize("source", ["frame", "files"])
def test_neither_memory_nor_threads_change_a_bit(
    members: pa.Table, compact_bytes: int, tmp_path: Path, source: str
) -> None:
    table: Any = members
    if source == "files":
        table = tmp_path / "members.parquet"
        pq.write_table(members, table, row_group_size=100)
    with threads(1):
        moments, scores = run_passes(fit_features(members, memory=0))
    for memory, count in ((0, 3), (compact_bytes // 2, 1), (compact_bytes // 2, 3), (1 << 30, 1), (1 << 30, 3)):
        with threads(count):
            moments_again, scores_again = run_passes(fit_features(table, memory=memory))
        assert scores.tobytes() == scores_again.tobytes()
        assert moments.mean.tobytes() == moments_again.mean.tobytes()
        assert moments.scatter.tobytes() == moments_again.scatter.tobytes()


def test_moments_are_those_of_x(members: pa.Table) -> None:
    features = fit_features(members, memory=0)
    moments = features.rows.compute_moments(cpu, lambda _: None)
    mean, scatter = reference.moments(features.encoder.encode(members).astype(np.float64).tolist())
    assert moments.n_rows == N
    np.testing.assert_allclose(moments.mean, mean, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(moments.scatter, scatter, rtol=1e-11, atol=1e-11 * np.abs(scatter).max())


@pytest.mark.parametrize("memory", [0, 1 << 30])
def test_all_rows_are_collected_as_x_and_observed(members: pa.Table, memory: int) -> None:
    features, observer, advanced = fit_features(members, memory), Observer(), []
    with threads(3):
        X = features.rows.collect_matrix(advanced.append, [observer])
    assert X.tobytes() == features.encoder.encode(members).tobytes()
    assert observer.collected == [(start, min(BLOCK, N - start)) for start in range(0, N, BLOCK)]
    assert sum(advanced) == N


def test_scores_are_those_of_x_and_do_not_depend_on_the_block(members: pa.Table) -> None:
    features = fit_features(members, memory=1 << 30)
    moments, scores = run_passes(features)
    pca, encoder = Components.from_moments(moments, 5), features.encoder
    X = encoder.encode(members).astype(np.float64)
    np.testing.assert_allclose(scores, (X - pca.mean_) @ pca.components_.T, atol=1e-6)
    axes = make_projection(encoder.layout, pca.mean_, pca.components_.T)
    for row in (0, 63, 64, N - 1):
        alone = cpu.encoded_scores(encoder.encode_rows(members.slice(row, 1)), axes)
        assert alone.tobytes() == scores[row : row + 1].tobytes()


@pytest.mark.parametrize("in_file", [False, True])
def test_only_blocks_that_do_not_fit_in_the_cache_are_read_again(
    members: pa.Table, compact_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_file: bool
) -> None:
    pq.write_table(members, tmp_path / "members.parquet", row_group_size=100)
    n_blocks = -(-N // BLOCK)
    with threads(1):
        cache = (
            BlockCache(compact_bytes // 3, tmp_path, 4 * ALLOCATIONGRANULARITY)
            if in_file
            else BlockCache(compact_bytes // 3)
        )
        features = fit_encoder(open_table(tmp_path / "members.parquet"), cache=cache)
        numbers, blocks, requested = cached_blocks(features), FileTable.blocks, []
        assert numbers == list(range(len(numbers)))
        assert len(numbers) == (n_blocks // 3 + 4 if in_file else n_blocks // 3)

        def blocks_recorded(*arguments: Any, first: int, stop: int, **options: Any) -> Any:
            requested.append((first, stop))
            return blocks(*arguments, first=first, stop=stop, **options)

        monkeypatch.setattr(FileTable, "blocks", blocks_recorded)
        moments, scores = run_passes(features)
    assert requested == 2 * [(len(numbers), n_blocks)]
    assert cached_blocks(features) == []
    moments_again, scores_again = run_passes(fit_features(members, memory=0))
    assert scores.tobytes() == scores_again.tobytes()
    assert moments.scatter.tobytes() == moments_again.scatter.tobytes()
    assert [path.name for path in tmp_path.iterdir()] == ["members.parquet"]


def test_rows_are_encoded_once_where_all_fit_in_the_cache(members: pa.Table, monkeypatch: pytest.MonkeyPatch) -> None:
    features = fit_features(members, memory=1 << 30)
    encode, calls = features.encoder.encode_block, []
    monkeypatch.setattr(features.encoder, "encode_block", lambda block: calls.append(1) or encode(block))
    run_passes(features)
    assert len(calls) == -(-N // BLOCK)


def test_a_pass_with_an_empty_cache_fills_it(members: pa.Table) -> None:
    features = fit_features(members, memory=1 << 30)
    features.rows.cache.clear()  # as in a fit that goes on from its checkpoints
    observer = Observer()
    starts = list(features.rows.map(lambda start, _: start, observers=[observer]))
    assert starts == list(range(0, N, BLOCK))
    assert observer.collected == [(start, min(BLOCK, N - start)) for start in starts]
    assert len(cached_blocks(features)) == len(starts)


def test_a_table_without_random_access_is_read_once_a_pass_whatever_is_cached(
    members: pa.Table, compact_bytes: int
) -> None:
    features = fit_features(members, memory=compact_bytes // 2)
    features.rows.cache.pop(2)
    assert list(features.rows.map(lambda start, _: start)) == list(range(0, N, BLOCK))
