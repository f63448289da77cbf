"""Tests of the map image: where rows are drawn, in which color, and with which opacity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from engine.kernels.cpu.rasterize import MAX_COLOR_ROWS, rasterize
from engine.report import map_image
from engine.report.palette import palette


def draw_pixels(coordinates: Any, labels: Any, path: Path) -> Any:
    numbers = np.arange(np.max(labels) + 1, dtype=np.int32)
    map_image.draw_map(np.asarray(coordinates, np.float32), np.asarray(labels, np.int32), numbers, path)
    with Image.open(path) as image:
        return np.asarray(image)


def cluster_color(cluster: int) -> Any:
    (code,) = palette([cluster])
    return np.array([int(code[at : at + 2], 16) for at in (1, 3, 5)])


def test_x_goes_right_and_y_up_and_few_rows_are_drawn_as_discs(tmp_path: Path) -> None:
    pixels = draw_pixels([[0, 0], [100, 100]], [0, 1], tmp_path / "map.png")
    assert pixels.shape == (map_image.SIDE, map_image.SIDE, 3)
    rows, columns = np.nonzero((pixels != 255).any(axis=2))
    assert len(rows) == 2 * 21  # discs of five pixels across
    top = rows < map_image.SIDE // 2
    assert columns[top].min() > map_image.SIDE * 0.9
    assert columns[~top].max() < map_image.SIDE * 0.1
    faint = 255 + (cluster_color(1) - 255.0) * map_image.MIN_OPACITY / 255
    np.testing.assert_allclose(pixels[rows[top][0], columns[top][0]], faint, atol=1)


def test_a_pixel_of_two_clusters_has_their_mean_color_and_more_rows_are_more_opaque(tmp_path: Path) -> None:
    coordinates = np.repeat([[0.0, 0.0], [100.0, 100.0], [0.0, 100.0]], [8, 1, 2], axis=0)
    pixels = draw_pixels(coordinates, [0] * 4 + [1] * 4 + [0] + [0, 0], tmp_path / "map.png")
    near, far = int(map_image.SIDE * 0.02), int(map_image.SIDE * 0.98)
    np.testing.assert_allclose(pixels[far, near], (cluster_color(0) + cluster_color(1)) / 2, atol=1)
    one, two = pixels[near, far].astype(int), pixels[near, near].astype(int)
    assert (two <= one).all()
    assert two.sum() < one.sum()


def test_many_rows_are_single_pixels(tmp_path: Path) -> None:
    coordinates = np.zeros((map_image.MANY_ROWS + 1, 2), np.float32)
    coordinates[0] = 50.0
    pixels = draw_pixels(coordinates, np.zeros(len(coordinates)), tmp_path / "map.png")
    assert (pixels != 255).any(axis=2).sum() == 2


def test_a_pixel_counts_more_rows_than_its_color_is_the_mean_of() -> None:
    counts = np.zeros((2, 2, 4), np.uint32)
    counts[1, 0] = [7 * MAX_COLOR_ROWS, 0, 255 * (MAX_COLOR_ROWS - 1), MAX_COLOR_ROWS - 1]
    coordinates, labels = np.zeros((5, 2), np.float32), np.zeros(5, np.int32)
    colors = np.array([[0, 0, 255]], np.uint32)
    rasterize(coordinates, labels, colors, np.zeros(2), 1.0, counts)
    assert counts[1, 0].tolist() == [7 * MAX_COLOR_ROWS, 0, 255 * MAX_COLOR_ROWS, MAX_COLOR_ROWS + 4]
    assert not counts[0].any()


def test_a_legend_names_the_clusters_in_their_colors_the_largest_first(tmp_path: Path) -> None:
    names = ["Fond of \u5bff\u53f8", "Night owls", "x" * 99]
    labels, coordinates = np.array([0, 1, 1, 2]), np.arange(8.0).reshape(4, 2)
    map_image.draw_map(coordinates.astype(np.float32), labels.astype(np.int32), np.arange(3, dtype=np.int32),
                       tmp_path / "map.png", names)  # fmt: skip
    with Image.open(tmp_path / "map.png") as image:
        legend = np.asarray(image)[:, map_image.SIDE :]
    assert legend.shape[1] == map_image.LEGEND_WIDTH
    swatches = legend[:, 2]
    drawn = [tuple(color) for color in swatches[(swatches != 255).any(axis=1)]]
    assert list(dict.fromkeys(drawn)) == [tuple(cluster_color(c)) for c in (1, 0, 2)]
    assert (legend[:, 60:] < 128).all(axis=2).any()  # there are letters
    assert (legend[:, -4:] == 255).all()  # that fit
    assert map_image._printable(names[0], 7) == "Cluster 7"


def test_a_legend_counts_what_it_has_no_room_for(tmp_path: Path) -> None:
    k = 60
    coordinates = np.random.default_rng(0).random((k, 2)).astype(np.float32)
    map_image.draw_map(coordinates, np.arange(k, dtype=np.int32), np.arange(k, dtype=np.int32),
                       tmp_path / "map.png", [f"Cluster {c}" for c in range(k)])  # fmt: skip
    with Image.open(tmp_path / "map.png") as image:
        assert image.size == (map_image.SIDE + map_image.LEGEND_WIDTH, map_image.SIDE)
