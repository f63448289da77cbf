"""A small table with every kind of column, missing values, and texts that try to break out of HTML and SQL."""

from __future__ import annotations

import datetime

import numpy as np
import pyarrow as pa

HOSTILE = "<script>alert('x')</script>; DROP TABLE \"profiles\" --"
LANGUAGES = ("Python", "R", "C++", "SQL")


def people(n_rows: int = 1500, seed: int = 0) -> pa.Table:
    """Return a table of three planted kinds of people, with every kind of column and missing values."""
    rng = np.random.default_rng(seed)
    kind = np.arange(n_rows) % 3

    def with_missing(values: list[object], share: float = 0.1) -> list[object]:
        return [
            None if is_missing else value for value, is_missing in zip(values, rng.random(n_rows) < share, strict=True)
        ]

    first = datetime.date(2015, 1, 1)
    days = [first + datetime.timedelta(days=int(d)) for d in rng.integers(0, 900, n_rows) + 900 * kind]
    noon = datetime.datetime(2015, 1, 1, 12, 30)
    seen = [noon + datetime.timedelta(hours=int(h)) for h in rng.integers(0, 9000, n_rows) + 4000 * kind]
    languages = [[name for name in LANGUAGES if rng.random() < (0.8 if name == LANGUAGES[k] else 0.2)] for k in kind]
    columns: dict[str, pa.Array] = {
        "who": pa.array([f"id-{i:05d}" for i in range(n_rows)]),
        "age": pa.array(with_missing((rng.integers(20, 40, n_rows) + 15 * kind).tolist()), pa.int64()),
        "spend": pa.array(with_missing(rng.lognormal(1.0 + kind, 0.4).tolist(), 0.02), pa.float64()),
        HOSTILE: pa.array(with_missing([("x", HOSTILE, "it's")[k if rng.random() < 0.9 else 0] for k in kind], 0.0)),
        "plan": pa.array(
            with_missing([("Basic", "Premium", "Family")[k if rng.random() < 0.8 else 1] for k in kind], 0.2)
        ),
        "region": pa.array([f"r{int(v)}" for v in rng.zipf(1.6, n_rows) % 40]),
        "level": pa.array(with_missing((kind + (rng.random(n_rows) < 0.2)).tolist(), 0.005), pa.int64()),
        "has_child": pa.array(with_missing((rng.random(n_rows) < 0.2 + 0.3 * kind).tolist(), 0.05)),
        "group": pa.array((1 + (rng.random(n_rows) < 0.2 + 0.3 * kind)).tolist(), pa.int64()),
        "joined": pa.array(with_missing(list(days), 0.1), pa.date32()),
        "seen": pa.array(with_missing(list(seen), 0.02), pa.timestamp("us")),
        "tags": pa.array(with_missing(list(languages), 0.1), pa.list_(pa.string())),
        "codes": pa.array([[int(k), 7] if rng.random() < 0.7 else [7] for k in kind], pa.list_(pa.int64())),
        "languages": pa.array(with_missing([" ; ".join(p) for p in languages], 0.1)),
    }
    return pa.table(columns)
