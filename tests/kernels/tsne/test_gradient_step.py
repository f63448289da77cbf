"""One step of gradient descent: attraction against plain loops, the update of gains and velocity by hand."""

from __future__ import annotations

import numpy as np
import pytest

import engine.tsne.affinities
from engine.kernels.cpu.tsne import affinities, gradient_step
from engine.kernels.cpu.tsne.affinities import decode_weight, edge_target
from engine.tsne.affinities import compute_affinities
from tests import reference


@pytest.mark.parametrize("narrow", [0, affinities.UINT16_ROWS])  # targets in three bytes, and in two
@pytest.mark.parametrize("n_rows", [13, 200])
def test_attraction_is_the_one_of_plain_loops(n_rows: int, narrow: int, monkeypatch: pytest.MonkeyPatch) -> None:
    n_positions = affinities.UINT16_ROWS
    monkeypatch.setattr(engine.tsne.affinities, "UINT16_ROWS", narrow)
    random = np.random.default_rng(0)
    P = compute_affinities(random.normal(size=(n_rows, 4)).astype(np.float32), 4.0, lambda rows: None)
    xs, ys = random.normal(size=(2, n_rows)).astype(np.float32)
    embedding, forces = np.zeros(2 * n_positions, np.float32), np.zeros((n_rows, 2), np.float32)
    embedding[: 2 * n_rows] = np.stack([xs, ys], axis=1).ravel()
    for start, stop in ((0, 5), (5, n_rows)):
        for edges in (P.neighbor_edges, P.reverse_edges):
            gradient_step.add_attraction(embedding, start, stop, edges, forces[start:stop])
    joint = np.zeros((n_rows, n_rows))
    for edges in (P.neighbor_edges, P.reverse_edges):
        for i in range(n_rows):
            for e in range(edges.offsets[i], edges.offsets[i + 1]):
                joint[i, edge_target(edges, e)] += decode_weight(edges.weights[e])
    expected = reference.attraction(joint.tolist(), list(zip(xs.tolist(), ys.tolist(), strict=True)))
    np.testing.assert_allclose(forces[:, ::-1], expected, rtol=1e-4, atol=1e-9)


def test_gains_grow_where_the_gradient_turns_and_shrink_where_it_goes_on() -> None:
    xs, ys = np.zeros(1, np.float32), np.zeros(1, np.float32)
    velocity, gains = np.array([[1.0, 1.0]], np.float32), np.ones((1, 2), np.float32)
    gradient = np.array([[0.5, -0.5]], np.float32)  # y goes on, x turns
    embedding = np.empty(2, np.float32)
    square = gradient_step.update_embedding(xs, ys, 0, 1, gradient, 0.8, 2.0, velocity, gains, embedding)
    assert square == pytest.approx(0.5)
    np.testing.assert_allclose(gains, [[0.81, 1.2]], rtol=1e-6)
    np.testing.assert_allclose([ys[0], xs[0]], [0.8 - 2.0 * 0.81 * 0.5, 0.8 + 2.0 * 1.2 * 0.5], rtol=1e-5)
    np.testing.assert_allclose(velocity[0], [ys[0], xs[0]], rtol=1e-6)
    assert embedding.tolist() == [xs[0], ys[0]]


def test_a_step_is_clipped() -> None:
    xs, ys, embedding = np.zeros(1, np.float32), np.zeros(1, np.float32), np.empty(2, np.float32)
    gradient = np.array([[300.0, -400.0]], np.float32)
    gradient_step.update_embedding(
        xs, ys, 0, 1, gradient, 0.8, 1.0, np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32), embedding
    )
    np.testing.assert_allclose([ys[0], xs[0]], [-3.0, 4.0], rtol=1e-5)
