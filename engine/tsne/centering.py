"""Where rows are measured from, and in which unit: neighbours are found in float32, of rows centred in float64 before.

X (n_rows, n_features) float32 or float64  ->  Frame;   some rows  ->  the same rows in it, float32
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.execution.threads import row_blocks

Rows = NDArray[np.floating[Any]]

CAST_ROWS = 4096  # rows in float64 at a time


class Frame(NamedTuple):
    """A point to measure from and a factor; as it stands, rows are taken as they are."""

    shift: Any = 0.0  # (n_features,)
    factor: float = 1.0

    @classmethod
    def of(cls, X: Rows) -> Frame:
        """Return the frame in which rows are centred and their largest value is about 1."""
        shift = X.mean(axis=0, dtype=np.float64)
        extent = max(float(np.abs(X.max(axis=0) - shift).max()), float(np.abs(X.min(axis=0) - shift).max()))
        return cls(shift, 2.0 ** -int(np.frexp(extent)[1]))

    def rows(self, X: Rows) -> NDArray[np.float32]:
        """Return rows in this frame."""
        framed = np.empty(X.shape, np.float32)
        for part in row_blocks(len(X), CAST_ROWS):
            framed[part] = (X[part] - self.shift) * self.factor
        return framed
