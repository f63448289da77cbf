"""Rows of a sparse matrix, read as dense ones block by block: kernels and backends take dense rows only.

CSR matrix or array (n_rows, n_features); rows of it, by a slice, numbers or a mask -> ndarray (n, n_features)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import issparse

from engine.utils.array_types import Rows


class SparseRows:
    """A CSR matrix or array with what passes over rows use of an ndarray; what is read of it is a new dense array."""

    ndim = 2

    def __init__(self, matrix: Any) -> None:
        self.matrix = matrix
        self.shape: tuple[int, int] = matrix.shape
        self.dtype: np.dtype[Any] = matrix.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> Rows:
        if isinstance(rows, int | np.integer):
            row: Rows = self[[rows]][0]
            return row
        dense: Rows = self.matrix[rows].toarray()
        return dense


def readable_rows(X: Any) -> Any:
    """Return X itself, or its rows as SparseRows if it is sparse."""
    return SparseRows(X) if issparse(X) else X
