"""A compact block expands to the same columnar block, to the bit, for columns of every kind."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from engine.datasets.demo_table import DemoMembers
from engine.features.columnar_block import ColumnarBlock, ReadSpec, read_block
from engine.features.compact_block import CompactBlock

N = 500


def assert_equal_bits(first: ColumnarBlock, second: ColumnarBlock) -> None:
    assert first.numbers.tobytes() == second.numbers.tobytes()
    assert first.codes.tobytes() == second.codes.tobytes()
    for field in ("n_rows", "number_columns", "text_columns", "names"):
        assert getattr(first, field) == getattr(second, field)
    assert first.labels.keys() == second.labels.keys()
    for name, part in first.labels.items():
        counterpart = second.labels[name]
        assert part.names == counterpart.names
        for array in ("offsets", "codes", "missing"):
            assert getattr(part, array).dtype == getattr(counterpart, array).dtype
            np.testing.assert_array_equal(getattr(part, array), getattr(counterpart, array))


def test_columns_of_every_kind_expand_to_the_same_bits() -> None:
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
    read_specs = {
        "double": ReadSpec("number"), "price": ReadSpec("number"), "flag": ReadSpec("number"),
        "signed": ReadSpec("days"),
        "few": ReadSpec("category"), "many": ReadSpec("category"), "hidden": ReadSpec("category", None, 10),
        "lists": ReadSpec("labels"), "long": ReadSpec("labels"),
    }  # fmt: skip
    columnar = read_block(table, read_specs)
    compact = CompactBlock.from_columnar(columnar)
    assert_equal_bits(columnar, compact.to_columnar())
    assert compact.n_bytes < columnar.n_bytes
    empty = read_block(table.slice(0, 0), read_specs)
    assert_equal_bits(empty, CompactBlock.from_columnar(empty).to_columnar())


def test_members_take_less_than_a_third_of_the_memory() -> None:
    rows = next(DemoMembers(20_000).blocks()).rows
    kinds = {"age": "number", "weekly_hours": "number", "plan": "category", "devices": "labels", "signup_date": "days"}
    columnar = read_block(rows, {name: ReadSpec(form) for name, form in kinds.items()})  # type: ignore[arg-type]
    assert CompactBlock.from_columnar(columnar).n_bytes < columnar.n_bytes / 3
