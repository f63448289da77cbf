"""Factorize ids of users and items: codes 0, 1, 2 … in order of first appearance.

    a column of ids  ->  int64 or string array without nulls  ->  codes (n,), and the unique ids by code

Ids keep their exact values: integers beyond 2^53 and strings with leading zeros are never converted to floats. The
hash table is a kernel: kernels/cpu/hashing/factorize.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine.errors import IdColumnError
from engine.kernels.cpu.hashing import factorize as kernel
from engine.tables.csv_faults import locate_missing
from engine.tables.source_paths import SourceFiles

_INITIAL_SLOTS = 1 << 10  # of a hash table; doubled when half of them are full
_INITIAL_BYTES = 1 << 13  # for the unique strings of a hash table


def normalize_ids(
    column: pa.Array | pa.ChunkedArray, name: str, source_name: str, files: SourceFiles | None = None
) -> pa.Array:
    """Return ids as one pyarrow array of int64 or string without nulls; `files` are those of CSV, to name a line of.

    Raises
    ------
    IdColumnError
        If an id is missing, or if the column holds neither integers below 2^63 nor strings.
    """
    ids = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    id_type = ids.type
    if not (pa.types.is_integer(id_type) or pa.types.is_string(id_type)):
        raise IdColumnError(f"Column {name!r} of {source_name} holds {id_type}, but ids must be integers or text.")
    if ids.null_count:
        where = "" if files is None else locate_missing(files, name)
        raise IdColumnError(
            f"Column {name!r} of {source_name} has no id in {ids.null_count:,} of {len(ids):,} rows{where}.",
            hint="leave those rows out, or give them an id of their own.",
        )
    if pa.types.is_uint64(id_type) and len(ids) and pc.max(ids).as_py() >= 2**63:
        raise IdColumnError(
            f"Column {name!r} of {source_name} holds integers of 2^63 and more.", hint="write the ids as text."
        )
    return ids.cast(pa.int64()) if pa.types.is_integer(id_type) else ids


def normalize_distinct_ids(column: pa.Array | pa.ChunkedArray, name: str, source_name: str) -> pa.Array:
    """Return `normalize_ids` of a column, or raise IdColumnError if an id occurs more than once."""
    ids = normalize_ids(column, name, source_name)
    repeated = len(ids) - pc.count_distinct(ids).as_py()
    if repeated:
        raise IdColumnError(
            f"Column {name!r} of {source_name} repeats ids: {repeated:,} of {len(ids):,} rows have one seen before."
        )
    return ids


def unify_id_types(
    ids: pa.Array, other_ids: pa.Array, *, id_type_inferred: bool, table_name: str
) -> tuple[pa.Array, pa.Array]:
    """Return the ids of the ratings and those of another table in one type: as strings if only one side is strings.

    Raises
    ------
    IdColumnError
        If only one side is strings and `id_type_inferred` is false: ids of two declared types are never equal.
    """
    if pa.types.is_int64(ids.type) == pa.types.is_int64(other_ids.type):
        return ids, other_ids
    if not id_type_inferred:
        raise IdColumnError(
            f"Ids are {ids.type} in the ratings and {other_ids.type} in the {table_name}.",
            hint="write them in one type.",
        )
    return ids.cast(pa.string()), other_ids.cast(pa.string())


class IdFactorizer:
    """Assign codes to ids in order of first appearance, batch by batch.

    All batches must be int64, or all strings.
    """

    def __init__(self) -> None:
        self._table: _IntegerTable | _StringTable | None = None

    def __len__(self) -> int:
        return 0 if self._table is None else self._table.n_uniques

    def factorize(self, ids: pa.Array) -> NDArray[np.int64]:
        """Return the code of each id, int64 of shape (len(ids),); new ids get the next codes."""
        if self._table is None:
            self._table = _IntegerTable() if pa.types.is_int64(ids.type) else _StringTable()
        return self._table.factorize(ids)

    def uniques(self) -> pa.Array:
        """Return the unique ids so far: uniques()[code] is the id of a code."""
        return pa.array([], pa.int64()) if self._table is None else self._table.uniques()


class _IntegerTable:
    """Hash table of unique int64 ids."""

    def __init__(self) -> None:
        self.n_uniques = 0
        self._uniques = np.empty(_INITIAL_SLOTS // 2, np.int64)
        self._slots = np.full(_INITIAL_SLOTS, kernel.EMPTY, np.int64)

    def factorize(self, ids: pa.Array) -> NDArray[np.int64]:
        values = ids.to_numpy(zero_copy_only=False)
        codes = np.empty(len(values), np.int64)
        position = 0
        while True:
            position, self.n_uniques = kernel.factorize_integers(
                values, position, self._uniques, self.n_uniques, self._slots, codes
            )
            if position == len(values):
                return codes
            self._uniques = _extend_array(self._uniques, 2 * len(self._uniques))
            self._slots = np.full(2 * len(self._slots), kernel.EMPTY, np.int64)
            kernel.rehash_integers(self._uniques, self.n_uniques, self._slots)

    def uniques(self) -> pa.Array:
        return pa.array(self._uniques[: self.n_uniques])


class _StringTable:
    """Hash table of unique string ids; code i is bytes[offsets[i]:offsets[i + 1]]."""

    def __init__(self) -> None:
        self.n_uniques = 0
        self._offsets = np.zeros(_INITIAL_SLOTS // 2 + 1, np.int64)
        self._bytes = np.empty(_INITIAL_BYTES, np.uint8)
        self._slots = np.full(_INITIAL_SLOTS, kernel.EMPTY, np.int64)

    def factorize(self, ids: pa.Array) -> NDArray[np.int64]:
        offsets, data = _string_buffers(ids)
        codes = np.empty(len(ids), np.int64)
        position = 0
        while True:
            position, self.n_uniques = kernel.factorize_strings(
                offsets, data, position, self._offsets, self._bytes, self.n_uniques, self._slots, codes
            )
            if position == len(ids):
                return codes
            self._grow(int(offsets[position + 1] - offsets[position]))

    def _grow(self, n_bytes: int) -> None:
        """Extend the buffers so that at least one more string of `n_bytes` fits."""
        needed = int(self._offsets[self.n_uniques]) + n_bytes
        if needed > len(self._bytes):
            self._bytes = _extend_array(self._bytes, max(needed, 2 * len(self._bytes)))
        if 2 * self.n_uniques >= len(self._slots):
            self._offsets = _extend_array(self._offsets, 2 * len(self._offsets))
            self._slots = np.full(2 * len(self._slots), kernel.EMPTY, np.int64)
            kernel.rehash_strings(self._offsets, self._bytes, self.n_uniques, self._slots)

    def uniques(self) -> pa.Array:
        offsets = self._offsets[: self.n_uniques + 1]
        data = pa.py_buffer(self._bytes[: offsets[-1]].copy())
        buffers = [None, pa.py_buffer(offsets.copy()), data]
        return pa.Array.from_buffers(pa.large_string(), self.n_uniques, buffers).cast(pa.string())


def _string_buffers(ids: pa.Array) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Return the offsets, int32 of shape (n + 1,), and the bytes of an Arrow string array, without a copy."""
    _, offsets, data = ids.buffers()
    if offsets is None or len(ids) == 0:
        return np.zeros(1, np.int32), np.zeros(0, np.uint8)
    offsets_of_slice = np.frombuffer(offsets, np.int32)[ids.offset : ids.offset + len(ids) + 1]
    return offsets_of_slice, np.zeros(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)


def _extend_array(array: NDArray[Any], length: int) -> NDArray[Any]:
    extended = np.zeros(length, array.dtype)
    extended[: len(array)] = array
    return extended
