"""Write notes on the quality of a profile table: what was excluded, what is missing, what did not match.

    RatingStream, UserAggregates, UserTable, CatalogueMatch  ->  sentences

This file only reports counts; it does not select or exclude anything.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine.ratings.catalogue import CatalogueMatch
from engine.ratings.items import NO_YEAR
from engine.ratings.readers import RatingStream, UserTable
from engine.ratings.user_aggregates import UserAggregates


def quality_notes(
    stream: RatingStream,
    aggregates: UserAggregates,
    users: UserTable | None,
    match: CatalogueMatch | None,
    user_codes: NDArray[np.int64],
    min_ratings: int,
) -> Iterator[str]:
    """Yield sentences on the layout of the ratings, excluded ratings and users, and columns that cannot be computed."""
    yield f"Ratings were read as {stream.layout}."
    if match is not None:
        yield from _catalogue_notes(match)
    yield from _exclusion_notes(aggregates, min_ratings, has_catalogue=match is not None)
    yield from _column_notes(stream, aggregates)
    if users is not None:
        yield from _user_notes(users, aggregates, user_codes)


def _catalogue_notes(match: CatalogueMatch) -> Iterator[str]:
    yield (
        f"The catalogue has {match.n_matched_titles:,} of {match.n_rated_titles:,} rated titles, and "
        f"{match.n_matched_ratings:,} of {match.n_ratings:,} ratings are of them."
    )
    if match.n_titles_a_year_off:
        yield f"{match.n_titles_a_year_off:,} titles more are in the catalogue one year apart; they were left out."
    if match.n_unreadable_rows:
        yield f"{match.n_unreadable_rows:,} of {match.n_rows:,} rows of the catalogue have no title or no year."


def _exclusion_notes(aggregates: UserAggregates, min_ratings: int, *, has_catalogue: bool) -> Iterator[str]:
    n_zeros = aggregates.scale.n_zeros
    if 0.0 in aggregates.no_ratings and n_zeros:
        yield (
            f"{n_zeros:,} ratings are 0, below the scale: they were taken as rows without a rating. If 0 is a rating, "
            "set zeros to 'ratings'."
        )
    elif n_zeros:
        yield f"{n_zeros:,} ratings are 0, and were taken as such. If 0 means none, set zeros to 'missing'."
    marks = [f"{aggregates.scale.others[mark]:,} are {mark:g}" for mark in aggregates.no_ratings if mark != 0.0]
    if marks:
        yield f"Of the ratings, {' and '.join(marks)}, off the scale: they were taken as rows without a rating."
    repeated = aggregates.repeated.describe()
    if repeated is not None:
        yield repeated
    if aggregates.n_without_value:
        yield f"{aggregates.n_without_value:,} rows without a rating were left out."
    if aggregates.n_unknown:
        what = "left out" if has_catalogue else "counted, but not in any genre or decade"
        yield f"{aggregates.n_unknown:,} ratings are of items that the table of items does not have; they were {what}."
    count = aggregates.count[: len(aggregates.user_ids)]
    if (count == 0).any():
        yield f"{(count == 0).sum():,} users have no rating that counts, and so no profile."
    few = (count > 0) & (count < min_ratings)
    if few.any():
        yield (
            f"{few.sum():,} users with fewer than {min_ratings:,} ratings have no profile; "
            f"they gave {count[few].sum():,} ratings."
        )


def _column_notes(stream: RatingStream, aggregates: UserAggregates) -> Iterator[str]:
    items = aggregates.items
    if aggregates.n_without_time:
        yield (
            f"{aggregates.n_without_time:,} ratings have no time, or the first second of 1970: recency and days_active "
            "leave them out."
        )
    if not stream.has_timestamps:
        yield "The ratings have no times: recency and days_active are left out."
    if not items.genres:
        yield "The items have no genres: shares, affinities and favourite_genres are left out."
    elif items.n_without_genre:
        yield f"{items.n_without_genre:,} of {len(items):,} items have no genre."
    n_without_year = int((items.years == NO_YEAR).sum())
    if not items.decades:
        yield "The items have no years: shares of decades and favourite_decade are left out."
    elif n_without_year:
        yield f"{n_without_year:,} of {len(items):,} items have no year."


def _user_notes(users: UserTable, aggregates: UserAggregates, user_codes: NDArray[np.int64]) -> Iterator[str]:
    profile_ids = aggregates.user_ids.uniques().take(pa.array(user_codes))
    ids, known_ids = users.unify_id_types(profile_ids, id_type_inferred=aggregates.id_type_inferred)
    n_matched = int(pc.sum(pc.is_in(ids, value_set=known_ids)).as_py())
    if n_matched < len(ids):
        n_missing = len(ids) - n_matched
        yield f"{n_missing:,} of {len(ids):,} profiles have no row in {users.source_name}: their columns are null."
    if n_matched < len(known_ids):
        yield f"{len(known_ids) - n_matched:,} of {len(known_ids):,} rows of {users.source_name} have no profile."
