"""What a reader of the profiles should know and the table does not say: notes, one sentence each.

    the stream, the sums, the users, the match  ->  sentences

Numbers only; nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine.ratings.catalogue import CatalogueMatch
from engine.ratings.items import NO_YEAR, Items
from engine.ratings.readers import Ratings, Users
from engine.ratings.user_aggregates import RatingSums


def notes(
    stream: Ratings,
    sums: RatingSums,
    users: Users | None,
    matched: CatalogueMatch | None,
    chosen: NDArray[np.int64],
    min_ratings: int,
) -> Iterator[str]:
    """Yield how the ratings were read, what was left out and why, and which columns could not be made."""
    yield f"Ratings were read as {stream.layout}."
    if matched is not None:
        yield from _of_the_catalogue(matched)
    yield from _left_out(sums, min_ratings, catalogued=matched is not None)
    yield from _of_the_columns(stream, sums.items)
    if users is not None:
        yield from _of_the_users(users, sums, chosen)


def _of_the_catalogue(matched: CatalogueMatch) -> Iterator[str]:
    yield (
        f"The catalogue has {matched.n_matched_titles:,} of {matched.n_rated_titles:,} rated titles, and "
        f"{matched.n_matched_ratings:,} of {matched.n_ratings:,} ratings are of them."
    )
    if matched.n_titles_a_year_off:
        yield f"{matched.n_titles_a_year_off:,} titles more are in the catalogue one year apart; they were left out."
    if matched.n_unreadable_rows:
        yield f"{matched.n_unreadable_rows:,} of {matched.n_rows:,} rows of the catalogue have no title or no year."


def _left_out(sums: RatingSums, min_ratings: int, *, catalogued: bool) -> Iterator[str]:
    if sums.n_without_value:
        yield f"{sums.n_without_value:,} rows without a rating were left out."
    if sums.n_unknown:
        what = "left out" if catalogued else "counted, but not in any genre or decade"
        yield f"{sums.n_unknown:,} ratings are of items that the table of items does not have; they were {what}."
    count = sums.count[: len(sums.users)]
    if (count == 0).any():
        yield f"{(count == 0).sum():,} users have no rating that counts, and so no profile."
    few = (count > 0) & (count < min_ratings)
    if few.any():
        yield (
            f"{few.sum():,} users with fewer than {min_ratings:,} ratings have no profile; "
            f"they gave {count[few].sum():,} ratings."
        )


def _of_the_columns(stream: Ratings, items: Items) -> Iterator[str]:
    if not stream.timed:
        yield "The ratings have no times: recency and days_active are left out."
    if not items.genres:
        yield "The items have no genres: shares, affinities and favourite_genres are left out."
    elif items.n_without_genre:
        yield f"{items.n_without_genre:,} of {len(items):,} items have no genre."
    without_year = int((items.years == NO_YEAR).sum())
    if not items.decades:
        yield "The items have no years: shares of decades and favourite_decade are left out."
    elif without_year:
        yield f"{without_year:,} of {len(items):,} items have no year."


def _of_the_users(users: Users, sums: RatingSums, chosen: NDArray[np.int64]) -> Iterator[str]:
    ids, known = users.comparable(sums.users.ids().take(pa.array(chosen)), untyped=sums.untyped)
    at_home = int(pc.sum(pc.is_in(ids, value_set=known)).as_py())
    if at_home < len(ids):
        yield f"{len(ids) - at_home:,} of {len(ids):,} profiles have no row in {users.where}: their columns are null."
    if at_home < len(known):
        yield f"{len(known) - at_home:,} of {len(known):,} rows of {users.where} have no profile."
