"""Rows come back from few bytes as they were, whatever columns hold."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from engine.datasets.demo_table import DemoMembers
from engine.features.columnar_block import PlainRows, Reading, read
from engine.features.compact_block import NarrowRows

N = 500


def same(first: PlainRows, second: PlainRows) -> None:
    assert first.numbers.tobytes() == second.numbers.tobytes()
    assert first.codes.tobytes() == second.codes.tobytes()
    for field in ("n_rows", "number_columns", "text_columns", "names"):
        assert getattr(first, field) == getattr(second, field)
    assert first.labels.keys() == second.labels.keys()
    for name, part in first.labels.items():
        other = second.labels[name]
        assert part.names == other.names
        for mine, theirs in ((part.offsets, other.offsets), (part.codes, other.codes), (part.missing, other.missing)):
            assert mine.dtype == theirs.dtype
            np.testing.assert_array_equal(mine, theirs)


def test_rows_of_every_kind_come_back() -> None:
    random = np.random.default_rng(0)
    gaps = random.random(N) < 0.1
    table = pa.table(
        {
            "double": pa.array(random.normal(size=N), mask=gaps),
            "price": pa.array(random.integers(0, 9999, N) / 100, mask=gaps),
            "flag": pa.array(random.random(N) < 0.5, mask=gaps),
            "signed": pa.array(random.integers(0, 20_000, N).astype(np.int32), pa.date32(), mask=gaps),
            "few": pa.array(random.choice(["a", "b", "c"], N), mask=gaps),
            "many": pa.array([f"text {i}" for i in range(N)]),
            "hidden": pa.array([f"text {i}" for i in range(N)]),
            "lists": pa.array([None if gap else ["x", "y", "z"][: i % 4] for i, gap in enumerate(gaps)]),
            "long": pa.array([["x"] * (300 if i == 7 else 1) for i in range(N)]),
        }
    )
    readings = {
        "double": Reading("number"), "price": Reading("number"), "flag": Reading("number"), "signed": Reading("days"),
        "few": Reading("category"), "many": Reading("category"), "hidden": Reading("category", None, 10),
        "lists": Reading("labels"), "long": Reading("labels"),
    }  # fmt: skip
    plain = read(table, readings)
    narrow = NarrowRows.of(plain)
    same(plain, narrow.plain())
    assert narrow.n_bytes < plain.n_bytes
    nothing = read(table.slice(0, 0), readings)
    same(nothing, NarrowRows.of(nothing).plain())


def test_members_take_a_quarter() -> None:
    rows = next(DemoMembers(20_000).blocks()).rows
    kinds = {"age": "number", "weekly_hours": "number", "plan": "category", "devices": "labels", "signup_date": "days"}
    plain = read(rows, {name: Reading(form) for name, form in kinds.items()})  # type: ignore[arg-type]
    assert NarrowRows.of(plain).n_bytes < plain.n_bytes / 3
