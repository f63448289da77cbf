"""Repeated and missing ids raise, with keys in memory and in files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from engine.errors import IdColumnError
from engine.execution.array_storage import IN_MEMORY, Storage
from engine.tables import open_table
from engine.tables import unique_ids as ids
from engine.tables.unique_ids import check_ids

N = 1_000


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch, block_rows: Callable[[int], None]) -> None:
    block_rows(64)
    monkeypatch.setattr(ids, "KEY_ROWS", 3)  # the same ids lie in several runs of a bucket


def make_ids(n_repeated: int = 0) -> pa.Array:
    values = np.arange(N) * 17 + 2**60
    values[N - n_repeated :] = values[5]
    return pa.array(np.random.default_rng(0).permutation(values))


@pytest.mark.parametrize("make", [lambda column: column, lambda column: column.cast(pa.string())])
@pytest.mark.parametrize("in_files", [False, True])
def test_ids_that_come_twice_are_counted(make: object, in_files: bool, tmp_path: Path) -> None:
    storage = Storage(tmp_path) if in_files else IN_MEMORY
    table = open_table(pa.table({"id": make(make_ids())}))  # type: ignore[operator]
    check_ids(table, "id", N, storage)
    repeated = open_table(pa.table({"id": make(make_ids(3))}))  # type: ignore[operator]
    with pytest.raises(IdColumnError, match="3 of 1,000 rows repeat the id"):
        check_ids(repeated, "id", N, storage)
    assert not list(tmp_path.iterdir())


def test_different_texts_of_one_key_are_no_repetition(monkeypatch: pytest.MonkeyPatch) -> None:
    def equal_keys(texts: pa.Array) -> np.ndarray:
        return np.zeros(len(texts), np.uint64)

    monkeypatch.setattr(ids, "hash_ids", equal_keys)
    check_ids(open_table(pa.table({"id": make_ids().cast(pa.string())})), "id", N)


def test_a_missing_id_is_an_error() -> None:
    column = pa.array([1, None, 3])
    with pytest.raises(IdColumnError, match="missing in 1 of rows 0…2"):
        check_ids(open_table(pa.table({"id": column})), "id", 3)


def test_without_an_id_column_there_is_nothing_to_check() -> None:
    check_ids(open_table(pa.table({"x": [1, 1]})), None, 2)
