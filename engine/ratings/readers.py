"""Read ratings, items and users: detect the layout of each source, and convert it to one form.

    paths or data frames  ->  RatingStream (of RatingBatch), ItemTable, UserTable

Tables (.csv, .parquet, .feather, .orc; folders and globs of them; data frames) are read by the names of their
columns; MovieLens 20M to 32M are such tables. The layout of other files is detected from their first line, and they
are read by movielens.py. Each source is detected separately, so layouts may be mixed.
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

from engine.errors import NonFiniteValueError, RetypedColumnError, SourceFormatError, SourceNotFoundError
from engine.ratings import column_names as columns
from engine.ratings import movielens
from engine.ratings.factorize_ids import normalize_distinct_ids, normalize_ids, unify_id_types
from engine.ratings.items import ItemTable, build_item_table
from engine.tables.csv_dialect import read_names
from engine.tables.csv_faults import locate_infinite, locate_text
from engine.tables.dataframe_table import is_dataframe
from engine.tables.file_table import open_table
from engine.tables.snapshot import SnapshotTable
from engine.tables.source_paths import SourceFiles, find_files, infer_format
from engine.utils.similar_paths import suggest_path

_RATING_LINE = re.compile(r"\d+(\t|::)\d+\1[0-9.]+\1\d+\s*$")


@dataclass(frozen=True)
class RatingBatch:
    """Consecutive ratings, as arrays of shape (n_ratings,).

    Attributes
    ----------
    user_ids, item_ids : pyarrow.Array of int64 or string, without nulls
    rating : float64, NaN where missing
    timestamp : int64 microseconds since 1970, NO_TIME where missing; None if the source has no timestamps
    """

    user_ids: pa.Array
    item_ids: pa.Array
    rating: NDArray[np.float64]
    timestamp: NDArray[np.int64] | None


@dataclass(frozen=True)
class RatingStream:
    """A source of ratings, read in batches.

    `id_type_inferred` is as in ItemTable; `n_rows` is None if the number of rows is unknown until they are read.
    """

    layout: str
    source_name: str
    has_timestamps: bool
    id_type_inferred: bool
    n_rows: int | None
    batches: Callable[[], Iterator[RatingBatch]]


@dataclass(frozen=True)
class UserTable:
    """Demographics of users: distinct ids of int64 or string, and the other columns of their table, in row order.

    `id_type_inferred` is as in ItemTable.
    """

    source_name: str
    ids: pa.Array
    columns: pa.Table
    id_type_inferred: bool

    def unify_id_types(self, ids: pa.Array, *, id_type_inferred: bool) -> tuple[pa.Array, pa.Array]:
        """Return ids of ratings and the ids of these users in one type; see `factorize_ids.unify_id_types`."""
        return unify_id_types(
            ids, self.ids, id_type_inferred=id_type_inferred or self.id_type_inferred, table_name="users"
        )


def open_ratings(source: Any) -> RatingStream:
    """Detect the layout of ratings and open them as a stream.

    Raises
    ------
    SourceNotFoundError, SourceFormatError, MissingColumnError, RetypedColumnError
    """
    if not _is_table(source):
        path = str(source)
        match = _RATING_LINE.match(_first_line(path))
        if match is None:
            raise _unknown_layout_error(path, "ratings")
        separator = match.group(1)
        layout = "MovieLens 100K (tabs)" if separator == "\t" else "MovieLens 1M or 10M (::)"
        names = dict(zip(("user", "item", "rating", "timestamp"), movielens.RATING_SCHEMA.names, strict=True))
        return RatingStream(
            layout, path, True, False, None,
            lambda: (_build_batch(batch, names, path) for batch in movielens.read_rating_batches(path, separator)),
        )  # fmt: skip
    source_name, header = _source_name(source, "ratings"), _read_column_names(source)
    names = columns.find_columns(header, source_name, needed=("user", "item", "rating"), optional=("timestamp",))
    id_type_inferred = _is_csv(source)
    types = {names["item"]: pa.string(), names["rating"]: pa.float64()} if id_type_inferred else None
    table = open_table(source, id=names["user"], types=types)
    files = find_files([str(source)]) if id_type_inferred else None
    layout = f"a table with the columns {', '.join(map(repr, names.values()))}"
    return RatingStream(
        layout, source_name, "timestamp" in names, id_type_inferred, table.n_rows,
        lambda: (_build_batch(block.rows, names, source_name, files) for block in table.blocks(list(names.values()))),
    )  # fmt: skip


def open_items(source: Any) -> ItemTable:
    """Detect the layout of the items and read them.

    Raises
    ------
    SourceNotFoundError, SourceFormatError, MissingColumnError, RetypedColumnError, IdColumnError
    """
    if not _is_table(source):
        path = str(source)
        line = _first_line(path)
        if re.match(r"\d+\|.*\|[01]$", line):
            items = movielens.read_items_100k(path)
        elif line.count("::") >= 2:
            items = movielens.read_items_dat(path)
        else:
            raise _unknown_layout_error(path, "items")
        normalize_distinct_ids(items.ids, "item id", path)
        return items
    source_name = _source_name(source, "items")
    names = columns.find_columns(
        _read_column_names(source), source_name, needed=("item",), optional=("title", "year", "genres")
    )
    types = {names[role]: pa.string() for role in ("title", "genres") if role in names} if _is_csv(source) else None
    table = open_table(source, id=names["item"], types=types)
    rows = _read_table(table, list(names.values()))
    titles = rows[names["title"]].cast(pa.string()).to_pylist() if "title" in names else None
    ids = normalize_distinct_ids(rows[names["item"]], names["item"], source_name)
    years = columns.parse_years(rows[names["year"]], names["year"], source_name) if "year" in names else None
    genres: list[list[str]] = [[]] * len(rows)
    if "genres" in names:
        genres = columns.parse_genres(rows[names["genres"]], names["genres"], source_name)
    return build_item_table(ids, titles, years, genres, id_type_inferred=_is_csv(source))


def open_users(source: Any) -> UserTable:
    """Detect the layout of the users and read their demographics, with names, types and values unchanged.

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
            raise _unknown_layout_error(path, "users")
        source_name = path
    else:
        source_name = _source_name(source, "users")
        name = columns.find_columns(_read_column_names(source), source_name, needed=("user",))["user"]
        table = _read_table(open_table(source, id=name), None)
        if _is_csv(source):
            table = _restore_leading_zeros(table, source, name)
    ids = normalize_distinct_ids(table[name], name, source_name)
    return UserTable(source_name, ids, table.drop_columns([name]), _is_table(source) and _is_csv(source))


def _build_batch(
    rows: pa.Table | pa.RecordBatch, names: dict[str, str], source_name: str, files: SourceFiles | None = None
) -> RatingBatch:
    rating = rows[names["rating"]]
    if not (pa.types.is_integer(rating.type) or pa.types.is_floating(rating.type)):
        where = "" if files is None else locate_text(files, names["rating"])
        raise RetypedColumnError(
            f"Column {names['rating']!r} of {source_name} holds {rating.type}, but ratings must be numbers{where}."
        )
    user_ids = normalize_ids(rows[names["user"]], names["user"], source_name, files)
    item_ids = normalize_ids(rows[names["item"]], names["item"], source_name, files)
    values = np.asarray(rating.cast(pa.float64()).to_numpy(zero_copy_only=False))
    if n_infinite := int(np.isinf(values).sum()):
        where = "" if files is None else locate_infinite(files, names["rating"])
        raise NonFiniteValueError(
            f"{n_infinite:,} ratings of {source_name} are infinite{where}.",
            hint="leave them out, or make them missing values.",
        )
    timestamp = None
    if "timestamp" in names:
        timestamp = columns.parse_timestamps(rows[names["timestamp"]], names["timestamp"], source_name)
    return RatingBatch(user_ids, item_ids, values, timestamp)


def _restore_leading_zeros(table: pa.Table, source: Any, id: str) -> pa.Table:
    """Read integer columns of a CSV file again as text if some of their values begin with 0 or +."""
    integers = [field.name for field in table.schema if pa.types.is_integer(field.type) and field.name != id]
    if not integers:
        return table
    texts = _read_table(open_table(source, id=id, types=dict.fromkeys(integers, pa.string())), integers)
    for name in integers:
        if not pc.all(pc.equal(table[name].cast(pa.string()), texts[name]), min_count=0).as_py():
            table = table.set_column(table.schema.get_field_index(name), name, texts[name])
    return table


def _read_table(table: Any, columns: list[str] | None) -> pa.Table:
    return pa.concat_tables([block.rows for block in table.blocks(columns)]).combine_chunks()


def _is_table(source: Any) -> bool:
    """Return whether a source is read by its column names, rather than by the layout of its first line."""
    if _has_no_path(source):
        return True
    path = str(source)
    filesystem, stripped_path = fsspec.core.url_to_fs(path)
    is_glob = any(sign in stripped_path for sign in "*?[")
    if infer_format(path) is not None or is_glob or filesystem.isdir(stripped_path):
        return True
    if not filesystem.exists(stripped_path):
        raise SourceNotFoundError(f"There is no file or folder {path}.", hint=suggest_path(path))
    return False


def _is_csv(source: Any) -> bool:
    return not _has_no_path(source) and find_files([str(source)]).format == "csv"


def _has_no_path(source: Any) -> bool:
    return isinstance(source, SnapshotTable) or is_dataframe(source)


def _source_name(source: Any, table_name: str) -> str:
    if isinstance(source, SnapshotTable):
        return source.name
    return f"the data frame of {table_name}" if is_dataframe(source) else str(source)


def _read_column_names(source: Any) -> list[str]:
    """Return the column names of a table, for CSV files without reading their rows."""
    if not _is_csv(source):
        return list(open_table(source).schema.names)
    return read_names(find_files([str(source)]))


def _first_line(path: str) -> str:
    with fsspec.open(path, "rb") as stream:
        head: bytes = stream.read(1 << 16)
    return head.split(b"\n", 1)[0].rstrip(b"\r").decode("latin-1").removeprefix("ï»¿")


def _unknown_layout_error(path: str, table_name: str) -> SourceFormatError:
    return SourceFormatError(
        f"The first line of {path} fits no layout of {table_name} that is known.", hint=f"known are {columns.LAYOUTS}."
    )
