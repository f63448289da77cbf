"""Recognise numbers among ratings that stand for "no rating": Book-Crossing rates from 1 to 10, and 0 is no answer.

    numbers of ratings by value  ->  is 0 a rating? which numbers off the scale, such as -1 and 99, are none?

Ratings of a scale lie on half steps up to 10. A zero is no rating if there are more zeros than ratings of any other
value, or many times as many as of the two lowest: people who rate do not use the lowest step so often. -1, and numbers
such as 99 and -999, are no ratings beside a scale if nothing else is off it.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from engine.errors import UsageError

Zeros = Literal["auto", "missing", "ratings"]

STEPS = 20  # half steps of the longest scale, from 0 to 10
MIN_TOP = 4  # the highest rating of a scale is at least that: likes and dislikes are no scale
MIN_RATINGS = 100  # fewer show no scale
MIN_ZERO_SHARE = 0.05  # of all ratings
MAX_MARKS = 4  # numbers off a scale that stand for no rating
_MARK = re.compile(r"-1|-?99+|-9")
MIN_HEAP = 10  # times as many zeros as ratings of each of the two lowest steps


class RatingScale:
    """Count ratings by value, and those that lie on no scale.

    Attributes
    ----------
    counts : int64 of shape (21,)
        Ratings of 0, 0.5, 1 … 10.
    others : Counter of float
        Ratings of other values, of which at most MAX_MARKS + 1 are told apart.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(STEPS + 1, np.int64)
        self.others: Counter[float] = Counter()

    def update(self, ratings: NDArray[np.float64]) -> None:
        """Count a batch of ratings; NaN is none."""
        steps = 2.0 * ratings
        on_scale = (steps == np.rint(steps)) & (steps >= 0) & (steps <= STEPS)
        self.counts += np.bincount(steps[on_scale].astype(np.int64), minlength=STEPS + 1)
        if len(self.others) <= MAX_MARKS:
            values, counts = np.unique(ratings[~on_scale & ~np.isnan(steps)], return_counts=True)
            self.others.update(dict(zip(values[: MAX_MARKS + 1].tolist(), counts.tolist(), strict=False)))

    @property
    def n_zeros(self) -> int:
        """The number of ratings of 0."""
        return int(self.counts[0])

    @property
    def marks(self) -> tuple[float, ...]:
        """Numbers such as -1 and 99 that stand for "no rating" beside a scale, ascending; all that are off it."""
        return tuple(sorted(self.others)) if self._is_scale else ()

    @property
    def _is_scale(self) -> bool:
        """Whether ratings are steps of a scale, apart from numbers that look like marks of missing ones."""
        rated = np.flatnonzero(self.counts[1:]) + 1
        if len(rated) < 2 or rated[-1] < 2 * MIN_TOP or self.counts.sum() < MIN_RATINGS:
            return False
        return len(self.others) <= MAX_MARKS and all(_MARK.fullmatch(f"{value:.15g}") for value in self.others)

    @property
    def zero_is_no_rating(self) -> bool:
        """Whether zeros are so many, beside the steps of a scale, that they stand for "no rating"."""
        rated = np.flatnonzero(self.counts[1:]) + 1
        if not self._is_scale or self.n_zeros < MIN_ZERO_SHARE * self.counts.sum():
            return False
        return bool(self.n_zeros > self.counts[1:].max() or self.n_zeros >= MIN_HEAP * self.counts[rated[:2]].max())


def check_zeros(zeros: str) -> None:
    """Raise UsageError unless `zeros` says what ratings of 0 are."""
    if zeros not in get_args(Zeros):
        raise UsageError(f"zeros={zeros!r} must be one of {', '.join(map(repr, get_args(Zeros)))}.")
