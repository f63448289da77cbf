"""Ratings of films, books or songs to a table of user profiles.

    ratings, items, users, catalogue  ->  one pass over the ratings  ->  one row per user

The flow, and what it says about itself. Layouts: readers.py; titles of a catalogue: catalogue.py; what is
summed and what is left out: user_aggregates.py; columns: profile_table.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine.errors import EmptyTableError, IdColumnError, NoCatalogueMatchError, TooFewRowsError, UsageError
from engine.ratings import catalogue as catalogues
from engine.ratings.catalogue import CatalogueMatch
from engine.ratings.items import Items
from engine.ratings.profile_table import check_output, profile_batches, write_profiles
from engine.ratings.quality_notes import notes
from engine.ratings.readers import Ratings, Users, open_items, open_ratings, open_users
from engine.ratings.user_aggregates import RatingSums

_MOST_RATINGS = 2**31 - 1  # counts per genre are int32
Progress = Callable[[int, int | None], object]


@dataclass(frozen=True)
class ProfilesResult:
    """Profiles, and what became of the ratings.

    Attributes
    ----------
    table : pyarrow.Table or None
        One row per user; None if it was written to `path`.
    path : Path or None
    n_users, n_items : int
        Profiles, and rows of the table of items.
    n_ratings_read, n_ratings_used : int
        All ratings, and those that are in a profile.
    catalogue : CatalogueMatch or None
    notes : tuple of str
        What a reader should know: layout, what was left out and why, columns that could not be made.
    """

    table: pa.Table | None
    path: Path | None
    n_users: int
    n_items: int
    n_ratings_read: int
    n_ratings_used: int
    catalogue: CatalogueMatch | None
    notes: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """Return plain JSON values: everything but the table."""
        return {
            "out": None if self.path is None else str(self.path),
            "users": self.n_users,
            "items": self.n_items,
            "ratings_read": self.n_ratings_read,
            "ratings_used": self.n_ratings_used,
            "catalogue": None if self.catalogue is None else asdict(self.catalogue),
            "notes": list(self.notes),
        }

    def describe(self) -> str:
        """Return the same for people."""
        where = "" if self.path is None else f": {self.path}"
        made = f"{self.n_users:,} profiles from {self.n_ratings_used:,} of {self.n_ratings_read:,} ratings{where}"
        return "\n".join([made, *self.notes])


def profiles_from_ratings(
    ratings: Any,
    items: Any,
    users: Any = None,
    *,
    catalogue: str | PathLike[str] | None = None,
    out: str | PathLike[str] | None = None,
    overwrite: bool = False,
    min_ratings: int = 1,
    progress: Progress | None = None,
) -> ProfilesResult:
    """Summarise each user's ratings as one row: tastes, activity and demographics.

    Layouts are found out from the files: MovieLens 100K, 1M, 10M and 20M to 32M, and tables (Parquet, CSV, Feather,
    ORC, data frames) with columns such as user_id, item_id, rating, timestamp; item_id, title, year, genres.

    Parameters
    ----------
    ratings, items, users : path, URL, or a pandas, polars or pyarrow table
        `users` may be left out. Its columns are copied as they are.
    catalogue : path or URL of a CSV file with columns title and release_year, optional
        Keep only ratings of titles that are in it, matched on the title in normal form and the year.
    out : path, optional
        Write Parquet there instead of returning a table.
    overwrite : bool, default=False
        Whether a file that is there may be replaced, once the new one is whole.
    min_ratings : int
        Users with fewer ratings (of the catalogue) get no profile.
    progress : callable(rows_done, rows_in_all or None), optional

    Returns
    -------
    ProfilesResult
        Rows in ascending order of user_id. Columns, in this order:
        user_id (int64 or text, as it was), n_ratings, mean_rating, rating_sd (0 for one rating);
        recency (days from the user's last rating to the last one of all) and days_active (first to last);
        share_<Genre> (share of the user's ratings whose item has the genre);
        affinity_<Genre>: (mean in the genre - mean) × n / (n + 5), n the ratings in the genre: 0 without any;
        share_<1990s>; favourite_decade (most ratings, the earlier one of equals, null if unknown);
        favourite_genres (at most three, most ratings first, equals by name); then the users' columns.

    Raises
    ------
    SourceNotFoundError, SourceFormatError, MissingColumnError, RetypedColumnError, IdColumnError
        If a table cannot be read, or its ids are missing, repeated or of another type.
    NonFiniteValueError
        If a rating is infinite. Null and NaN are ratings not given: they are counted and left out.
    NoCatalogueMatchError
        If the catalogue has none of the titles, or none of those rated.
    OutputExistsError
        If `out` is there already.
    EmptyTableError, TooFewRowsError
        If there is no rating, or no user has `min_ratings`.
    """
    if min_ratings < 1:
        raise UsageError(f"min_ratings={min_ratings} must be at least 1.")
    path = None if out is None else Path(out)
    if path is not None:
        check_output(path, overwrite=overwrite)
    items_, users_, stream = open_items(items), None if users is None else open_users(users), open_ratings(ratings)
    titles = None if catalogue is None else _Titles(items_, catalogue)
    sums = _sum_up(stream, items_, users_, None if titles is None else titles.kept, progress)
    return _summary(stream, sums, users_, None if titles is None else titles.matched(sums), path, min_ratings)


class _Titles:
    """The items that a catalogue has, before and after the pass over the ratings."""

    def __init__(self, items: Items, catalogue: str | PathLike[str]) -> None:
        self._where, self._catalogue = str(catalogue), catalogues.read_catalogue(catalogue)
        self.kept, self._a_year_off = catalogues.match(items, self._catalogue, self._where)

    def matched(self, sums: RatingSums) -> CatalogueMatch:
        """Count, or raise NoCatalogueMatchError if no rating is of a title that the catalogue has."""
        rated = sums.n_rated > 0
        n_ratings = sums.n_read - sums.n_without_value
        if n_ratings == sums.n_not_kept and n_ratings:
            raise NoCatalogueMatchError(
                f"None of {rated.sum():,} rated titles is in the catalogue {self._where}, which has "
                f"{self.kept.sum():,} titles that nobody rated."
            )
        return CatalogueMatch(
            n_rows=self._catalogue.n_rows,
            n_unreadable_rows=self._catalogue.n_unreadable,
            n_rated_titles=int(rated.sum()),
            n_matched_titles=int((rated & self.kept).sum()),
            n_titles_a_year_off=int((rated & self._a_year_off).sum()),
            n_ratings=n_ratings,
            n_matched_ratings=n_ratings - sums.n_not_kept,
        )


def _sum_up(
    stream: Ratings, items: Items, users: Users | None, kept: NDArray[np.bool_] | None, progress: Progress | None
) -> RatingSums:
    sums = RatingSums(items, kept, untyped=stream.untyped)
    for batch in stream.batches():
        if users is not None and sums.n_read == 0:
            users.comparable(batch.users, untyped=stream.untyped)  # an error belongs before the long pass
        sums.add(batch, stream.where)
        if progress is not None:
            progress(sums.n_read, stream.n_rows)
    if sums.n_read == sums.n_without_value:
        raise EmptyTableError(f"{stream.where} has {sums.n_read:,} rows, and none with a rating.")
    if sums.n_unknown == sums.n_read - sums.n_without_value:
        raise EmptyTableError(
            f"None of the {sums.n_unknown:,} ratings of {stream.where} is of one of the {len(items):,} items.",
            hint="check that ratings and items belong together, and that their ids are written alike.",
        )
    if sums.count.max() > _MOST_RATINGS:
        raise IdColumnError(f"One user id of {stream.where} has {sums.count.max():,} ratings: more than 2^31 - 1.")
    return sums


def _summary(
    stream: Ratings, sums: RatingSums, users: Users | None, match: CatalogueMatch | None, path: Path | None, least: int
) -> ProfilesResult:
    """Write the profiles to `path`, or make a table of them."""
    chosen = _chosen(sums, least)
    batches = profile_batches(sums, users, chosen, timed=stream.timed)
    table = pa.Table.from_batches(batches) if path is None else None
    if path is not None:
        write_profiles(batches, path)
    return ProfilesResult(
        table=table,
        path=path,
        n_users=len(chosen),
        n_items=len(sums.items),
        n_ratings_read=sums.n_read,
        n_ratings_used=int(sums.count[chosen].sum()),
        catalogue=match,
        notes=tuple(notes(stream, sums, users, match, chosen, least)),
    )


def _chosen(sums: RatingSums, min_ratings: int) -> NDArray[np.int64]:
    """Return the numbers of the users who get a profile, in ascending order of their ids."""
    count = sums.count[: len(sums.users)]
    enough = np.flatnonzero(count >= min_ratings)
    if len(enough) == 0:
        raise TooFewRowsError(
            f"None of {(count > 0).sum():,} users has min_ratings={min_ratings:,} ratings; the most is {count.max():,}."
        )
    order = pc.sort_indices(sums.users.ids().take(pa.array(enough))).to_numpy()
    return np.asarray(enough[order], np.int64)
