"""Draw a map of any number of rows as a picture.

    places (n_rows, 2), labels (n_rows,)  ->  a PNG file

Rows are counted per pixel, so a million of them cannot overplot each other; a pixel's colour is the mean of its rows'
clusters', its opacity grows with the rank of its count. Colours: palette.py. Why not datashader: decisions/0009.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.execution.local import row_blocks
from engine.report.palette import palette

Float32s = NDArray[np.float32]

SIDE = 1200  # pixels
LEAST_OPACITY = 150  # of 255, for a single row: it must be seen
FEW_ROWS, MANY_ROWS = 30_000, 300_000  # up to so many, rows are discs of 5 and of 3 pixels across; beyond, one pixel
COUNT_ROWS = 262_144  # rows counted at a time: a few MiB of pixel numbers


def draw(places: Float32s, labels: NDArray[np.int32], path: Path) -> None:
    """Write the picture of rows at `places`, coloured by label, on a white ground."""
    from PIL import Image

    counts = _counted(places, labels)
    radius = (len(places) <= FEW_ROWS) + (len(places) <= MANY_ROWS)
    if radius:
        counts = _spread(counts, radius)
    n_rows = counts[3]
    colours = counts[:3] / np.maximum(n_rows, 1.0)
    opacity = _opacity(n_rows.astype(np.int64)) / np.float32(255.0)
    pixels = np.rint(255.0 + opacity * (colours - 255.0)).astype(np.uint8).transpose(1, 2, 0)
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, compress_level=3)  # as small as 6, in two thirds the time


def _counted(places: Float32s, labels: NDArray[np.int32]) -> Float32s:
    """Return the sums of red, green and blue over the rows of every pixel, and their number, (4, SIDE, SIDE)."""
    low, high = places.min(axis=0).astype(np.float64), places.max(axis=0).astype(np.float64)
    side = 1.04 * max(float((high - low).max()), 2.0)  # a square, with a margin
    corner = (low + high - side) / 2
    colours = np.array([[int(text[at : at + 2], 16) for at in (1, 3, 5)] for text in palette(int(labels.max()) + 1)])
    sums = np.zeros((4, SIDE * SIDE), np.float32)  # sums of integers: exact to 65,000 rows a pixel
    for part in row_blocks(len(places), COUNT_ROWS):
        x, y = ((places[part].T - corner[:, None]) * (SIDE / side)).astype(np.int64)
        pixels = (SIDE - 1 - y) * SIDE + x
        for channel in range(3):
            sums[channel] += np.bincount(pixels, colours[labels[part], channel], minlength=SIDE * SIDE)
        sums[3] += np.bincount(pixels, minlength=SIDE * SIDE)
    return sums.reshape(4, SIDE, SIDE)


def _spread(counts: Float32s, radius: int) -> Float32s:
    """Return what discs of 2 x radius + 1 pixels across would have counted."""
    around = range(-radius, radius + 1)
    padded = np.pad(counts, ((0, 0), (radius, radius), (radius, radius)))
    total = np.zeros_like(counts)
    for y, x in ((y, x) for y in around for x in around if y * y + x * x <= radius * radius + 1):
        total += padded[:, radius + y : radius + y + SIDE, radius + x : radius + x + SIDE]
    return total


def _opacity(n_rows: NDArray[np.int64]) -> Float32s:
    """Return opacities of 255: nothing without rows, else by the share of other pixels that have no more."""
    reach = np.cumsum(np.bincount(n_rows.ravel())[1:])  # pixels with 1 row, with up to 2, …
    share = (reach - reach[0]) / max(reach[-1] - reach[0], 1)
    by_count = np.concatenate([[0.0], LEAST_OPACITY + (255 - LEAST_OPACITY) * share])
    found: Float32s = by_count.astype(np.float32)[n_rows]
    return found
