"""Build a table of user profiles from ratings of films, books or songs.

    ratings, items, users, catalogue  ->  one pass over the ratings  ->  one row per user

This file calls the steps in order. Layouts are in readers.py, the titles of a catalogue in catalogue.py, sums and
excluded ratings in user_aggregates.py, and the columns in profile_table.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
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
from engine.ratings.items import ItemTable
from engine.ratings.profile_table import profile_batches, write_profiles
from engine.ratings.quality_notes import quality_notes
from engine.ratings.rating_scale import Zeros, check_zeros
from engine.ratings.readers import RatingStream, UserTable, open_items, open_ratings, open_users
from engine.ratings.user_aggregates import UserAggregates
from engine.tables.output_paths import check_apart, check_new_file, parquet_path
from engine.tables.snapshot import snapshot

logger = logging.getLogger(__name__)

_MAX_RATINGS_PER_USER = 2**31 - 1  # counts per genre are int32
ProgressCallback = Callable[[int, int | None], object]


@dataclass(frozen=True)
class ProfilesResult:
    """User profiles, and counts of the ratings read and used.

    Attributes
    ----------
    table : pyarrow.Table or None
        One row per user; None if it was written to `path`.
    path : Path or None
    n_users, n_items : int
        Number of profiles, and rows of the table of items.
    n_ratings_read, n_ratings_used : int
        Number of all ratings, and of those in a profile.
    catalogue : CatalogueMatch or None
    notes : tuple of str
        Sentences on the layout, on what was excluded and why, and on columns that cannot be computed.
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
        """Return all attributes except the table as JSON values."""
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
        """Return the same facts as text."""
        target = "" if self.path is None else f": {self.path}"
        counts = f"{self.n_users:,} profiles from {self.n_ratings_used:,} of {self.n_ratings_read:,} ratings{target}"
        return "\n".join([counts, *self.notes])


def profiles_from_ratings(
    ratings: Any,
    items: Any,
    users: Any = None,
    *,
    catalogue: str | PathLike[str] | None = None,
    out: str | PathLike[str] | None = None,
    overwrite: bool = False,
    min_ratings: int = 1,
    zeros: Zeros = "auto",
    progress: ProgressCallback | None = None,
) -> ProfilesResult:
    """Summarize the ratings of each user as one row: tastes, activity and demographics.

    The layout of each source is detected: MovieLens 100K, 1M, 10M and 20M to 32M, and tables (Parquet, CSV, Feather,
    ORC, data frames) with columns such as user_id, item_id, rating, timestamp; item_id, title, year, genres.

    Parameters
    ----------
    ratings, items, users : path, URL, a pandas, polars or pyarrow table, or engine.Query
        `users` is optional; its columns are copied unchanged.
    catalogue : path or URL of a CSV file with columns title and release_year, optional
        Use only ratings of titles in the catalogue, matched on the normalized title and the year.
    out : path, optional
        Parquet file to write instead of returning a table.
    overwrite : bool, default=False
        Whether an existing file is replaced, once the new one is complete.
    min_ratings : int
        Users with fewer ratings (of titles in the catalogue) get no profile.
    zeros : {"auto", "missing", "ratings"}
        What ratings of 0 are: missing ones, as in Book-Crossing, where people rate from 1 to 10, or ratings. "auto"
        takes them as missing if they are far more than the steps of the scale beside them (rating_scale.py).
    progress : callable(rows_done, rows_in_all or None), optional

    Returns
    -------
    ProfilesResult
        Rows in ascending order of user_id. Columns, in this order:
        user_id (int64 or text, as in the ratings), n_ratings, mean_rating, rating_sd (0 for one rating);
        recency (days from the user's last rating to the last one of all) and days_active (first to last);
        share_<Genre> (share of the user's ratings whose item has the genre);
        affinity_<Genre>: (mean in the genre - mean) × n / (n + 5), n the number of ratings in the genre; 0 if n is 0;
        share_<1990s>; favourite_decade (most ratings; ties: the earlier one; null if unknown);
        favourite_genres (at most three, most ratings first; ties: by name); then the users' columns.

    Raises
    ------
    SourceNotFoundError, SourceFormatError, MissingColumnError, RetypedColumnError, IdColumnError
        If a table cannot be read, or its ids are missing, repeated or of another type.
    NonFiniteValueError
        If a rating is infinite. Null and NaN are missing ratings: they are counted and excluded.
    NoCatalogueMatchError
        If the catalogue has none of the titles, or none of the rated ones.
    OutputExistsError, OutputOverlapError
        If `out` exists already, or overlaps one of the tables.
    EmptyTableError, TooFewRowsError
        If there is no rating, or no user has `min_ratings`.
    """
    check_zeros(zeros)
    if min_ratings < 1:
        raise UsageError(f"min_ratings={min_ratings} must be at least 1.")
    path = None if out is None else parquet_path(out)
    if path is not None:
        check_apart(path, ratings, items, users, catalogue)
        check_new_file(path, overwrite=overwrite)
    with ExitStack() as stack:
        ratings, items, users = (stack.enter_context(snapshot(source, id=None)) for source in (ratings, items, users))
        return _build_profiles(ratings, items, users, catalogue, path, min_ratings, zeros, progress)


def _build_profiles(
    ratings: Any,
    items: Any,
    users: Any,
    catalogue: str | PathLike[str] | None,
    path: Path | None,
    min_ratings: int,
    zeros: Zeros,
    progress: ProgressCallback | None,
) -> ProfilesResult:
    """Summarize the ratings of tables that can be read several times."""
    item_table = open_items(items)
    user_table = None if users is None else open_users(users)
    stream = open_ratings(ratings)
    catalogue_filter = None if catalogue is None else _CatalogueFilter(item_table, catalogue)
    is_listed = None if catalogue_filter is None else catalogue_filter.is_listed
    zero: tuple[float, ...] = (0.0,)
    known = zero if zeros == "missing" else ()
    aggregates = _aggregate_ratings(stream, item_table, user_table, is_listed, known, progress)
    zero_is_none = zeros == "missing" or (zeros == "auto" and aggregates.scale.zero_is_no_rating)
    no_ratings = (zero if zero_is_none else ()) + aggregates.scale.marks
    if no_ratings != known:
        logger.info(
            "%s: read again, for %s are no ratings.", stream.source_name, " and ".join(map("{:g}".format, no_ratings))
        )
        aggregates = _aggregate_ratings(stream, item_table, user_table, is_listed, no_ratings, None)
    match = None if catalogue_filter is None else catalogue_filter.count_matches(aggregates)
    return _build_result(stream, aggregates, user_table, match, path, min_ratings)


class _CatalogueFilter:
    """Find the items that a catalogue lists; after the pass over the ratings, count the rated ones among them."""

    def __init__(self, items: ItemTable, catalogue: str | PathLike[str]) -> None:
        self._source_name, self._catalogue = str(catalogue), catalogues.read_catalogue(catalogue)
        self.is_listed, self._is_year_off = catalogues.find_listed_items(items, self._catalogue, self._source_name)

    def count_matches(self, aggregates: UserAggregates) -> CatalogueMatch:
        """Count matched titles and ratings, or raise NoCatalogueMatchError if no rating is of a listed title."""
        rated = aggregates.ratings_per_item > 0
        n_ratings = aggregates.n_read - aggregates.n_without_value
        if n_ratings == aggregates.n_excluded and n_ratings:
            raise NoCatalogueMatchError(
                f"None of {rated.sum():,} rated titles is in the catalogue {self._source_name}, which has "
                f"{self.is_listed.sum():,} titles that nobody rated."
            )
        return CatalogueMatch(
            n_rows=self._catalogue.n_rows,
            n_unreadable_rows=self._catalogue.n_unreadable,
            n_rated_titles=int(rated.sum()),
            n_matched_titles=int((rated & self.is_listed).sum()),
            n_titles_a_year_off=int((rated & self._is_year_off).sum()),
            n_ratings=n_ratings,
            n_matched_ratings=n_ratings - aggregates.n_excluded,
        )


def _aggregate_ratings(
    stream: RatingStream,
    items: ItemTable,
    users: UserTable | None,
    included: NDArray[np.bool_] | None,
    no_ratings: tuple[float, ...],
    progress: ProgressCallback | None,
) -> UserAggregates:
    aggregates = UserAggregates(items, included, id_type_inferred=stream.id_type_inferred, no_ratings=no_ratings)
    for batch in stream.batches():
        if users is not None and aggregates.n_read == 0:
            # Raise an error about ids before the long pass, not after it.
            users.unify_id_types(batch.user_ids, id_type_inferred=stream.id_type_inferred)
        aggregates.update(batch)
        if progress is not None:
            progress(aggregates.n_read, stream.n_rows)
    if aggregates.n_read == aggregates.n_without_value:
        raise EmptyTableError(f"{stream.source_name} has {aggregates.n_read:,} rows, and none with a rating.")
    if aggregates.n_unknown == aggregates.n_read - aggregates.n_without_value:
        raise EmptyTableError(
            f"None of the {aggregates.n_unknown:,} ratings of {stream.source_name} is of one of the "
            f"{len(items):,} items.",
            hint="check that ratings and items belong together, and that their ids are written alike.",
        )
    if aggregates.count.max() > _MAX_RATINGS_PER_USER:
        raise IdColumnError(
            f"One user id of {stream.source_name} has {aggregates.count.max():,} ratings: more than 2^31 - 1."
        )
    return aggregates


def _build_result(
    stream: RatingStream,
    aggregates: UserAggregates,
    users: UserTable | None,
    match: CatalogueMatch | None,
    path: Path | None,
    min_ratings: int,
) -> ProfilesResult:
    """Write the profiles to `path`, or collect them in a table."""
    user_codes = _select_users(aggregates, min_ratings)
    batches = profile_batches(aggregates, users, user_codes, has_timestamps=stream.has_timestamps)
    table = pa.Table.from_batches(batches) if path is None else None
    if path is not None:
        write_profiles(batches, path)
    return ProfilesResult(
        table=table,
        path=path,
        n_users=len(user_codes),
        n_items=len(aggregates.items),
        n_ratings_read=aggregates.n_read,
        n_ratings_used=int(aggregates.count[user_codes].sum()),
        catalogue=match,
        notes=tuple(quality_notes(stream, aggregates, users, match, user_codes, min_ratings)),
    )


def _select_users(aggregates: UserAggregates, min_ratings: int) -> NDArray[np.int64]:
    """Return the codes of the users with enough ratings, in ascending order of their ids."""
    count = aggregates.count[: len(aggregates.user_ids)]
    selected = np.flatnonzero(count >= min_ratings)
    if len(selected) == 0:
        raise TooFewRowsError(
            f"None of {(count > 0).sum():,} users has min_ratings={min_ratings:,} ratings; the most is {count.max():,}."
        )
    order = pc.sort_indices(aggregates.user_ids.uniques().take(pa.array(selected))).to_numpy()
    return np.asarray(selected[order], np.int64)
