"""Recognise zeros among ratings that stand for "no rating": Book-Crossing rates from 1 to 10, and 0 is no answer.

    numbers of ratings by value  ->  is 0 a rating?

Ratings of a scale lie on half steps up to 10. A zero is no rating if there are more zeros than ratings of any other
value, or many times as many as of the two lowest: people who rate do not use the lowest step so often.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from engine.errors import UsageError

Zeros = Literal["auto", "missing", "ratings"]

STEPS = 20  # half steps of the longest scale, from 0 to 10
MIN_TOP = 4  # the highest rating of a scale is at least that: likes and dislikes are no scale
MIN_RATINGS = 100  # fewer show no scale
MIN_ZERO_SHARE = 0.05  # of all ratings
MIN_HEAP = 10  # times as many zeros as ratings of each of the two lowest steps


class RatingScale:
    """Count ratings by value, and those that lie on no scale."""

    def __init__(self) -> None:
        self.counts = np.zeros(STEPS + 1, np.int64)  # ratings of 0, 0.5, 1 … 10
        self.n_others = 0

    def update(self, ratings: NDArray[np.float64]) -> None:
        """Count a batch of ratings; NaN is none."""
        steps = 2.0 * ratings
        on_scale = (steps == np.rint(steps)) & (steps >= 0) & (steps <= STEPS)
        self.counts += np.bincount(steps[on_scale].astype(np.int64), minlength=STEPS + 1)
        self.n_others += int(np.count_nonzero(~on_scale & ~np.isnan(steps)))

    @property
    def n_zeros(self) -> int:
        """The number of ratings of 0."""
        return int(self.counts[0])

    @property
    def zero_is_no_rating(self) -> bool:
        """Whether zeros are so many, beside the steps of a scale, that they stand for "no rating"."""
        rated = np.flatnonzero(self.counts[1:]) + 1
        if self.n_others or len(rated) < 2 or rated[-1] < 2 * MIN_TOP:
            return False
        if self.counts.sum() < MIN_RATINGS or self.n_zeros < MIN_ZERO_SHARE * self.counts.sum():
            return False
        return bool(self.n_zeros > self.counts[1:].max() or self.n_zeros >= MIN_HEAP * self.counts[rated[:2]].max())


def check_zeros(zeros: str) -> None:
    """Raise UsageError unless `zeros` says what ratings of 0 are."""
    if zeros not in get_args(Zeros):
        raise UsageError(f"zeros={zeros!r} must be one of {', '.join(map(repr, get_args(Zeros)))}.")
