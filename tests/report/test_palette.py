"""Tests of the palette: its colors can be told apart, also with protanopia and deuteranopia."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.report.palette import COLORS, palette

Floats = NDArray[np.float64]

TO_CONE = np.array(
    [[0.41222147, 0.53633254, 0.05144599], [0.2119035, 0.68069955, 0.10739696], [0.08830246, 0.28171884, 0.6299787]]
)
TO_LAB = np.array(
    [[0.21045426, 0.79361778, -0.00407205], [1.9779985, -2.4285922, 0.4505937], [0.0259040, 0.7827718, -0.8086758]]
)
VISION = {  # Machado et al. 2009, severity 1, on linear RGB
    "full": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}


def oklab(colors: list[str], vision: str) -> Floats:
    rgb = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in colors]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    perceived = np.clip(linear @ VISION[vision].T, 0, 1)
    lab: Floats = np.cbrt(perceived @ TO_CONE.T) @ TO_LAB.T
    return lab


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize(("n", "min_distance"), [(7, 0.07), (12, 0.07), (20, 0.065), (60, 0.035)])
def test_colors_are_far_apart_with_every_kind_of_vision(n: int, min_distance: float, vision: str) -> None:
    lab = oklab(palette(range(n)), vision)
    distances = np.linalg.norm(lab[:, None] - lab[None], axis=2) + np.eye(n)
    assert distances.min() >= min_distance


def test_colors_are_visible_on_white_and_on_black() -> None:
    lightness = oklab(list(COLORS), "full")[:, 0]
    assert 0.4 < lightness.min() <= lightness.max() < 0.93


def test_the_color_of_a_cluster_does_not_depend_on_the_number_of_clusters() -> None:
    assert len(set(COLORS)) == len(COLORS) >= 50
    assert palette([3, 1]) == [COLORS[3], COLORS[1]]
    assert palette(range(60, 70)) == palette(range(10))
    assert palette([]) == []
