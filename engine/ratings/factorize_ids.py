"""Ids of users and items as plain arrays, and as numbers 0, 1, 2 … in order of first appearance.

    a column of ids  ->  int64 or text, never null  ->  IdNumbers: numbers (n,), and the ids by number

An id keeps its value exactly: integers beyond 2^53 and texts with leading zeros are never floats in between. The
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

_FIRST_SLOTS = 1 << 10
_FIRST_BYTES = 1 << 13


def plain_ids(column: pa.Array | pa.ChunkedArray, name: str, where: str) -> pa.Array:
    """Return ids as one pyarrow array of int64 or string without nulls.

    Raises
    ------
    IdColumnError
        If an id is missing, or the column holds neither integers (below 2^63) nor text.
    """
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    kind = whole.type
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind)):
        raise IdColumnError(f"Column {name!r} of {where} holds {kind}, but ids must be integers or text.")
    if whole.null_count:
        raise IdColumnError(
            f"Column {name!r} of {where} has no id in {whole.null_count:,} of {len(whole):,} rows.",
            hint="leave those rows out, or give them an id of their own.",
        )
    if pa.types.is_uint64(kind) and len(whole) and pc.max(whole).as_py() >= 2**63:
        raise IdColumnError(
            f"Column {name!r} of {where} holds integers of 2^63 and more.", hint="write the ids as text."
        )
    return whole.cast(pa.int64()) if pa.types.is_integer(kind) else whole


def distinct_ids(column: pa.Array | pa.ChunkedArray, name: str, where: str) -> pa.Array:
    """Return `plain_ids`, or raise IdColumnError if an id is there twice."""
    ids = plain_ids(column, name, where)
    repeated = len(ids) - pc.count_distinct(ids).as_py()
    if repeated:
        raise IdColumnError(
            f"Column {name!r} of {where} repeats ids: {repeated:,} of {len(ids):,} rows have one seen before."
        )
    return ids


def comparable(ids: pa.Array, others: pa.Array, *, untyped: bool, what: str) -> tuple[pa.Array, pa.Array]:
    """Return ids of the ratings and of another table in one type: as text if only one side is text.

    Raises
    ------
    IdColumnError
        If one side is text, the other is not, and neither is `untyped`: then none can be the same.
    """
    if pa.types.is_int64(ids.type) == pa.types.is_int64(others.type):
        return ids, others
    if not untyped:
        raise IdColumnError(
            f"Ids are {ids.type} in the ratings and {others.type} in the {what}.", hint="write them in one type."
        )
    return ids.cast(pa.string()), others.cast(pa.string())


class IdNumbers:
    """Numbers ids in order of first appearance, batch by batch; all batches are int64, or all are text."""

    def __init__(self) -> None:
        self._table: _IntegerTable | _TextTable | None = None

    def __len__(self) -> int:
        return 0 if self._table is None else self._table.n_known

    def number(self, ids: pa.Array) -> NDArray[np.int64]:
        """Return the number of each id, int64 of shape (len(ids),); new ids get the next numbers."""
        if self._table is None:
            self._table = _IntegerTable() if pa.types.is_int64(ids.type) else _TextTable()
        return self._table.number(ids)

    def ids(self) -> pa.Array:
        """Return the ids seen so far: ids()[number] is the id of a number."""
        return pa.array([], pa.int64()) if self._table is None else self._table.ids()


class _IntegerTable:
    def __init__(self) -> None:
        self.n_known = 0
        self._known = np.empty(_FIRST_SLOTS // 2, np.int64)
        self._slots = np.full(_FIRST_SLOTS, kernel.EMPTY, np.int64)

    def number(self, ids: pa.Array) -> NDArray[np.int64]:
        values = ids.to_numpy(zero_copy_only=False)
        numbers = np.empty(len(values), np.int64)
        done = 0
        while True:
            done, self.n_known = kernel.number_integers(values, done, self._known, self.n_known, self._slots, numbers)
            if done == len(values):
                return numbers
            self._known = _longer(self._known, 2 * len(self._known))
            self._slots = np.full(2 * len(self._slots), kernel.EMPTY, np.int64)
            kernel.place_integers(self._known, self.n_known, self._slots)

    def ids(self) -> pa.Array:
        return pa.array(self._known[: self.n_known])


class _TextTable:
    def __init__(self) -> None:
        self.n_known = 0
        self._offsets = np.zeros(_FIRST_SLOTS // 2 + 1, np.int64)
        self._bytes = np.empty(_FIRST_BYTES, np.uint8)
        self._slots = np.full(_FIRST_SLOTS, kernel.EMPTY, np.int64)

    def number(self, ids: pa.Array) -> NDArray[np.int64]:
        offsets, data = _text_buffers(ids)
        numbers = np.empty(len(ids), np.int64)
        done = 0
        while True:
            done, self.n_known = kernel.number_texts(
                offsets, data, done, self._offsets, self._bytes, self.n_known, self._slots, numbers
            )
            if done == len(ids):
                return numbers
            self._grow(int(offsets[done + 1] - offsets[done]))

    def _grow(self, n_bytes: int) -> None:
        """Make room for one more text of `n_bytes` at least."""
        needed = int(self._offsets[self.n_known]) + n_bytes
        if needed > len(self._bytes):
            self._bytes = _longer(self._bytes, max(needed, 2 * len(self._bytes)))
        if 2 * self.n_known >= len(self._slots):
            self._offsets = _longer(self._offsets, 2 * len(self._offsets))
            self._slots = np.full(2 * len(self._slots), kernel.EMPTY, np.int64)
            kernel.place_texts(self._offsets, self._bytes, self.n_known, self._slots)

    def ids(self) -> pa.Array:
        offsets = self._offsets[: self.n_known + 1]
        data = pa.py_buffer(self._bytes[: offsets[-1]].copy())
        long = pa.Array.from_buffers(pa.large_string(), self.n_known, [None, pa.py_buffer(offsets.copy()), data])
        return long.cast(pa.string())


def _text_buffers(ids: pa.Array) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Return the offsets, int32 of shape (n + 1,), and the bytes of an Arrow string array, without a copy."""
    _, offsets, data = ids.buffers()
    if offsets is None or len(ids) == 0:
        return np.zeros(1, np.int32), np.zeros(0, np.uint8)
    found = np.frombuffer(offsets, np.int32)[ids.offset : ids.offset + len(ids) + 1]
    return found, np.zeros(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)


def _longer(array: NDArray[Any], length: int) -> NDArray[Any]:
    longer = np.zeros(length, array.dtype)
    longer[: len(array)] = array
    return longer
