"""Repeated and missing ids raise, with keys in memory and in files."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.blocks import require_columns
from engine.errors import IdColumnError, MissingColumnError
from engine.execution.array_storage import IN_MEMORY, Storage
from engine.tables import open_table
from engine.tables import unique_ids as ids
from engine.tables.unique_ids import check_ids, read_ids

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


def test_a_single_row_is_no_range_of_rows() -> None:
    table = open_table(pa.table({"id": pa.array([None], pa.int64())}))
    with pytest.raises(IdColumnError, match="missing in row 0\\."):
        check_ids(table, "id", 1)
    with pytest.raises(MissingColumnError) as caught:
        require_columns(table.schema, ["age"], "The table")
    assert caught.value.hint == "the only column there is: 'id'."


def test_without_an_id_column_there_is_nothing_to_check() -> None:
    check_ids(open_table(pa.table({"x": [1, 1]})), None, 2)


UUIDS = [uuid.UUID(int=n * 2**64 + 255).bytes for n in range(100)]
EXACT_IDS = {
    "decimals beyond 2^53": pa.array([Decimal(2**53 + n) for n in range(100)], pa.decimal128(20, 0)),
    "decimals beyond 2^128": pa.array([Decimal(10**50 + n) for n in range(100)], pa.decimal256(60, 0)),
    "uuids": pa.array(UUIDS, pa.uuid()),
    "json": pa.array([f'{{"id": {n}}}' for n in range(100)], pa.json_()),
    "bytes": pa.array(UUIDS, pa.large_binary()),
    "bytes of one length": pa.array(UUIDS, pa.binary(16)),
    "unsigned beyond 2^63": pa.array([2**63 + n for n in range(100)], pa.uint64()),
    "fractions": pa.array([n / 8 for n in range(100)]),
    "days": pa.array(range(100), pa.int32()).cast(pa.date32()),
}


@pytest.mark.parametrize("kind", list(EXACT_IDS))
@pytest.mark.parametrize("in_file", [False, True])
def test_ids_of_any_scalar_type_keep_their_values_and_are_checked(kind: str, in_file: bool, tmp_path: Path) -> None:
    column = EXACT_IDS[kind]
    twice = pa.chunked_array([column.slice(0, 98), column.slice(5, 2)]).combine_chunks()
    for name, values in (("once", column), ("twice", twice)):
        pq.write_table(pa.table({"id": values}), tmp_path / f"{name}.parquet")
    once, repeated = (
        open_table(tmp_path / f"{name}.parquet" if in_file else pa.table({"id": values}), id="id")
        for name, values in (("once", column), ("twice", twice))
    )
    read = [value for block in once.blocks(["id"]) for value in read_ids(block, "id").to_pylist()]
    assert read == column.to_pylist()
    check_ids(once, "id", 100)
    with pytest.raises(IdColumnError, match="2 of 100 rows repeat the id"):
        check_ids(repeated, "id", 100)


def test_a_nan_is_a_missing_id() -> None:
    with pytest.raises(IdColumnError, match="missing in 2 of rows 0…2"):
        check_ids(open_table(pa.table({"id": [1.0, float("nan"), None]}), id="id"), "id", 3)


@pytest.mark.parametrize("value", [{"a": 1}, [1], [("a", 1)]])
def test_nested_ids_are_refused_with_their_type(value: object) -> None:
    kind = pa.map_(pa.string(), pa.int64()) if value == [("a", 1)] else None
    with pytest.raises(IdColumnError, match=r"Column 'id' is the id, but it holds (struct|list|map)<.*\nHint: cast it"):
        open_table(pa.table({"id": pa.array([value], kind)}), id="id")
