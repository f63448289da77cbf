"""A small table that holds every kind of column, gaps, and names that try to break out of wherever they are put."""

from __future__ import annotations

import datetime

import numpy as np
import pyarrow as pa

HOSTILE = "<script>alert('x')</script>; DROP TABLE \"profiles\" --"
LANGUAGES = ("Python", "R", "C++", "SQL")


def people(n_rows: int = 1500, seed: int = 0) -> pa.Table:
    """Return three planted kinds of people, with every kind of column and missing values."""
    rng = np.random.default_rng(seed)
    kind = np.arange(n_rows) % 3

    def some(values: list[object], share: float = 0.1) -> list[object]:
        return [None if gone else value for value, gone in zip(values, rng.random(n_rows) < share, strict=True)]

    first = datetime.date(2015, 1, 1)
    days = [first + datetime.timedelta(days=int(d)) for d in rng.integers(0, 900, n_rows) + 900 * kind]
    noon = datetime.datetime(2015, 1, 1, 12, 30)
    seen = [noon + datetime.timedelta(hours=int(h)) for h in rng.integers(0, 9000, n_rows) + 4000 * kind]
    picked = [[name for name in LANGUAGES if rng.random() < (0.8 if name == LANGUAGES[k] else 0.2)] for k in kind]
    columns: dict[str, pa.Array] = {
        "who": pa.array([f"id-{i:05d}" for i in range(n_rows)]),
        "age": pa.array(some((rng.integers(20, 40, n_rows) + 15 * kind).tolist()), pa.int64()),
        "spend": pa.array(some(rng.lognormal(1.0 + kind, 0.4).tolist(), 0.02), pa.float64()),
        HOSTILE: pa.array(some([("x", HOSTILE, "it's")[k if rng.random() < 0.9 else 0] for k in kind], 0.0)),
        "plan": pa.array(some([("Basic", "Premium", "Family")[k if rng.random() < 0.8 else 1] for k in kind], 0.2)),
        "region": pa.array([f"r{int(v)}" for v in rng.zipf(1.6, n_rows) % 40]),
        "level": pa.array(some((kind + (rng.random(n_rows) < 0.2)).tolist(), 0.005), pa.int64()),
        "has_child": pa.array(some((rng.random(n_rows) < 0.2 + 0.3 * kind).tolist(), 0.05)),
        "group": pa.array((1 + (rng.random(n_rows) < 0.2 + 0.3 * kind)).tolist(), pa.int64()),
        "joined": pa.array(some(list(days), 0.1), pa.date32()),
        "seen": pa.array(some(list(seen), 0.02), pa.timestamp("us")),
        "tags": pa.array(some(list(picked), 0.1), pa.list_(pa.string())),
        "codes": pa.array([[int(k), 7] if rng.random() < 0.7 else [7] for k in kind], pa.list_(pa.int64())),
        "languages": pa.array(some([" ; ".join(p) for p in picked], 0.1)),
    }
    return pa.table(columns)
