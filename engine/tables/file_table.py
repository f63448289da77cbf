"""Tables in files, read by pyarrow.dataset: Parquet, CSV, Feather and ORC, from any filesystem fsspec knows.

    sources (files, folders, globs, URLs)  ->  FileTable  ->  blocks

Files are never read whole. Every file's schema is compared with the first before any row is read: pyarrow would
fill a column that a file lacks with nulls, and nobody would know. Data frames: dataframe_table.py.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import chain
from os import PathLike
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from engine.blocks import BLOCK_ROWS, Block, Table, into_blocks, plain_schema, require_columns
from engine.errors import EmptyTableError, SchemaMismatchError, SourceFormatError, UsageError
from engine.tables import csv_schema as csv
from engine.tables.source_paths import Files, find_files
from engine.tables.vector_columns import with_numbers_apart

# Where the elements of a list are in a Parquet file: as the format says, and as older writers put them.
LIST_ELEMENTS = ("list.element", "list.item", "list.array", "bag.array_element", "bag.array")
BUFFER = 64 << 10  # bytes read at a time of a column in Parquet


def open_table(source: Any, *, id: str | None = None, types: Mapping[str, pa.DataType] | None = None) -> Table:
    """Open a table of profiles for reading in blocks.

    Parameters
    ----------
    source : path, URL, list of them, or a pandas, polars or pyarrow table
        A folder stands for all tables in it, hive partitions included; globs are expanded.
    id : str, optional
        Column that identifies a row. Text ids in CSV files keep leading zeros.
    types : mapping of column name to pyarrow type, optional
        Types that columns of a CSV file are known to have; other formats carry their own.

    Raises
    ------
    SourceNotFoundError, SourceFormatError, SchemaMismatchError, EmptyTableError, MissingColumnError
    """
    table: Table
    if isinstance(source, str | PathLike):
        table = FileTable(find_files([str(source)]), id=id, types=types)
    elif isinstance(source, Sequence) and all(isinstance(part, str | PathLike) for part in source):
        table = FileTable(find_files([str(part) for part in source]), id=id, types=types)
    elif hasattr(source, "blocks") and hasattr(source, "fingerprint"):
        table = source
    else:
        table = _frame_table(source)
    if id is not None:
        require_columns(table.schema, [id], "The table")
    if table.n_rows == 0:
        raise EmptyTableError("The table has no rows.")
    return with_numbers_apart(table)


def _frame_table(source: Any) -> Table:
    from engine.tables.dataframe_table import FrameTable, is_frame  # narwhals: 50 ms that a job on files saves

    if is_frame(source):
        return FrameTable(source)
    raise UsageError(
        f"A table cannot be a {type(source).__name__}.",
        hint="give a path, a list of paths, or a pandas, polars or pyarrow table.",
    )


class FileTable:
    """Rows of one or many files of one format, numbered through in the order of the files."""

    def __init__(self, files: Files, *, id: str | None, types: Mapping[str, pa.DataType] | None) -> None:
        self._files, self._id, self._types = files, id, types
        self.reading_bytes = 0  # of memory, beside blocks
        if files.format == "csv":
            self._dataset, self._n_rows, self.reading_bytes = csv.open_csv(files, id=id, types=types or {})
        else:
            self._dataset = self._open(_common_schema(self._open()))
            self._n_rows = self._dataset.count_rows()

    def __reduce__(self) -> Any:
        """Go to another process as the names of the files, which it opens by itself, once."""
        return _reopened, (self._recipe,)

    @cached_property
    def _recipe(self) -> bytes:
        return pickle.dumps((self._files, self._id, self._types, self._files.stat()))

    def _open(self, schema: pa.Schema | None = None) -> ds.Dataset:
        files = self._files
        try:
            return ds.dataset(
                list(files.paths),
                schema=schema,
                filesystem=files.filesystem,
                format=files.format,
                partitioning=ds.partitioning(flavor="hive"),
                partition_base_dir=files.root or None,
            )
        except (pa.ArrowInvalid, OSError) as error:
            what = f"{files.paths[0]}{_more(files)} cannot be read as {files.format}"
            raise SourceFormatError(f"{what}: {_first_line(error)}") from error

    @cached_property
    def _texts(self) -> set[str]:
        """Columns that can come as codes, which saves making a million texts of twenty: texts, and lists of them."""
        return _text_columns(self._dataset) - {self._id} if self._files.format == "parquet" else set()

    @cached_property
    def schema(self) -> pa.Schema:
        """Names, plain types and field metadata of the columns."""
        return plain_schema(self._dataset.schema)

    @property
    def n_rows(self) -> int:
        """The number of rows of all files."""
        return int(self._n_rows)

    @property
    def files(self) -> Files:
        """The files, in the order of their rows."""
        return self._files

    def physical_schemas(self) -> list[pa.Schema]:
        """Return names and types of the columns as every file has them; without those that folders' names are."""
        return [fragment.physical_schema for fragment in self._dataset.get_fragments()]

    @property
    def in_parts(self) -> bool:
        """Whether some blocks can be read without the ones before them: only Parquet says where rows are."""
        return self._files.format == "parquet"

    def blocks(
        self,
        columns: Sequence[str] | None = None,
        *,
        coded: bool = False,
        first: int = 0,
        stop: int | None = None,
    ) -> Iterator[Block]:
        """Yield the table's blocks with these columns (all by default), reading nothing else.

        Only blocks number `first` to `stop`, exclusive, of a table that can be read `in_parts`.
        """
        names = list(self.schema.names if columns is None else columns)
        require_columns(self.schema, names, "The table")
        texts = [name for name in names if coded and name in self._texts]
        fields = [_as_codes(self._dataset.schema.field(n)) if n in texts else self.schema.field(n) for n in names]
        rows = slice(first * BLOCK_ROWS, self.n_rows if stop is None else min(stop * BLOCK_ROWS, self.n_rows))
        try:
            yield from into_blocks(self._batches(names, rows, texts), pa.schema(fields), rows.start)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
            raise SourceFormatError(
                f"Reading {self._files.paths[0]}{_more(self._files)} failed: {_first_line(error)}"
            ) from error

    def _batches(self, names: list[str], rows: slice, coded: list[str]) -> Iterator[pa.RecordBatch]:
        """Yield these rows in order."""
        if self._files.format != "parquet":
            return (
                batch for file in self._dataset.get_fragments() for batch in _read(file, self._dataset.schema, names)
            )
        pieces, before = _pieces_with(self._dataset, rows)
        batches = (batch for piece in pieces for batch in _decoded(piece, names, coded))
        return _cut(batches, before, rows.stop - rows.start)

    def fingerprint(self) -> dict[str, Any]:
        """Return the files with sizes and times of change, the number of rows and the columns."""
        columns = {field.name: str(field.type) for field in self.schema}
        return {"format": self._files.format, "rows": self.n_rows, "files": self._files.stat(), "columns": columns}


@lru_cache(maxsize=4)
def _reopened(recipe: bytes) -> FileTable:
    files, id, types, _ = pickle.loads(recipe)
    return FileTable(files, id=id, types=types)


def _common_schema(dataset: ds.Dataset) -> pa.Schema:
    """Return a schema that holds for every file, or say which file and column stand apart."""
    first, schemas = None, []
    for fragment in dataset.get_fragments():
        schema = plain_schema(fragment.physical_schema)
        first = first or (fragment.path, schema)
        apart = set(first[1].names) ^ set(schema.names)
        if apart:
            names = ", ".join(repr(name) for name in sorted(apart))
            raise SchemaMismatchError(
                f"Column {names} is only in one of {first[0]} and {fragment.path}.",
                hint="the files of one table must have the same columns.",
            )
        schemas.append(schema)
    try:
        merged = pa.unify_schemas(schemas, promote_options="permissive")
    except pa.ArrowTypeError as error:
        raise SchemaMismatchError(
            f"The files of the table disagree about a column's type: {_first_line(error)}"
        ) from error
    partitions = [field for field in dataset.schema if field.name not in merged.names]
    ordered = [merged.field(field.name) for field in dataset.schema if field.name in merged.names]
    dictionary_free = [field.with_type(plain_schema(pa.schema([field])).types[0]) for field in partitions]
    return pa.schema(ordered + dictionary_free)


def _read(file: ds.FileFragment, schema: pa.Schema, names: list[str]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a file that is read from its beginning.

    A scanner of Feather files runs ahead by half a gigabyte.
    """
    if not isinstance(file.format, ds.IpcFileFormat):
        yield from file.scanner(schema=schema, columns=names, batch_size=BLOCK_ROWS, batch_readahead=1).to_batches()
        return
    with file.open() as source:
        places = [file.physical_schema.get_field_index(name) for name in names]
        options = pa.ipc.IpcReadOptions(included_fields=[place for place in places if place >= 0])
        reader = pa.ipc.open_file(source, options=options)
        for number in range(reader.num_record_batches):
            yield _with_folders(reader.get_batch(number), file, names)


def _pieces_with(dataset: ds.Dataset, rows: slice) -> tuple[list[ds.ParquetFileFragment], int]:
    """Return the files with their row groups that hold some of these rows, and how many rows those have before them."""
    found: list[ds.ParquetFileFragment] = []
    before = start = 0
    for fragment in dataset.get_fragments():
        wanted: list[int] = []
        for group in fragment.row_groups:
            stop = start + group.num_rows
            if stop > rows.start and start < rows.stop:
                before = before if found or wanted else rows.start - start
                wanted.append(group.id)
            start = stop
        if wanted:
            found.append(fragment.subset(row_group_ids=wanted))
    return found, before


def _decoded(piece: ds.ParquetFileFragment, names: list[str], coded: list[str]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of some row groups, BLOCK_ROWS at a time: a scanner would decode a whole row group at once.

    Columns that are `coded`, texts or lists of them, come as codes of a dictionary, as most are stored. By itself
    pyarrow fetches all of a file's column chunks before it decodes the first: memory would grow with the file.
    """
    there = [name for name in names if name in piece.physical_schema.names]
    leaves = {piece.metadata.schema.column(i).path for i in range(piece.metadata.num_columns)}
    texts = {path for name in coded for path in (name, *(f"{name}.{inner}" for inner in LIST_ELEMENTS))}
    with (
        piece.open() as source,
        pq.ParquetFile(
            source,
            metadata=piece.metadata,
            read_dictionary=sorted(leaves & texts),
            pre_buffer=False,
            buffer_size=BUFFER,
        ) as file,
    ):
        # one row group after the other: texts in lists cannot be joined across their dictionaries
        of_groups = (file.iter_batches(BLOCK_ROWS, row_groups=[g.id], columns=there) for g in piece.row_groups)
        for batch in chain.from_iterable(of_groups):
            yield _with_folders(batch, piece, names)


def _with_folders(batch: pa.RecordBatch, file: ds.FileFragment, names: list[str]) -> pa.RecordBatch:
    """Return a batch of these columns, those that folders' names are among them."""
    folders = ds.get_partition_keys(file.partition_expression)
    columns = [pa.repeat(folders[n], len(batch)) if n in folders else batch.column(n) for n in names]
    return pa.RecordBatch.from_arrays(columns, names)


def _cut(batches: Iterable[pa.RecordBatch], before: int, n_rows: int) -> Iterator[pa.RecordBatch]:
    """Leave out the first `before` rows, and all beyond the `n_rows` that follow."""
    for batch in batches:
        part = batch.slice(before, n_rows)
        before -= min(before, batch.num_rows)
        n_rows -= part.num_rows
        yield part
        if n_rows == 0:
            return


def _text_columns(dataset: ds.Dataset) -> set[str]:
    """Return the columns that are plain text, or lists of it, in every file."""
    texts = {field.name for field in dataset.schema if _is_text(field.type)}
    for fragment in dataset.get_fragments():
        texts &= {field.name for field in fragment.physical_schema if _is_text(field.type)}
    return texts


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind.value_type if pa.types.is_list(kind) else kind))


def _as_codes(field: pa.Field) -> pa.Field:
    """Return a field of texts, or of lists of them, as one of codes."""
    codes, kind = pa.dictionary(pa.int32(), pa.string()), field.type
    return field.with_type(pa.list_(kind.value_field.with_type(codes)) if pa.types.is_list(kind) else codes)


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0]


def _more(files: Files) -> str:
    return "" if len(files.paths) == 1 else f" (and {len(files.paths) - 1} more files)"
