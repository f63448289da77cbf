"""Columns whose first values are missing are read as they would be if these rows were at the end."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.blocks import BLOCK_ROWS
from engine.features.fit import fit_encoder
from engine.tables import open_table

N = 2400
RNG = np.random.default_rng(2)
DAYS = np.datetime64("2019-03-01") + RNG.integers(0, 2000, N).astype("timedelta64[D]")
COLUMNS: dict[str, list[Any]] = {
    "iso": [str(day) for day in DAYS],
    "german": [f"{day.item():%d.%m.%Y}" for day in DAYS],
    "digits": [int(f"{day.item():%Y%m%d}") for day in DAYS],
    "amount": [f"{value:,.2f} €" for value in RNG.lognormal(7, 1, N)],
    "answers": [
        "; ".join(c for c in ("red", "blue", "green", "grey") if RNG.random() < 0.5) or "red" for _ in range(N)
    ],
    "codes": [[1, 2, 3, 4, 9][n] for n in RNG.choice(5, N, p=[0.4, 0.3, 0.2, 0.07, 0.03])],
    "time": [day.astype("datetime64[s]").item() for day in DAYS],
    "marked": [[-999, 20, 31, 42, 53][n] for n in RNG.integers(0, 5, N)],
    "plan": [["basic", "plus"][n] for n in RNG.integers(0, 2, N)],
}


def describe(table: Any) -> dict[str, tuple[Any, ...]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = fit_encoder(open_table(table))
    plans = {plan.column: plan for plan in fitted.encoder.plan.columns}
    keys = ("number_format", "date_format", "missing", "separator")
    return {r.column: (r.role, *(getattr(plans.get(r.column), key, None) for key in keys)) for r in fitted.roles}


@pytest.mark.parametrize("n_empty", [1500, BLOCK_ROWS + 100, 3 * BLOCK_ROWS])
def test_columns_that_begin_with_missing_values_are_read_as_without_them(n_empty: int, tmp_path: Path) -> None:
    age = RNG.normal(40, 9, n_empty + N)
    empty_first, empty_last = (
        pa.table({"age": age, **{name: pa.array(join([None] * n_empty, values)) for name, values in COLUMNS.items()}})
        for join in (lambda empty, values: empty + values, lambda empty, values: values + empty)
    )
    expected = describe(empty_last)
    assert [expected[name][0] for name in ("iso", "german", "digits", "time")] == ["date"] * 4
    assert [expected[name][0] for name in ("answers", "codes", "plan")] == ["multilabel", "categorical", "categorical"]
    assert expected["amount"][1].unit == "€"
    assert describe(empty_first) == expected
    pq.write_table(empty_first, tmp_path / "a.parquet", row_group_size=10_000)
    assert describe(tmp_path / "a.parquet") == expected


@pytest.mark.parametrize("blank", ["", " ", "NA"])
def test_texts_of_missing_values_at_the_beginning_are_looked_past(blank: str) -> None:
    texts = {name: values for name, values in COLUMNS.items() if isinstance(values[0], str)}
    table = pa.table({"age": RNG.normal(40, 9, 1500 + N), **{n: [blank] * 1500 + v for n, v in texts.items()}})
    roles = {name: role for name, (role, *_) in describe(table).items()}
    assert roles == {"age": "numeric", "iso": "date", "german": "date", "amount": "count", "answers": "multilabel",
                     "plan": "categorical"}  # fmt: skip


def test_a_table_of_empty_columns_is_read_to_its_end_at_most() -> None:
    n = 3 * BLOCK_ROWS
    table = pa.table({"age": RNG.normal(40, 9, n), "none": pa.nulls(n, pa.string()), "nan": pa.nulls(n, pa.float64())})
    assert describe(table)["age"][0] == "numeric"
