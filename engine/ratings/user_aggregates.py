"""One pass over ratings: what a profile needs to know of every user, and nothing of any single rating.

    batches of ratings, Items, kept  ->  sums per user, counts of what was left out

Memory grows with users × (genres + decades), never with ratings. All ratings of one item by one user count, as
each is an act of the user; to tell repeated ones apart would need every pair in memory. A rating without a value
(null or NaN, as pandas writes null) is counted and left out; infinity is an error. Ratings of items that are not
in the table of items count for everything but genres and decades, as do those of items that have none.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.errors import NonFiniteValueError
from engine.kernels.cpu import ratings as kernel
from engine.ratings.factorize_ids import IdNumbers, comparable
from engine.ratings.items import Items
from engine.ratings.readers import RatingBatch

_PER_USER = ("count", "total", "squares", "first", "last", "genre_count", "genre_total", "decade_count")


class RatingSums:
    """Sums of the ratings added so far; row u of every array is the u-th user in order of appearance.

    Parameters
    ----------
    items : Items
    kept : bool of shape (n_items,), optional
        Items whose ratings count; all, and unknown items too, by default.
    untyped : bool
        Whether the ratings come from a text file, as in Items.

    Attributes
    ----------
    count : int64 of shape (n_users,)
        0 for users all of whose ratings were left out.
    total, squares : float64 of shape (n_users,)
    first, last : int64 of shape (n_users,), microseconds since 1970, NO_TIME where unknown
    genre_count, genre_total : int32 and float64 of shape (n_users, n_genres)
    decade_count : int32 of shape (n_users, n_decades)
    newest : int
        The latest time of any rating read, of those left out too.
    n_rated, n_read, n_without_value, n_unknown, n_not_kept
        Ratings with a value of each item, and ratings in all, without a value, of unknown items, of items not kept.
    """

    def __init__(self, items: Items, kept: NDArray[np.bool_] | None = None, *, untyped: bool = False) -> None:
        self.items, self._decade_code, self.untyped = items, items.decade_code, untyped
        self.users, self._item_numbers = IdNumbers(), IdNumbers()
        self._kept = np.ones(len(items), bool) if kept is None else kept
        self._keep_unknown = kept is None
        self.count = np.zeros(0, np.int64)
        self.total, self.squares = np.zeros(0), np.zeros(0)
        self.first, self.last = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self.genre_count = np.zeros((0, len(items.genres)), np.int32)
        self.genre_total = np.zeros((0, len(items.genres)))
        self.decade_count = np.zeros((0, len(items.decades)), np.int32)
        self.newest, self.largest = kernel.NO_TIME, -np.inf
        self.n_rated = np.zeros(len(items), np.int64)
        self.n_read = self.n_without_value = self.n_unknown = self.n_not_kept = 0

    def add(self, batch: RatingBatch, where: str) -> None:
        """Add a batch of ratings.

        Raises
        ------
        NonFiniteValueError
            If a rating is infinite.
        IdColumnError
            If ids of items are integers on one side and text on the other.
        """
        user = self.users.number(batch.users)
        self._make_room(len(self.users))
        item = self._rows_of_items(batch.items)
        self._count(kernel.screen(user, item, batch.rating, self._kept, self._keep_unknown, self.n_rated), where)
        self.n_read += len(user)
        self.largest = float(np.fmax.reduce(batch.rating, initial=self.largest))
        kernel.add_levels(user, batch.rating, self.count, self.total, self.squares)
        if batch.when is not None and len(user):
            self.newest = max(self.newest, int(batch.when.max()))
            kernel.add_times(user, batch.when, self.first, self.last)
        kernel.add_interests(
            user, item, batch.rating, self.items.genre_start, self.items.genre_code, self._decade_code,
            self.genre_count, self.genre_total, self.decade_count,
        )  # fmt: skip

    def _count(self, counts: tuple[int, int, int, int], where: str) -> None:
        without_value, infinite, unknown, not_kept = counts
        if infinite:
            raise NonFiniteValueError(
                f"{infinite:,} ratings of {where} are infinite.", hint="leave them out, or make them missing values."
            )
        self.n_without_value += without_value
        self.n_unknown += unknown
        self.n_not_kept += not_kept

    def _rows_of_items(self, ids: pa.Array) -> NDArray[np.int64]:
        """Return each rating's row in the table of items, -1 where it has none."""
        ids, known = comparable(ids, self.items.ids, untyped=self.untyped or self.items.untyped, what="items")
        if len(self._item_numbers) == 0:
            self._item_numbers.number(known)
        rows = self._item_numbers.number(ids)
        rows[rows >= len(self.items)] = -1
        return rows

    def _make_room(self, n_users: int) -> None:
        """Let every array have at least n_users rows, of zeros, or of NO_TIME."""
        if n_users <= len(self.count):
            return
        for name in _PER_USER:
            old: NDArray[Any] = getattr(self, name)
            # Untouched pages of zeros cost no memory, so room for twice the users is free until they come.
            grown = np.zeros((max(n_users, 2 * len(old)), *old.shape[1:]), old.dtype)
            if name in ("first", "last"):
                grown[len(old) :] = kernel.NO_TIME
            grown[: len(old)] = old
            setattr(self, name, grown)
