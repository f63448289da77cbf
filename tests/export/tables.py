"""Tables of every kind of column, with missing values as NULL and as NaN, and rows that a model has not seen alike."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa

ODD = 'it\'s; "a" \\b\n'
TAGS = ("a", "it's", "c")


def mixed(n_rows: int = 600, seed: int = 0, *, lists: bool = True, complete: tuple[str, ...] = ()) -> pa.Table:
    """Return rows of three kinds of people; the columns named in `complete` have no missing value."""
    rng = np.random.default_rng(seed)
    kind = np.arange(n_rows) % 3

    def gaps(name: str, values: list[object], missing: object = None) -> list[object]:
        holes = rng.random(n_rows) < 0.08
        return [missing if hole and name not in complete else v for v, hole in zip(values, holes, strict=True)]

    first, noon = date(1969, 6, 1), datetime(1969, 12, 1, 23, 59, 59, 999600)
    days = [first + timedelta(days=int(d)) for d in rng.integers(0, 300, n_rows) + 200 * kind]
    moments = [noon + timedelta(hours=float(h)) for h in rng.normal(400 * kind, 300)]
    tags = [[tag for tag in TAGS if rng.random() < (0.8 if tag == TAGS[k] else 0.2)] for k in kind]
    spelled = [" ;".join([*labels, *(["rare"] if rng.random() < 0.01 else [])]) for labels in tags]
    spend = rng.lognormal(1.0 + kind, 0.8)
    spend[rng.random(n_rows) < (0.05 if "spend" not in complete else 0.0)] = np.nan
    share = np.where(rng.random(n_rows) < (0.05 if "share" not in complete else 0.0), np.nan, rng.random(n_rows))
    columns: dict[str, pa.Array] = {
        "who": pa.array([f"id-{i:05d}" for i in range(n_rows)]),
        "age": pa.array(gaps("age", (rng.integers(20, 40, n_rows) + 15 * kind).tolist()), pa.int64()),
        "spend": pa.array(spend, pa.float64()),
        "share": pa.array(share.astype(np.float32), pa.float32()),
        "visits": pa.array(gaps("visits", rng.poisson(3.0 * (1 + kind)).tolist()), pa.int32()),
        "score": pa.array(gaps("score", (rng.integers(0, 10, n_rows) + kind).tolist(), 99), pa.int64()),
        "smoker": pa.array(gaps("smoker", (rng.random(n_rows) < 0.2 + 0.3 * kind).tolist()), pa.bool_()),
        ODD: pa.array(gaps(ODD, [("x", ODD, "z")[k if rng.random() < 0.9 else 0] for k in kind])),
        "plan": pa.array(gaps("plan", [("Basic", "Premium", "na")[k] for k in rng.integers(0, 3, n_rows)])),
        "grade": pa.array(rng.choice([0.1, 0.25, np.nan, 3.0], n_rows).astype(np.float32), pa.float32()),
        "joined": pa.array(gaps("joined", list(days)), pa.date32()),
        "seen": pa.array(gaps("seen", list(moments)), pa.timestamp("us")),
        "zoned": pa.array([m.replace(tzinfo=UTC) for m in moments], pa.timestamp("us", tz="Asia/Tokyo")),
        "words": pa.array(gaps("words", list(spelled))),
    }
    if lists:
        columns["tags"] = pa.array(gaps("tags", list(tags)), pa.list_(pa.string()))
        columns["codes"] = pa.array([[int(k), 7, None] for k in kind], pa.list_(pa.int64()))
        columns["taste"] = pa.array(rng.normal(kind[:, None], 1.0, (n_rows, 3)).astype(np.float32).tolist(), VECTOR)
    return pa.table(columns)


VECTOR = pa.list_(pa.float32())
ROLES = {
    "visits": "count", "grade": "categorical", "smoker": "boolean", "words": "multilabel", "share": "numeric",
    "score": "numeric",
}  # fmt: skip
MARKS = {"score": ("99",), "plan": ("na",), "joined": ("1969-07-01",), "seen": ("1969-12-05",)}


def shifted(table: pa.Table, seed: int) -> pa.Table:
    """Return the table with a tenth of the values of each column missing, NaN for floats, and some that are new."""
    rng = np.random.default_rng(seed)
    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        cells = column.to_pylist()
        for row in np.flatnonzero(rng.random(len(cells)) < (0.1 if name != "who" else 0.0)):
            cells[row] = float("nan") if pa.types.is_floating(column.type) and row % 2 else None
        if pa.types.is_string(column.type) and name != "who":
            cells[:8] = ["never seen", "", "  it's ; new;", "NA", "n/a", " ", "None", "NA; it's"]
        if pa.types.is_integer(column.type):
            cells[:2] = [-5, 10_000]
        columns[name] = pa.array(cells, column.type, from_pandas=False)
    return pa.table(columns)
