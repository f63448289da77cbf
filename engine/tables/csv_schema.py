"""Infer the schema of CSV files in one scan, so that its types hold for every row; count the rows.

    files  ->  dataset with types that hold for all rows, the number of rows

pyarrow infers a column's type from the first block of bytes and fails when a later value does not fit. Here the
files are scanned once as a whole; a column that does not fit is widened (null -> integer -> float -> text), so that
the passes that follow cannot fail half-way. Columns that look like integers are read as text in that scan: 02134 is a
zip code, and a column that holds one stays text; an id is an integer only if its text is that integer's only spelling.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.dataset as ds

from engine.blocks import RECOGNISED, WORDS
from engine.errors import IdColumnError, SchemaMismatchError, SourceFormatError
from engine.tables.arrow_buffers import arrow_reader
from engine.tables.arrow_errors import describe_arrow_error
from engine.tables.csv_dialect import HEADER_BYTES, MISSING, CsvDialect, delimiter_of_name, detect_dialect
from engine.tables.csv_faults import find_fault, locate_missing, may_repeat_header, refuse_repeated_header
from engine.tables.csv_header import names_that_are_numbers, read_header
from engine.tables.csv_late_texts import find_late_texts
from engine.tables.number_texts import CODES, DECIMAL_MARK, LATE_TEXTS
from engine.tables.source_paths import SourceFiles

logger = logging.getLogger(__name__)

# Bytes read at a time, in which a row has to fit. Reading more at a time is no faster.
BYTES_PER_READ = 1 << 19
READ_FACTORS = (1, 16, 256)  # multiples of BYTES_PER_READ that are tried for longer rows
MAX_SHOWN_CHARACTERS = 40  # of a text in an error message
MEMORY_PER_BYTE_READ = 120  # bytes of memory that a pass takes per byte read at a time
# Names of versions, whose texts are no amounts.
_VERSION = re.compile(
    r"(.*[-_. ])?(version|firmware)([-_. ]?(id|no|nr|number|code))?|(?-i:.*[a-z]Version)", re.IGNORECASE
)
# Whole numbers below 1000, and numbers whose points may mark thousands.
_GROUPED = r"^[+-]?(0|[1-9][0-9]{0,2}(\.[0-9]{3})*)$"
LAYOUT_HINT = (
    "the engine reads UTF-8 text with one header line, separated by commas, semicolons, tabs or bars; "
    "quotation marks within texts are doubled, not escaped by a backslash."
)
_COLUMN_IN_ERROR = re.compile(r"In CSV column #(\d+)")


def open_csv(files: SourceFiles, *, id: str | None, types: Mapping[str, pa.DataType]) -> tuple[ds.Dataset, int, int]:
    """Open CSV files: return a dataset whose types hold for all rows, the number of rows, and the memory of a pass.

    Delimiter and decimal point are detected (csv_dialect.py). Text is UTF-8. Empty fields and the usual
    markers (NA, NaN, NULL, None …) are missing values. The memory is in bytes, beside the blocks.

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
        dialect = detect_dialect(files)
        if dialect[:2] != CsvDialect()[:2]:
            logger.info("%s: columns are separated by %r, decimals by %r", files.paths[0], *dialect[:2])
        if dialect.header.layout:
            logger.info("%s: beside the names, there are %s: left out", files.paths[0], dialect.header.layout)
        if n_numbers := names_that_are_numbers(dialect.header.names):
            logger.warning(
                "%s: %d of %d names in its first line are numbers. If it has no line of names, its first row is lost.",
                files.paths[0], n_numbers, len(dialect.header.names),
            )  # fmt: skip
        for n_bytes in (BYTES_PER_READ * times for times in READ_FACTORS):
            try:
                guess, begins = _first_guess(files, dialect, known, n_bytes)
                n_rows, schema = _scan(files, dialect, guess, types, id, n_bytes)
                schema = _note_late_texts(files, dialect, schema, begins, {*known}, n_bytes)
                schema = _note_marks(schema, dialect)
                break
            except pa.ArrowInvalid as error:
                if "straddles two block" not in str(error):
                    raise
        else:
            raise pa.ArrowInvalid(f"a row is longer than {n_bytes:,} bytes; a quotation mark may be missing")
    except (pa.ArrowInvalid, pa.ArrowKeyError, UnicodeDecodeError, EOFError, OSError) as error:
        raise _unreadable(files, error) from error
    return _dataset(files, dialect, schema, n_bytes), n_rows, MEMORY_PER_BYTE_READ * n_bytes


def _unreadable(files: SourceFiles, error: BaseException) -> SourceFormatError:
    """Return the error that names the file, and the line if one is at fault, but nothing that stands in it."""
    fault = find_fault(files, detect_dialect(files).delimiter) if isinstance(error, ValueError) else None
    if fault is not None:
        return SourceFormatError(f"{fault.path} cannot be read as CSV: {fault.what}.", hint=fault.hint or LAYOUT_HINT)
    more = f", or one of the {len(files.paths) - 1} files after it," if len(files.paths) > 1 else ""
    what = f"{files.paths[0]}{more} cannot be read as CSV: {describe_arrow_error(error)}."
    return SourceFormatError(what, hint=LAYOUT_HINT)


def _first_guess(
    files: SourceFiles, dialect: CsvDialect, known: Mapping[str, pa.DataType], n_bytes: int
) -> tuple[pa.Schema, pa.Schema]:
    """Infer types from the first bytes of every file, and of the first file; an empty column has type null."""
    inferred: pa.Schema | None = None
    begins = pa.schema([])
    for path in files.paths:
        with files.filesystem.open(path, "rb", compression="infer") as stream:
            head = stream.read(2 * n_bytes)  # one block, and the end of its last row
        if len(head) == 2 * n_bytes and not _holds_a_row(head[:n_bytes], dialect):
            raise pa.ArrowInvalid("a row straddles two block")  # in Arrow's words, for more bytes to be tried
        _check_header(head, path, files, dialect)
        schema = pacsv.open_csv(
            arrow_reader(head),
            _read_options(dialect, n_bytes),
            _parse_options(dialect),
            _convert_options(dialect, {}),
        ).schema
        for field in schema:
            if pa.types.is_binary(field.type):
                raise pa.ArrowInvalid(f"column {field.name!r} is not UTF-8 text")
        check_distinct_names(schema.names, path)
        if inferred is not None:
            check_same_names(inferred.names, schema.names, files.paths[0], path)
        # Times of the day, and durations written so, are texts: number_texts.py
        schema = pa.schema([f.with_type(pa.string()) if pa.types.is_time(f.type) else f for f in schema])
        begins = begins if inferred is not None else schema
        inferred = (
            schema
            if inferred is None
            else pa.schema(
                [
                    pa.field(name, _common_type(inferred.field(name).type, schema.field(name).type))
                    for name in inferred.names
                ]
            )
        )
    assert inferred is not None
    known = {inferred.names[position]: pa.string() for position in dialect.grouped} | dict(known)
    guess = pa.schema([pa.field(name, known.get(name, inferred.field(name).type)) for name in inferred.names])
    return guess, begins


def _holds_a_row(block: bytes, dialect: CsvDialect) -> bool:
    """Return whether a block of bytes has as many ends of lines as the header and a row."""
    n_header = 1 + dialect.header.n_before + dialect.header.n_after
    return max(block.count(b"\n"), block.count(b"\r")) > n_header


def _check_header(head: bytes, path: str, files: SourceFiles, dialect: CsvDialect) -> None:
    """Raise SchemaMismatchError if the header of a file is written in another way than that of the first file."""
    first, text = files.paths[0], head[:HEADER_BYTES].decode("utf-8-sig", errors="replace")
    if path == first:
        return
    header = read_header(text, delimiter_of_name(path))
    if read_header(text, dialect.delimiter).names == dialect.header.names:
        header = header._replace(delimiter=dialect.delimiter)
    if header.delimiter != dialect.delimiter:
        what = f"{path} is separated by {header.delimiter!r}, but {first} by {dialect.delimiter!r}."
        raise SchemaMismatchError(what, hint="write all files of the table alike.")
    if dialect.header.n_before and header.n_before:
        check_same_names(dialect.header.names, header.names, first, path)
    if header.layout != dialect.header.layout:
        ours, others = (h.layout or "nothing but rows" for h in (header, dialect.header))
        what = f"Beside the names, {path} has {ours}, but {first} has {others}."
        raise SchemaMismatchError(what, hint="write all files of the table alike.")


def check_same_names(names: Sequence[str], others: Sequence[str], path: str, other_path: str) -> None:
    """Raise SchemaMismatchError if two files do not have the same columns in the same order."""
    if list(names) != list(others):
        differing = ", ".join(repr(name) for name in sorted(set(names) ^ set(others)))
        what = f"Column {differing} is only in one of" if differing else "The columns are in another order in"
        raise SchemaMismatchError(f"{what} {path} and {other_path}.")


def check_distinct_names(names: Sequence[str], path: str) -> None:
    """Raise SchemaMismatchError if two columns of a file have one name."""
    repeated = [name for name, n in Counter(names).items() if n > 1]
    if repeated:
        title = " The names of columns are the first line: leave out titles above them." if repeated == [""] else ""
        raise SchemaMismatchError(
            f"{path} has several columns named {', '.join(map(repr, repeated))}.",
            hint=f"give each column a name of its own.{title}",
        )


def _scan(
    files: SourceFiles,
    dialect: CsvDialect,
    schema: pa.Schema,
    known: Mapping[str, pa.DataType],
    id: str | None,
    n_bytes: int,
) -> tuple[int, pa.Schema]:
    """Read all files, again after a column was widened; return the number of rows, and types that hold for all."""
    while True:
        guessed = [field for field in schema if field.name not in known]
        kinds = {f.name: pa.int64() for f in guessed if f.name == id or pa.types.is_integer(f.type)}
        as_text = pa.schema([field.with_type(pa.string()) if field.name in kinds else field for field in schema])
        n_rows, codes, repeats_header = 0, set[str](), False
        try:
            # For every file: the number of rows up to its end, and the first characters of its last text.
            ends: dict[str, tuple[int, str]] = {}
            for batch, fragment in _dataset(files, dialect, as_text, n_bytes).scanner().scan_batches():
                if batch.num_rows == 0:
                    continue
                n_rows += batch.num_rows
                repeats_header |= may_repeat_header(batch)
                if id is not None and id in batch.schema.names and (n_missing := batch[id].null_count):
                    where = "the first row" if n_rows == 1 else f"{n_missing:,} of the first {n_rows:,} rows"
                    raise IdColumnError(
                        f"Column {id!r} is the id, and it is missing in {where}{locate_missing(files, id)}.",
                        hint="leave those rows out, or choose another id column.",
                    )
                text = batch.column(batch.num_columns - 1)[-1].as_py()
                ends[fragment.path] = (
                    n_rows,
                    text[:MAX_SHOWN_CHARACTERS] if isinstance(text, str) and "\n" in text else "",
                )
                for name, kind in kinds.items():
                    texts = batch.column(batch.schema.get_field_index(name))
                    kinds[name] = _id_type(texts, kind) if name == id else _number_type(texts, kind, dialect)
                    if kinds[name] != kind and _has_leading_zero(pc.utf8_trim_whitespace(texts)):
                        codes.add(name)
            _check_quotes(files, ends)
            if repeats_header and not names_that_are_numbers(dialect.header.names):
                refuse_repeated_header(files, dialect)
            versions = [
                f.name for f in guessed if is_version(f.name) and pa.types.is_floating(kinds.get(f.name, f.type))
            ]
            codes.update(versions)
            kinds |= dict.fromkeys(versions, pa.string())
            typed = pa.schema([field.with_type(kinds.get(field.name, field.type)) for field in schema])
            return n_rows, _annotate_texts(typed, known, dialect, codes)
        except pa.ArrowInvalid as error:
            match = _COLUMN_IN_ERROR.search(str(error))
            if match is None or int(match.group(1)) >= len(schema):
                raise
            index = int(match.group(1))
            field = schema.field(index)
            if field.type == pa.string():
                raise
            schema = schema.set(index, field.with_type(_next_wider(field.type)))


def _note_late_texts(
    files: SourceFiles, dialect: CsvDialect, schema: pa.Schema, begins: pa.Schema, known: set[str], n_bytes: int
) -> pa.Schema:
    """Note in the metadata of columns that begin as numbers, or empty, and hold texts later how those are written."""
    undecided = {begins.names[position] for position in (*dialect.grouped, *dialect.mixed)}
    guessed = {
        field.name: pa.int64() if field.name in undecided else begins.field(field.name).type
        for field in schema
        if field.type == pa.string() and field.name not in known and CODES not in (field.metadata or {})
        if field.name in undecided or _is_open(begins.field(field.name).type)
    }
    if not guessed:
        return schema
    batches = _dataset(files, dialect, schema, n_bytes).scanner(columns=list(guessed)).to_batches()
    late = find_late_texts(batches, guessed, dialect, files)
    notes = {name: {LATE_TEXTS: json.dumps(texts).encode()} for name, texts in late.items()}
    return pa.schema(
        [
            field.with_metadata((field.metadata or {}) | notes[field.name]) if field.name in notes else field
            for field in schema
        ]
    )


def _note_marks(schema: pa.Schema, dialect: CsvDialect) -> pa.Schema:
    """Note in the metadata of columns which words in their first rows are taken for missing values."""
    for position, words in (found for found in dialect.marks if found[0] < len(schema)):
        field = schema.field(position)
        notes = {WORDS: ", ".join(map(repr, words)).encode()}
        notes[RECOGNISED] = b"missing values written as " + notes[WORDS]
        schema = schema.set(position, field.with_metadata((field.metadata or {}) | notes))
    return schema


def _is_open(kind: pa.DataType) -> bool:
    return bool(pa.types.is_null(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _annotate_texts(
    schema: pa.Schema, known: Mapping[str, pa.DataType], dialect: CsvDialect, codes: set[str]
) -> pa.Schema:
    """Note in the metadata of text columns what number_texts.py needs to know about the file."""
    notes = {DECIMAL_MARK: dialect.shown_decimal.encode()}
    return pa.schema(
        [
            field.with_metadata(notes | ({CODES: b"1"} if field.name in codes else {}))
            if field.type == pa.string() and field.name not in known
            else field
            for field in schema
        ]
    )


def _check_quotes(files: SourceFiles, ends: Mapping[str, tuple[int, str]]) -> None:
    """Raise SourceFormatError for a file that ends inside quotation marks: pyarrow takes the rows after them for text.

    Such a text is the last one of its file and spans several lines. A text that was closed ends with an odd number of
    quotation marks, because two stand for one inside it.
    """
    before = 0
    for path, (stop, text) in ends.items():
        if text and _count_final_quotes(files, path) % 2 == 0:
            raise SourceFormatError(
                f"{path} ends within quotation marks that are never closed.",
                hint=f"they open in its row {stop - before:,}, in its last column.",
            )
        before = stop


def _count_final_quotes(files: SourceFiles, path: str) -> int:
    """Count the quotation marks at the end of a file, white space after them left out."""
    tail = b""
    with files.filesystem.open(path, "rb", compression="infer") as stream:
        while part := stream.read(BYTES_PER_READ):
            tail = (tail + part)[-BYTES_PER_READ:]
    stripped = tail.rstrip()
    return len(stripped) - len(stripped.rstrip(b'"'))


def is_version(name: str) -> bool:
    """Tell whether a column is named as one of versions, of which 1.10 is another one than 1.1."""
    return _VERSION.fullmatch(name) is not None


def _id_type(texts: pa.Array, kind: pa.DataType) -> pa.DataType:
    """Return the type that also fits these ids, if `kind` has fitted those before: integer or text."""
    return kind if kind == pa.string() or _are_canonical_integers(texts) else pa.string()


def _number_type(texts: pa.Array, kind: pa.DataType, dialect: CsvDialect) -> pa.DataType:
    """Return the type that also fits these texts, if `kind` has fitted those before: integer, float or text."""
    if kind == pa.string():
        return kind
    if not _casts_to(texts, kind):
        texts = pc.utf8_trim_whitespace(texts)  # as pyarrow does for numbers
    if _has_leading_zero(texts):
        return pa.string()
    if dialect.decimal_point == ",":  # 3,5 is a number, 3.5 is not
        texts = pc.replace_substring(pc.replace_substring(texts, ".", "?"), ",", ".")
    while kind != pa.string() and not _casts_to(texts, kind):
        if pa.types.is_integer(kind) and _are_grouped(texts):
            return pa.string()
        kind = _next_wider(kind)
    return kind


def _are_grouped(texts: pa.Array) -> bool:
    """Tell whether all texts are whole numbers or like 1.299, which number_texts.py decides about."""
    return bool(pc.all(pc.match_substring_regex(texts, _GROUPED), min_count=0).as_py())


def _has_leading_zero(texts: pa.Array) -> bool:
    """Tell whether a text starts with a zero and another digit or x, as zip codes and 0x1f do, but no amount."""
    _, offsets, data = texts.buffers()
    if data is None or data.size == 0:
        return False
    starts = np.frombuffer(offsets, np.int32, len(texts) + 1, 4 * texts.offset)
    characters = np.frombuffer(data, np.uint8)
    first = starts[:-1][np.diff(starts) > 1]
    second = characters[first[characters[first] == ord("0")] + 1]
    return bool(((second >= ord("0")) & (second <= ord("9")) | (second == ord("x")) | (second == ord("X"))).any())


def _casts_to(texts: pa.Array, kind: pa.DataType) -> bool:
    try:
        texts.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True


def _are_canonical_integers(column: pa.Array) -> bool:
    """Tell whether text ids are integers in their only spelling: no plus sign, no leading zero."""
    if not pc.all(pc.match_substring_regex(column, r"^(0|-?[1-9][0-9]{0,18})$"), min_count=0).as_py():
        return False
    return _casts_to(column, pa.int64())  # excludes 19 digits beyond 2^63


def _next_wider(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_null(kind):
        return pa.int64()
    return pa.float64() if pa.types.is_integer(kind) else pa.string()


def _common_type(a: pa.DataType, b: pa.DataType) -> pa.DataType:
    if a == b or pa.types.is_null(b):
        return a
    if pa.types.is_null(a):
        return b
    numbers = all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in (a, b))
    return pa.int64() if numbers else pa.string()  # widened in the scan, which looks at marks between thousands


def _dataset(files: SourceFiles, dialect: CsvDialect, schema: pa.Schema, n_bytes: int) -> ds.Dataset:
    types = {field.name: field.type for field in schema}
    form = ds.CsvFileFormat(
        parse_options=_parse_options(dialect),
        read_options=_read_options(dialect, n_bytes),
        convert_options=_convert_options(dialect, types),
    )
    return ds.dataset(list(files.paths), filesystem=files.filesystem, format=form, schema=schema)


def _read_options(dialect: CsvDialect, n_bytes: int) -> pacsv.ReadOptions:
    header = dialect.header
    if header.n_before == 0:
        return pacsv.ReadOptions(block_size=n_bytes, skip_rows_after_names=header.n_after)
    # A dataset looks for names in the first line, whatever skip_rows is, unless it is given them.
    return pacsv.ReadOptions(
        block_size=n_bytes,
        skip_rows=header.n_before,
        column_names=list(header.names),
        skip_rows_after_names=1 + header.n_after,
    )


def _parse_options(dialect: CsvDialect) -> pacsv.ParseOptions:
    return pacsv.ParseOptions(delimiter=dialect.delimiter, newlines_in_values=True)


def _convert_options(dialect: CsvDialect, types: Mapping[str, pa.DataType]) -> pacsv.ConvertOptions:
    return pacsv.ConvertOptions(
        column_types=dict(types),
        strings_can_be_null=True,
        null_values=MISSING,
        decimal_point=dialect.decimal_point,
        timestamp_parsers=[pacsv.ISO8601],  # others are read as text: date_texts.py
    )
