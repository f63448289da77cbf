"""Rows of a matrix that may be sparse, made dense in blocks: kernels and backends read dense rows only.

X (n_rows, n_features), dense or CSR; a slice of its rows -> rows (n, n_features), dense
"""

from __future__ import annotations

from typing import Any

from engine.utils.array_types import Rows


def dense_rows(X: Any, part: slice) -> Rows:
    """Return rows of X: a view of them if X is an ndarray, and a new array if it is a CSR matrix or array."""
    rows = X[part]
    return rows.toarray() if hasattr(rows, "toarray") else rows  # type: ignore[no-any-return]
