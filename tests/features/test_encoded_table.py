"""Passes over encoded rows: the same bits from memory and from the source, and the moments and scores of X."""

from __future__ import annotations

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
from engine.execution.block_cache import Shelf
from engine.execution.threads import threads
from engine.features.columnar_block import read
from engine.features.compact_block import NarrowRows
from engine.features.encoded_moments import projection
from engine.features.encoded_table import PlainBlock
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
    """Collects the first row and the number of rows of every block, which it gets in order."""

    def __init__(self) -> None:
        self.collected: list[tuple[int, int]] = []

    def observe(self, block: PlainBlock) -> tuple[int, int]:
        return block.start, block.rows.n_rows

    def collect(self, result: tuple[int, int]) -> None:
        self.collected.append(result)

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        raise AssertionError("there is no checkpoint in this test")


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (
        "blocks",
        "tables.dataframe_table",
        "tables.file_table",
        "features.encoded_table",
        "features.compact_block",
    ):
        monkeypatch.setattr(f"engine.{module}.BLOCK_ROWS", BLOCK)


@pytest.fixture(scope="module")
def narrow_bytes(members: pa.Table) -> int:
    """Return what all rows take while they are kept."""
    readings = fit_encoder(open_table(members)).encoder.layout.readings
    return sum(NarrowRows.of(read(members.slice(start, 64), readings)).n_bytes for start in range(0, N, 64))


def fitted(members: Any, keep: int) -> FittedFeatures:
    return fit_encoder(open_table(members), shelf=Shelf(keep))


def kept(features: FittedFeatures) -> list[int]:
    return [number for number in range(-(-N // BLOCK)) if number in features.rows.shelf]


def passes(features: FittedFeatures) -> tuple[Moments, np.ndarray]:
    moments = features.rows.moments(cpu, lambda _: None)
    pca = Components.of(moments, 5)
    axes = projection(features.encoder.layout, pca.mean_, pca.components_.T)
    return moments, np.concatenate(list(features.rows.map(lambda _, rows: cpu.encoded_scores(rows, axes), last=True)))


@pytest.mark.parametrize("source", ["frame", "files"])
def test_neither_memory_nor_threads_change_a_bit(
    members: pa.Table, narrow_bytes: int, tmp_path: Path, source: str
) -> None:
    table: Any = members
    if source == "files":
        table = tmp_path / "members.parquet"
        pq.write_table(members, table, row_group_size=100)
    with threads(1):
        moments, scores = passes(fitted(members, keep=0))
    for keep, count in ((0, 3), (narrow_bytes // 2, 1), (narrow_bytes // 2, 3), (1 << 30, 1), (1 << 30, 3)):
        with threads(count):
            others, again = passes(fitted(table, keep=keep))
        assert scores.tobytes() == again.tobytes()
        assert moments.mean.tobytes() == others.mean.tobytes()
        assert moments.scatter.tobytes() == others.scatter.tobytes()


def test_moments_are_those_of_x(members: pa.Table) -> None:
    features = fitted(members, keep=0)
    found = features.rows.moments(cpu, lambda _: None)
    mean, scatter = reference.moments(features.encoder.encode(members).astype(np.float64).tolist())
    assert found.n_rows == N
    np.testing.assert_allclose(found.mean, mean, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(found.scatter, scatter, rtol=1e-11, atol=1e-11 * np.abs(scatter).max())


def test_scores_are_those_of_x_and_of_every_row_alone(members: pa.Table) -> None:
    features = fitted(members, keep=1 << 30)
    moments, scores = passes(features)
    pca, encoder = Components.of(moments, 5), features.encoder
    X = encoder.encode(members).astype(np.float64)
    np.testing.assert_allclose(scores, (X - pca.mean_) @ pca.components_.T, atol=1e-6)
    axes = projection(encoder.layout, pca.mean_, pca.components_.T)
    for row in (0, 63, 64, N - 1):
        alone = cpu.encoded_scores(encoder.encode_rows(members.slice(row, 1)), axes)
        assert alone.tobytes() == scores[row : row + 1].tobytes()


@pytest.mark.parametrize("in_file", [False, True])
def test_rows_that_have_no_room_are_read_again_and_no_others(
    members: pa.Table, narrow_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_file: bool
) -> None:
    pq.write_table(members, tmp_path / "members.parquet", row_group_size=100)
    n_blocks = -(-N // BLOCK)
    with threads(1):
        shelf = Shelf(narrow_bytes // 3, tmp_path, 4 * ALLOCATIONGRANULARITY) if in_file else Shelf(narrow_bytes // 3)
        features = fit_encoder(open_table(tmp_path / "members.parquet"), shelf=shelf)
        there, blocks, asked = kept(features), FileTable.blocks, []
        assert there == list(range(len(there)))
        assert len(there) == (n_blocks // 3 + 4 if in_file else n_blocks // 3)

        def noted(*arguments: Any, first: int, stop: int, **options: Any) -> Any:
            asked.append((first, stop))
            return blocks(*arguments, first=first, stop=stop, **options)

        monkeypatch.setattr(FileTable, "blocks", noted)
        moments, scores = passes(features)
    assert asked == 2 * [(len(there), n_blocks)]
    assert kept(features) == []
    others, again = passes(fitted(members, keep=0))
    assert scores.tobytes() == again.tobytes()
    assert moments.scatter.tobytes() == others.scatter.tobytes()
    assert [path.name for path in tmp_path.iterdir()] == ["members.parquet"]


def test_rows_are_encoded_once_where_all_have_room(members: pa.Table, monkeypatch: pytest.MonkeyPatch) -> None:
    features = fitted(members, keep=1 << 30)
    encode, calls = features.encoder.encode_plain, []
    monkeypatch.setattr(features.encoder, "encode_plain", lambda plain: calls.append(1) or encode(plain))
    passes(features)
    assert len(calls) == -(-N // BLOCK)


def test_a_pass_after_nothing_was_kept_keeps_what_it_reads(members: pa.Table) -> None:
    features = fitted(members, keep=1 << 30)
    features.rows.shelf.clear()  # as in a fit that goes on from its checkpoints
    observer = Observer()
    starts = list(features.rows.map(lambda start, _: start, observers=[observer]))
    assert starts == list(range(0, N, BLOCK))
    assert observer.collected == [(start, min(BLOCK, N - start)) for start in starts]
    assert len(kept(features)) == len(starts)


def test_a_table_that_has_no_parts_is_read_once_a_pass_whatever_is_kept(members: pa.Table, narrow_bytes: int) -> None:
    features = fitted(members, keep=narrow_bytes // 2)
    features.rows.shelf.take(2)
    assert list(features.rows.map(lambda start, _: start)) == list(range(0, N, BLOCK))
