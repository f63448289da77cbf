"""FileTable: Parquet, CSV, Feather and ORC files read by pyarrow.dataset, from any filesystem fsspec knows.

    sources (files, folders, globs, URLs)  ->  FileTable  ->  blocks

Files are never read whole. Every file's schema is compared with the first before any row is read, because pyarrow
silently fills a column that a file lacks with nulls. Data frames: dataframe_table.py.
"""

from __future__ import annotations

import base64
import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import chain
from os import PathLike
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs
import pyarrow.parquet as pq

from engine.blocks import (
    BLOCK_ROWS,
    COUNTS,
    DICTIONARY,
    Block,
    Table,
    mark_category,
    normalize_schema,
    require_columns,
    split_into_blocks,
)
from engine.errors import EmptyTableError, SchemaMismatchError, SourceFormatError, UsageError
from engine.tables import csv_schema as csv
from engine.tables.arrow_errors import describe_arrow_error
from engine.tables.file_copies import warn_of_copies
from engine.tables.hive_partitions import find_partitioning, partition_texts
from engine.tables.source_paths import SURVEY_FORMATS, SourceFiles, find_files
from engine.tables.unique_ids import check_id_type
from engine.tables.vector_columns import expand_vectors

# Paths of a list's elements in a Parquet file: the format's own, and those of older writers.
LIST_ELEMENTS = ("list.element", "list.item", "list.array", "bag.array_element", "bag.array")
BUFFER_BYTES = 64 << 10  # of a Parquet column, read at a time
# Spark's INT96 timestamps are read as microseconds: nanoseconds end in 2262, and 9999-12-31 would become 1816-03-29.
INT96_UNIT = "us"
_PARQUET = ds.ParquetFileFormat(read_options=ds.ParquetReadOptions(coerce_int96_timestamp_unit=INT96_UNIT))
_FORMATS = {"parquet": _PARQUET, "feather": ds.IpcFileFormat(), "orc": ds.OrcFileFormat()}


def open_table(
    source: Any,
    *,
    id: str | None = None,
    types: Mapping[str, pa.DataType] | None = None,
    vectors: Mapping[str, int] | None = None,
) -> Table:
    """Open a table of profiles for reading in blocks.

    Parameters
    ----------
    source : path, URL, list of them, a pandas, polars or pyarrow table, a Query, or a reader or generator of batches
        A folder stands for all tables in it, hive partitions included; globs are expanded. Files of survey programs
        and spreadsheets need the extra `survey`. What can be read only once is kept in a temporary file: snapshot.py.
    id : str, optional
        Column that identifies a row. Text ids in CSV files keep leading zeros.
    types : mapping of column name to pyarrow type, optional
        Known types of columns of a CSV file; other formats carry their own.
    vectors : mapping of column name to length, optional
        Vectors that a model knows: their columns are expanded even where all of them are missing.

    Raises
    ------
    SourceNotFoundError, SourceFormatError, SchemaMismatchError, EmptyTableError, MissingColumnError, IdColumnError
    UsageError
        If a library that reads the format is not installed.
    """
    table: Table
    if isinstance(source, str | PathLike):
        table = _file_table(find_files([str(source)]), id, types)
    elif isinstance(source, Sequence) and all(isinstance(part, str | PathLike) for part in source):
        table = _file_table(find_files([str(part) for part in source]), id, types)
    elif hasattr(source, "blocks") and hasattr(source, "fingerprint"):
        table = source
    else:
        table = _table_of_object(source, id)
    if id is not None:
        require_columns(table.schema, [id], "The table")
        check_id_type(table.schema, id)
    if table.n_rows == 0:
        raise EmptyTableError("The table has no rows.")
    return expand_vectors(table, vectors)


def _file_table(files: SourceFiles, id: str | None, types: Mapping[str, pa.DataType] | None) -> Table:
    warn_of_copies(files)
    if files.format in SURVEY_FORMATS:
        from engine.tables.survey_table import SurveyTable

        return SurveyTable(files, id=id, types=types)
    if files.format == "spreadsheet":
        from engine.tables.spreadsheet_table import SpreadsheetTable

        return SpreadsheetTable(files, id=id, types=types)
    return FileTable(files, id=id, types=types)


def _table_of_object(source: Any, id: str | None) -> Table:
    from engine.tables.snapshot import is_stream, open_temporary_snapshot

    if is_stream(source):
        return open_temporary_snapshot(source, id=id)
    # Imported here: narwhals takes 50 ms, which a job on files saves.
    from engine.tables.dataframe_table import DataFrameTable, is_dataframe

    if is_dataframe(source):
        return DataFrameTable(source, id)
    raise UsageError(
        f"A table cannot be a {type(source).__name__}.",
        hint="give a path, a list of paths, a pandas, polars or pyarrow table, or a reader of record batches.",
    )


class FileTable:
    """One or several files of one format as a Table; rows are numbered in the order of the files."""

    def __init__(self, files: SourceFiles, *, id: str | None, types: Mapping[str, pa.DataType] | None) -> None:
        self._files, self._id, self._types = files, id, types
        self.reading_bytes = 0  # memory of a pass beside its blocks
        if files.format == "csv":
            self._dataset, self._n_rows, self.reading_bytes = csv.open_csv(files, id=id, types=types or {})
        else:
            self._dataset = self._open(_common_schema(self._open(), files, id))
            self._n_rows = self._dataset.count_rows()

    def __reduce__(self) -> Any:
        """Pickle as the names of the files, which another process opens itself, once."""
        return _reopen, (self._recipe,)

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
                format=_FORMATS[files.format],
                partitioning=find_partitioning(files),
                partition_base_dir=files.root or None,
            )
        except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
            _check_files(files)
            what = f"{files.paths[0]}{_other_files_note(files)} cannot be read as {files.format}"
            raise SourceFormatError(f"{what}: {describe_arrow_error(error)}") from error

    @cached_property
    def _dictionary_columns(self) -> set[str]:
        """Columns of texts or lists of texts that can be read as dictionary codes, without a string for each value."""
        return _text_columns(self._dataset) - {self._id} if self._files.format == "parquet" else set()

    @cached_property
    def schema(self) -> pa.Schema:
        """Names, normalized types and field metadata of the columns."""
        return normalize_schema(self._dataset.schema, self._id)

    @property
    def n_rows(self) -> int:
        """The number of rows of all files."""
        return int(self._n_rows)

    @property
    def files(self) -> SourceFiles:
        """The files, in the order of their rows."""
        return self._files

    def physical_schemas(self) -> list[pa.Schema]:
        """Return the schema of every file, without the columns that hive folder names give."""
        return [fragment.physical_schema for fragment in self._dataset.get_fragments()]

    def int96_columns(self) -> set[str]:
        """Return the columns that a Parquet file stores as INT96 timestamps."""
        schemas = [fragment.metadata.schema for fragment in self._dataset.get_fragments()]
        columns = [schema.column(i) for schema in schemas for i in range(len(schema))]
        return {column.path for column in columns if column.physical_type == "INT96"}

    @property
    def random_access(self) -> bool:
        """Whether a range of blocks can be read by itself: only Parquet stores where rows are."""
        return self._files.format == "parquet"

    def blocks(
        self,
        columns: Sequence[str] | None = None,
        *,
        dictionary_encoded: bool = False,
        first: int = 0,
        stop: int | None = None,
    ) -> Iterator[Block]:
        """Yield the table's blocks with these columns (all by default), reading nothing else.

        Tables with random_access yield blocks `first` … `stop` - 1 only.
        """
        names = list(self.schema.names if columns is None else columns)
        require_columns(self.schema, names, "The table")
        texts = [name for name in names if dictionary_encoded and name in self._dictionary_columns]
        fields = [
            _to_dictionary_field(self._dataset.schema.field(n)) if n in texts else self.schema.field(n) for n in names
        ]
        rows = slice(first * BLOCK_ROWS, self.n_rows if stop is None else min(stop * BLOCK_ROWS, self.n_rows))
        try:
            yield from split_into_blocks(self._batches(names, rows, texts), pa.schema(fields), rows.start)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
            raise SourceFormatError(
                f"Reading {self._files.paths[0]}{_other_files_note(self._files)} failed: {describe_arrow_error(error)}"
            ) from error

    def _batches(self, names: list[str], rows: slice, dictionary_encoded: list[str]) -> Iterator[pa.RecordBatch]:
        """Yield these rows in order, in batches of any size."""
        if self._files.format != "parquet":
            return (
                batch
                for file in self._dataset.get_fragments()
                for batch in _read_file(file, self._dataset.schema, names)
            )
        fragments, offset = _select_row_groups(self._dataset, rows)
        batches = (batch for fragment in fragments for batch in _decode_row_groups(fragment, names, dictionary_encoded))
        return _cut_rows(batches, offset, rows.stop - rows.start)

    def fingerprint(self) -> dict[str, Any]:
        """Return the files with sizes and times of change, the number of rows and the columns."""
        columns = {field.name: str(field.type) for field in self.schema}
        return {"format": self._files.format, "rows": self.n_rows, "files": self._files.stat(), "columns": columns}


@lru_cache(maxsize=4)
def _reopen(recipe: bytes) -> FileTable:
    files, id, types, _ = pickle.loads(recipe)
    return FileTable(files, id=id, types=types)


def _check_files(files: SourceFiles) -> None:
    """Raise the error of the first file that cannot be opened by itself, or has columns that the table cannot have."""
    filesystem = pa.fs.PyFileSystem(pa.fs.FSSpecHandler(files.filesystem))
    for path in files.paths:
        try:
            schema = _FORMATS[files.format].inspect(path, filesystem)
        except (pa.ArrowInvalid, OSError) as error:
            raise _unreadable_file(path, files, error) from error
        _check_names(schema, path, files)


def _unreadable_file(path: str, files: SourceFiles, error: BaseException) -> SourceFormatError:
    return SourceFormatError(
        f"{path} cannot be read as {files.format}: {describe_arrow_error(error)}",
        hint="the file may be empty, cut off, or of another format: write it again, or leave it out.",
    )


def _check_names(schema: pa.Schema, path: str, files: SourceFiles) -> None:
    """Raise SchemaMismatchError if a file has two columns of one name, or one that its folders give as well."""
    csv.check_distinct_names(schema.names, path)
    for name in partition_texts(files):
        if name in schema.names:
            raise SchemaMismatchError(
                f"Column {name!r} is in {path}, and in the names of the folders as well.",
                hint="leave it out of the files, or give it another name there.",
            )


def _common_schema(dataset: ds.Dataset, files: SourceFiles, id: str | None) -> pa.Schema:
    """Return the schema that holds for every file; raise SchemaMismatchError if a file differs in its columns."""
    first, schemas = None, []
    for fragment in dataset.get_fragments():
        try:
            schema = normalize_schema(fragment.physical_schema, id)
        except (pa.ArrowInvalid, OSError) as error:
            raise _unreadable_file(fragment.path, files, error) from error
        _check_names(schema, fragment.path, files)
        first = first or (fragment.path, schema)
        differing = set(first[1].names) ^ set(schema.names)
        if differing:
            names = ", ".join(repr(name) for name in sorted(differing))
            raise SchemaMismatchError(
                f"Column {names} is only in one of {first[0]} and {fragment.path}.",
                hint="the files of one table must have the same columns.",
            )
        if id is not None and id in schema.names:
            _check_same_id_type(first, (fragment.path, schema), id)
        schemas.append(schema)
    try:
        merged = pa.unify_schemas(schemas, promote_options="permissive")
    except pa.ArrowTypeError as error:
        raise SchemaMismatchError(
            f"The files of the table disagree about a column's type: {describe_arrow_error(error)}"
        ) from error
    partitions = [field for field in dataset.schema if field.name not in merged.names]
    dictionaries = _stored_dictionaries(dataset)
    ordered = [
        mark_category(merged.field(name), DICTIONARY)
        if name in dictionaries
        else _mark_counts(merged.field(name), files)
        for name in dataset.schema.names
        if name in merged.names
    ]
    marked = [mark_category(field, "a partition of folders") for field in partitions]
    partition_fields = list(normalize_schema(pa.schema(marked)))
    return pa.schema(ordered + partition_fields)


def _mark_counts(field: pa.Field, files: SourceFiles) -> pa.Field:
    """Note in the metadata of durations that other readers of their Parquet file take them for whole numbers."""
    if files.format != "parquet" or not pa.types.is_duration(field.type):
        return field
    return field.with_metadata((field.metadata or {}) | {COUNTS: b"1"})


def _stored_dictionaries(dataset: ds.Dataset) -> set[str]:
    """Return the columns that the first Parquet file was written from as dictionaries; Arrow restores only texts."""
    first = next(dataset.get_fragments())
    stored = (first.metadata.metadata or {}).get(b"ARROW:schema") if isinstance(first, ds.ParquetFileFragment) else None
    if stored is None:
        return set()
    schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(stored)))
    return {field.name for field in schema if pa.types.is_dictionary(field.type)}


def _check_same_id_type(first: tuple[str, pa.Schema], other: tuple[str, pa.Schema], id: str) -> None:
    """Raise SchemaMismatchError if ids are fractions in one of two files only: integers would be rounded to them."""
    kinds = [schema.field(id).type for _, schema in (first, other)]
    if kinds[0] != kinds[1] and any(map(pa.types.is_floating, kinds)):
        raise SchemaMismatchError(
            f"Column {id!r} is the id, and it holds {kinds[0]} in {first[0]} and {kinds[1]} in {other[0]}.",
            hint="write the ids with one type in all files.",
        )


def _read_file(file: ds.FileFragment, schema: pa.Schema, names: list[str]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a file that is read from its beginning.

    Feather is read record batch by record batch: a scanner would read half a gigabyte ahead.
    """
    if not isinstance(file.format, ds.IpcFileFormat):
        physical = {field.name: field for field in file.physical_schema if pa.types.is_decimal(field.type)}
        schema = pa.schema([physical.get(field.name, field) for field in schema])  # converted in split_into_blocks
        yield from file.scanner(schema=schema, columns=names, batch_size=BLOCK_ROWS, batch_readahead=1).to_batches()
        return
    with file.open() as source:
        positions = [file.physical_schema.get_field_index(name) for name in names]
        options = pa.ipc.IpcReadOptions(included_fields=[position for position in positions if position >= 0])
        reader = pa.ipc.open_file(source, options=options)
        for number in range(reader.num_record_batches):
            yield _add_partition_columns(reader.get_batch(number), file, names)


def _select_row_groups(dataset: ds.Dataset, rows: slice) -> tuple[list[ds.ParquetFileFragment], int]:
    """Return the files and row groups that hold these rows, and the number of rows in them before the first."""
    selected: list[ds.ParquetFileFragment] = []
    offset = start = 0
    for fragment in dataset.get_fragments():
        groups: list[int] = []
        for group in fragment.row_groups:
            stop = start + group.num_rows
            if stop > rows.start and start < rows.stop:
                offset = offset if selected or groups else rows.start - start
                groups.append(group.id)
            start = stop
        if groups:
            selected.append(fragment.subset(row_group_ids=groups))
    return selected, offset


def _decode_row_groups(
    fragment: ds.ParquetFileFragment, names: list[str], dictionary_encoded: list[str]
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of some row groups, BLOCK_ROWS at a time: a scanner would decode a whole row group at once.

    The columns `dictionary_encoded`, texts or lists of texts, come as dictionary codes, as most files store them.
    pre_buffer=False: by default pyarrow fetches all of a file's column chunks before it decodes the first, so that
    memory would grow with the file.
    """
    columns = [name for name in names if name in fragment.physical_schema.names]
    leaves = {fragment.metadata.schema.column(i).path for i in range(fragment.metadata.num_columns)}
    texts = {path for name in dictionary_encoded for path in (name, *(f"{name}.{inner}" for inner in LIST_ELEMENTS))}
    with (
        fragment.open() as source,
        pq.ParquetFile(
            source,
            metadata=fragment.metadata,
            read_dictionary=sorted(leaves & texts),
            pre_buffer=False,
            buffer_size=BUFFER_BYTES,
            coerce_int96_timestamp_unit=INT96_UNIT,
        ) as file,
    ):
        # One row group after the other: pyarrow cannot join lists of texts with different dictionaries.
        batches = (file.iter_batches(BLOCK_ROWS, row_groups=[g.id], columns=columns) for g in fragment.row_groups)
        for batch in chain.from_iterable(batches):
            yield _add_partition_columns(batch, fragment, names)


def _add_partition_columns(batch: pa.RecordBatch, file: ds.FileFragment, names: list[str]) -> pa.RecordBatch:
    """Return a batch with these columns, including those that hive folder names give."""
    partitions = ds.get_partition_keys(file.partition_expression)
    columns = [pa.repeat(partitions[n], len(batch)) if n in partitions else batch.column(n) for n in names]
    return pa.RecordBatch.from_arrays(columns, names)


def _cut_rows(batches: Iterable[pa.RecordBatch], offset: int, n_rows: int) -> Iterator[pa.RecordBatch]:
    """Yield `n_rows` rows of the batches, after the first `offset` rows."""
    for batch in batches:
        part = batch.slice(offset, n_rows)
        offset -= min(offset, batch.num_rows)
        n_rows -= part.num_rows
        yield part
        if n_rows == 0:
            return


def _text_columns(dataset: ds.Dataset) -> set[str]:
    """Return the columns that are texts, or lists of texts, in every file."""
    texts = {field.name for field in dataset.schema if _is_text(field.type)}
    for fragment in dataset.get_fragments():
        texts &= {field.name for field in fragment.physical_schema if _is_text(field.type)}
    return texts


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind.value_type if pa.types.is_list(kind) else kind))


def _to_dictionary_field(field: pa.Field) -> pa.Field:
    """Return a field of texts, or of lists of texts, with its texts dictionary-encoded."""
    codes, kind = pa.dictionary(pa.int32(), pa.string()), field.type
    return field.with_type(pa.list_(kind.value_field.with_type(codes)) if pa.types.is_list(kind) else codes)


def _other_files_note(files: SourceFiles) -> str:
    return "" if len(files.paths) == 1 else f" (and {len(files.paths) - 1} more files)"
