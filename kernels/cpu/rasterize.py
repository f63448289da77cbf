"""How many rows fall on every pixel of a picture, and the sum of their colours.

    places (n_rows, 2), labels (n_rows,), colours (n_clusters, 3)  ->  counts (side, side, 4): red, green, blue, rows

One pass in the order of the rows, without an array of their pixels: a picture takes 16 bytes a pixel, whatever the
number of rows.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

MIXED_ROWS = 1 << 24  # rows of a pixel that its colour is mixed of, the first ones: 255 times as much is below 2^32


@numba.njit(nogil=True, cache=True)
def count_pixels(
    places: NDArray[np.float32], labels: NDArray[np.int32], colours: NDArray[np.uint32],
    corner: NDArray[np.float64], scale: float, counts: NDArray[np.uint32],
) -> None:  # fmt: skip
    """Add rows to counts (side, side, 4), whose last line is that of the lowest y; colours are of 0…255.

    A place p lies on the pixel floor((p - corner) x scale), which has to be in the picture.
    """
    side = counts.shape[0]
    for row in range(len(places)):
        x = int((places[row, 0] - corner[0]) * scale)
        y = side - 1 - int((places[row, 1] - corner[1]) * scale)
        if counts[y, x, 3] < MIXED_ROWS:
            for channel in range(3):
                counts[y, x, channel] += colours[labels[row], channel]
        counts[y, x, 3] += np.uint32(1)


@numba.njit(nogil=True, cache=True)
def corners(places: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the lowest and the highest x and y of at least one place, (2, 2); NumPy takes twenty times as long."""
    found = np.empty((2, 2))
    for axis in range(2):
        low = high = places[0, axis]
        for row in range(len(places)):
            low, high = min(low, places[row, axis]), max(high, places[row, axis])
        found[0, axis], found[1, axis] = low, high
    return found
