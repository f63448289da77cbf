"""Draw a map of any number of rows as a picture.

    places (n_rows, 2), labels (n_rows,)  ->  a PNG file

Rows are counted per pixel and cluster by datashader, so a million of them cannot overplot each other; a pixel's colour
is the mean of its clusters', its opacity grows with the rank of its count. Colours: palette.py.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.report.palette import palette

SIDE = 1200  # pixels
LEAST_OPACITY = 150  # of 255, for a single row: it must be seen
FEW_ROWS, MANY_ROWS = 30_000, 300_000  # up to so many, rows are discs of 5 and of 3 pixels across; beyond, one pixel


def draw(places: NDArray[np.float32], labels: NDArray[np.int32], path: Path) -> None:
    """Write the picture of rows at `places`, coloured by label, on a white ground."""
    import datashader
    import datashader.transfer_functions as transfer
    import pandas as pd

    n_clusters = int(labels.max()) + 1
    rows = pd.DataFrame({"x": places[:, 0], "y": places[:, 1]})
    rows["cluster"] = pd.Categorical.from_codes(labels, categories=pd.Index(range(n_clusters)))
    (low_x, low_y), (high_x, high_y) = places.min(axis=0), places.max(axis=0)
    half = 0.52 * max(float(high_x - low_x), float(high_y - low_y), 1.0)  # a square, with a margin of 4 %
    x, y = (float(low_x) + float(high_x)) / 2, (float(low_y) + float(high_y)) / 2
    canvas = datashader.Canvas(SIDE, SIDE, x_range=(x - half, x + half), y_range=(y - half, y + half))
    counts = canvas.points(rows, "x", "y", datashader.by("cluster", datashader.count()))
    image = transfer.shade(counts, color_key=palette(n_clusters), how="eq_hist", min_alpha=LEAST_OPACITY)
    image = transfer.spread(image, px=(len(places) <= FEW_ROWS) + (len(places) <= MANY_ROWS))
    transfer.set_background(image, "white").to_pil().save(path)
