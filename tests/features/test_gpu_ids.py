"""Ids on a device: the digest of the CPU where they are unique, and otherwise nothing, so that the CPU reports."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.features.gpu_ids import digest_unique_ids
from engine.tables import open_table
from engine.tables.unique_ids import check_ids
from tests.features.test_gpu_encoder import MODULES, FailingChunks
from tests.gpu.chunks import NumpyDevice

N = 500


def table_of(ids: pa.Array) -> Any:
    return open_table(pa.table({"id": ids, "x": np.arange(len(ids))}))


def reader_of(ids: pa.Array, **options: Any) -> Any:
    return NumpyDevice(**{"lengths": (7, 1, 90)} | options).reader(table_of(ids))


def unique_ids(seed: int = 0) -> Any:
    return np.random.default_rng(seed).permutation(np.arange(N) * 17 - 2**62)


@pytest.mark.parametrize("xp", MODULES)
@pytest.mark.parametrize("kind", ["int64", "int32", "int8", "uint32"])
def test_the_digest_is_that_of_the_cpu(xp: Any, kind: str) -> None:
    ids = pa.array(unique_ids()) if kind == "int64" else pa.array(np.arange(100)).cast(pa.type_for_alias(kind))
    digest = digest_unique_ids(reader_of(ids, xp=xp), "id", len(ids))
    assert digest == check_ids(table_of(ids), "id", len(ids))
    backwards = digest_unique_ids(reader_of(ids.take(pa.array(np.arange(len(ids))[::-1]))), "id", len(ids))
    assert backwards not in (None, digest)


@pytest.mark.parametrize("xp", MODULES)
def test_what_the_cpu_has_to_look_at_has_no_digest(xp: Any) -> None:
    ids = unique_ids()
    repeated = ids.copy()
    repeated[300] = repeated[3]
    missing = [None, *ids[1:].tolist()]  # reads as 0, which is no other id
    for column in (
        pa.array(repeated),
        pa.array(missing),
        pa.array(ids).cast(pa.string()),
        pa.array(np.arange(N) * 0.5),
    ):
        assert digest_unique_ids(reader_of(column, xp=xp), "id", N) is None
    assert digest_unique_ids(reader_of(pa.array(np.arange(N).astype(np.uint64)), xp=xp), "id", N) is None
    assert digest_unique_ids(reader_of(pa.array(ids), xp=xp, unreadable={"id": "of a test"}), "id", N) is None
    assert digest_unique_ids("pyarrow", "id", N) is None


def test_where_memory_does_not_suffice_the_cpu_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = reader_of(pa.array(unique_ids()))
    monkeypatch.setattr(reader.device, "free_memory", lambda: 48 * N - 1)
    assert digest_unique_ids(reader, "id", N) is None
    monkeypatch.setattr(reader.device, "free_memory", lambda: 48 * N)
    digest = digest_unique_ids(reader, "id", N)
    assert digest is not None
    object.__setattr__(reader, "chunks", FailingChunks(reader.chunks, 1))  # a chunk comes again
    assert digest_unique_ids(reader, "id", N) == digest

    def fail(*_: Any) -> None:
        raise MemoryError("no room to sort")

    monkeypatch.setattr(reader.device.xp, "sort", fail)
    assert digest_unique_ids(reader, "id", N) is None
