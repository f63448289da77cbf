"""Rasterize an embedding: count the rows in every pixel of an image, and sum their colors.

    embedding (n_rows, 2), labels (n_rows,), colors (n_clusters, 3)  ->  counts (side, side, 4): red, green, blue, rows

One pass in the order of the rows, without an array of their pixels: an image takes 16 bytes per pixel, whatever the
number of rows.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

MAX_COLOR_ROWS = 1 << 24  # rows of a pixel whose colors are summed, the first ones: 255 times as much is below 2^32


@numba.njit(nogil=True, cache=True)
def rasterize(
    embedding: NDArray[np.float32], labels: NDArray[np.int32], colors: NDArray[np.uint32],
    corner: NDArray[np.float64], scale: float, counts: NDArray[np.uint32],
) -> None:  # fmt: skip
    """Add rows to counts (side, side, 4), whose last line is that of the lowest y; colors are in 0 … 255.

    A position p is in the pixel floor((p - corner) x scale), which must be in the image.
    """
    side = counts.shape[0]
    for row in range(len(embedding)):
        x = int((embedding[row, 0] - corner[0]) * scale)
        y = side - 1 - int((embedding[row, 1] - corner[1]) * scale)
        if counts[y, x, 3] < MAX_COLOR_ROWS:
            for channel in range(3):
                counts[y, x, channel] += colors[labels[row], channel]
        counts[y, x, 3] += np.uint32(1)


@numba.njit(nogil=True, cache=True)
def bounding_box(embedding: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the least and the greatest x and y of at least one row, (2, 2); NumPy takes twenty times as long."""
    bounds = np.empty((2, 2))
    for axis in range(2):
        low = high = embedding[0, axis]
        for row in range(len(embedding)):
            low, high = min(low, embedding[row, axis]), max(high, embedding[row, axis])
        bounds[0, axis], bounds[1, axis] = low, high
    return bounds
