"""Columns of every type that Arrow has give the values of the plain type, from memory, files and streams."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import UsageError
from engine.tables import open_table

LISTS: list[Any] = [["a", "b"], None, [], ["c"], ["b", None, "a"]]
NUMBERS: list[Any] = [[1, 2], None, [], [3], [4, None]]
VECTORS: list[Any] = [[0.5, 1.0], None, [2.0, 3.0], [4.0, 5.0], [6.0, 7.5]]
WORDS: list[Any] = ["x", None, "y", "x", "z"]
AMOUNTS = [Decimal("0.07"), None, Decimal("1.10"), Decimal("0.07"), Decimal("199.99")]
DAYS = [dt.date(2024, 2, 29), None, dt.date(2024, 2, 29), dt.date(1969, 1, 1), dt.date(2024, 3, 1)]
ENDS = pa.array([1, 2, 3, 4, 5], pa.int16())
VIEWS = pa.ListViewArray.from_arrays(pa.array([3, 0, 1], pa.int32()), pa.array([1, 0, 2], pa.int32()), pa.array("abcd"))


def run_ends(values: pa.Array) -> pa.Array:
    return pa.RunEndEncodedArray.from_arrays(ENDS, values)


def dictionary(values: pa.Array) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array([0, None, 2, 3, 4]), values)


TYPES: dict[str, tuple[pa.Array, list[Any]]] = {
    "list_view": (pa.array(LISTS, pa.list_view(pa.string())), LISTS),
    "large_list_view": (pa.array(LISTS, pa.large_list_view(pa.string_view())), LISTS),
    "list_view of integers": (pa.array(NUMBERS, pa.list_view(pa.int32())), NUMBERS),
    "list_view in another order": (VIEWS, [["d"], [], ["b", "c"]]),
    "list_view of vectors": (pa.array(VECTORS, pa.list_view(pa.float64())), VECTORS),
    "a slice of a list_view": (pa.array([["q"], *LISTS, ["q"]], pa.list_view(pa.string())).slice(1, 5), LISTS),
    "large_list of list elements as views": (pa.array(LISTS, pa.large_list(pa.string_view())), LISTS),
    "fixed_size_list": (pa.array(VECTORS, pa.list_(pa.float64(), 2)), VECTORS),
    "lists of dictionaries": (pa.array(LISTS, pa.list_(pa.dictionary(pa.int8(), pa.string()))), LISTS),
    "string_view": (pa.array(WORDS, pa.string_view()), WORDS),
    "run ends of texts": (run_ends(pa.array(WORDS)), WORDS),
    "run ends of views": (run_ends(pa.array(WORDS, pa.string_view())), WORDS),
    "run ends of decimals": (run_ends(pa.array(AMOUNTS)), [None if v is None else float(v) for v in AMOUNTS]),
    "run ends of more than one row": (
        pa.RunEndEncodedArray.from_arrays(pa.array([2, 5], pa.int32()), pa.array([7, None])),
        [7, 7, None, None, None],
    ),
    "a dictionary of views": (dictionary(pa.array(WORDS, pa.string_view())), WORDS),
    "a dictionary of decimals": (dictionary(pa.array(AMOUNTS)), [None if v is None else float(v) for v in AMOUNTS]),
    "a dictionary of dates": (dictionary(pa.array([DAYS[0], DAYS[0], DAYS[2], *DAYS[3:]])), DAYS),
    "decimal256": (pa.array(AMOUNTS, pa.decimal256(60, 2)), [None if v is None else float(v) for v in AMOUNTS]),
    "decimal32": (pa.array(AMOUNTS, pa.decimal32(9, 2)), [None if v is None else float(v) for v in AMOUNTS]),
    "JSON": (pa.ExtensionArray.from_storage(pa.json_(), pa.array(WORDS)), WORDS),
    "run ends of JSON": (run_ends(pa.ExtensionArray.from_storage(pa.json_(), pa.array(WORDS))), WORDS),
}


def parquet(table: pa.Table, folder: Path) -> Path:
    pq.write_table(table, folder / "a.parquet")
    return folder / "a.parquet"


def feather(table: pa.Table, folder: Path) -> Path:
    with pa.OSFile(str(folder / "a.feather"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return folder / "a.feather"


def stream(table: pa.Table, folder: Path) -> pa.RecordBatchReader:
    return pa.RecordBatchReader.from_batches(table.schema, table.to_batches())


def several_chunks(table: pa.Table, folder: Path) -> pa.Table:
    return pa.concat_tables([table.slice(0, 2), table.slice(2, 0), table.slice(2)])


def memory(table: pa.Table, folder: Path) -> pa.Table:
    return table


SOURCES = [memory, several_chunks, parquet, feather, stream]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", TYPES)
def test_a_type_gives_the_values_of_its_plain_type(
    name: str, source: Callable[[pa.Table, Path], Any], tmp_path: Path
) -> None:
    column, expected = TYPES[name]
    rows = pa.table({"c": column, "n": range(len(column))})
    try:
        opened = source(rows, tmp_path)
    except pa.ArrowNotImplementedError:
        pytest.skip(f"pyarrow cannot write {column.type} as {source.__name__}")
    table = open_table(opened)
    if "c[0]" in table.schema.names:
        expected_parts = [None if row is None else row[1] for row in expected]
        assert [v for block in table.blocks() for v in block.rows["c[1]"].to_pylist()] == expected_parts
        return
    for block in table.blocks():
        block.rows.validate(full=True)
        assert block.rows["c"].type == table.schema.field("c").type
    assert [value for block in table.blocks() for value in block.rows["c"].to_pylist()] == expected


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("kind", [pa.string_view(), pa.dictionary(pa.int32(), pa.string()), pa.decimal256(40, 0)])
def test_ids_of_rare_types_keep_their_values(
    kind: pa.DataType, source: Callable[[pa.Table, Path], Any], tmp_path: Path
) -> None:
    ids: list[Any] = [Decimal(2**70 + row) for row in range(5)] if pa.types.is_decimal(kind) else list("abcde")
    rows = pa.table({"id": pa.array(ids, kind), "n": range(5)})
    blocks = list(open_table(source(rows, tmp_path), id="id").blocks(["id"]))
    assert [value for block in blocks for value in block.rows["id"].to_pylist()] == ids


def test_uuids_may_be_ids_in_run_ends() -> None:
    ids = [uuid.UUID(int=row).bytes for row in range(5)]
    rows = pa.table({"id": run_ends(pa.array(ids, pa.binary(16))), "n": range(5)})
    (block,) = open_table(rows, id="id").blocks(["id"])
    assert block.rows["id"].to_pylist() == ids


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_single_column_is_no_table(library: str) -> None:
    series = pytest.importorskip(library).Series([1.0, 2.0])
    with pytest.raises(UsageError, match="A table cannot be a Series, which is a single column"):
        open_table(series)


def test_lists_of_nulls_are_read_beside_a_column_that_is_cast() -> None:
    table = pa.table({"price": [Decimal("1.50"), None], "likes": [[None, None], [None]], "age": [1, 2]})
    (block,) = open_table(table).blocks()
    assert block.rows.to_pydict() == {"price": [1.5, None], "likes": [[None, None], [None]], "age": [1, 2]}
