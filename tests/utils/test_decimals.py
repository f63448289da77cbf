"""Decimals, compared with Python's conversion of the same digits."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import orc

from engine.tables import open_table
from engine.utils.decimals import MAX_EXACT, decimals_to_float64

CENTS = [Decimal(i) / 100 for i in range(-20_000, 20_000)]
WRITERS = {"parquet": pq.write_table, "feather": feather.write_feather, "orc": orc.write_table}


def to_float64(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return decimals_to_float64(pa.table({"x": column}), pa.schema({"x": pa.float64()})).column("x")


@pytest.mark.parametrize("kind", [pa.decimal32(7, 2), pa.decimal64(12, 2), pa.decimal128(30, 2), pa.decimal256(30, 2)])
def test_cents_become_the_nearest_doubles(kind: pa.DataType) -> None:
    whole = pa.array([*CENTS, None], kind)
    expected = [*map(float, CENTS), None]
    assert to_float64(pa.chunked_array([whole])).to_pylist() == expected
    assert to_float64(pa.chunked_array([whole.slice(0, 7), whole.slice(7)])).to_pylist() == expected


@given(st.integers(-MAX_EXACT, MAX_EXACT), st.integers(0, 22))
def test_decimals_of_exact_digits_become_the_nearest_doubles(digits: int, scale: int) -> None:
    number = Decimal(digits).scaleb(-scale)
    assert to_float64(pa.chunked_array([pa.array([number], pa.decimal128(38, scale))])).to_pylist() == [float(number)]


def test_larger_decimals_stay_beside_small_ones() -> None:
    numbers = [Decimal("0.29"), Decimal("123456789012345678901234567890.25"), Decimal("-1e30")]
    found = to_float64(pa.chunked_array([pa.array(numbers, pa.decimal128(38, 2))])).to_pylist()
    assert found[0] == 0.29
    np.testing.assert_allclose(found, [float(number) for number in numbers], rtol=1e-15)


@pytest.mark.parametrize("format", WRITERS)
def test_decimals_of_files_become_the_nearest_doubles(format: str, tmp_path: Path) -> None:
    path = tmp_path / f"cents.{format}"
    WRITERS[format](pa.table({"x": pa.array([*CENTS, None], pa.decimal128(9, 2))}), str(path))
    found = [value for block in open_table(path).blocks() for value in block.rows.column("x").to_pylist()]
    assert found == [*map(float, CENTS), None]
