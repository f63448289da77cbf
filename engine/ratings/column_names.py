"""Find the columns of rating, item and user tables by their usual names, and parse their values.

    column names  ->  the column of the user, the item, the rating …
    columns of times, years, genres  ->  int64 microseconds, integers, lists of strings

Opening files and data frames is in readers.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.errors import MissingColumnError, RetypedColumnError
from engine.kernels.cpu.ratings import NO_TIME

COLUMN_NAMES = {
    "user": ("user_id", "user"),
    "item": ("item_id", "item", "movie_id", "movie", "book_id", "isbn"),
    "rating": ("rating", "book_rating", "stars", "score"),
    "timestamp": ("timestamp", "time", "rated_at", "date"),
    "title": ("title", "movie_title", "book_title", "name"),
    "year": ("year", "release_year", "year_of_publication"),
    "genres": ("genres", "genre"),
}
GENRE_SEPARATORS = ("|", "; ", ", ")
LAYOUTS = (
    "MovieLens 100K (u.data, u.item, u.user), 1M and 10M (ratings.dat, movies.dat, users.dat with '::'), or tables "
    "(.csv, .parquet, .feather, .orc) with columns such as user_id, item_id, rating, timestamp; item_id, title, "
    "year, genres; user_id and demographics. MovieLens 20M to 32M are such tables"
)
MICROSECONDS_PER_SECOND = 1_000_000
_MAX_SECONDS = 10**11  # since 1970: the year 5138; larger numbers are milliseconds or smaller units
_YEAR_1980 = 315_532_800 * MICROSECONDS_PER_SECOND


def find_columns(
    header: Sequence[str], source_name: str, *, needed: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, str]:
    """Return the column name of each role; user_id, userId, UserID and "user id" count as one name."""
    column_by_key = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in reversed(header)}
    columns: dict[str, str] = {}
    for role in (*needed, *optional):
        keys = (name.replace("_", "") for name in COLUMN_NAMES[role])
        column = next((column_by_key[key] for key in keys if key in column_by_key), None)
        if column is not None:
            columns[role] = column
        elif role in needed:
            raise MissingColumnError(
                f"{source_name} has no column for the {role}: none of {', '.join(COLUMN_NAMES[role])} is among its "
                f"{len(header)} columns.",
                hint=f"rename the column, or use one of the layouts known: {LAYOUTS}.",
            )
    return columns


def parse_timestamps(times: pa.Array | pa.ChunkedArray, name: str, source_name: str) -> NDArray[np.int64]:
    """Return times as int64 microseconds since 1970, NO_TIME where missing; numbers are read as seconds.

    0 is missing where all other times are after 1980: nobody rated on the web in the first second of 1970.
    """
    times = times.combine_chunks() if isinstance(times, pa.ChunkedArray) else times
    if pa.types.is_timestamp(times.type) or pa.types.is_date(times.type):
        microseconds = times.cast(pa.timestamp("us", getattr(times.type, "tz", None)), safe=False).cast(pa.int64())
    elif pa.types.is_integer(times.type) or pa.types.is_floating(times.type):
        seconds = times.cast(pa.float64()).to_numpy(zero_copy_only=False)
        too_late = int((np.abs(seconds) >= _MAX_SECONDS).sum())
        if too_late:
            raise RetypedColumnError(
                f"Column {name!r} of {source_name} should hold seconds since 1970, "
                f"but {too_late:,} are 10^11 and more.",
                hint="divide milliseconds by 1,000, or write the column as a timestamp.",
            )
        known = ~np.isnan(seconds)
        rounded = np.full(len(seconds), NO_TIME)
        rounded[known] = np.rint(seconds[known] * MICROSECONDS_PER_SECOND)
        return _without_zeros(rounded)
    elif pa.types.is_null(times.type):
        return np.full(len(times), NO_TIME)
    else:
        raise RetypedColumnError(
            f"Column {name!r} of {source_name} holds {times.type}, but times must be seconds or dates."
        )
    return _without_zeros(np.array(microseconds.fill_null(NO_TIME).to_numpy(zero_copy_only=False)))


def _without_zeros(times: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return times, changed in place, with NO_TIME for 0 where all others are after 1980."""
    is_zero = times == 0
    others = times[~is_zero & (times != NO_TIME)]
    if is_zero.any() and len(others) and others.min() >= _YEAR_1980:
        times[is_zero] = NO_TIME
    return times


def parse_years(column: pa.ChunkedArray, name: str, source_name: str) -> list[int | None]:
    """Return years as integers, None where missing or not finite."""
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_null(column.type)):
        raise RetypedColumnError(f"Column {name!r} of {source_name} holds {column.type}, but years must be numbers.")
    return [int(year) if year is not None and math.isfinite(year) else None for year in column.to_pylist()]


def parse_genres(column: pa.ChunkedArray, name: str, source_name: str) -> list[list[str]]:
    """Return the genres of each item, from a list column or from text.

    Text is split at the first of GENRE_SEPARATORS that occurs in any row.
    """
    if pa.types.is_list(column.type) and pa.types.is_string(column.type.value_type):
        return [[name for name in names or [] if name is not None] for names in column.to_pylist()]
    if pa.types.is_null(column.type):
        return [[]] * len(column)
    if not pa.types.is_string(column.type):
        raise RetypedColumnError(
            f"Column {name!r} of {source_name} holds {column.type}, but genres must be text or lists of text."
        )
    texts = [text or "" for text in column.to_pylist()]
    separator = next((sign for sign in GENRE_SEPARATORS if any(sign in text for text in texts)), None)
    return [[text] if separator is None else text.split(separator) for text in texts]
