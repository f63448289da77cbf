"""Repulsion on a grid against the exact repulsion, and that against plain loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.execution.threads import threads
from engine.kernels.cpu.tsne.exact_repulsion import compute_exact_repulsion
from engine.kernels.cpu.tsne.grid_repulsion import convolve, forward_transform, interpolate_forces
from engine.tsne.repulsion import InterpolationGrid
from tests import reference


def clusters(n_rows: int, span: float, seed: int = 0) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    centers = random.uniform(-0.5, 0.5, (12, 2))
    positions = centers[random.integers(0, 12, n_rows)] + 0.06 * random.normal(size=(n_rows, 2))
    positions = (positions / np.ptp(positions) * span).astype(np.float32)
    return np.ascontiguousarray(positions[:, 0]), np.ascontiguousarray(positions[:, 1])


def exact_forces(xs: Any, ys: Any) -> tuple[Any, float]:
    forces = np.empty((len(xs), 2), np.float32)
    return forces, compute_exact_repulsion(xs, ys, 0, len(xs), forces)


def grid_forces(xs: Any, ys: Any, grid: InterpolationGrid | None = None) -> tuple[Any, float]:
    field = (grid or InterpolationGrid()).compute_field(xs, ys)
    forces = np.empty((len(xs), 2), np.float32)
    interpolate_forces(xs, ys, 0, len(xs), field.origin, field.potential, forces)
    return forces, field.z


def test_exact_forces_are_those_of_plain_loops() -> None:
    xs, ys = clusters(40, 5.0)
    forces, z = exact_forces(xs, ys)
    expected, total = reference.repulsion(list(zip(xs.tolist(), ys.tolist(), strict=True)))
    np.testing.assert_allclose(forces[:, ::-1], expected, rtol=1e-5, atol=1e-6)
    assert z == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize(("span", "n_rows"), [(1, 2000), (3, 2000), (20, 3000), (60, 5000), (150, 8000), (400, 12000)])
def test_the_grid_is_off_by_less_than_a_thousandth(span: float, n_rows: int) -> None:
    xs, ys = clusters(n_rows, span)
    exact, z = exact_forces(xs, ys)
    found, total = grid_forces(xs, ys)
    assert np.linalg.norm(found - exact) < 1e-3 * np.linalg.norm(exact)
    assert total == pytest.approx(z, rel=2e-5)


def test_the_position_of_the_embedding_does_not_matter() -> None:
    xs, ys = clusters(2000, 30.0)
    found, _ = grid_forces(xs, ys)
    moved, _ = grid_forces(xs + np.float32(500.0), ys - np.float32(300.0))
    assert np.linalg.norm(moved - found) < 1e-3 * np.linalg.norm(found)


def test_a_single_row_is_not_repelled_and_rows_at_one_position_hardly() -> None:
    random = np.random.default_rng(0)
    for x, y in random.uniform(-9, 9, (20, 2)).astype(np.float32):
        forces, z = grid_forces(np.full(1, x), np.full(1, y))
        assert np.abs(forces).max() < 2e-5  # the force between two rows is 0.32 at most
        assert z == pytest.approx(0.0, abs=1e-3)
    forces, z = grid_forces(np.full(50, 3.0, np.float32), np.full(50, -2.0, np.float32))
    assert np.abs(forces).max() < 49 * 1e-3
    assert np.ptp(forces, axis=0).max() == 0.0  # so equal rows stay together
    assert z == pytest.approx(50 * 49, rel=1e-3)


def test_a_grid_that_grew_gives_the_bits_of_a_new_one() -> None:
    small, large = clusters(500, 10.0), clusters(500, 200.0)
    grid = InterpolationGrid()
    grid_forces(*small, grid)
    grown, _ = grid_forces(*large, grid)
    np.testing.assert_array_equal(grown, grid_forces(*large)[0])


def test_grids_of_any_size_need_kernels_for_one_layout_of_memory() -> None:
    grid = InterpolationGrid()
    for span in (10.0, 90.0, 200.0, 40.0):
        grid_forces(*clusters(500, span), grid)
    assert [len(kernel.signatures) for kernel in (forward_transform, convolve)] == [1, 1]


def test_threads_do_not_change_bits() -> None:
    xs, ys = clusters(5000, 90.0)
    with threads(1):
        alone = grid_forces(xs, ys)
    for count in (2, 3):
        with threads(count):
            together = grid_forces(xs, ys)
        np.testing.assert_array_equal(alone[0], together[0])
        assert alone[1] == together[1]
