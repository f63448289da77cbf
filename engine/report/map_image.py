"""Draw a map of any number of rows as a picture.

    places (n_rows, 2), labels (n_rows,)  ->  a PNG file

Rows are counted per pixel, so a million of them cannot overplot each other; a pixel's colour is the mean of its rows'
clusters', its opacity grows with the rank of its count. Colours: palette.py. Why not datashader: decisions/0009.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.execution.threads import row_blocks
from engine.kernels.cpu.rasterize import MIXED_ROWS, corners, count_pixels
from engine.report.palette import palette

Counts = NDArray[np.uint32]

SIDE = 1200  # pixels
LEAST_OPACITY = 150  # of 255, for a single row: it must be seen
FEW_ROWS, MANY_ROWS = 30_000, 300_000  # up to so many, rows are discs of 5 and of 3 pixels across; beyond, one pixel
STRIPE = 100  # lines painted at a time: a few MiB of colours


def draw(places: NDArray[np.float32], labels: NDArray[np.int32], path: Path) -> None:
    """Write the picture of rows at `places`, coloured by label, on a white ground."""
    from PIL import Image

    counts = _counted(places, labels)
    radius = (len(places) <= FEW_ROWS) + (len(places) <= MANY_ROWS)
    if radius:
        counts = _spread(counts, radius)
    pixels = np.empty((SIDE, SIDE, 3), np.uint8)
    filled = np.sort(counts[..., 3][counts[..., 3] > 0])
    for part in row_blocks(SIDE, STRIPE):
        n_rows = counts[part, :, 3]
        colours = counts[part, :, :3] / np.clip(n_rows, 1, MIXED_ROWS)[..., None]
        pixels[part] = np.rint(255.0 + _opacity(n_rows, filled)[..., None] / 255.0 * (colours - 255.0))
    Image.fromarray(pixels).save(path, compress_level=3)  # as small as 6, in two thirds the time


def _counted(places: NDArray[np.float32], labels: NDArray[np.int32]) -> Counts:
    """Return the sums of red, green and blue over the rows of every pixel, and their number, (SIDE, SIDE, 4)."""
    low, high = corners(places)
    side = 1.04 * max(float((high - low).max()), 2.0)  # a square, with a margin
    colours = [[int(text[at : at + 2], 16) for at in (1, 3, 5)] for text in palette(int(labels.max()) + 1)]
    counts = np.zeros((SIDE, SIDE, 4), np.uint32)
    count_pixels(places, labels, np.array(colours, np.uint32), (low + high - side) / 2, SIDE / side, counts)
    return counts


def _spread(counts: Counts, radius: int) -> Counts:
    """Return what discs of 2 x radius + 1 pixels across would have counted."""
    around = range(-radius, radius + 1)
    padded = np.pad(counts, ((radius, radius), (radius, radius), (0, 0)))
    total = np.zeros_like(counts)
    for y, x in ((y, x) for y in around for x in around if y * y + x * x <= radius * radius + 1):
        total += padded[radius + y : radius + y + SIDE, radius + x : radius + x + SIDE]
    return total


def _opacity(n_rows: Counts, filled: Counts) -> NDArray[np.float64]:
    """Return opacities of 255: nothing without rows, else by the share of filled pixels that have no more.

    `filled` are the numbers of rows of all pixels that have some, ascending.
    """
    single = int(np.searchsorted(filled, 1, side="right"))
    share = (np.searchsorted(filled, n_rows, side="right") - single) / max(len(filled) - single, 1)
    return np.where(n_rows > 0, LEAST_OPACITY + (255 - LEAST_OPACITY) * share, 0.0)
