"""Repulsion on a grid against repulsion pair by pair, and that against plain loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.execution.threads import threads
from engine.kernels.cpu.tsne.exact_repulsion import repel
from engine.kernels.cpu.tsne.grid_repulsion import read_forces
from engine.tsne.repulsion import Grid
from tests import reference


def clusters(n_rows: int, span: float, seed: int = 0) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    centres = random.uniform(-0.5, 0.5, (12, 2))
    places = centres[random.integers(0, 12, n_rows)] + 0.06 * random.normal(size=(n_rows, 2))
    places = (places / np.ptp(places) * span).astype(np.float32)
    return np.ascontiguousarray(places[:, 0]), np.ascontiguousarray(places[:, 1])


def by_pairs(xs: Any, ys: Any) -> tuple[Any, float]:
    forces = np.empty((len(xs), 2), np.float32)
    return forces, repel(xs, ys, 0, len(xs), forces)


def on_grid(xs: Any, ys: Any, grid: Grid | None = None) -> tuple[Any, float]:
    field = (grid or Grid()).field(xs, ys)
    forces = np.empty((len(xs), 2), np.float32)
    read_forces(xs, ys, 0, len(xs), field.origin, field.potential, forces)
    return forces, field.z


def test_pairs_are_those_of_plain_loops() -> None:
    xs, ys = clusters(40, 5.0)
    forces, z = by_pairs(xs, ys)
    expected, total = reference.repulsion(list(zip(xs.tolist(), ys.tolist(), strict=True)))
    np.testing.assert_allclose(forces[:, ::-1], expected, rtol=1e-5, atol=1e-6)
    assert z == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize(("span", "n_rows"), [(1, 2000), (3, 2000), (20, 3000), (60, 5000), (150, 8000), (400, 12000)])
def test_the_grid_is_off_by_less_than_a_thousandth(span: float, n_rows: int) -> None:
    xs, ys = clusters(n_rows, span)
    exact, z = by_pairs(xs, ys)
    found, total = on_grid(xs, ys)
    assert np.linalg.norm(found - exact) < 1e-3 * np.linalg.norm(exact)
    assert total == pytest.approx(z, rel=2e-5)


def test_where_the_map_lies_does_not_matter() -> None:
    xs, ys = clusters(2000, 30.0)
    found, _ = on_grid(xs, ys)
    moved, _ = on_grid(xs + np.float32(500.0), ys - np.float32(300.0))
    assert np.linalg.norm(moved - found) < 1e-3 * np.linalg.norm(found)


def test_a_row_alone_is_not_pushed_and_rows_at_one_place_hardly() -> None:
    random = np.random.default_rng(0)
    for x, y in random.uniform(-9, 9, (20, 2)).astype(np.float32):
        forces, z = on_grid(np.full(1, x), np.full(1, y))
        assert np.abs(forces).max() < 2e-5  # two rows push each other by 0.32 at most
        assert z == pytest.approx(0.0, abs=1e-3)
    forces, z = on_grid(np.full(50, 3.0, np.float32), np.full(50, -2.0, np.float32))
    assert np.abs(forces).max() < 49 * 1e-3
    assert np.ptp(forces, axis=0).max() == 0.0  # so it does not part them
    assert z == pytest.approx(50 * 49, rel=1e-3)


def test_a_grid_that_grew_gives_the_bits_of_a_new_one() -> None:
    small, large = clusters(500, 10.0), clusters(500, 200.0)
    grid = Grid()
    on_grid(*small, grid)
    grown, _ = on_grid(*large, grid)
    np.testing.assert_array_equal(grown, on_grid(*large)[0])


def test_threads_do_not_change_bits() -> None:
    xs, ys = clusters(5000, 90.0)
    with threads(1):
        alone = on_grid(xs, ys)
    for count in (2, 3):
        with threads(count):
            together = on_grid(xs, ys)
        np.testing.assert_array_equal(alone[0], together[0])
        assert alone[1] == together[1]
