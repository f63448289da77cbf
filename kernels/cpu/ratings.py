"""Aggregate a batch of ratings by user.

    user (n_ratings,), item (n_ratings,), rating (n_ratings,), time (n_ratings,)
      -> per user: count, sum, sum of squares; first and last time; count and sum per genre; count per decade

Ratings are added to the sums of their users one by one in the order of the file, never as a partial sum of a batch. So
the sums are those of one loop over the whole file, whatever the batches are. Where ratings are multiples of 1/2, as
stars are, sums below 2^51 are exact in float64 in any order.
User -1 marks a rating that `exclude_ratings` has left out. Users and items are codes of factorize.py.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

EXCLUDED = -1
NO_TIME = np.iinfo(np.int64).min


@njit(nogil=True, cache=True)
def exclude_ratings(
    user: NDArray[np.int64],
    item: NDArray[np.int64],
    rating: NDArray[np.float64],
    included: NDArray[np.bool_],
    keep_unknown: bool,
    n_rated: NDArray[np.int64],
) -> tuple[int, int, int]:
    """Set the user of excluded ratings to -1, and count the ratings of every item.

    Parameters
    ----------
    user : int64 of shape (n_ratings,), set to -1 where a rating is excluded
    item : int64 of shape (n_ratings,), -1 for an item that is not in the table of items
    rating : float64 of shape (n_ratings,), NaN where no rating was given
    included : bool of shape (n_items,)
        Which items' ratings are included.
    keep_unknown : bool
        Whether ratings of items that are not in the table of items are included.
    n_rated : int64 of shape (n_items,), added to in place

    Returns
    -------
    n_without_value, n_unknown, n_excluded : int
        Ratings that are NaN, of unknown items, and those excluded although they have a value.
    """
    n_without_value = n_unknown = n_excluded = 0
    for i in range(len(user)):
        if np.isnan(rating[i]):
            n_without_value += 1
            user[i] = EXCLUDED
            continue
        if item[i] < 0:
            n_unknown += 1
            is_included = keep_unknown
        else:
            n_rated[item[i]] += 1
            is_included = included[item[i]]
        if not is_included:
            n_excluded += 1
            user[i] = EXCLUDED
    return n_without_value, n_unknown, n_excluded


@njit(nogil=True, cache=True)
def add_rating_sums(
    user: NDArray[np.int64],
    rating: NDArray[np.float64],
    count: NDArray[np.int64],
    total: NDArray[np.float64],
    squares: NDArray[np.float64],
) -> None:
    """Add to each user's number of ratings, their sum and the sum of their squares, all of shape (n_users,)."""
    for i in range(len(user)):
        u = user[i]
        if u >= 0:
            count[u] += 1
            total[u] += rating[i]
            squares[u] += rating[i] * rating[i]


@njit(nogil=True, cache=True)
def update_time_spans(
    user: NDArray[np.int64], time: NDArray[np.int64], first: NDArray[np.int64], last: NDArray[np.int64]
) -> None:
    """Update the first and last time of each user; `first` and `last`, of shape (n_users,), start at NO_TIME."""
    for i in range(len(user)):
        u = user[i]
        if u >= 0 and time[i] != NO_TIME:
            if first[u] == NO_TIME or time[i] < first[u]:
                first[u] = time[i]
            if time[i] > last[u]:  # NO_TIME is smaller than any time
                last[u] = time[i]


@njit(nogil=True, cache=True)
def add_genres_and_decades(
    user: NDArray[np.int64],
    item: NDArray[np.int64],
    rating: NDArray[np.float64],
    genre_start: NDArray[np.int64],
    genre_code: NDArray[np.int64],
    decade: NDArray[np.int64],
    genre_count: NDArray[np.int32],
    genre_total: NDArray[np.float64],
    decade_count: NDArray[np.int32],
) -> None:
    """Add to each user's counts and sums by genre, and counts by decade.

    Item i has genres genre_code[genre_start[i]:genre_start[i + 1]] and decade[i], -1 if unknown. The sums are of
    shape (n_users, n_genres), (n_users, n_genres) and (n_users, n_decades).
    """
    for i in range(len(user)):
        u, t = user[i], item[i]
        if u < 0 or t < 0:
            continue
        for g in range(genre_start[t], genre_start[t + 1]):
            genre_count[u, genre_code[g]] += 1
            genre_total[u, genre_code[g]] += rating[i]
        if decade[t] >= 0:
            decade_count[u, decade[t]] += 1
