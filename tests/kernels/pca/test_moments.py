"""Shifted rows and their sums, against NumPy in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.kernels.cpu.pca.moments import shift_rows


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_features", [1, 7, 8, 9])
def test_rows_are_shifted_in_float64_and_summed_in_order(dtype: Any, n_features: int) -> None:
    random = np.random.default_rng(0)
    X = (random.normal(size=(21, n_features)) + 1e6).astype(dtype)
    shift, shifted, sums = np.full(n_features, 1e6 + 0.1), np.empty(X.shape), np.ones(n_features)
    shift_rows(X, shift, shifted, sums)
    np.testing.assert_array_equal(shifted, X.astype(np.float64) - shift)
    np.testing.assert_array_equal(sums, np.cumsum(np.vstack([np.ones(n_features), shifted]), axis=0)[-1])
