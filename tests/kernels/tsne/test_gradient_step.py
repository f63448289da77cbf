"""One step of descent: attraction against plain loops, the rule of gains and momentum by hand."""

from __future__ import annotations

import numpy as np
import pytest

import engine.tsne.affinities
from engine.kernels.cpu.tsne import affinities
from engine.kernels.cpu.tsne import gradient_step as tsne_step
from engine.kernels.cpu.tsne.affinities import end_of, value_of
from engine.tsne.affinities import affinities_of
from tests import reference


@pytest.mark.parametrize("narrow", [0, affinities.NARROW])  # ends in three bytes, and in two
@pytest.mark.parametrize("n_rows", [13, 200])
def test_attraction_is_the_one_of_plain_loops(n_rows: int, narrow: int, monkeypatch: pytest.MonkeyPatch) -> None:
    room = affinities.NARROW
    monkeypatch.setattr(engine.tsne.affinities, "NARROW", narrow)
    random = np.random.default_rng(0)
    P = affinities_of(random.normal(size=(n_rows, 4)).astype(np.float32), 4.0, lambda rows: None)
    xs, ys = random.normal(size=(2, n_rows)).astype(np.float32)
    places, found = np.zeros(2 * room, np.float32), np.zeros((n_rows, 2), np.float32)
    places[: 2 * n_rows] = np.stack([xs, ys], axis=1).ravel()
    for start, stop in ((0, 5), (5, n_rows)):
        for edges in (P.near, P.far):
            tsne_step.attract(places, start, stop, edges, found[start:stop])
    joint = np.zeros((n_rows, n_rows))
    for edges in (P.near, P.far):
        for i in range(n_rows):
            for e in range(edges.offsets[i], edges.offsets[i + 1]):
                joint[i, end_of(edges, e)] += value_of(edges.weights[e])
    expected = reference.attraction(joint.tolist(), list(zip(xs.tolist(), ys.tolist(), strict=True)))
    np.testing.assert_allclose(found[:, ::-1], expected, rtol=1e-4, atol=1e-9)


def test_gains_grow_where_the_gradient_turns_and_shrink_where_it_goes_on() -> None:
    xs, ys = np.zeros(1, np.float32), np.zeros(1, np.float32)
    velocity, gains = np.array([[1.0, 1.0]], np.float32), np.ones((1, 2), np.float32)
    gradient = np.array([[0.5, -0.5]], np.float32)  # y goes on, x turns
    places = np.empty(2, np.float32)
    square = tsne_step.descend(xs, ys, 0, 1, gradient, 0.8, 2.0, velocity, gains, places)
    assert square == pytest.approx(0.5)
    np.testing.assert_allclose(gains, [[0.81, 1.2]], rtol=1e-6)
    np.testing.assert_allclose([ys[0], xs[0]], [0.8 - 2.0 * 0.81 * 0.5, 0.8 + 2.0 * 1.2 * 0.5], rtol=1e-5)
    np.testing.assert_allclose(velocity[0], [ys[0], xs[0]], rtol=1e-6)
    assert places.tolist() == [xs[0], ys[0]]


def test_a_step_is_clipped() -> None:
    xs, ys, places = np.zeros(1, np.float32), np.zeros(1, np.float32), np.empty(2, np.float32)
    gradient = np.array([[300.0, -400.0]], np.float32)
    tsne_step.descend(
        xs, ys, 0, 1, gradient, 0.8, 1.0, np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32), places
    )
    np.testing.assert_allclose([ys[0], xs[0]], [-3.0, 4.0], rtol=1e-5)
