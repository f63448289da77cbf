"""Passes over encoded rows: the same bits from memory and from the source, and the moments and scores of X."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from engine import backends
from engine.backends.protocol import EncodedRows, Moments
from engine.components import Components
from engine.execution.local import threads
from engine.features import fit_encoder
from engine.features.encoder import FittedFeatures
from engine.features.moments import projection
from engine.tables import open_table
from engine.tables.demo import DemoMembers
from tests import reference

N = 700
BLOCK = 64
cpu, _ = backends.resolve("cpu")


@pytest.fixture(scope="module")
def members() -> pa.Table:
    return pa.concat_tables([block.rows for block in DemoMembers(N).blocks()]).drop_columns(["user_id"])


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("engine.tables.block", "engine.tables.frames"):
        monkeypatch.setattr(f"{module}.BLOCK_ROWS", BLOCK)


def fitted(members: pa.Table, keep: int) -> FittedFeatures:
    return fit_encoder(open_table(members), keep=keep)


def passes(features: FittedFeatures) -> tuple[Moments, np.ndarray]:
    moments = features.rows.moments(cpu, lambda _: None)
    pca = Components.of(moments, 5)
    axes = projection(features.encoder.layout, pca.mean_, pca.components_.T)
    return moments, np.concatenate(list(features.rows.map(lambda _, rows: cpu.encoded_scores(rows, axes), last=True)))


def test_memory_and_threads_do_not_change_a_bit(members: pa.Table) -> None:
    with threads(1):
        moments, scores = passes(fitted(members, keep=0))
    for keep, count in ((0, 3), (1 << 30, 1), (1 << 30, 3)):
        with threads(count):
            others, again = passes(fitted(members, keep=keep))
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


def test_kept_rows_are_encoded_once_and_gone_after_the_last_pass(
    members: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = fitted(members, keep=1 << 30)
    encode, calls = features.encoder.encode_plain, []
    monkeypatch.setattr(features.encoder, "encode_plain", lambda plain: calls.append(1) or encode(plain))

    def first_row(start: int, rows: EncodedRows) -> int:
        return start

    starts = list(range(0, N, BLOCK))
    assert list(features.rows.map(first_row)) == starts
    assert list(features.rows.map(first_row, last=True)) == starts
    assert len(calls) == len(starts)
    monkeypatch.undo()
    assert list(features.rows.map(first_row))[-1] == N // 32_768 * 32_768  # read again, in blocks of the usual size


def test_rows_beyond_the_limit_are_not_kept(members: pa.Table) -> None:
    assert fitted(members, keep=1000).rows._kept is None
    assert len(fitted(members, keep=1 << 30).rows._kept or ()) == -(-N // BLOCK)
