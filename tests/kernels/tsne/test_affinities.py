"""Affinities have the requested perplexity, and both directions of every edge are summed."""

from __future__ import annotations

import numpy as np
import pytest

import engine.tsne.affinities
from engine.kernels.cpu.tsne import affinities
from engine.kernels.cpu.tsne.affinities import (
    calibrate_perplexity,
    decode_weight,
    decode_weights,
    edge_target,
    encode_weights,
    write_edges,
)
from engine.tsne.affinities import allocate_edges, compute_affinities
from tests import reference


def silent(rows: int) -> None:
    return


@pytest.mark.parametrize("perplexity", [1.5, 5.0, 29.0])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_a_row_gets_the_requested_perplexity(perplexity: float, scale: float) -> None:
    squared = np.sort(np.random.default_rng(0).gamma(3.0, size=(50, 90)), axis=1) * scale
    p = np.empty((50, 90), np.float32)
    calibrate_perplexity(squared, perplexity, p)
    entropy = -(p * np.log(np.maximum(p, 1e-30))).sum(axis=1)
    np.testing.assert_allclose(np.exp(entropy), perplexity, rtol=1e-4)
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-5)


def test_neighbors_that_are_equally_near_share_the_probability() -> None:
    squared = np.array([[2.0] * 6, [0.0] * 4 + [1.0] * 2])
    p = np.empty((2, 6), np.float32)
    calibrate_perplexity(squared, 2.0, p)
    np.testing.assert_allclose(p[0], 1 / 6, rtol=1e-6)
    np.testing.assert_allclose(p[1], [0.25] * 4 + [0.0] * 2, atol=1e-6)


@pytest.mark.parametrize("narrow", [0, affinities.UINT16_ROWS])  # targets in three bytes, and in two
@pytest.mark.parametrize("n_rows", [12, 140, 300])
def test_p_is_the_one_of_plain_loops(n_rows: int, narrow: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.tsne.affinities, "UINT16_ROWS", narrow)
    X = np.random.default_rng(1).normal(size=(n_rows, 3)).astype(np.float32)
    P = compute_affinities(X, 4.0, silent)
    dense = np.zeros((n_rows, n_rows))
    for edges in (P.neighbor_edges, P.reverse_edges):
        for i in range(n_rows):
            for e in range(edges.offsets[i], edges.offsets[i + 1]):
                dense[P.order[i], P.order[edge_target(edges, e)]] += P.scale * decode_weight(edges.weights[e])
    expected = reference.joint_probabilities(X, 4.0, 12 if n_rows > 12 else 11)
    # Weights and their sums are rounded to 12 bits.
    np.testing.assert_allclose(dense, expected, rtol=2.0**-11, atol=1e-8)
    np.testing.assert_allclose(dense, dense.T, atol=0)
    assert dense.sum() == pytest.approx(1.0, rel=1e-4)
    logarithms = dense[dense > 0] * np.log(dense[dense > 0])
    assert P.negative_entropy() == pytest.approx(logarithms.sum(), rel=1e-6)


def test_codes_round_to_twelve_bits() -> None:
    weights = np.concatenate([2.0 - 10.0 ** -np.arange(1.0, 6.0), np.random.default_rng(0).random(500), [2.0, 1e-8]])
    weights = weights.astype(np.float32)
    codes = encode_weights(weights)
    np.testing.assert_allclose(decode_weights(codes), weights, rtol=2.0**-12)
    assert [decode_weight(code) for code in codes] == decode_weights(codes).tolist()
    assert decode_weights(encode_weights(np.zeros(1, np.float32)))[0] == np.float32(2.0**-30)


def test_targets_beyond_two_bytes_are_read_back() -> None:
    neighbors = np.array([[70_000, 3, 65_536], [2**24 - 1, 65_535, 0]], np.int32)
    edges = allocate_edges(np.array([0, 3, 6]), n_rows=2**24)
    write_edges(neighbors, np.arange(6, dtype=np.uint16).reshape(2, 3), 0, edges)
    assert [edge_target(edges, e) for e in range(6)] == [3, 65_536, 70_000, 0, 65_535, 2**24 - 1]
    assert edges.weights[:6].tolist() == [1, 2, 0, 5, 4, 3]
