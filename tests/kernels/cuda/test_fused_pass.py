"""Passes as benchmarks/gpu launches them, in the interpreter: labels by the definition, sums kept from pass to pass."""

from __future__ import annotations

import sys
from importlib import import_module
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("triton", reason="Triton is not installed: make test-gpu-kernels has an environment with it")

import torch

from tests import reference

FOLDER = Path(__file__).parents[3] / "benchmarks" / "gpu"


@pytest.fixture
def fused_pass(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(FOLDER)
    yield import_module("fused_pass")
    sys.modules.pop("fused_pass", None)


@pytest.mark.parametrize(("n_features", "k", "weighted"), [(16, 5, False), (3, 40, True), (150, 6, False)])
def test_passes_sum_the_rows_of_every_cluster(fused_pass: Any, n_features: int, k: int, weighted: bool) -> None:
    random = np.random.default_rng(n_features)
    centers = random.normal(size=(k, n_features)).astype(np.float32)
    X = (centers[random.integers(0, k, 70)] + random.normal(size=(70, n_features)) + 50).astype(np.float32)
    weights = random.uniform(0.1, 3.0, 70) if weighted else np.ones(70)
    tensor = torch.from_numpy(X)
    point = fused_pass.choose_fixed_point(tensor, weighted)
    passes = fused_pass.FusedPass(
        tensor, k, point, weights=torch.from_numpy(weights) if weighted else None, n_copies=3
    )  # fmt: skip
    centers += 50
    for _ in range(2):
        passes.run(centers)
        expected = np.array(reference.labels(X.tolist(), centers.tolist()))
        np.testing.assert_array_equal(passes.labels.numpy(), expected)
        sums, masses = passes.sums()
        for cluster in range(k):
            rows = np.flatnonzero(expected == cluster)
            terms = [
                [reference.fixed_point(*values) for values in zip(X[i], point.shift, repeat(weights[i]), point.scale)]
                for i in rows
            ]
            np.testing.assert_array_equal(sums[cluster], np.array(terms or [[0] * n_features]).sum(axis=0))
            assert masses[cluster] == sum(round(weights[i] * point.mass_scale) for i in rows)
        centers = passes.means(centers)
        mean = np.average(X[expected == expected[0]], axis=0, weights=weights[expected == expected[0]])
        np.testing.assert_allclose(centers[expected[0]], mean, rtol=1e-5)


def test_sums_of_all_rows_stay_below_their_limit(fused_pass: Any) -> None:
    X = torch.tensor([[1e6, 1e-3], [-1e6, 2e-3], [3.0, 0.0]])
    point = fused_pass.choose_fixed_point(X, weighted=False)
    terms = np.abs((X.double().numpy() - point.shift) * point.scale)
    assert terms.max() < 2.0**fused_pass.TERM_BITS
    assert (terms.max(axis=0) > 2.0 ** (fused_pass.TERM_BITS - 4)).all()
    assert len(X) * terms.max() < 2.0**fused_pass.SUM_BITS
