"""Scores of principal components, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.kernels.cpu.pca.project import project
from tests import reference


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_components", [1, 7, 9])
def test_scores_are_those_of_the_loops(dtype: Any, n_components: int) -> None:
    random = np.random.default_rng(0)
    X = (random.normal(size=(20, 11)) + 1e5).astype(dtype)
    mean, axes = X.mean(axis=0, dtype=np.float64), random.normal(size=(11, n_components))
    out = np.empty((20, n_components), dtype)
    project(X, mean, axes, out)
    expected = [reference.scores(row, mean.tolist(), axes.tolist()) for row in X.tolist()]
    np.testing.assert_array_equal(out, np.array(expected).astype(dtype))
