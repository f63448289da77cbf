"""Numbers of text columns in SQL: DuckDB parses every text as the engine does."""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from engine.export.sql_number_texts import number_from_text
from engine.tables.number_texts import NumberFormat, parse_texts

TEXTS = [
    "1.299", "1,299", "1.299,50", "1,299.50", "999", " 7 ", "-5", "(5)", "$5", "-$5.25", "($1,234.50)", "5 h", "5h",
    "45%", "1'299", "1\u2019299", "1 299", "1\u00a0299", "1\u202f299\u202f000", "\u22123", "1e3", ".5", "5.", "007",
    "12.5k", "3M", "$1.2bn", "800", "12,5 k \u20ac", "900 g", "1.2kg", "2 KiB", "1.5 GB", "5.00-", '="5"', "1:23:45",
    "12:34", "2 days 01:02:03.5", "-0:07", "5 h 30 min", "20m", "-1.5 days", "PT1H", "PT", "P1DT0.1S", "h", "1:2:3",
    "nan", "inf", "?", "", r"\N", "7 or 8", "it's", None,
]  # fmt: skip
FORMATS = [
    NumberFormat(),
    NumberFormat(whole=True),
    NumberFormat(grouping=","),
    NumberFormat(decimal=",", grouping="."),
    NumberFormat(grouping="'"),
    NumberFormat(decimal=",", grouping=" "),
    NumberFormat(grouping=",", prefix="$"),
    NumberFormat(suffix="h"),
    NumberFormat(suffix="%"),
    NumberFormat(scale="magnitude"),
    NumberFormat(scale="magnitude", prefix="$"),
    NumberFormat(scale="magnitude", decimal=",", suffix="\u20ac"),
    NumberFormat(scale="mass"),
    NumberFormat(scale="bytes"),
    NumberFormat(duration="clock"),
    NumberFormat(duration="pair"),
    NumberFormat(duration="units"),
    NumberFormat(duration="iso"),
]


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.describe() or "plain")
def test_sql_reads_every_text_as_the_engine_does(form: NumberFormat) -> None:
    connection = duckdb.connect()
    connection.register("profiles", pa.table({"x": TEXTS}))
    found = connection.sql(f"SELECT {number_from_text(chr(34) + 'x' + chr(34), form)} FROM profiles").fetchall()
    expected = parse_texts(pa.array(TEXTS), form).values
    assert not np.isnan(expected).all()
    assert [value for (value,) in found] == [None if np.isnan(value) else value for value in expected]
