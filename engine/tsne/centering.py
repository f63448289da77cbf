"""Center rows in float64 and scale them by a power of two, so that float32 distances keep their digits.

X (n_rows, n_features) float32 or float64  ->  Centering;   rows, Centering  ->  centered and scaled rows, float32
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from engine.execution.threads import row_blocks
from engine.utils.array_types import Float32s, Rows

CAST_ROWS = 4096  # rows in float64 at a time


class Centering(NamedTuple):
    """A center to subtract and a factor to multiply by; the default leaves rows unchanged."""

    center: Any = 0.0  # (n_features,)
    scale: float = 1.0

    @classmethod
    def from_rows(cls, X: Rows) -> Centering:
        """Return the centering by the mean of X, scaled so that the largest absolute value lies in [1/2, 1)."""
        center = X.mean(axis=0, dtype=np.float64)
        extent = max(float(np.abs(X.max(axis=0) - center).max()), float(np.abs(X.min(axis=0) - center).max()))
        return cls(center, 2.0 ** -int(np.frexp(extent)[1]))

    def apply(self, X: Rows) -> Float32s:
        """Return centered and scaled rows."""
        centered = np.empty(X.shape, np.float32)
        for part in row_blocks(len(X), CAST_ROWS):
            centered[part] = (X[part] - self.center) * self.scale
        return centered
