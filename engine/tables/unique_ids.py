"""Read the ids of a table's rows, and check that each id is present and unique.

    table, id column  ->  IdColumnError, or nothing

Ids are compared by 64-bit keys, which take 16 bytes a row of `storage`: they are partitioned into buckets by their
first byte, and each bucket is sorted in place. Where keys are equal, the ids themselves are compared.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine.blocks import Block, Table, is_binary, storage_array
from engine.errors import IdColumnError
from engine.execution.array_storage import IN_MEMORY, Storage
from engine.execution.passes import over_table
from engine.execution.threads import map_blocks, row_blocks
from engine.utils.row_sampling import GOLDEN, KEY_ROWS, mix64

Keys = NDArray[np.uint64]

N_BUCKETS = 256  # one for each value of a key's first byte
_FIRST_BYTE_SHIFT = np.uint64(56)  # bits


def read_ids(block: Block, id: str | None) -> pa.Array | pa.ChunkedArray:
    """Return a block's ids, or global row numbers from 0 if the table has no id column.

    Raises
    ------
    IdColumnError
        If an id is missing.
    """
    if id is None:
        return pa.array(np.arange(block.start, block.start + len(block), dtype=np.int64))
    ids = block.rows.column(id)
    n_missing = ids.null_count + (pc.sum(pc.is_nan(ids)).as_py() or 0 if pa.types.is_floating(ids.type) else 0)
    if n_missing:
        last = block.start + len(block) - 1
        where = f"row {last}" if last == block.start else f"{n_missing:,} of rows {block.start}…{last}"
        raise IdColumnError(
            f"Column {id!r} is the id, and it is missing in {where}.",
            hint="drop those rows, or choose another id column.",
        )
    return ids


def check_id_type(schema: pa.Schema, id: str) -> None:
    """Raise IdColumnError if the id column holds lists, structs or other values that cannot be compared as ids."""
    kind = schema.field(id).type
    kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    if pa.types.is_nested(kind) or pa.types.is_interval(kind):
        raise IdColumnError(
            f"Column {id!r} is the id, but it holds {kind}, which cannot be an id.",
            hint="cast it to text in the table, or choose another id column.",
        )


def check_ids(table: Table, id: str | None, n_rows: int, storage: Storage = IN_MEMORY) -> int | None:
    """Return the digest of the ids (see digest_ids), None if the table has no id column.

    Raises
    ------
    IdColumnError
        If an id is missing or repeated: a table of events is not a table of profiles.
    """
    if id is None:
        return None
    keys, digest = _compute_keys(table, id, n_rows, storage)
    repeated_keys = _find_repeated_keys(keys, storage)
    storage.delete("ids")
    if len(repeated_keys) == 0:
        return digest
    suspects = pa.concat_arrays([_ids_with_keys(read_ids(block, id), repeated_keys) for block in table.blocks([id])])
    n_extra = len(suspects) - len(suspects.unique())
    if n_extra:
        raise IdColumnError(
            f"Column {id!r} is the id, but {n_extra:,} of {n_rows:,} rows repeat the id of another row.",
            hint="the engine needs one row per profile; `rooms profiles` makes them from ratings.",
        )
    return digest


def digest_ids(ids: pa.Array | pa.ChunkedArray, start: int) -> int:
    """Return a digest of consecutive ids, of which the first is that of row `start`; it depends on their order.

    The digest of all rows is the sum of those of their blocks, modulo 2^64.
    """
    return _digest_keys(hash_ids(ids), start)


def _digest_keys(keys: Keys, start: int) -> int:
    rows = np.arange(start, start + len(keys), dtype=np.uint64)
    return int(mix64(keys + rows * GOLDEN).sum(dtype=np.uint64))


def _compute_keys(table: Table, id: str, n_rows: int, storage: Storage) -> tuple[Keys, int]:
    """Return the key of every id, and the digest of the ids."""
    keys = storage.array("ids", (n_rows,), np.uint64)

    def fill(block: Block) -> int:
        block_keys = hash_ids(read_ids(block, id))
        keys[block.start : block.start + len(block)] = block_keys
        return _digest_keys(block_keys, block.start)

    return keys, sum(over_table(fill, table, [id], pass_name="ids")) % 2**64


def _find_repeated_keys(keys: Keys, storage: Storage) -> Keys:
    """Return the keys that occur more than once."""
    counts = np.zeros(N_BUCKETS, np.int64)
    for run_counts in map_blocks(
        lambda rows: np.bincount(_bucket_numbers(keys[rows]), minlength=N_BUCKETS), _key_runs(len(keys))
    ):
        counts += run_counts
    partitioned, edges = storage.scratch((len(keys),), np.uint64), np.concatenate([[0], np.cumsum(counts)])
    ends = edges[:-1].copy()
    for run, run_counts in map_blocks(lambda rows: _sort_by_bucket(keys[rows]), _key_runs(len(keys))):
        starts = np.concatenate([[0], np.cumsum(run_counts)])
        for bucket in np.flatnonzero(run_counts):
            end = ends[bucket] + run_counts[bucket]
            partitioned[ends[bucket] : end] = run[starts[bucket] : starts[bucket + 1]]
            ends[bucket] = end

    def find_in_bucket(bucket: int) -> Keys:
        bucket_keys = partitioned[edges[bucket] : edges[bucket + 1]]
        bucket_keys.sort()
        # Each run includes the first key of the next one, so that equal keys across their border are found.
        runs = [bucket_keys[rows.start : rows.stop + 1] for rows in _key_runs(len(bucket_keys))]
        return np.concatenate([run[1:][run[1:] == run[:-1]] for run in runs])

    return np.concatenate(list(map_blocks(find_in_bucket, np.flatnonzero(counts).tolist())))


def _key_runs(n_rows: int) -> Any:
    return row_blocks(n_rows, KEY_ROWS)


def _bucket_numbers(keys: Keys) -> NDArray[np.uint8]:
    return (keys >> _FIRST_BYTE_SHIFT).astype(np.uint8)


def _sort_by_bucket(keys: Keys) -> tuple[Keys, NDArray[np.int64]]:
    """Sort keys by bucket, stably; return them and the number of keys in each bucket."""
    buckets = _bucket_numbers(keys)
    return keys[np.argsort(buckets, kind="stable")], np.bincount(buckets, minlength=N_BUCKETS)


def hash_ids(ids: pa.Array | pa.ChunkedArray) -> Keys:
    """Hash ids to 64-bit keys: equal ids have equal keys, and different integers have different keys.

    Numbers other than integers, and times, are hashed as texts; UUIDs and other binary ids by their bytes.
    """
    ids = storage_array(ids)
    if pa.types.is_integer(ids.type):
        return mix64(
            np.asarray(ids.to_numpy()).astype(np.int64).view(np.uint64)
        )  # mixed, because row numbers share a first byte
    from engine.kernels.cpu.hashing.string_hash import hash_strings

    texts = ids.cast(pa.binary() if is_binary(ids.type) else pa.string())
    texts = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    keys = np.empty(len(texts), np.uint64)
    _, offsets, data = texts.buffers()
    hash_strings(
        np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1],
        np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8),
        keys,
    )
    return keys


def _ids_with_keys(ids: Any, keys: Keys) -> pa.Array:
    array = storage_array(ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids)
    return array.filter(pa.array(np.isin(hash_ids(array), keys)))
