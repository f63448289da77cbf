"""The ids of a table's rows: as they are, and each of them once.

    table, id column  ->  IdColumnError, or nothing

Ids are compared by 64-bit keys, 16 bytes a row of `storage`: they are dealt into buckets by their first byte, and each
bucket is sorted in its place. Equal keys of different texts are told apart by a second look.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.blocks import Block, Table
from engine.errors import IdColumnError
from engine.execution.array_storage import IN_MEMORY, Storage
from engine.execution.passes import over_table
from engine.execution.threads import map_blocks, row_blocks
from engine.utils.row_sampling import KEY_ROWS, mixed

Keys = NDArray[np.uint64]

BUCKETS = 256
_FIRST_BYTE = np.uint64(56)


def ids_of(block: Block, id: str | None) -> pa.Array | pa.ChunkedArray:
    """Return a block's ids as they are, or row numbers from 0 where there is no id column.

    Raises
    ------
    IdColumnError
        If an id is missing.
    """
    if id is None:
        return pa.array(np.arange(block.start, block.start + len(block), dtype=np.int64))
    ids = block.rows.column(id)
    if ids.null_count:
        raise IdColumnError(
            f"Column {id!r} is the id, and it is missing in {ids.null_count} of rows "
            f"{block.start}…{block.start + len(block) - 1}.",
            hint="drop those rows, or choose another id column.",
        )
    return ids


def check_ids(table: Table, id: str | None, n_rows: int, storage: Storage = IN_MEMORY) -> None:
    """Raise IdColumnError if an id is missing, or comes twice: an events table is not a profile table."""
    if id is None:
        return
    repeated = _repeated(_keys_of(table, id, n_rows, storage), storage)
    storage.drop("ids")
    if len(repeated) == 0:
        return
    suspects = pa.concat_arrays([_with_keys(ids_of(block, id), repeated) for block in table.blocks([id])])
    n_extra = len(suspects) - len(suspects.unique())
    if n_extra:
        raise IdColumnError(
            f"Column {id!r} is the id, but {n_extra:,} of {n_rows:,} rows repeat the id of another row.",
            hint="the engine needs one row per profile; `rooms profiles` makes them from ratings.",
        )


def _keys_of(table: Table, id: str, n_rows: int, storage: Storage) -> Keys:
    keys = storage.array("ids", (n_rows,), np.uint64)

    def fill(block: Block) -> None:
        keys[block.start : block.start + len(block)] = id_keys(ids_of(block, id))

    for _ in over_table(fill, table, [id], what="ids"):
        pass
    return keys


def _repeated(keys: Keys, storage: Storage) -> Keys:
    """Return the keys that are there more than once."""
    counts = np.zeros(BUCKETS, np.int64)
    for found in map_blocks(lambda rows: np.bincount(_buckets(keys[rows]), minlength=BUCKETS), _runs(len(keys))):
        counts += found
    dealt, edges = storage.scratch((len(keys),), np.uint64), np.concatenate([[0], np.cumsum(counts)])
    ends = edges[:-1].copy()
    for part, found in map_blocks(lambda rows: _in_buckets(keys[rows]), _runs(len(keys))):
        starts = np.concatenate([[0], np.cumsum(found)])
        for bucket in np.flatnonzero(found):
            end = ends[bucket] + found[bucket]
            dealt[ends[bucket] : end] = part[starts[bucket] : starts[bucket + 1]]
            ends[bucket] = end

    def twice(bucket: int) -> Keys:
        inside = dealt[edges[bucket] : edges[bucket + 1]]
        inside.sort()
        runs = [inside[rows.start : rows.stop + 1] for rows in _runs(len(inside))]  # each with the next one's first
        return np.concatenate([run[1:][run[1:] == run[:-1]] for run in runs])

    return np.concatenate(list(map_blocks(twice, np.flatnonzero(counts).tolist())))


def _runs(n_rows: int) -> Any:
    return row_blocks(n_rows, KEY_ROWS)


def _buckets(keys: Keys) -> NDArray[np.uint8]:
    return (keys >> _FIRST_BYTE).astype(np.uint8)


def _in_buckets(keys: Keys) -> tuple[Keys, NDArray[np.int64]]:
    """Return keys in the order of their buckets, and the size of each."""
    buckets = _buckets(keys)
    return keys[np.argsort(buckets, kind="stable")], np.bincount(buckets, minlength=BUCKETS)


def id_keys(ids: pa.Array | pa.ChunkedArray) -> Keys:
    """Return a 64-bit key of every id: equal ids have equal keys, and different integers different ones."""
    if pa.types.is_integer(ids.type):
        return mixed(np.asarray(ids.to_numpy()).astype(np.int64).view(np.uint64))  # numbers of rows share a first byte
    from engine.kernels.cpu.hashing.string_hash import text_keys

    texts = ids.cast(pa.string())
    texts = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    keys = np.empty(len(texts), np.uint64)
    _, offsets, data = texts.buffers()
    text_keys(
        np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1],
        np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8),
        keys,
    )
    return keys


def _with_keys(ids: Any, keys: Keys) -> pa.Array:
    plain = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    return plain.filter(pa.array(np.isin(id_keys(plain), keys)))
