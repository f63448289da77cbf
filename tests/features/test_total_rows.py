"""A row that holds the totals of the others is named; numbers that add up by chance are not."""

from __future__ import annotations

import warnings

import numpy as np
import pyarrow as pa
import pytest

from engine.features.fit import fit_encoder
from engine.features.total_rows import EmptyRowsWarning, TotalRowWarning
from engine.tables import open_table

RNG = np.random.default_rng(3)
AGES = RNG.integers(18, 90, 300).astype(float)
SPEND = np.round(RNG.lognormal(3, 1, 300), 2)


def test_a_row_of_totals_is_named_by_its_columns() -> None:
    table = pa.table({"age": [*AGES, AGES.sum()], "spend": [*SPEND, round(SPEND.sum(), 2)], "kids": [*(AGES % 4), 1.0]})
    with pytest.warns(TotalRowWarning, match="has the sum of their numbers in 'age', 'spend'. It is taken as a person"):
        fit_encoder(open_table(table))


def test_rows_without_any_value_are_counted() -> None:
    empty = pa.nulls(40)
    ages, plans = pa.array(AGES.astype(int)), pa.array(["a", "b", "c"] * 100)
    table = pa.table({"age": pa.chunked_array([ages, empty.cast(ages.type)]),
                      "plan": pa.chunked_array([plans, empty.cast(plans.type)])})  # fmt: skip
    with pytest.warns(
        EmptyRowsWarning, match="40 of the 340 rows have no value in any column. They are taken as people"
    ):
        fit_encoder(open_table(table))
    with warnings.catch_warnings():
        warnings.simplefilter("error", EmptyRowsWarning)
        fit_encoder(open_table(table.append_column("kids", pa.array(np.arange(340) % 3))))
        fit_encoder(open_table(table.select(["age"])))


def test_flags_and_numbers_that_nearly_add_up_are_no_totals() -> None:
    flag = np.zeros(301)
    flag[[3, 200]] = 5.0
    table = pa.table({"age": [*AGES, AGES.sum() * 1.001], "spend": [*SPEND, 1.0], "flag": flag})
    with warnings.catch_warnings():
        warnings.simplefilter("error", TotalRowWarning)
        fit_encoder(open_table(table))
