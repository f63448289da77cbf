"""Count the ratings of an item that the user has rated before: corrections, visits, or a file that was read twice.

    codes of users and items, batch by batch  ->  how many ratings repeat an earlier pair, exactly or from a sample

Pairs are kept in memory as far as MAX_PAIRS goes. From there on only those with a small hash are, so that all ratings
of a pair are in the sample or none is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MAX_PAIRS = 4_000_000  # 32 MB
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: Knuth, The Art of Computer Programming 3, 6.4


class RepeatedRatings:
    """Count the pairs of user and item that come more than once.

    Attributes
    ----------
    n_read : int
        Ratings in all.
    """

    def __init__(self) -> None:
        self.n_read = 0
        self._kept: list[NDArray[np.uint64]] = []
        self._n_kept, self._shift = 0, np.uint64(0)

    @property
    def is_exact(self) -> bool:
        """Whether all pairs were kept."""
        return int(self._shift) == 0

    def update(self, users: NDArray[np.int64], items: NDArray[np.int64]) -> None:
        """Add the codes of a batch, arrays of shape (n_ratings,), each less than 2^32."""
        self.n_read += len(users)
        hashes = ((users.astype(np.uint64) << np.uint64(32)) | items.astype(np.uint64)) * _MIX  # one-to-one modulo 2^64
        self._kept.append(self._select(hashes))
        self._n_kept += len(self._kept[-1])
        while self._n_kept > MAX_PAIRS:
            self._shift += np.uint64(1)
            self._kept = [self._select(part) for part in self._kept]
            self._n_kept = sum(map(len, self._kept))

    def _select(self, hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
        return hashes if self.is_exact else hashes[hashes >> (np.uint64(64) - self._shift) == 0]

    @property
    def share(self) -> float:
        """The share of the ratings that repeat an earlier pair."""
        if self._n_kept == 0:
            return 0.0
        return 1.0 - len(np.unique(np.concatenate(self._kept))) / self._n_kept

    def describe(self) -> str | None:
        """Return a sentence on repeated ratings, None if there are none."""
        share = self.share
        if share == 0.0:
            return None
        n = round(share * self.n_read)
        count = f"{n:,}" if self.is_exact else f"About {float(f'{n:.2g}'):,.0f}"
        return (
            f"{count} of {self.n_read:,} ratings are of an item that the user has rated before, and each counts. If "
            "they are corrections, or a table was read twice, leave all but the last one out."
        )
