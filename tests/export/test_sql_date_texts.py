"""Dates of text columns in SQL: DuckDB parses every text as the engine does."""

from __future__ import annotations

import datetime as dt

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from engine.export.sql_date_texts import date_from_text
from engine.tables.date_texts import DateFormat, parse_dates

DATES = ["1970-1-1", "1969/12/31", "31.12.1969", "01-02-1970", "Feb 3rd, 1970", "Thu, 01 Jan 1970", "29.2.1970"]
CLOCKS = ["", " 9:05", ", 09:05:59", " 23:59:59.999", " 12:05 am", " 12:05 PM", " 1:05p.m."]
ZONES = ["", "Z", " +05:30", "-0800", "-03", " UTC"]
TEXTS = [
    *(date + clock + zone for date in DATES for clock in CLOCKS for zone in (ZONES if clock else [""])),
    "1970-01-01T10:00", "19700102", "197003", "1970-04", "May 1970", "0", "20240230", "99991231",
    "\u00a01970-01-01\n", "n/a", "0000-00-00", "", "it's", "2024-02-30", "9999-12-31", None,
]  # fmt: skip
FORMATS = [
    DateFormat(),
    DateFormat(forms=("day month year",)),
    DateFormat(forms=("month day year", "day name year", "name day year")),
    DateFormat(forms=("year month", "name year")),
    DateFormat(forms=("yearmonthday",)),
    DateFormat(forms=("yearmonth",)),
]


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.describe() or "plain")
def test_sql_reads_every_text_as_the_engine_does(form: DateFormat) -> None:
    connection = duckdb.connect()
    connection.register("profiles", pa.table({"x": TEXTS}))
    found = connection.sql(f"SELECT {date_from_text(chr(34) + 'x' + chr(34), form)} FROM profiles").fetchall()
    expected = parse_dates(pa.array(TEXTS), form).values
    assert 0 < np.isnan(expected).sum() < len(TEXTS)
    epoch = dt.datetime(1970, 1, 1)
    moments = [None if np.isnan(d) else epoch + dt.timedelta(milliseconds=round(d * 86_400_000)) for d in expected]
    assert [value for (value,) in found] == moments


def test_sql_reads_columns_that_the_database_took_for_dates() -> None:
    sql = date_from_text('"x"', DateFormat(forms=("day month year",)))
    day, moment = dt.date(2017, 12, 25), dt.datetime(2017, 12, 25, 10, 0, 0, 500000)
    for literal, expected in ((f"DATE '{day}'", dt.datetime(2017, 12, 25)), (f"TIMESTAMP '{moment}'", moment)):
        assert duckdb.sql(f"SELECT {sql} FROM (SELECT {literal} AS x)").fetchall() == [(expected,)]
