"""Small tables of ratings and items for the tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from engine.ratings.build import ProfilesResult

ITEMS = pa.table(
    {
        "item_id": [1, 2, 3, 4],
        "title": ["Heat (1995)", "Ran (1985)", "Up", None],
        "year": pa.array([None, None, 2009, None], pa.int64()),
        "genres": [["Crime", "Drama"], ["Drama"], [], None],
    }
)


def ratings_table(rows: list[tuple[Any, Any, Any, Any]], user_type: pa.DataType | None = None) -> pa.Table:
    user, item, rating, timestamp = (list(column) for column in zip(*rows, strict=True))
    return pa.table(
        {
            "user_id": pa.array(user, user_type or pa.int64()),
            "item_id": pa.array(item, pa.int64()),
            "rating": pa.array(rating, pa.float64()),
            "timestamp": pa.array(timestamp, pa.int64()),
        }
    )


def result_table(result: ProfilesResult) -> pa.Table:
    assert result.table is not None
    return result.table


def random_rows(n: int, n_users: int, seed: int = 0) -> list[tuple[Any, Any, Any, Any]]:
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, n_users, n).tolist(), rng.integers(1, 5, n).tolist()
    rating, timestamp = rng.random(n).tolist(), rng.integers(0, 10**9, n).tolist()
    return list(zip(user, item, rating, timestamp, strict=True))
