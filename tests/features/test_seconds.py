"""Durations and times of the day are numbers in seconds: in the fit, in new rows of any kind, and in SQL."""

from __future__ import annotations

import datetime as dt
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import engine
from engine.errors import RetypedColumnError, UsageError
from engine.features.encoding_plan import EncodingPlan, NumberPlan
from engine.features.fit import fit_encoder
from engine.tables import open_table

N = 300
RNG = np.random.default_rng(0)
GROUP = np.arange(N) % 2
SECONDS = (1800 + 7200 * GROUP + RNG.integers(0, 3600, N)).tolist()
KINDS = [
    *(pa.time32(unit) for unit in ("s", "ms")),
    *(pa.time64(unit) for unit in ("us", "ns")),
    *(pa.duration(unit) for unit in ("s", "ms", "us", "ns")),
]


def column(kind: pa.DataType, seconds: list[int] = SECONDS) -> pa.Array:
    """Return seconds as a column of a type, every tenth missing."""
    ticks = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit]
    whole = [None if row % 10 == 9 else value * ticks for row, value in enumerate(seconds)]
    return pa.array(whole, pa.int32() if pa.types.is_time32(kind) else pa.int64()).cast(kind)


def table(kind: pa.DataType, **others: Any) -> pa.Table:
    return pa.table({"who": range(N), "watched": column(kind), "age": RNG.normal(40 + 10 * GROUP, 3), **others})


def parquet(rows: pa.Table, folder: Path) -> Path:
    pq.write_table(rows, folder / "rows.parquet")
    return folder / "rows.parquet"


def memory(rows: pa.Table, folder: Path) -> pa.Table:
    return rows


def pandas(rows: pa.Table, folder: Path) -> pd.DataFrame:
    return rows.to_pandas()


def fit(source: Any, out: Path) -> engine.Run:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return engine.fit(source, id="who", n_clusters=2, out=out, skip=["map", "report"], threads=1)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_numbers_are_seconds_and_the_reason_says_so(kind: pa.DataType) -> None:
    features = fit_encoder(open_table(table(kind)), id="who")
    role = next(role for role in features.roles if role.column == "watched")
    assert role.role == "numeric"
    assert ("durations in seconds" if pa.types.is_duration(kind) else "seconds since midnight") in role.reason
    plan = next(plan for plan in features.encoder.plan.columns if plan.column == "watched")
    present = [value for row, value in enumerate(SECONDS) if row % 10 != 9]
    assert isinstance(plan, NumberPlan)
    assert (plan.unit, plan.in_seconds) == ("s", True)
    assert min(present) <= plan.fill <= max(present)
    assert EncodingPlan.model_validate_json(features.encoder.plan.model_dump_json()) == features.encoder.plan


@pytest.mark.parametrize("source", [parquet, memory])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_sql_finds_the_people_that_the_rules_and_the_model_find(
    kind: pa.DataType, source: Callable[[pa.Table, Path], Any], tmp_path: Path
) -> None:
    rows = table(kind)
    if kind == pa.time64("ns") and source is memory:
        pytest.skip("DuckDB reads no Arrow times of nanoseconds")
    run = fit(source(rows, tmp_path), tmp_path / "run")
    connection = duckdb.connect()
    if source is parquet:
        connection.execute(f"CREATE VIEW profiles AS SELECT * FROM '{tmp_path / 'rows.parquet'}'")
    else:
        connection.register("profiles", rows)
    statement = connection.extract_statements((run.path / "rules.sql").read_text())[0].query
    assert "watched" in statement
    matched = connection.sql(statement).fetchnumpy()
    for cluster in run.rules["clusters"]:
        assert matched[f"cluster_{cluster['cluster']}"].sum() == cluster["matched"]
    given = None if source is parquet else rows
    exported = connection.sql(str(run.model.export("sql", table=given))).to_arrow_table().sort_by("who")
    assert exported["cluster"].to_pylist() == run.assignments["cluster"].to_pylist()


def test_new_rows_may_be_frames_or_dicts(tmp_path: Path) -> None:
    rows = table(pa.duration("us"))
    run = fit(rows, tmp_path / "run")
    expected = run.assignments["cluster"].to_pylist()
    assert run.model.assign(rows.to_pandas())["cluster"].to_pylist() == expected
    times = [None if value is None else dt.timedelta(seconds=value.total_seconds()) for value in
             rows["watched"].to_pylist()]  # fmt: skip
    records = [
        {"who": row, "watched": value, "age": age}
        for row, (value, age) in enumerate(zip(times, rows["age"].to_pylist(), strict=True))
    ]
    assert run.model.assign(records)["cluster"].to_pylist() == expected
    in_seconds = [r | {"watched": None if (v := r["watched"]) is None else v.total_seconds()} for r in records]
    assert run.model.assign(in_seconds)["cluster"].to_pylist() == expected


def test_durations_are_no_numbers_of_another_unit(tmp_path: Path) -> None:
    minutes = [value / 60 for value in SECONDS]
    run = fit(pa.table({"who": range(N), "watched": minutes, "age": RNG.normal(40 + 10 * GROUP, 3)}), tmp_path / "run")
    with pytest.raises(RetypedColumnError, match=r"'watched' holds duration\[us\], but was a number"):
        run.model.assign(table(pa.duration("us")))


def test_texts_of_durations_and_durations_are_one(tmp_path: Path) -> None:
    texts = [f"{value // 3600}:{value // 60 % 60:02d}:{value % 60:02d}" for value in SECONDS]
    ages = RNG.normal(40 + 10 * GROUP, 3)
    run = fit(pa.table({"who": range(N), "watched": texts, "age": ages}), tmp_path / "run")
    rows = pa.table({"who": range(N), "watched": pa.array(SECONDS).cast(pa.duration("s")), "age": ages})
    assert run.model.assign(rows)["cluster"].to_pylist() == run.assignments["cluster"].to_pylist()


def test_marks_of_missing_durations_are_found() -> None:
    watched = [-1 if row % 20 == 0 else value for row, value in enumerate(SECONDS)]
    rows = table(pa.duration("s")).set_column(1, "watched", pa.array(watched).cast(pa.duration("s")))
    with pytest.warns(UserWarning, match=r"'watched' \(15 missing values written as -1\)"):
        fit_encoder(open_table(rows), id="who")


def test_a_time_is_no_date_and_sqlite_has_none(tmp_path: Path) -> None:
    with pytest.raises(RetypedColumnError, match="cannot be read as date"):
        fit_encoder(open_table(table(pa.time64("us"))), column_roles={"watched": "date"})
    run = fit(table(pa.time64("us")), tmp_path / "run")
    with pytest.raises(UsageError, match=r"SQLite cannot read .*times of the day \('watched'\)"):
        run.model.export("sql", dialect="sqlite", table=table(pa.time64("us")))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (pa.array([b"a", b"b"] * 10), "bytes"),
        (pa.array([{"x": 1}, {"x": 2}] * 10), "give each part a column of its own"),
        (pa.array([[("a", 1)]] * 20, pa.map_(pa.string(), pa.int8())), "give each part a column of its own"),
        (pa.array([[True], [False]] * 10), "lists of bool"),
        (pa.array([[], None] * 10, pa.list_(pa.null())), "no row has a label"),
        (pa.nulls(20), "all values are missing"),
        (pa.array([row.to_bytes(16, "big") for row in range(20)], pa.uuid()), "UUIDs"),
        (pa.array([pa.MonthDayNano([row, 0, 0]) for row in range(20)]), "month_day_nano_interval"),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else None,
)
def test_other_types_are_left_out_with_the_reason(values: pa.Array, reason: str) -> None:
    with pytest.warns(UserWarning, match=reason):
        features = fit_encoder(open_table(pa.table({"age": RNG.normal(size=20), "other": values})))
    assert features.encoder.columns == ["age"]
