"""Columns of tables of ratings, items and users: found by their usual names, and read as plain values.

    names of columns  ->  which is the user, the item, the rating …
    times, years, genres as they come  ->  int64 microseconds, integers, lists of text

Which file is what, and how it is opened: readers.py.
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

NAMES = {
    "user": ("user_id", "user"),
    "item": ("item_id", "item", "movie_id", "movie"),
    "rating": ("rating", "stars", "score"),
    "timestamp": ("timestamp", "time", "rated_at", "date"),
    "title": ("title", "movie_title", "name"),
    "year": ("year", "release_year"),
    "genres": ("genres", "genre"),
}
GENRE_SEPARATORS = ("|", "; ", ", ")
LAYOUTS = (
    "MovieLens 100K (u.data, u.item, u.user), 1M and 10M (ratings.dat, movies.dat, users.dat with '::'), or tables "
    "(.csv, .parquet, .feather, .orc) with columns such as user_id, item_id, rating, timestamp; item_id, title, "
    "year, genres; user_id and demographics. MovieLens 20M to 32M are such tables"
)
MICROSECONDS = 1_000_000
_LATEST_SECOND = 10**11  # the year 5138: larger numbers are milliseconds or smaller units, not seconds


def find_columns(
    header: Sequence[str], where: str, *, needed: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, str]:
    """Return what -> the name of its column; user_id, userId, UserID and "user id" are one name."""
    plain = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in reversed(header)}
    found: dict[str, str] = {}
    for what in (*needed, *optional):
        name = next((plain[key] for key in (n.replace("_", "") for n in NAMES[what]) if key in plain), None)
        if name is not None:
            found[what] = name
        elif what in needed:
            raise MissingColumnError(
                f"{where} has no column for the {what}: none of {', '.join(NAMES[what])} is among its "
                f"{len(header)} columns.",
                hint=f"rename the column, or use one of the layouts known: {LAYOUTS}.",
            )
    return found


def microseconds(times: pa.Array | pa.ChunkedArray, name: str, where: str) -> NDArray[np.int64]:
    """Return times as microseconds since 1970, NO_TIME for null; numbers are seconds."""
    times = times.combine_chunks() if isinstance(times, pa.ChunkedArray) else times
    if pa.types.is_timestamp(times.type) or pa.types.is_date(times.type):
        when = times.cast(pa.timestamp("us", getattr(times.type, "tz", None)), safe=False).cast(pa.int64())
    elif pa.types.is_integer(times.type) or pa.types.is_floating(times.type):
        seconds = times.cast(pa.float64()).to_numpy(zero_copy_only=False)
        too_late = int((np.abs(seconds) >= _LATEST_SECOND).sum())
        if too_late:
            raise RetypedColumnError(
                f"Column {name!r} of {where} should hold seconds since 1970, but {too_late:,} are 10^11 and more.",
                hint="divide milliseconds by 1,000, or write the column as a timestamp.",
            )
        known = ~np.isnan(seconds)
        found = np.full(len(seconds), NO_TIME)
        found[known] = np.rint(seconds[known] * MICROSECONDS)
        return found
    elif pa.types.is_null(times.type):
        return np.full(len(times), NO_TIME)
    else:
        raise RetypedColumnError(f"Column {name!r} of {where} holds {times.type}, but times must be seconds or dates.")
    return np.asarray(when.fill_null(NO_TIME).to_numpy(zero_copy_only=False))


def years(column: pa.ChunkedArray, name: str, where: str) -> list[int | None]:
    """Return whole years, None where there is none."""
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_null(column.type)):
        raise RetypedColumnError(f"Column {name!r} of {where} holds {column.type}, but years must be numbers.")
    return [int(year) if year is not None and math.isfinite(year) else None for year in column.to_pylist()]


def genres(column: pa.ChunkedArray, name: str, where: str) -> list[list[str]]:
    """Return each item's genres from a list column, or from text: at the first separator that is in any row."""
    if pa.types.is_list(column.type) and pa.types.is_string(column.type.value_type):
        return [[name for name in names or [] if name is not None] for names in column.to_pylist()]
    if pa.types.is_null(column.type):
        return [[]] * len(column)
    if not pa.types.is_string(column.type):
        raise RetypedColumnError(
            f"Column {name!r} of {where} holds {column.type}, but genres must be text or lists of text."
        )
    texts = [text or "" for text in column.to_pylist()]
    separator = next((sign for sign in GENRE_SEPARATORS if any(sign in text for text in texts)), None)
    return [[text] if separator is None else text.split(separator) for text in texts]
