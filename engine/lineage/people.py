"""Match people of two runs, or of a run and a table, by their ids: exactly, part by part.

    assignments/ of two runs            ->  ids, old and new cluster of the people in both
    assignments/ of a run, and a table  ->  the old cluster of every row, -1 for newcomers

Ids are partitioned by their hash, so that memory holds a few million at a time however many there are; for each part
all ids are read. Clusters are their positions in the run's clusters.parquet.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from engine.blocks import Table, storage_array
from engine.errors import IdColumnError
from engine.execution.array_storage import IN_MEMORY, Storage
from engine.model.assignments import ROW
from engine.run import Run
from engine.tables.unique_ids import hash_ids, read_ids
from engine.utils.array_types import Int32s

ROWS_PER_PART = 1 << 22  # people of the larger side whose ids are in memory at once
# Bytes of a person of a part while ids are matched, of both sides together; texts are taken to have 20 characters.
# Measured with 1 and 4 million people in both nights (anonymous memory): 113 to 119, and 188 to 210.
NUMBER_ID_BYTES, TEXT_ID_BYTES = 120, 210
NEWCOMER = -1


def match_people(old: Run, new: Run) -> Iterator[tuple[pa.Array, Int32s, Int32s]]:
    """Yield the people who are in both runs, part by part in the order of the new run: ids, old and new clusters.

    Raises
    ------
    IdColumnError
        If the runs have different id columns, ids of different types, or no id column and different numbers of rows.
    """
    kind = _common_id_type(old, new)
    n_parts = -(-max(old.manifest["rows"], new.manifest["rows"]) // ROWS_PER_PART)
    for part in range(n_parts):
        before, after = (_read_people(run, kind, part, n_parts) for run in (old, new))
        index = _find_ids(after["id"], before["id"])
        in_both = index.is_valid()
        labels = before["cluster"].to_numpy()[index.drop_null().to_numpy()]
        common = after.filter(in_both)
        yield common["id"].combine_chunks(), labels, common["cluster"].to_numpy()


def earlier_clusters(old: Run, table: Table, id: str | None, n_rows: int, storage: Storage = IN_MEMORY) -> Int32s:
    """Return the cluster that each row's person had in an earlier run, int32 of shape (n_rows,); NEWCOMER if none.

    Without an id column, nobody is known: all rows are newcomers.

    Raises
    ------
    IdColumnError
        If the run has another id column, or ids of another type.
    """
    earlier: Int32s = storage.scratch((n_rows,), np.int32)
    earlier.fill(NEWCOMER)
    old_id = id_column(old)
    if (id or ROW) != old_id:
        raise IdColumnError(
            f"{old.path} tells rows apart by column {old_id!r}, and this table by {id or ROW!r}.",
            hint=f"fit with --id {old_id}." if old_id != ROW else "fit both with the same --id.",
        )
    if id is None:
        return earlier
    kind = _common_type(id, old.path, _assignments(old).schema.field(0).type, "the table", table.schema.field(id).type)
    n_parts = -(-max(old.manifest["rows"], n_rows) // ROWS_PER_PART)
    for part in range(n_parts):
        rows, labels = _match_rows(old, table, id, kind, part, n_parts)
        earlier[rows] = labels
    return earlier


def _match_rows(old: Run, table: Table, id: str, kind: pa.DataType, part: int, n_parts: int) -> tuple[Any, Int32s]:
    """Return the rows of a part whose people are in a run, and their clusters there; nothing else of it is kept."""
    before = _read_people(old, kind, part, n_parts)
    ids, rows = _read_rows(table, id, kind, part, n_parts)
    index = _find_ids(ids, before["id"])
    known = rows[index.is_valid().to_numpy(zero_copy_only=False)]
    return known, before["cluster"].to_numpy()[index.drop_null().to_numpy()]


def matching_bytes(n_rows: int, n_earlier: int, kind: pa.DataType) -> int:
    """Return the bytes of memory that matching the ids of a table and an earlier run takes."""
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_temporal(kind)
    return min(max(n_rows, n_earlier), ROWS_PER_PART) * (NUMBER_ID_BYTES if number else TEXT_ID_BYTES)


def id_column(run: Run) -> str:
    """Return the name of a run's id column; ROW if its rows are numbered."""
    name: str = _assignments(run).schema.names[0]
    return name


def _find_ids(ids: pa.ChunkedArray, known: pa.ChunkedArray) -> pa.Array:
    """Return the position of each id among the known ones, null where it is none of them."""
    # Arrow looks ids up by the values that an extension type, such as UUID, stores.
    return pc.index_in(storage_array(ids.combine_chunks()), storage_array(known.combine_chunks()))


def _read_people(run: Run, kind: pa.DataType, part: int, n_parts: int) -> pa.Table:
    """Return ids and clusters of the people whose hash falls into a part."""
    tables, numbers = [], run.clusters["cluster"].to_numpy()
    for batch in _assignments(run).to_batches(columns=[id_column(run), "cluster"]):
        ids = batch.column(0).cast(kind)
        labels = pa.array(np.searchsorted(numbers, batch.column(1)).astype(np.int32))
        table = pa.table({"id": ids, "cluster": labels})
        tables.append(table if n_parts == 1 else table.filter(_in_part(ids, part, n_parts)))
    return pa.concat_tables(tables)


def _read_rows(table: Table, id: str, kind: pa.DataType, part: int, n_parts: int) -> tuple[pa.ChunkedArray, Any]:
    """Return ids and numbers of the rows of a table whose hash falls into a part."""
    chunks, rows = [], []
    for block in table.blocks([id]):
        ids = pa.chunked_array(list(_chunks(read_ids(block, id)))).cast(kind)
        numbers = np.arange(block.start, block.start + len(block), dtype=np.int64)
        if n_parts > 1:
            inside = _in_part(ids, part, n_parts)
            ids, numbers = ids.filter(inside), numbers[inside.to_numpy(zero_copy_only=False)]
        chunks += ids.chunks
        rows.append(numbers)
    return pa.chunked_array(chunks, type=kind), np.concatenate(rows)


def _chunks(ids: pa.Array | pa.ChunkedArray) -> list[pa.Array]:
    return list(ids.chunks) if isinstance(ids, pa.ChunkedArray) else [ids]


def _in_part(ids: pa.Array | pa.ChunkedArray, part: int, n_parts: int) -> pa.Array:
    return pa.array(hash_ids(ids) % np.uint64(n_parts) == part)


def _common_id_type(old: Run, new: Run) -> pa.DataType:
    """Return the type that the ids of both runs are cast to before they are matched."""
    names, kinds = zip(*((id_column(run), _assignments(run).schema.field(0).type) for run in (old, new)), strict=True)
    if names[0] != names[1]:
        raise IdColumnError(
            f"{old.path} tells rows apart by column {names[0]!r}, {new.path} by {names[1]!r}.",
            hint="fit both with the same --id.",
        )
    rows = old.manifest["rows"], new.manifest["rows"]
    if names[0] == ROW and rows[0] != rows[1]:
        raise IdColumnError(
            f"Neither run has an id column, and they have {rows[0]:,} and {rows[1]:,} rows: who is who is unknown.",
            hint="fit both with --id.",
        )
    return _common_type(names[0], old.path, kinds[0], new.path, kinds[1])


def _common_type(name: str, old: Any, old_kind: pa.DataType, new: Any, new_kind: pa.DataType) -> pa.DataType:
    for is_kind, common in ((pa.types.is_integer, pa.int64()), (_is_text, pa.string())):
        if is_kind(old_kind) and is_kind(new_kind):
            return old_kind if old_kind == new_kind else common
    if old_kind != new_kind:
        raise IdColumnError(
            f"Column {name!r} holds {old_kind} in {old} and {new_kind} in {new}.",
            hint="give both tables ids of one type, and fit again.",
        )
    return old_kind


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind))


def _assignments(run: Run) -> Any:
    return ds.dataset((run.path / "assignments").absolute(), format="parquet")
