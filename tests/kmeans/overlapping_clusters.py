"""Synthetic rows of overlapping clusters, for tests of K-Means."""

from __future__ import annotations

from typing import Any

import numpy as np


def mixture(n_rows: int = 3000, n_features: int = 5, seed: int = 0, dtype: Any = np.float32) -> Any:
    random = np.random.default_rng(seed)
    centers = random.normal(size=(7, n_features)) * 2
    return (centers[random.integers(0, 7, n_rows)] + random.normal(size=(n_rows, n_features))).astype(dtype)
