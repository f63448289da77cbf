"""Ratings, items and users in whatever layout they come: found out from the files, and read into one form.

    paths or data frames  ->  Ratings (a stream of RatingBatch), Items, Users

Files named as a table (.csv, .parquet, .feather, .orc; folders and globs of them) and data frames are read by the
names of their columns: MovieLens 20M to 32M are such. Other files are told apart by their first line and read by
movielens.py. Each of the three files is looked at by itself, so layouts may be mixed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine.errors import RetypedColumnError, SourceFormatError, SourceNotFoundError
from engine.ratings import column_names as columns
from engine.ratings import movielens
from engine.ratings.factorize_ids import comparable, distinct_ids, plain_ids
from engine.ratings.items import Items, make_items
from engine.tables.csv_dialect import header_of
from engine.tables.dataframe_table import is_frame
from engine.tables.file_table import open_table
from engine.tables.source_paths import find_files, format_of

_RATING_LINE = re.compile(r"\d+(\t|::)\d+\1[0-9.]+\1\d+\s*$")


@dataclass(frozen=True)
class RatingBatch:
    """A run of ratings: ids as plain arrays, rating float64 with NaN, when int64 microseconds or NO_TIME."""

    users: pa.Array
    items: pa.Array
    rating: NDArray[np.float64]
    when: NDArray[np.int64] | None


@dataclass(frozen=True)
class Ratings:
    """A stream of ratings; `untyped` as in Items, `n_rows` None where nobody has counted."""

    layout: str
    where: str
    timed: bool
    untyped: bool
    n_rows: int | None
    batches: Callable[[], Iterator[RatingBatch]]


@dataclass(frozen=True)
class Users:
    """Demographics: ids distinct, int64 or text, and their other columns row by row; `untyped` as in Items."""

    where: str
    ids: pa.Array
    columns: pa.Table
    untyped: bool

    def comparable(self, ids: pa.Array, *, untyped: bool) -> tuple[pa.Array, pa.Array]:
        """Return ids of ratings and the ids of these users in one type, or raise IdColumnError."""
        return comparable(ids, self.ids, untyped=untyped or self.untyped, what="users")


def open_ratings(source: Any) -> Ratings:
    """Find out the layout of ratings and open them as a stream.

    Raises
    ------
    SourceNotFoundError, SourceFormatError, MissingColumnError, RetypedColumnError
    """
    if not _is_table(source):
        path = str(source)
        line = _RATING_LINE.match(_first_line(path))
        if line is None:
            raise _unknown_layout(path, "ratings")
        separator = line.group(1)
        layout = "MovieLens 100K (tabs)" if separator == "\t" else "MovieLens 1M or 10M (::)"
        names = dict(zip(("user", "item", "rating", "timestamp"), movielens.RATING_SCHEMA.names, strict=True))
        return Ratings(
            layout, path, True, False, None,
            lambda: (_batch(batch, names, path) for batch in movielens.rating_batches(path, separator)),
        )  # fmt: skip
    where, header = _where(source, "ratings"), _header(source)
    names = columns.find_columns(header, where, needed=("user", "item", "rating"), optional=("timestamp",))
    untyped = _is_csv(source)
    types = {names["item"]: pa.string(), names["rating"]: pa.float64()} if untyped else None
    table = open_table(source, id=names["user"], types=types)
    layout = f"a table with the columns {', '.join(map(repr, names.values()))}"
    return Ratings(
        layout, where, "timestamp" in names, untyped, table.n_rows,
        lambda: (_batch(block.rows, names, where) for block in table.blocks(list(names.values()))),
    )  # fmt: skip


def open_items(source: Any) -> Items:
    """Find out the layout of the items and read them.

    Raises
    ------
    SourceNotFoundError, SourceFormatError, MissingColumnError, RetypedColumnError, IdColumnError
    """
    if not _is_table(source):
        path = str(source)
        line = _first_line(path)
        read = movielens.read_items_100k if re.match(r"\d+\|.*\|[01]$", line) else movielens.read_items_dat
        if read is movielens.read_items_dat and line.count("::") < 2:
            raise _unknown_layout(path, "items")
        items = read(path)
        distinct_ids(items.ids, "item id", path)
        return items
    where = _where(source, "items")
    names = columns.find_columns(_header(source), where, needed=("item",), optional=("title", "year", "genres"))
    types = {names[what]: pa.string() for what in ("title", "genres") if what in names} if _is_csv(source) else None
    table = open_table(source, id=names["item"], types=types)
    rows = _whole(table, list(names.values()))
    titles = rows[names["title"]].cast(pa.string()).to_pylist() if "title" in names else None
    return make_items(
        distinct_ids(rows[names["item"]], names["item"], where),
        titles,
        columns.years(rows[names["year"]], names["year"], where) if "year" in names else None,
        columns.genres(rows[names["genres"]], names["genres"], where) if "genres" in names else [[]] * len(rows),
        untyped=_is_csv(source),
    )


def open_users(source: Any) -> Users:
    """Find out the layout of the users and read their demographics: names, types and values stay as they are.

    Raises
    ------
    SourceNotFoundError, SourceFormatError, MissingColumnError, IdColumnError
    """
    if not _is_table(source):
        path = str(source)
        line = _first_line(path)
        if line.count("|") == 4:
            table, name = movielens.read_users_100k(path), "user_id"
        elif line.count("::") == 4:
            table, name = movielens.read_users_1m(path), "user_id"
        else:
            raise _unknown_layout(path, "users")
        where = path
    else:
        where = _where(source, "users")
        name = columns.find_columns(_header(source), where, needed=("user",))["user"]
        table = _whole(open_table(source, id=name), None)
        if _is_csv(source):
            table = _with_leading_zeros(table, source, name)
    ids = distinct_ids(table[name], name, where)
    return Users(where, ids, table.drop_columns([name]), _is_table(source) and _is_csv(source))


def _batch(rows: pa.Table | pa.RecordBatch, names: dict[str, str], where: str) -> RatingBatch:
    rating = rows[names["rating"]]
    if not (pa.types.is_integer(rating.type) or pa.types.is_floating(rating.type)):
        raise RetypedColumnError(
            f"Column {names['rating']!r} of {where} holds {rating.type}, but ratings must be numbers."
        )
    return RatingBatch(
        users=plain_ids(rows[names["user"]], names["user"], where),
        items=plain_ids(rows[names["item"]], names["item"], where),
        rating=np.asarray(rating.cast(pa.float64()).to_numpy(zero_copy_only=False)),
        when=columns.microseconds(rows[names["timestamp"]], names["timestamp"], where)
        if "timestamp" in names
        else None,
    )


def _with_leading_zeros(table: pa.Table, source: Any, id: str) -> pa.Table:
    """Take back as text the columns of a CSV file that were read as integers although some begin with 0 or +."""
    integers = [field.name for field in table.schema if pa.types.is_integer(field.type) and field.name != id]
    if not integers:
        return table
    texts = _whole(open_table(source, id=id, types=dict.fromkeys(integers, pa.string())), integers)
    for name in integers:
        if not pc.all(pc.equal(table[name].cast(pa.string()), texts[name]), min_count=0).as_py():
            table = table.set_column(table.schema.get_field_index(name), name, texts[name])
    return table


def _whole(table: Any, columns: list[str] | None) -> pa.Table:
    return pa.concat_tables([block.rows for block in table.blocks(columns)]).combine_chunks()


def _is_table(source: Any) -> bool:
    if is_frame(source):
        return True
    path = str(source)
    filesystem, plain = fsspec.core.url_to_fs(path)
    if format_of(path) is not None or any(sign in plain for sign in "*?[") or filesystem.isdir(plain):
        return True
    if not filesystem.exists(plain):
        raise SourceNotFoundError(f"There is no file or folder {path}.")
    return False


def _is_csv(source: Any) -> bool:
    return not is_frame(source) and find_files([str(source)]).format == "csv"


def _where(source: Any, what: str) -> str:
    return f"the data frame of {what}" if is_frame(source) else str(source)


def _header(source: Any) -> list[str]:
    """Return the names of a table's columns, without a scan of the rows of CSV files."""
    if not _is_csv(source):
        return list(open_table(source).schema.names)
    return header_of(find_files([str(source)]))


def _first_line(path: str) -> str:
    with fsspec.open(path, "rb") as stream:
        head: bytes = stream.read(1 << 16)
    return head.split(b"\n", 1)[0].rstrip(b"\r").decode("latin-1").removeprefix("ï»¿")


def _unknown_layout(path: str, what: str) -> SourceFormatError:
    return SourceFormatError(
        f"The first line of {path} fits no layout of {what} that is known.", hint=f"known are {columns.LAYOUTS}."
    )
