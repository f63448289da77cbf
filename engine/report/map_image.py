"""Draw a map of any number of rows as an image.

    coordinates (n_rows, 2), labels (n_rows,)  ->  a PNG file

Rows are counted per pixel, so a million rows do not hide each other: the color of a pixel is the mean color of its
rows' clusters, and its opacity grows with the rank of its count. The colors are those of palette.py. Why not
datashader: decisions/0009.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.execution.threads import row_blocks
from engine.kernels.cpu.rasterize import MAX_COLOR_ROWS, bounding_box, rasterize
from engine.report.palette import palette

if TYPE_CHECKING:
    import PIL.Image

PixelCounts = NDArray[np.uint32]

SIDE = 1200  # pixels
MIN_OPACITY = 150  # of 255: the opacity of a pixel with a single row, which must be visible
# A row is a disc 5 pixels across in a map of at most FEW_ROWS rows, 3 in one of at most MANY_ROWS, else one pixel.
FEW_ROWS, MANY_ROWS = 30_000, 300_000
LEGEND_WIDTH, LINE = 520, 34  # pixels of the legend, and of one of its lines
MAX_NAME = 44  # letters of a name that fit into a line
LAST_LATIN = 0x17F  # the last letter that Pillow's own font has for sure
STRIPE = 100  # lines of the image drawn at a time: a few MiB of colors


def draw_map(
    coordinates: NDArray[np.float32],
    labels: NDArray[np.int32],
    numbers: NDArray[np.int32],
    path: Path,
    names: Sequence[str] = (),
) -> None:
    """Write the image of the rows at their coordinates, on white, in the colors of their clusters' `numbers`.

    With `names`, a legend stands on the right, in the order of the sizes.
    """
    import PIL.Image

    counts = _count_pixels(coordinates, labels, numbers)
    radius = (len(coordinates) <= FEW_ROWS) + (len(coordinates) <= MANY_ROWS)
    if radius:
        counts = _sum_discs(counts, radius)
    pixels = np.empty((SIDE, SIDE, 3), np.uint8)
    filled = np.sort(counts[..., 3][counts[..., 3] > 0])
    for part in row_blocks(SIDE, STRIPE):
        n_rows = counts[part, :, 3]
        colors = counts[part, :, :3] / np.clip(n_rows, 1, MAX_COLOR_ROWS)[..., None]
        pixels[part] = np.rint(255.0 + _compute_opacity(n_rows, filled)[..., None] / 255.0 * (colors - 255.0))
    image = PIL.Image.fromarray(pixels)
    if names:
        sizes = np.bincount(labels, minlength=len(names))
        image = _add_legend(image, _by_size(names, numbers.tolist(), sizes.tolist()))
    image.save(path, compress_level=3)  # as small as level 6, in two thirds of the time


def rename_on_map(path: Path, names: Sequence[str], numbers: Sequence[int], sizes: Sequence[int]) -> None:
    """Write an image that `draw_map` wrote with a legend anew, with a legend of other names."""
    import PIL.Image

    with PIL.Image.open(path) as image:
        drawn = image.crop((0, 0, SIDE, SIDE))
    path.unlink()
    _add_legend(drawn, _by_size(names, numbers, sizes)).save(path, compress_level=3)


def _by_size(names: Sequence[str], numbers: Sequence[int], sizes: Sequence[int]) -> list[tuple[str, int]]:
    """Return names and numbers of clusters, the largest first."""
    order = np.argsort(-np.asarray(sizes), kind="stable").tolist()
    return [(names[c], numbers[c]) for c in order]


def _add_legend(image: PIL.Image.Image, entries: Sequence[tuple[str, int]]) -> PIL.Image.Image:
    """Return the image with a legend of names and colors of numbers on its right; names too many for it are counted."""
    import PIL.Image
    from PIL import ImageDraw, ImageFont

    font, n_shown = ImageFont.load_default(size=LINE * 0.6), SIDE // LINE - 1
    shown = [(_printable(name, number), palette([number])[0]) for name, number in entries[:n_shown]]
    if len(entries) > n_shown:
        shown.append((f"and {len(entries) - n_shown} more", "#ffffff"))
    wider = PIL.Image.new("RGB", (SIDE + LEGEND_WIDTH, SIDE), "white")
    wider.paste(image, (0, 0))
    draw = ImageDraw.Draw(wider)
    top = (SIDE - LINE * len(shown)) // 2
    for line, (name, color) in enumerate(shown):
        y = top + LINE * line
        draw.rectangle((SIDE, y, SIDE + LINE // 2, y + LINE // 2), fill=color)
        draw.text((SIDE + 0.8 * LINE, y + LINE // 4), name, fill="#1b1f24", font=font, anchor="lm")
    return wider


def _printable(name: str, number: int) -> str:
    """Return a name that fits into the legend; by its number, if the font may lack a letter of it."""
    if not name.isascii() and any(ord(letter) > LAST_LATIN for letter in name):
        return f"Cluster {number}"
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 1].rstrip() + "…"


def _count_pixels(
    coordinates: NDArray[np.float32], labels: NDArray[np.int32], numbers: NDArray[np.int32]
) -> PixelCounts:
    """Return the sums of red, green and blue over the rows of every pixel, and their number, (SIDE, SIDE, 4)."""
    low, high = bounding_box(coordinates)
    side = 1.04 * max(float((high - low).max()), 2.0)  # a square, with a margin
    colors = [[int(text[at : at + 2], 16) for at in (1, 3, 5)] for text in palette(numbers.tolist())]
    counts = np.zeros((SIDE, SIDE, 4), np.uint32)
    rasterize(coordinates, labels, np.array(colors, np.uint32), (low + high - side) / 2, SIDE / side, counts)
    return counts


def _sum_discs(counts: PixelCounts, radius: int) -> PixelCounts:
    """Return the counts with every row drawn as a disc 2 x radius + 1 pixels across."""
    offsets = range(-radius, radius + 1)
    padded = np.pad(counts, ((radius, radius), (radius, radius), (0, 0)))
    total = np.zeros_like(counts)
    for y, x in ((y, x) for y in offsets for x in offsets if y * y + x * x <= radius * radius + 1):
        total += padded[radius + y : radius + y + SIDE, radius + x : radius + x + SIDE]
    return total


def _compute_opacity(n_rows: PixelCounts, filled: PixelCounts) -> NDArray[np.float64]:
    """Return opacities in [0, 255]: 0 for pixels without rows, else by the rank of the count among filled pixels.

    `filled` holds the counts of all pixels that have rows, in ascending order; equal counts have equal ranks.
    """
    single = int(np.searchsorted(filled, 1, side="right"))
    share = (np.searchsorted(filled, n_rows, side="right") - single) / max(len(filled) - single, 1)
    return np.where(n_rows > 0, MIN_OPACITY + (255 - MIN_OPACITY) * share, 0.0)
