"""A person's row is found by an id of any type that the column may have, given exactly."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.errors import PersonNotFoundError
from engine.tables import open_table
from engine.tables.find_row import find_row

LARGE = 2**63 + 5
IDS = {
    "uint64": pa.array(np.arange(4, dtype=np.uint64) + np.uint64(LARGE)),
    "int64": pa.array([-(2**63), -1, 0, 2**63 - 1]),
    "decimal": pa.array([Decimal(LARGE + n) for n in range(4)], pa.decimal128(38, 0)),
    "text": pa.array([str(LARGE + n) for n in range(4)]),
}


@pytest.mark.parametrize(
    ("kind", "value", "row"),
    [
        ("uint64", LARGE + 3, 3),
        ("uint64", np.uint64(LARGE + 3), 3),
        ("uint64", str(LARGE + 3), 3),
        ("int64", -(2**63), 0),
        ("int64", np.int64(2**63 - 1), 3),
        ("decimal", LARGE + 2, 2),
        ("decimal", Decimal(LARGE + 2), 2),
        ("text", LARGE + 1, 1),
        ("text", str(LARGE + 1), 1),
    ],
)
def test_large_ids_are_found(kind: str, value: Any, row: int) -> None:
    table = open_table(pa.table({"id": IDS[kind], "x": [1.0, 2.0, 3.0, 4.0]}), id="id")
    assert find_row(table, "id", value, "the table") == row


@pytest.mark.parametrize("kind", ["uint64", "int64", "decimal"])
@pytest.mark.parametrize("value", [LARGE + 9, 2**64, -(2**64), 10**400, "none"])
def test_ids_that_no_row_has_are_not_found(kind: str, value: Any) -> None:
    table = open_table(pa.table({"id": IDS[kind], "x": [1.0, 2.0, 3.0, 4.0]}), id="id")
    with pytest.raises(PersonNotFoundError):
        find_row(table, "id", value, "the table")
