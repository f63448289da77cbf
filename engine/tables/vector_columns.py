"""Expand vector columns, such as embeddings, into one column per element.

    a table with taste: list<float> of 32 numbers  ->  the same table with taste[0] … taste[31] in its place

Lists of floating-point numbers are vectors; lists of integers or texts are labels. The first list that is not missing
determines the length. A vector is a group of its own unless the table puts it into another one, and its elements weigh
as one column, in proportion to their variances (features/column_weights.py), which preserves distances within it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine.blocks import Block, Table, has_random_access, require_columns
from engine.errors import RetypedColumnError, SchemaMismatchError
from engine.tables.records import is_missing

VECTOR = b"rooms.vector"  # field metadata of an element: the name of its vector column
POSITION = b"rooms.place"  # field metadata of an element: its position in the vector
MAX_VECTOR_LENGTH = 4096  # longer lists are not used as features

Value = TypeVar("Value")


def expand_vectors(table: Table, known: Mapping[str, int] | None = None) -> Table:
    """Return the table with every vector column expanded into its elements, or the table itself if it has none.

    `known` has the lengths of vectors that are known, which may be all missing or hold integers here.

    Raises
    ------
    SchemaMismatchError
        If a column already has the name that an element would get.
    """
    schema = table.schema
    lengths = {
        name: n for name, n in (known or {}).items() if name in schema.names and _may_be(schema.field(name).type)
    }
    lengths |= {f.name: _vector_length(table, f.name) for f in schema if _is_vector(f.type) and f.name not in lengths}
    lengths = {name: n for name, n in lengths.items() if 0 < n <= MAX_VECTOR_LENGTH}
    return VectorTable(table, lengths, _expanded_schema(schema, lengths)) if lengths else table


@dataclass(frozen=True)
class VectorTable:
    """A table with its vector columns expanded; `lengths` has the length of each."""

    table: Table
    lengths: dict[str, int]
    schema: pa.Schema

    @property
    def n_rows(self) -> int | None:
        """The number of rows, or None where it is unknown until they are counted."""
        return self.table.n_rows

    @property
    def random_access(self) -> bool:
        """Whether the wrapped table can read a range of its blocks."""
        return has_random_access(self.table)

    def blocks(
        self,
        columns: Sequence[str] | None = None,
        *,
        dictionary_encoded: bool = False,
        first: int = 0,
        stop: int | None = None,
    ) -> Iterator[Block]:
        """Yield the table's blocks with these columns (all by default); a range of them if it has random_access.

        Raises
        ------
        SchemaMismatchError
            If a vector is shorter or longer than the first one.
        """
        names = list(self.schema.names if columns is None else columns)
        require_columns(self.schema, names, "The table")
        fields = [self.schema.field(name) for name in names]
        sources = list(dict.fromkeys(vector_name(field) or field.name for field in fields))
        if has_random_access(self.table):
            blocks = self.table.blocks(sources, dictionary_encoded=dictionary_encoded, first=first, stop=stop)
        else:
            blocks = self.table.blocks(sources, dictionary_encoded=dictionary_encoded)
        for block in blocks:
            yield Block(block.start, self.expand(block, fields))

    def expand(self, block: Block, fields: list[pa.Field]) -> pa.Table:
        """Return these columns of a block of the wrapped table; raises SchemaMismatchError for deviating lengths."""
        rows, elements = block.rows, {}
        for name in self.lengths.keys() & set(rows.column_names):
            column = rows.column(name)
            column = column if _is_vector(column.type) else column.cast(pa.list_(pa.float64()))
            self._check(column, name, block.start)
            elements[name] = _VectorElements.from_lists(column.combine_chunks(), self.lengths[name])
        columns = []
        for field in fields:
            source = vector_name(field)
            vector = None if source is None else elements[source]
            columns.append(rows.column(field.name) if vector is None else vector.column(int(field.metadata[POSITION])))
        kinds = [field.with_type(column.type) for field, column in zip(fields, columns, strict=True)]
        return pa.table(columns, schema=pa.schema(kinds))

    def _check(self, column: pa.ChunkedArray, name: str, start: int) -> None:
        lengths = pc.list_value_length(column).fill_null(self.lengths[name]).to_numpy()
        if len(deviating := np.flatnonzero(lengths != self.lengths[name])):
            raise SchemaMismatchError(
                f"Row {start + int(deviating[0]):,} of column {name!r} has {lengths[deviating[0]]} numbers, "
                f"and the first has {self.lengths[name]}: vectors of a column must have one length.",
                hint=f"give all rows as many numbers, or leave it out with --role {name}=ignore.",
            )

    def fingerprint(self) -> dict[str, Any]:
        """Return what identifies the input."""
        return self.table.fingerprint()


class _VectorElements(NamedTuple):
    """The elements of a vector column, one row of the arrays per position."""

    values: NDArray[np.floating[Any]]  # (length, n_rows); 0 where it is missing
    missing: NDArray[np.bool_] | None  # same shape; None if no element is missing

    @classmethod
    def from_lists(cls, lists: pa.ListArray, length: int) -> _VectorElements:
        flat = lists.flatten()  # without the missing lists
        kind = np.float64 if pa.types.is_float64(flat.type) else np.float32
        given = flat.fill_null(0.0).to_numpy(zero_copy_only=False).astype(kind, copy=False).reshape(-1, length).T
        if lists.null_count == 0 and flat.null_count == 0:
            return cls(np.ascontiguousarray(given), None)
        present = lists.is_valid().to_numpy(zero_copy_only=False)
        values, missing = np.zeros((length, len(lists)), kind), np.ones((length, len(lists)), bool)
        values[:, present] = given
        missing[:, present] = flat.is_null().to_numpy(zero_copy_only=False).reshape(-1, length).T
        return cls(values, missing)

    def column(self, position: int) -> pa.Array:
        return pa.array(self.values[position], mask=None if self.missing is None else self.missing[position])


def vector_name(field: pa.Field) -> str | None:
    """Return the name of the vector column that a column is an element of, None for a plain column."""
    name = (field.metadata or {}).get(VECTOR)
    return None if name is None else str(name.decode())


def expand_vector_settings(values: Mapping[str, Value], schema: pa.Schema) -> dict[str, Value]:
    """Return settings by column, with the setting of a vector column given to each of its elements instead."""
    expanded = dict(values)
    for field in schema:
        source = vector_name(field)
        if source is not None and source in values:
            expanded.pop(source, None)
            expanded.setdefault(field.name, values[source])
    return expanded


def _is_vector(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) and pa.types.is_floating(kind.value_type))


def _may_be(kind: pa.DataType) -> bool:
    """Tell whether a column of this type can hold vectors of a model."""
    of = kind.value_type if pa.types.is_list(kind) else kind
    return _is_vector(kind) or pa.types.is_null(of) or bool(pa.types.is_list(kind) and pa.types.is_integer(of))


def expand_records(records: Sequence[Mapping[str, Any]], lengths: Mapping[str, int]) -> Sequence[Mapping[str, Any]]:
    """Return dicts with their vectors expanded into elements; `lengths` has the length of each vector column.

    Raises
    ------
    SchemaMismatchError
        If a vector is of another length.
    RetypedColumnError
        If a value is neither a vector nor missing.
    """
    for name, length in lengths.items():
        if any(name in record for record in records):
            names = [f"{name}[{position}]" for position in range(length)]
            records = [_expand_record(record, name, names, row) for row, record in enumerate(records)]
    return records


def _expand_record(record: Mapping[str, Any], name: str, names: list[str], row: int) -> dict[str, Any]:
    expanded = dict(record)
    vector = expanded.pop(name, None)
    if not isinstance(vector, list | tuple | np.ndarray):
        if not is_missing(vector):
            raise RetypedColumnError(f"Row {row:,} of column {name!r} holds no list, but vectors when it was fitted.")
        return expanded | dict.fromkeys(names)
    if len(vector) != len(names):
        raise SchemaMismatchError(
            f"Row {row:,} of column {name!r} has {len(vector)} numbers, and those of the fit have {len(names)}.",
            hint="give all rows as many numbers, or none where they are missing.",
        )
    return expanded | dict(zip(names, vector, strict=True))


def _vector_length(table: Table, name: str) -> int:
    """Return the length of the first list that is not missing, 0 if all are."""
    for block in table.blocks([name]):
        lengths = pc.list_value_length(block.rows.column(name)).drop_null()
        if len(lengths):
            return int(lengths[0].as_py())
    return 0


def _expanded_schema(schema: pa.Schema, lengths: Mapping[str, int]) -> pa.Schema:
    fields: list[pa.Field] = []
    for field in schema:
        if field.name not in lengths:
            fields.append(field)
            continue
        single = _is_vector(field.type) and not pa.types.is_float64(field.type.value_type)
        kind = pa.float32() if single else pa.float64()
        for position in range(lengths[field.name]):
            metadata = {b"rooms.role": b"numeric", b"rooms.group": field.name.encode()} | (field.metadata or {})
            metadata |= {VECTOR: field.name.encode(), POSITION: str(position).encode()}
            fields.append(pa.field(f"{field.name}[{position}]", kind, metadata=metadata))
    names = [field.name for field in fields]
    if duplicates := sorted({name for name in names if names.count(name) > 1}):
        raise SchemaMismatchError(
            f"Column {duplicates[0]!r} is there beside the vectors of which it would be a number.",
            hint="rename one of them.",
        )
    return pa.schema(fields)
