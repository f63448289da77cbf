"""Aggregate ratings by user in one pass: counts, sums, time spans, and counts by genre and decade.

    batches of ratings, ItemTable, included (n_items,)  ->  sums per user, counts of excluded ratings

Memory grows with users × (genres + decades), never with ratings. Repeated ratings of one item by one user all count:
each is an action of the user, and leaving them out would need every (user, item) pair in memory. How many there are is
noted (repeated_ratings.py). A rating without a value (null, or NaN, which pandas writes for null) is counted and
excluded, and so are numbers that stand for "no rating" (rating_scale.py); an infinite one is an error. Ratings of items
that are not in the table of items count for everything except genres and decades, as do those of items without a genre
or a year.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.kernels.cpu import ratings as kernel
from engine.ratings.factorize_ids import IdFactorizer, unify_id_types
from engine.ratings.items import ItemTable
from engine.ratings.rating_scale import RatingScale
from engine.ratings.readers import RatingBatch
from engine.ratings.repeated_ratings import RepeatedRatings

_ARRAYS = ("count", "total", "squares", "first_time", "last_time", "genre_count", "genre_total", "decade_count")


class UserAggregates:
    """Aggregates of the ratings so far; row u of every array is the user with code u, in order of appearance.

    Parameters
    ----------
    items : ItemTable
    included : bool of shape (n_items,), optional
        Items whose ratings are included; by default all, and unknown items as well.
    id_type_inferred : bool
        Whether the ratings come from a CSV file, as in ItemTable.
    no_ratings : tuple of float
        Numbers that stand for no rating, such as 0 or -1.

    Attributes
    ----------
    count : int64 of shape (n_users,)
        Ratings of each user; 0 if all of them were excluded.
    total, squares : float64 of shape (n_users,)
        Sum of the ratings, and of their squares.
    first_time, last_time : int64 of shape (n_users,), microseconds since 1970, NO_TIME where unknown
    genre_count, genre_total : int32 and float64 of shape (n_users, n_genres)
    decade_count : int32 of shape (n_users, n_decades)
    latest_time : int
        The latest time of all ratings read, excluded ones as well.
    max_rating : float
    scale : RatingScale
        Numbers of ratings by value.
    ratings_per_item : int64 of shape (n_items,)
        Ratings with a value.
    repeated : RepeatedRatings
    n_without_time : int
        Ratings whose time is missing, in a source that has times.
    n_read, n_without_value, n_unknown, n_excluded : int
        Ratings in all, those without a value, those of unknown items, and those excluded although they have a value.
    """

    def __init__(
        self,
        items: ItemTable,
        included: NDArray[np.bool_] | None = None,
        *,
        id_type_inferred: bool = False,
        no_ratings: tuple[float, ...] = (),
    ) -> None:
        self.no_ratings, self.scale, self.repeated = no_ratings, RatingScale(), RepeatedRatings()
        self.items, self._decade_code, self.id_type_inferred = items, items.decade_code, id_type_inferred
        self.user_ids, self._item_ids = IdFactorizer(), IdFactorizer()
        self._included = np.ones(len(items), bool) if included is None else included
        self._include_unknown = included is None
        self.count = np.zeros(0, np.int64)
        self.total, self.squares = np.zeros(0), np.zeros(0)
        self.first_time, self.last_time = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self.genre_count = np.zeros((0, len(items.genres)), np.int32)
        self.genre_total = np.zeros((0, len(items.genres)))
        self.decade_count = np.zeros((0, len(items.decades)), np.int32)
        self.latest_time, self.max_rating = kernel.NO_TIME, -np.inf
        self.ratings_per_item = np.zeros(len(items), np.int64)
        self.n_read = self.n_without_value = self.n_unknown = self.n_excluded = self.n_without_time = 0

    def update(self, batch: RatingBatch) -> None:
        """Add a batch of ratings to the aggregates.

        Raises
        ------
        IdColumnError
            If item ids are integers on one side and strings on the other.
        """
        self.scale.update(batch.rating)
        is_none = np.isin(batch.rating, self.no_ratings) if self.no_ratings else False
        ratings = np.where(is_none, np.nan, batch.rating)
        user = self.user_ids.factorize(batch.user_ids)
        self._extend_arrays(len(self.user_ids))
        item_codes = self._factorize_items(batch.item_ids)
        self.repeated.update(user, item_codes)
        item = np.where(item_codes < len(self.items), item_codes, -1)
        counts = kernel.exclude_ratings(
            user, item, ratings, self._included, self._include_unknown, self.ratings_per_item
        )
        n_without_value, n_unknown, n_excluded = counts
        self.n_without_value += n_without_value
        self.n_unknown += n_unknown
        self.n_excluded += n_excluded
        self.n_read += len(user)
        self.max_rating = float(np.fmax.reduce(ratings, initial=self.max_rating))
        kernel.add_rating_sums(user, ratings, self.count, self.total, self.squares)
        if batch.timestamp is not None and len(user):
            self.n_without_time += int(np.count_nonzero(batch.timestamp == kernel.NO_TIME))
            self.latest_time = max(self.latest_time, int(batch.timestamp.max()))
            kernel.update_time_spans(user, batch.timestamp, self.first_time, self.last_time)
        kernel.add_genres_and_decades(
            user, item, ratings, self.items.genre_start, self.items.genre_code, self._decade_code,
            self.genre_count, self.genre_total, self.decade_count,
        )  # fmt: skip

    def _factorize_items(self, ids: pa.Array) -> NDArray[np.int64]:
        """Return the row of each id in the table of items, and numbers after its rows for other ids."""
        ids, item_ids = unify_id_types(
            ids,
            self.items.ids,
            id_type_inferred=self.id_type_inferred or self.items.id_type_inferred,
            table_name="items",
        )
        if len(self._item_ids) == 0:
            self._item_ids.factorize(item_ids)
        return self._item_ids.factorize(ids)

    def _extend_arrays(self, n_users: int) -> None:
        """Extend every array to at least n_users rows; new rows hold 0, or NO_TIME for times."""
        if n_users <= len(self.count):
            return
        for name in _ARRAYS:
            array: NDArray[Any] = getattr(self, name)
            # Untouched pages of zeros take no memory, so doubling costs nothing until the rows are used.
            grown = np.zeros((max(n_users, 2 * len(array)), *array.shape[1:]), array.dtype)
            if name in ("first_time", "last_time"):
                grown[len(array) :] = kernel.NO_TIME
            grown[: len(array)] = array
            setattr(self, name, grown)
