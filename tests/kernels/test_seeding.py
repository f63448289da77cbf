"""The potential of k-means++ seeds, bit for bit."""

from __future__ import annotations

import numpy as np
from engine.kernels.cpu import seeding

from tests import reference


def test_each_seed_lowers_the_potential_as_the_loops_say() -> None:
    random = np.random.default_rng(0)
    X = random.normal(size=(70, 5)).astype(np.float32)
    weights = random.exponential(size=70)
    columns = np.ascontiguousarray(X.T, dtype=np.float64)
    closest = np.full(70, np.inf)
    for n_seeds, seed in enumerate([3, 41, 3, 69], start=1):
        out = np.empty(70)
        potential = seeding.lowered(columns, weights, closest, seed, out)
        assert potential == reference.potential(X.tolist(), weights.tolist(), [3, 41, 3, 69][:n_seeds])
        assert (out <= closest).all()
        closest = out
    assert closest[[3, 41, 69]].tolist() == [0.0, 0.0, 0.0]
