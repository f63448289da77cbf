"""Columns that hold a vector in every row, such as a taste learnt elsewhere, as columns of its numbers.

    a table with taste: list<float> of 32 numbers  ->  the same table with taste[0] … taste[31] in its place

Lists of fractions are vectors; lists of integers or texts are labels. How long they are is what the first one that is
there says. A vector is a group of its own unless the table puts it into another, and its numbers weigh as one column,
in proportion to their variances (features/column_weights.py): so distances within a vector are what they were.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine.blocks import Block, Table, reads_parts, require_columns
from engine.errors import SchemaMismatchError

VECTOR = b"rooms.vector"  # field metadata of a number: the column that it comes from
PLACE = b"rooms.place"  # and its place there
LONGEST = 4096  # lists of more numbers are no features

Value = TypeVar("Value")


def with_numbers_apart(table: Table) -> Table:
    """Return the table with vectors as columns of their numbers; as it is where it has none.

    Raises
    ------
    SchemaMismatchError
        If the table has a column of the name that a number would have.
    """
    schema = table.schema
    lengths = {field.name: _length(table, field.name) for field in schema if _is_vector(field.type)}
    lengths = {name: n for name, n in lengths.items() if 0 < n <= LONGEST}
    return VectorTable(table, lengths, _numbers_apart(schema, lengths)) if lengths else table


@dataclass(frozen=True)
class VectorTable:
    """A table whose vectors are columns of numbers."""

    table: Table
    lengths: dict[str, int]
    schema: pa.Schema

    @property
    def n_rows(self) -> int | None:
        """The number of rows, or None while nobody has counted them."""
        return self.table.n_rows

    @property
    def in_parts(self) -> bool:
        """Whether some blocks can be read without the ones before them."""
        return reads_parts(self.table)

    def blocks(
        self, columns: Sequence[str] | None = None, *, coded: bool = False, first: int = 0, stop: int | None = None
    ) -> Iterator[Block]:
        """Yield the table's blocks with these columns (all by default), some of them if it can be read `in_parts`.

        Raises
        ------
        SchemaMismatchError
            If a vector is shorter or longer than the first one.
        """
        names = list(self.schema.names if columns is None else columns)
        require_columns(self.schema, names, "The table")
        fields = [self.schema.field(name) for name in names]
        sources = list(dict.fromkeys(vector_of(field) or field.name for field in fields))
        if reads_parts(self.table):
            blocks = self.table.blocks(sources, coded=coded, first=first, stop=stop)
        else:
            blocks = self.table.blocks(sources, coded=coded)
        for block in blocks:
            yield Block(block.start, self._apart(block, fields))

    def _apart(self, block: Block, fields: list[pa.Field]) -> pa.Table:
        rows, numbers = block.rows, {}
        for name in self.lengths.keys() & set(rows.column_names):
            self._check(rows.column(name), name, block.start)
            numbers[name] = _Numbers.of(rows.column(name).combine_chunks(), self.lengths[name])
        columns = []
        for field in fields:
            source = vector_of(field)
            vector = None if source is None else numbers[source]
            columns.append(rows.column(field.name) if vector is None else vector.at(int(field.metadata[PLACE])))
        kinds = [field.with_type(column.type) for field, column in zip(fields, columns, strict=True)]
        return pa.table(columns, schema=pa.schema(kinds))

    def _check(self, column: pa.ChunkedArray, name: str, start: int) -> None:
        lengths = pc.list_value_length(column).fill_null(self.lengths[name]).to_numpy()
        if len(others := np.flatnonzero(lengths != self.lengths[name])):
            raise SchemaMismatchError(
                f"Row {start + int(others[0]):,} of column {name!r} has {lengths[others[0]]} numbers, "
                f"and the first has {self.lengths[name]}: that is no vector.",
                hint=f"give all rows as many numbers, or leave it out with --role {name}=ignore.",
            )

    def fingerprint(self) -> dict[str, Any]:
        """Return what identifies the input."""
        return self.table.fingerprint()


class _Numbers(NamedTuple):
    """The numbers of vectors, those of one place after another."""

    values: NDArray[np.floating[Any]]  # (length, n_rows); 0 where there is none
    missing: NDArray[np.bool_] | None  # the same shape, if any is

    @classmethod
    def of(cls, lists: pa.ListArray, length: int) -> _Numbers:
        flat = lists.flatten()  # of the lists that are there
        kind = np.float64 if pa.types.is_float64(flat.type) else np.float32
        given = flat.fill_null(0.0).to_numpy(zero_copy_only=False).astype(kind, copy=False).reshape(-1, length).T
        if lists.null_count == 0 and flat.null_count == 0:
            return cls(np.ascontiguousarray(given), None)
        there = lists.is_valid().to_numpy(zero_copy_only=False)
        values, missing = np.zeros((length, len(lists)), kind), np.ones((length, len(lists)), bool)
        values[:, there] = given
        missing[:, there] = flat.is_null().to_numpy(zero_copy_only=False).reshape(-1, length).T
        return cls(values, missing)

    def at(self, place: int) -> pa.Array:
        return pa.array(self.values[place], mask=None if self.missing is None else self.missing[place])


def vector_of(field: pa.Field) -> str | None:
    """Return the column of vectors that a column of numbers comes from, if it does."""
    name = (field.metadata or {}).get(VECTOR)
    return None if name is None else str(name.decode())


def spread(values: Mapping[str, Value], schema: pa.Schema) -> dict[str, Value]:
    """Return what is said of columns with that of a column of vectors said of each of its numbers."""
    found = dict(values)
    for field in schema:
        source = vector_of(field)
        if source is not None and source in values:
            found.pop(source, None)
            found.setdefault(field.name, values[source])
    return found


def _is_vector(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) and pa.types.is_floating(kind.value_type))


def _length(table: Table, name: str) -> int:
    """Return the length of the first list that is there, 0 if none is."""
    for block in table.blocks([name]):
        lengths = pc.list_value_length(block.rows.column(name)).drop_null()
        if len(lengths):
            return int(lengths[0].as_py())
    return 0


def _numbers_apart(schema: pa.Schema, lengths: Mapping[str, int]) -> pa.Schema:
    fields: list[pa.Field] = []
    for field in schema:
        if field.name not in lengths:
            fields.append(field)
            continue
        kind = pa.float64() if pa.types.is_float64(field.type.value_type) else pa.float32()
        for place in range(lengths[field.name]):
            said = {b"rooms.role": b"numeric", b"rooms.group": field.name.encode()} | (field.metadata or {})
            said |= {VECTOR: field.name.encode(), PLACE: str(place).encode()}
            fields.append(pa.field(f"{field.name}[{place}]", kind, metadata=said))
    names = [field.name for field in fields]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SchemaMismatchError(
            f"Column {twice[0]!r} is there beside the vectors of which it would be a number.",
            hint="rename one of them.",
        )
    return pa.schema(fields)
