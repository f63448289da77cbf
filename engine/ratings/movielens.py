"""Read the MovieLens 100K, 1M and 10M formats, which came before the CSV releases.

    100K: u.data (tabs), u.item and u.user (|, Latin-1)        1M: *.dat (::, Latin-1)        10M: *.dat (::, UTF-8)
      -> ratings in batches, ItemTable, a table of users

MovieLens 20M to 32M are CSV files with a header, which readers.py reads.
Text is UTF-8 if it decodes as such, else Latin-1: accented Latin-1 text is practically never valid UTF-8.
Source: README files of the datasets; Harper & Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 2015.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from engine.errors import SourceFormatError
from engine.ratings.items import ItemTable, build_item_table
from engine.tables.arrow_buffers import arrow_reader

GENRES_100K = [
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
]  # fmt: skip
NO_GENRE_100K = "unknown"
AGE_GROUPS_1M = {
    "1": "under 18", "18": "18-24", "25": "25-34", "35": "35-44", "45": "45-49", "50": "50-55", "56": "56+",
}  # fmt: skip
OCCUPATIONS_1M = [
    "other", "academic/educator", "artist", "clerical/admin", "college/grad student", "customer service",
    "doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer", "programmer",
    "retired", "sales/marketing", "scientist", "self-employed", "technician/engineer", "tradesman/craftsman",
    "unemployed", "writer",
]  # fmt: skip

RATING_SCHEMA = pa.schema(
    {"user_id": pa.int64(), "item_id": pa.int64(), "rating": pa.float64(), "timestamp": pa.int64()}
)
_BYTES_PER_READ = 1 << 24
_SEPARATOR = "\x1f"  # stands for "::", since pyarrow splits at one byte only


def read_rating_batches(path: str, separator: str) -> Iterator[pa.RecordBatch]:
    """Yield batches of a ratings file without a header: user, item, rating and time, separated by a tab or `::`.

    Raises
    ------
    SourceFormatError
        If a line does not hold four numbers.
    """
    # Python reads the file and pyarrow parses chunks: pyarrow's reader reads ahead in a thread that outlives an error.
    delimiter = "\t" if separator == "\t" else _SEPARATOR
    n_lines = 0
    for lines in _read_line_chunks(path):
        separated = lines.replace(separator.encode(), delimiter.encode())
        try:
            table = _parse_ratings(separated, delimiter)
        except pa.ArrowInvalid:  # its own message would quote the values of users
            line_number = n_lines + _find_invalid_line(separated, delimiter)
            raise SourceFormatError(
                f"{path}: line {line_number:,} does not hold user, item, rating and time "
                f"as numbers separated by {separator!r}."
            ) from None
        n_lines += lines.count(b"\n")
        yield from table.to_batches()


def _parse_ratings(chunk: bytes, delimiter: str) -> pa.Table:
    """Parse complete lines of ratings; empty lines are skipped."""
    if not chunk.strip():
        return RATING_SCHEMA.empty_table()
    return pacsv.read_csv(
        arrow_reader(chunk),
        pacsv.ReadOptions(column_names=RATING_SCHEMA.names),
        pacsv.ParseOptions(delimiter=delimiter, quote_char=False),
        pacsv.ConvertOptions(column_types=RATING_SCHEMA, null_values=[]),
    )


def _read_line_chunks(path: str) -> Iterator[bytes]:
    """Yield a file in chunks of complete lines, of about _BYTES_PER_READ."""
    partial_line = b""
    with fsspec.open(path, "rb") as stream:
        while chunk := stream.read(_BYTES_PER_READ):
            complete, newline, rest = chunk.rpartition(b"\n")
            if newline:
                yield partial_line + complete + newline
                partial_line = b""
            partial_line += rest
    if partial_line:
        yield partial_line


def _find_invalid_line(chunk: bytes, delimiter: str) -> int:
    """Return the 1-based number of the first line that cannot be parsed; there must be one."""
    lines = chunk.splitlines(keepends=True)

    def fails(count: int) -> bool:
        try:
            _parse_ratings(b"".join(lines[:count]), delimiter)
        except pa.ArrowInvalid:
            return True
        return False

    return bisect_left(range(len(lines)), True, key=fails)


def read_items_100k(path: str) -> ItemTable:
    """Read u.item: id|title|release date|video release date|URL|19 flags, one per genre of u.genre."""
    names = _read_genre_names(path)
    rows = _read_rows(path, lambda line: line.split("|"), 5 + len(names))
    genres = [[name for name, flag in zip(names, row[5:], strict=True) if flag == "1"] for row in rows]
    return build_item_table(
        _parse_integers(path, [row[0] for row in rows]),
        [row[1] for row in rows],
        None,
        [[name for name in item_genres if name != NO_GENRE_100K] for item_genres in genres],
    )


def read_items_dat(path: str) -> ItemTable:
    """Read movies.dat: id::title::genre|genre; the title is the text between the first and the last `::`."""
    rows = _read_rows(path, _split_at_first_and_last, 3)
    ids = _parse_integers(path, [row[0] for row in rows])
    return build_item_table(ids, [row[1] for row in rows], None, [row[2].split("|") for row in rows])


def read_users_100k(path: str) -> pa.Table:
    """Read u.user: id|age|gender|occupation|zip code."""
    rows = _read_rows(path, lambda line: line.split("|"), 5)
    ids, ages, gender, occupation, zip_code = zip(*rows, strict=True)
    age = pa.field("age", pa.int64(), metadata={b"rooms.unit": b"years"})
    texts = [pa.field(name, pa.string()) for name in ("gender", "occupation", "zip_code")]
    arrays = [_parse_integers(path, ids), _parse_integers(path, ages), *map(pa.array, (gender, occupation, zip_code))]
    return pa.Table.from_arrays(arrays, schema=pa.schema([pa.field("user_id", pa.int64()), age, *texts]))


def read_users_1m(path: str) -> pa.Table:
    """Read users.dat: id::gender::age group code::occupation code::zip code; decode age groups and occupations."""
    rows = _read_rows(path, lambda line: line.split("::"), 5)
    occupations = {str(code): name for code, name in enumerate(OCCUPATIONS_1M)}
    n_unknown = sum(row[2] not in AGE_GROUPS_1M or row[3] not in occupations for row in rows)
    if n_unknown:
        raise SourceFormatError(
            f"{path}: {n_unknown:,} of {len(rows):,} users have a code of age group or occupation that MovieLens 1M "
            "does not know."
        )
    return pa.table(
        {
            "user_id": _parse_integers(path, [row[0] for row in rows]),
            "gender": [row[1] for row in rows],
            "age_group": [AGE_GROUPS_1M[row[2]] for row in rows],
            "occupation": [occupations[row[3]] for row in rows],
            "zip_code": [row[4] for row in rows],
        }
    )


def _read_genre_names(path: str) -> list[str]:
    """Return the genre names in u.genre, in the folder of u.item, by number; GENRES_100K if that file is missing."""
    filesystem, items_path = fsspec.core.url_to_fs(path)
    genres_path = items_path.rpartition("/")[0] + "/u.genre" if "/" in items_path else "u.genre"
    if not filesystem.exists(genres_path):
        return GENRES_100K
    rows = _read_rows(filesystem.unstrip_protocol(genres_path), lambda line: line.split("|"), 2)
    return [name for name, number in sorted(rows, key=lambda row: int(row[1]))]


def _split_at_first_and_last(line: str) -> list[str]:
    first, _, rest = line.partition("::")
    middle, separator, last = rest.rpartition("::")
    return [first, middle, last] if separator else [line]


def _read_rows(path: str, split: Callable[[str], list[str]], width: int) -> list[list[str]]:
    """Return the fields of each line of a small text file.

    Raises SourceFormatError if a line does not have `width` fields, or if there is no line.
    """
    with fsspec.open(path, "rb") as stream:
        data = stream.read()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    rows = []
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if not line:
            continue
        fields = split(line)
        if len(fields) != width:
            raise SourceFormatError(f"{path}: line {number} has {len(fields)} fields, but {width} were expected.")
        rows.append(fields)
    if not rows:
        raise SourceFormatError(f"{path} has no lines.")
    return rows


def _parse_integers(path: str, texts: list[str] | tuple[str, ...]) -> pa.Array:
    """Return texts as int64, or raise SourceFormatError with the number of those that are not integers."""
    n_invalid = sum(not text.strip().lstrip("-").isdecimal() for text in texts)
    if n_invalid:
        raise SourceFormatError(f"{path}: {n_invalid:,} of {len(texts):,} lines have no integer where one is expected.")
    return pa.array(np.array(texts, np.int64))
