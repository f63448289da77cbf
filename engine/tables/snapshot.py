"""Keep rows that can be read only once in a Parquet file, so that every pass over them sees the same ones.

    Query, reader or generator of Arrow batches  ->  Parquet file in a temporary folder  ->  SnapshotTable

Only one batch is in memory at a time. Row groups have BLOCK_ROWS rows however long the batches are, so that the same
rows make the same file, whose digest identifies them.
"""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from engine.blocks import split_into_blocks
from engine.errors import EmptyTableError, SourceFormatError, UsageError
from engine.tables.csv_schema import check_distinct_names
from engine.tables.databases.query import Query
from engine.tables.file_table import FileTable
from engine.tables.source_paths import find_files
from engine.utils.arrow_layouts import has_rare_layout, plain_layout
from engine.utils.atomic_files import scratch_folder, write_atomically

logger = logging.getLogger(__name__)
NAME = "snapshot.parquet"


class SnapshotTable(FileTable):
    """Rows that were read once, as a Table.

    Parameters
    ----------
    path : Path
        Parquet file with the rows; it has to stay while the table is read.
    id : str or None
    name : str
        What the source is called in messages.
    facts : mapping
        What the source says of itself in the manifest.
    """

    def __init__(self, path: Path, *, id: str | None, name: str, facts: Mapping[str, Any]) -> None:
        super().__init__(find_files([str(path)]), id=id, types=None)
        self.name, self._facts = name, facts
        with path.open("rb") as file:
            self._digest = hashlib.file_digest(file, "sha256").hexdigest()
        self._pickled = pickle.dumps((path, id, name, facts))

    def __reduce__(self) -> Any:
        """Pickle as the name of the file, which another process opens itself, once."""
        return _reopen, (self._pickled,)

    def fingerprint(self) -> dict[str, Any]:
        """Return what the source says of itself, the number of rows, the columns, and a digest of the rows."""
        columns = {field.name: str(field.type) for field in self.schema}
        return {**self._facts, "rows": self.n_rows, "columns": columns, "sha256": self._digest}


@lru_cache(maxsize=4)
def _reopen(pickled: bytes) -> SnapshotTable:
    path, id, name, facts = pickle.loads(pickled)
    return SnapshotTable(path, id=id, name=name, facts=facts)


def is_stream(source: Any) -> bool:
    """Tell whether a source gives its rows only once: a query, or Arrow batches of a reader or generator."""
    if isinstance(source, str | os.PathLike | Sequence | Mapping | pa.Table | pa.RecordBatch):
        return False
    if hasattr(source, "blocks") and hasattr(source, "fingerprint"):
        return False
    if isinstance(source, Query | pa.RecordBatchReader | ds.Dataset | ds.Scanner | Iterator):
        return True
    if not hasattr(source, "__arrow_c_stream__"):
        return False
    from engine.tables.dataframe_table import is_eager_dataframe  # narwhals, which a fit of files does without

    return not is_eager_dataframe(source)


@contextmanager
def snapshot(source: Any, *, id: str | None, parent: Path | None = None) -> Iterator[Any]:
    """Yield a source that gives its rows once as a SnapshotTable in a folder of `parent`, and all others as they are.

    The folder is deleted at the end of the block; by default it is in the system's temporary folder.

    Raises
    ------
    As open_snapshot.
    """
    if not is_stream(source):
        yield source
        return
    with scratch_folder(parent, prefix=".rooms-rows-") as folder:
        yield open_snapshot(source, folder, id=id)


def open_temporary_snapshot(source: Any, *, id: str | None) -> SnapshotTable:
    """Return a SnapshotTable in the system's temporary folder, which is deleted when nothing refers to the table."""
    folder = tempfile.TemporaryDirectory(prefix="rooms-rows-")
    table = open_snapshot(source, Path(folder.name), id=id)
    table.folder = folder  # type: ignore[attr-defined] # lives as long as the table
    return table


def open_snapshot(source: Any, folder: Path, *, id: str | None) -> SnapshotTable:
    """Read a source that gives its rows once into a file of `folder`.

    Raises
    ------
    DatabaseError, SourceNotFoundError, UsageError
        As Query.batches.
    SourceFormatError, SchemaMismatchError
        If a column is of a type that a table cannot have, or of several, or two have one name.
    EmptyTableError
        If there are no columns.
    OutOfResourcesError
        If the disk is full.
    """
    name, facts = _describe(source)
    path = folder / NAME
    with write_atomically(path) as partial:
        n_rows = _write_rows((_plain_batch(batch, id, name) for batch in _batches(source, name)), partial, name)
    logger.info("Read %s rows of %s.", f"{n_rows:,}", name)
    return SnapshotTable(path, id=id, name=name, facts=facts)


def _describe(source: Any) -> tuple[str, dict[str, Any]]:
    if isinstance(source, Query):
        return source.name, source.facts()
    return "the batches", {"format": "Arrow batches"}


def _batches(source: Any, name: str) -> Iterator[pa.RecordBatch]:
    if isinstance(source, Query):
        yield from source.batches()
        return
    if isinstance(source, ds.Dataset):
        source = source.scanner()
    if isinstance(source, ds.Scanner):
        source = source.to_reader()
    elif not isinstance(source, pa.RecordBatchReader | Iterator):
        try:
            source = pa.RecordBatchReader.from_stream(source)
        except pa.ArrowInvalid as error:  # a series is a stream of arrays
            what = f"A table cannot be a {type(source).__name__}, which is a single column."
            raise UsageError(what, hint="give a data frame, or a reader of record batches.") from error
    if isinstance(source, pa.RecordBatchReader):
        yield pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in source.schema], schema=source.schema)
    for part in source:
        if isinstance(part, pa.Table):
            yield from part.to_batches()
        elif isinstance(part, pa.RecordBatch):
            yield part
        else:
            raise UsageError(
                f"A generator of rows gave a {type(part).__name__}.", hint="yield pyarrow tables or record batches."
            )


def _plain_batch(batch: pa.RecordBatch, id: str | None, name: str) -> pa.RecordBatch:
    """Return a batch without what only its driver knows, as numbers of PostgreSQL that come as text, and run ends."""
    fields, arrays = [], []
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if isinstance(field.type, pa.OpaqueType):
            column = _read_opaque(field, column, id, name)
        elif has_rare_layout(field.type) and not isinstance(field.type, pa.BaseExtensionType):
            column = plain_layout(column)
        if pa.types.is_dictionary(column.type) and column.dictionary.null_count:
            column = _without_null_value(column)
        fields.append(pa.field(field.name, column.type))
        arrays.append(column)
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def _without_null_value(column: pa.DictionaryArray) -> pa.DictionaryArray:
    """Return a dictionary array without a null among its values, which no Parquet file can hold."""
    encoded = column.dictionary_decode().dictionary_encode()
    return pa.DictionaryArray.from_arrays(encoded.indices.cast(column.type.index_type), encoded.dictionary)


def _read_opaque(field: pa.Field, column: pa.Array, id: str | None, name: str) -> pa.Array:
    try:
        if field.type.type_name == "numeric":
            # An id keeps all of its digits; others are read as decimals are.
            return column.storage.cast(pa.decimal128(38, 0) if field.name == id else pa.float64())
    except pa.ArrowException:
        pass
    raise SourceFormatError(
        f"Column {field.name!r} of {name} is {field.type.type_name}, which cannot be read.",
        hint="convert it in the query: CAST(… AS …), for example to text.",
    ) from None


def _write_rows(batches: Iterable[pa.RecordBatch], path: Path, name: str) -> int:
    """Write batches to one Parquet file; return the number of rows.

    Batches of rows of Python objects may differ in the types of their columns: whole numbers and others, or no value at
    all. Each run of one type is written to a file of its own, and all of them together in the type that holds both.
    """
    parts: list[tuple[Path, pa.Schema]] = []
    for number, (schema, run) in enumerate(_runs_of_one_schema(batches)):
        if not parts:
            check_distinct_names(schema.names, name)
        parts.append((path.with_name(f"{path.name}.{number}"), schema))
        _write_parquet(run, parts[-1][0], schema, name)
    if not parts or not parts[0][1].names:
        raise EmptyTableError(f"There are no columns in {name}.")
    schema = _common_schema([schema for _, schema in parts], name)
    if len(parts) == 1 and schema.equals(parts[0][1]):
        return _rename(parts[0][0], path)
    files = (pq.ParquetFile(part) for part, _ in parts)
    _write_parquet((batch for file in files for batch in file.iter_batches()), path, schema, name)
    for part, _ in parts:
        part.unlink()
    return int(pq.read_metadata(path).num_rows)


def _rename(part: Path, path: Path) -> int:
    part.replace(path)
    return int(pq.read_metadata(path).num_rows)


def _runs_of_one_schema(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
    """Yield the schema of each run of batches that have the same one, and the run, to be read before the next one."""
    runs = groupby(_without_empty(batches), key=lambda batch: _SchemaKey(batch.schema))
    yield from ((key.schema, run) for key, run in runs)


class _SchemaKey(NamedTuple):
    schema: pa.Schema

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _SchemaKey) and bool(self.schema.equals(other.schema))


def _without_empty(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the batches that have rows, or the first one if none has."""
    first, any_rows = None, False
    for batch in batches:
        first = batch if first is None else first
        if batch.num_rows:
            any_rows = True
            yield batch
    if first is not None and not any_rows:
        yield first


def _common_schema(schemas: list[pa.Schema], name: str) -> pa.Schema:
    try:
        unified = pa.unify_schemas(schemas, promote_options="permissive")
    except pa.ArrowException:
        unified = None
    if unified is None or any(len(schema) != len(unified) for schema in schemas):
        differing = [
            column
            for column in dict.fromkeys(column for schema in schemas for column in schema.names)
            if len({schema.field(column).type if column in schema.names else None for schema in schemas}) > 1
        ]
        raise SourceFormatError(
            f"Batches of {name} differ in the type of {', '.join(map(repr, differing))}.",
            hint="convert each column to one type: in a query, CAST(… AS …).",
        )
    return unified


def _write_parquet(batches: Iterable[pa.RecordBatch], path: Path, schema: pa.Schema, name: str) -> None:
    """Write batches as row groups of BLOCK_ROWS rows."""
    try:
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for block in split_into_blocks(batches, schema):
                writer.write_table(block.rows)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid, pa.ArrowTypeError):
        raise SourceFormatError(
            f"Columns of {name} are of types that a table cannot have: {_unstorable(schema) or 'numbers too large'}.",
            hint="convert them: in a query, CAST(… AS …).",
        ) from None


def _unstorable(schema: pa.Schema) -> str:
    """Return the columns that no Parquet file can hold, with their types."""
    found = []
    for field in schema:
        try:
            pq.write_table(pa.schema([field]).empty_table(), pa.BufferOutputStream())
        except pa.ArrowException:
            found.append(f"{field.name!r} ({field.type})")
    return ", ".join(found)
