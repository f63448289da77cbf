"""The picture of a map: where rows are drawn, in which colour, and how strongly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from engine.kernels.cpu.rasterize import MIXED_ROWS, count_pixels
from engine.report import map_image as picture
from engine.report.palette import palette


def drawn(places: Any, labels: Any, path: Path) -> Any:
    picture.draw(np.asarray(places, np.float32), np.asarray(labels, np.int32), path)
    with Image.open(path) as image:
        return np.asarray(image)


def colour(cluster: int) -> Any:
    text = palette(cluster + 1)[cluster]
    return np.array([int(text[at : at + 2], 16) for at in (1, 3, 5)])


def test_x_goes_right_and_y_up_and_rows_are_discs_where_they_are_few(tmp_path: Path) -> None:
    pixels = drawn([[0, 0], [100, 100]], [0, 1], tmp_path / "map.png")
    assert pixels.shape == (picture.SIDE, picture.SIDE, 3)
    rows, columns = np.nonzero((pixels != 255).any(axis=2))
    assert len(rows) == 2 * 21  # discs of five pixels across
    top = rows < picture.SIDE // 2
    assert columns[top].min() > picture.SIDE * 0.9
    assert columns[~top].max() < picture.SIDE * 0.1
    faint = 255 + (colour(1) - 255.0) * picture.LEAST_OPACITY / 255
    np.testing.assert_allclose(pixels[rows[top][0], columns[top][0]], faint, atol=1)


def test_a_pixel_of_two_clusters_has_the_colour_between_and_more_rows_are_stronger(tmp_path: Path) -> None:
    places = np.repeat([[0.0, 0.0], [100.0, 100.0], [0.0, 100.0]], [8, 1, 2], axis=0)
    pixels = drawn(places, [0] * 4 + [1] * 4 + [0] + [0, 0], tmp_path / "map.png")
    near, far = int(picture.SIDE * 0.02), int(picture.SIDE * 0.98)
    np.testing.assert_allclose(pixels[far, near], (colour(0) + colour(1)) / 2, atol=1)
    one, two = pixels[near, far].astype(int), pixels[near, near].astype(int)
    assert (two <= one).all()
    assert two.sum() < one.sum()


def test_many_rows_are_single_pixels(tmp_path: Path) -> None:
    places = np.zeros((picture.MANY_ROWS + 1, 2), np.float32)
    places[0] = 50.0
    pixels = drawn(places, np.zeros(len(places)), tmp_path / "map.png")
    assert (pixels != 255).any(axis=2).sum() == 2


def test_a_pixel_of_more_rows_than_its_colour_is_mixed_of_still_counts_them() -> None:
    counts = np.zeros((2, 2, 4), np.uint32)
    counts[1, 0] = [7 * MIXED_ROWS, 0, 255 * (MIXED_ROWS - 1), MIXED_ROWS - 1]
    places, labels = np.zeros((5, 2), np.float32), np.zeros(5, np.int32)
    colours = np.array([[0, 0, 255]], np.uint32)
    count_pixels(places, labels, colours, np.zeros(2), 1.0, counts)
    assert counts[1, 0].tolist() == [7 * MIXED_ROWS, 0, 255 * MIXED_ROWS, MIXED_ROWS + 4]
    assert not counts[0].any()
