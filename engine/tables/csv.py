"""CSV files: one scan finds types that hold for every row, counts the rows, and never guesses an id's type.

pyarrow infers a column's type from the first block of bytes and fails when a later value does not fit. Here the
whole of the files is scanned once; a column that does not fit is widened (null -> integer -> float -> text) and
the scan goes on from the start, so that the passes that follow cannot fail half-way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.dataset as ds

from engine.errors import SchemaMismatchError, SourceFormatError
from engine.tables.paths import Files

BYTES_PER_READ = 1 << 23
MISSING = ["", "NA", "N/A", "NaN", "nan", "NULL", "null", "None", "#N/A"]
_COLUMN_IN_ERROR = re.compile(r"In CSV column #(\d+)")


def open_csv(files: Files, *, id: str | None, types: Mapping[str, pa.DataType]) -> tuple[ds.Dataset, int]:
    """Return a dataset whose types hold for all rows of the files, and the number of rows.

    Text is UTF-8. Empty fields and the usual marks (NA, NaN, NULL, None …) are missing values.

    Raises
    ------
    SourceFormatError
        If a file is no CSV or not UTF-8.
    SchemaMismatchError
        If the files' headers differ.
    """
    known = dict(types)
    if id is not None and id not in known:
        known[id] = pa.string()
    try:
        schema = _first_guess(files, known)
        n_rows, schema, canonical = _scan(files, schema, id if id not in types else None)
    except (pa.ArrowInvalid, pa.ArrowKeyError, UnicodeDecodeError, OSError) as error:
        raise SourceFormatError(
            f"{files.paths[0]} cannot be read as CSV: {str(error).strip().splitlines()[0]}",
            hint="the engine reads comma-separated UTF-8 text with one header line.",
        ) from error
    if id is not None and canonical:
        schema = schema.set(schema.get_field_index(id), pa.field(id, pa.int64()))
    return _dataset(files, schema), n_rows


def _first_guess(files: Files, known: Mapping[str, pa.DataType]) -> pa.Schema:
    """Infer types from the first bytes of every file; columns seen empty so far stay null."""
    inferred: pa.Schema | None = None
    for path in files.paths:
        with files.filesystem.open(path, "rb", compression="infer") as stream:
            reader = pacsv.open_csv(stream, read_options=_reading(), convert_options=_conversion({}))
            found = reader.schema
        for field in found:
            if pa.types.is_binary(field.type):
                raise pa.ArrowInvalid(f"column {field.name!r} is not UTF-8 text")
        if inferred is not None and found.names != inferred.names:
            apart = ", ".join(repr(name) for name in sorted(set(found.names) ^ set(inferred.names)))
            what = f"Column {apart} is only in one of" if apart else "The columns are in another order in"
            raise SchemaMismatchError(f"{what} {files.paths[0]} and {path}.")
        inferred = (
            found
            if inferred is None
            else pa.schema(
                [pa.field(name, _wider(inferred.field(name).type, found.field(name).type)) for name in inferred.names]
            )
        )
    assert inferred is not None
    return pa.schema([pa.field(name, known.get(name, inferred.field(name).type)) for name in inferred.names])


def _scan(files: Files, schema: pa.Schema, id: str | None) -> tuple[int, pa.Schema, bool]:
    """Read everything once; return rows, types that hold, and whether every id is a plain int64."""
    while True:
        n_rows, canonical = 0, id is not None
        try:
            for batch in _dataset(files, schema).to_batches():
                n_rows += batch.num_rows
                canonical = canonical and _plain_integers(batch.column(batch.schema.get_field_index(id)))
            return n_rows, schema, canonical
        except pa.ArrowInvalid as error:
            match = _COLUMN_IN_ERROR.search(str(error))
            if match is None or int(match.group(1)) >= len(schema):
                raise
            index = int(match.group(1))
            field = schema.field(index)
            if field.type == pa.string():
                raise
            schema = schema.set(index, field.with_type(_next_wider(field.type)))


def _plain_integers(column: pa.Array) -> bool:
    """Tell whether text ids are integers whose text is their only spelling (no sign, no leading zero)."""
    if not pc.all(pc.match_substring_regex(column, r"^(0|-?[1-9][0-9]{0,18})$"), min_count=0).as_py():
        return False
    try:
        column.cast(pa.int64())
    except pa.ArrowInvalid:  # 19 digits beyond 2^63
        return False
    return True


def _next_wider(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_null(kind):
        return pa.int64()
    return pa.float64() if pa.types.is_integer(kind) else pa.string()


def _wider(a: pa.DataType, b: pa.DataType) -> pa.DataType:
    if a == b or pa.types.is_null(b):
        return a
    if pa.types.is_null(a):
        return b
    numbers = all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in (a, b))
    return pa.float64() if numbers else pa.string()


def _dataset(files: Files, schema: pa.Schema) -> ds.Dataset:
    types = {field.name: field.type for field in schema}
    form = ds.CsvFileFormat(
        parse_options=pacsv.ParseOptions(newlines_in_values=True),
        read_options=_reading(),
        convert_options=_conversion(types),
    )
    return ds.dataset(list(files.paths), filesystem=files.filesystem, format=form, schema=schema)


def _reading() -> pacsv.ReadOptions:
    return pacsv.ReadOptions(block_size=BYTES_PER_READ)


def _conversion(types: Mapping[str, pa.DataType]) -> pacsv.ConvertOptions:
    return pacsv.ConvertOptions(column_types=dict(types), strings_can_be_null=True, null_values=MISSING)
