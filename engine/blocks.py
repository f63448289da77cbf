"""Block and Table: a table is read as a sequence of row blocks of fixed size.

    batches of any size  ->  blocks of exactly BLOCK_ROWS rows (the last one is shorter)

Block b holds rows b·BLOCK_ROWS … (b+1)·BLOCK_ROWS − 1 by global row number, whatever files or batches the rows come
in. A result defined per block therefore does not depend on how the table was split into files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard

import pyarrow as pa

from engine.errors import MissingColumnError
from engine.utils.arrow_layouts import has_rare_layout, plain_layout
from engine.utils.decimals import decimals_to_float64

# 32,768 rows x 125 float32 features are 16 MB. Measured on a million members: 65,536 rows are 5 to 10 % slower (glibc
# maps blocks above 32 MB anew each time) and take 50 MiB more, 16,384 are 5 % slower (30 columns of calls a block).
BLOCK_ROWS = 32_768
CATEGORY = b"rooms.category"  # field metadata: why a column of numbers holds categories
PERIOD = b"rooms.period"  # field metadata of a column of periods, which are stored as numbers since 1970
DICTIONARY = "a dictionary of values"
COUNTS = b"rooms.counts"  # field metadata of durations that are stored as whole numbers, as in a Parquet file
WORDS = b"rooms.words_for_missing"  # field metadata: words of a CSV file that are taken for missing values
RECOGNISED = b"rooms.recognised"  # field metadata: what the reader of a file recognised of a column, in words


@dataclass(frozen=True)
class Block:
    """A run of consecutive rows, the first with global number `start`, as a pyarrow Table with one chunk a column."""

    start: int
    rows: pa.Table

    def __len__(self) -> int:
        return int(self.rows.num_rows)

    def has_column(self, name: str) -> bool:
        """Return whether the block was read with this column."""
        return bool(self.rows.schema.get_field_index(name) >= 0)


class Table(Protocol):
    """Interface of a source of rows. Blocks come in row order, and every call of `blocks` starts a new pass."""

    @property
    def schema(self) -> pa.Schema:
        """Names, types and field metadata of the columns."""
        ...

    @property
    def n_rows(self) -> int | None:
        """The number of rows, or None where it is unknown until they are counted."""
        ...

    def blocks(self, columns: Sequence[str] | None = None, *, dictionary_encoded: bool = False) -> Iterator[Block]:
        """Yield the table's blocks with these columns (all by default), reading nothing else.

        With `dictionary_encoded`, text columns may come as pyarrow dictionary arrays where the source stores them so.
        """
        ...

    def fingerprint(self) -> dict[str, Any]:
        """Return what identifies the input: files with sizes and times, or the shape of a data frame."""
        ...


class RandomAccessTable(Table, Protocol):
    """A table that can read a range of its blocks without the ones before them."""

    @property
    def random_access(self) -> bool:
        """Whether this instance can: a table that wraps another one can only if that one can."""
        ...

    def blocks(
        self,
        columns: Sequence[str] | None = None,
        *,
        dictionary_encoded: bool = False,
        first: int = 0,
        stop: int | None = None,
    ) -> Iterator[Block]:
        """Yield blocks `first` … `stop` - 1; all by default."""
        ...


def has_random_access(table: Table) -> TypeGuard[RandomAccessTable]:
    """Tell whether a table can read a range of its blocks without the ones before them."""
    return bool(getattr(table, "random_access", False))


def count_rows(table: Table) -> int:
    """Return the number of rows; a table that does not know it is read once to count them."""
    return sum(len(block) for block in table.blocks(table.schema.names[:1])) if table.n_rows is None else table.n_rows


def reading_bytes(table: Table) -> int:
    """Return the bytes of memory that a pass over a table takes beside its blocks; 0 where the table does not say."""
    return int(getattr(table, "reading_bytes", 0))


def require_columns(schema: pa.Schema, columns: Iterable[str], where: str) -> None:
    """Raise MissingColumnError, which names every absent column, unless the schema has all of them."""
    known = set(schema.names)
    missing = [name for name in columns if name not in known]
    if missing:
        names = ", ".join(repr(name) for name in missing)
        present = ", ".join(repr(name) for name in schema.names[:20]) + (" …" if len(schema.names) > 20 else "")
        count = "only column there is" if len(schema.names) == 1 else f"{len(schema.names)} columns there are"
        raise MissingColumnError(
            f"{where} has no column {names}.",
            hint=f"the {count}: {present}." if present else "it has no columns at all.",
        )


def normalize_type(kind: pa.DataType) -> pa.DataType:
    """Return the type a column is read as: dictionary, run-end, view, large and fixed-size types become basic ones.

    So do extension types, such as JSON; those that store bytes, such as UUIDs, stay what they are.
    """
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return normalize_type(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return kind if is_binary(kind.storage_type) else normalize_type(kind.storage_type)
    if pa.types.is_large_string(kind) or kind == pa.string_view():
        return pa.string()
    if pa.types.is_decimal(kind):
        return pa.float64()
    if any(
        test(kind)
        for test in (
            pa.types.is_list,
            pa.types.is_large_list,
            pa.types.is_fixed_size_list,
            pa.types.is_list_view,
            pa.types.is_large_list_view,
        )
    ):
        return pa.list_(normalize_type(kind.value_type))
    return kind


def normalize_id_type(kind: pa.DataType) -> pa.DataType:
    """Return the type an id column is read as: decimals stay decimals, which double precision would change."""
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return normalize_id_type(kind.value_type)
    return kind if pa.types.is_decimal(kind) else normalize_type(kind)


def normalize_schema(schema: pa.Schema, id: str | None = None) -> pa.Schema:
    """Return the schema with every column in its normalized type, nullable, field metadata kept.

    The column `id` has a type that keeps its values exactly.
    """
    return pa.schema([_normalize_field(field, field.name == id) for field in schema])


def _normalize_field(field: pa.Field, is_id: bool) -> pa.Field:
    if pa.types.is_dictionary(field.type):
        field = mark_category(field, DICTIONARY)
    # The type is registered, and then has its name itself, only once pandas has needed it.
    metadata = field.metadata or {}
    extension = getattr(field.type, "extension_name", metadata.get(b"ARROW:extension:name", b"").decode())
    if extension == "pandas.period":
        field = field.with_metadata(metadata | {PERIOD: b"pandas"})
    return field.with_type((normalize_id_type if is_id else normalize_type)(field.type)).with_nullable(True)


def mark_category(field: pa.Field, reason: str) -> pa.Field:
    """Return a field with the reason why its numbers, if it has some, are categories."""
    return field.with_metadata((field.metadata or {}) | {CATEGORY: reason.encode()})


def storage_array(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Return the values that an extension array stores; other arrays as they are."""
    return column.cast(column.type.storage_type) if isinstance(column.type, pa.BaseExtensionType) else column


def is_binary(kind: pa.DataType) -> bool:
    """Tell whether a type holds bytes, of any length or of one."""
    return any(
        test(kind)
        for test in (
            pa.types.is_binary,
            pa.types.is_large_binary,
            pa.types.is_binary_view,
            pa.types.is_fixed_size_binary,
        )
    )


def _cast_table(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the columns of a schema in its types."""
    castable = [_castable(table.column(field.name), field.type) for field in schema]
    columns = decimals_to_float64(pa.table(castable, names=schema.names), schema).columns
    # pyarrow fails where lists of nulls are cast to their own type: findings/pyarrow_null_lists.sh.
    cast = [
        column if column.type == field.type else column.cast(field.type)
        for column, field in zip(columns, schema, strict=True)
    ]
    return pa.table(cast, schema=schema)


def _castable(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Return a column in a layout that pyarrow casts to a type without loss."""
    if column.type == kind or not has_rare_layout(column.type):
        return column
    chunks = list(map(plain_layout, column.chunks))
    return pa.chunked_array(chunks, None if chunks else kind)


def split_into_blocks(
    batches: Iterable[pa.RecordBatch | pa.Table], schema: pa.Schema, start: int = 0
) -> Iterator[Block]:
    """Split batches, the first row of which has number `start`, into blocks of BLOCK_ROWS rows of `schema`'s types."""
    pending: list[pa.Table] = []
    n_pending = 0
    for batch in batches:
        if batch.num_rows == 0:
            continue
        table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
        if not table.schema.equals(schema):
            table = _cast_table(table.select(schema.names), schema)
        pending.append(table)
        n_pending += table.num_rows
        if n_pending < BLOCK_ROWS:
            continue
        joined, offset = pa.concat_tables(pending), 0
        while n_pending - offset >= BLOCK_ROWS:
            yield Block(start, joined.slice(offset, BLOCK_ROWS).combine_chunks())
            offset, start = offset + BLOCK_ROWS, start + BLOCK_ROWS
        pending, n_pending = [joined.slice(offset)], n_pending - offset
    if n_pending:
        yield Block(start, pa.concat_tables(pending).combine_chunks())
