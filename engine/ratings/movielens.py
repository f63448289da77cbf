"""MovieLens files as GroupLens wrote them before they wrote CSV.

    100K: u.data (tabs), u.item and u.user (|, Latin-1)        1M: *.dat (::, Latin-1)        10M: *.dat (::, UTF-8)
      -> ratings in batches, Items, a table of users

MovieLens 20M to 32M are plain CSV with a header: readers.py.
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
from engine.ratings.items import Items, make_items

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


def rating_batches(path: str, separator: str) -> Iterator[pa.RecordBatch]:
    """Read user, item, rating and time without a header, separated by a tab or by `::`, as they stream past.

    Raises
    ------
    SourceFormatError
        If a line does not hold four numbers.
    """
    # Python reads, and pyarrow parses what is there: its own reader reads ahead in a thread, which outlives an error.
    delimiter = "\t" if separator == "\t" else _SEPARATOR
    n_lines = 0
    for lines in _whole_lines(path):
        piece = lines.replace(separator.encode(), delimiter.encode())
        try:
            table = _parsed(piece, delimiter)
        except pa.ArrowInvalid:  # whose own message quotes what it found: users' values
            raise SourceFormatError(
                f"{path}: line {n_lines + _broken_line(piece, delimiter):,} does not hold user, item, rating and time "
                f"as numbers separated by {separator!r}."
            ) from None
        n_lines += lines.count(b"\n")
        yield from table.to_batches()


def _parsed(piece: bytes, delimiter: str) -> pa.Table:
    """Return the ratings of some whole lines; empty ones are none."""
    if not piece.strip():
        return RATING_SCHEMA.empty_table()
    return pacsv.read_csv(
        pa.BufferReader(piece),
        pacsv.ReadOptions(column_names=RATING_SCHEMA.names),
        pacsv.ParseOptions(delimiter=delimiter, quote_char=False),
        pacsv.ConvertOptions(column_types=RATING_SCHEMA, null_values=[]),
    )


def _whole_lines(path: str) -> Iterator[bytes]:
    """Yield a file in pieces of about _BYTES_PER_READ that end where a line does."""
    begun = b""
    with fsspec.open(path, "rb") as stream:
        while piece := stream.read(_BYTES_PER_READ):
            whole, end, rest = piece.rpartition(b"\n")
            if end:
                yield begun + whole + end
                begun = b""
            begun += rest
    if begun:
        yield begun


def _broken_line(piece: bytes, delimiter: str) -> int:
    """Return the number, from 1 on, of the first line that cannot be parsed, of which there is one."""
    lines = piece.splitlines(keepends=True)

    def fails(count: int) -> bool:
        try:
            _parsed(b"".join(lines[:count]), delimiter)
        except pa.ArrowInvalid:
            return True
        return False

    return bisect_left(range(len(lines)), True, key=fails)


def read_items_100k(path: str) -> Items:
    """Read u.item: id|title|release date|video release date|URL|19 flags, one per genre of u.genre beside it."""
    names = _genres_beside(path)
    rows = _rows(path, lambda line: line.split("|"), 5 + len(names))
    flags = [[name for name, flag in zip(names, row[5:], strict=True) if flag == "1"] for row in rows]
    return make_items(
        _integers(path, [row[0] for row in rows]),
        [row[1] for row in rows],
        None,
        [[name for name in chosen if name != NO_GENRE_100K] for chosen in flags],
    )


def read_items_dat(path: str) -> Items:
    """Read movies.dat: id::title::genre|genre; the title is all between the first and the last `::`."""
    rows = _rows(path, _first_and_last, 3)
    ids = _integers(path, [row[0] for row in rows])
    return make_items(ids, [row[1] for row in rows], None, [row[2].split("|") for row in rows])


def read_users_100k(path: str) -> pa.Table:
    """Read u.user: id|age|gender|occupation|zip code."""
    rows = _rows(path, lambda line: line.split("|"), 5)
    ids, ages, gender, occupation, zip_code = zip(*rows, strict=True)
    age = pa.field("age", pa.int64(), metadata={b"rooms.unit": b"years"})
    texts = [pa.field(name, pa.string()) for name in ("gender", "occupation", "zip_code")]
    arrays = [_integers(path, ids), _integers(path, ages), *map(pa.array, (gender, occupation, zip_code))]
    return pa.Table.from_arrays(arrays, schema=pa.schema([pa.field("user_id", pa.int64()), age, *texts]))


def read_users_1m(path: str) -> pa.Table:
    """Read users.dat: id::gender::code of an age group::code of an occupation::zip code; codes become words."""
    rows = _rows(path, lambda line: line.split("::"), 5)
    occupations = {str(code): word for code, word in enumerate(OCCUPATIONS_1M)}
    unknown = sum(row[2] not in AGE_GROUPS_1M or row[3] not in occupations for row in rows)
    if unknown:
        raise SourceFormatError(
            f"{path}: {unknown:,} of {len(rows):,} users have a code of age group or occupation that MovieLens 1M "
            "does not know."
        )
    return pa.table(
        {
            "user_id": _integers(path, [row[0] for row in rows]),
            "gender": [row[1] for row in rows],
            "age_group": [AGE_GROUPS_1M[row[2]] for row in rows],
            "occupation": [occupations[row[3]] for row in rows],
            "zip_code": [row[4] for row in rows],
        }
    )


def _genres_beside(path: str) -> list[str]:
    """Return the names in u.genre beside u.item, in the order of their numbers, or the standard ones."""
    file, folder = fsspec.core.url_to_fs(path)
    beside = folder.rpartition("/")[0] + "/u.genre" if "/" in folder else "u.genre"
    if not file.exists(beside):
        return GENRES_100K
    rows = _rows(file.unstrip_protocol(beside), lambda line: line.split("|"), 2)
    return [name for name, number in sorted(rows, key=lambda row: int(row[1]))]


def _first_and_last(line: str) -> list[str]:
    first, _, rest = line.partition("::")
    middle, found, last = rest.rpartition("::")
    return [first, middle, last] if found else [line]


def _rows(path: str, split: Callable[[str], list[str]], width: int) -> list[list[str]]:
    """Return the fields of each line of a small text file, or say which line has another number of them."""
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


def _integers(path: str, texts: list[str] | tuple[str, ...]) -> pa.Array:
    """Return texts as int64, or say how many are no integers."""
    wrong = sum(not text.strip().lstrip("-").isdecimal() for text in texts)
    if wrong:
        raise SourceFormatError(f"{path}: {wrong:,} of {len(texts):,} lines have no integer where one is expected.")
    return pa.array(np.array(texts, np.int64))
