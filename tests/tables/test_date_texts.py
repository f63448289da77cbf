"""Dates in texts: every form is recognised and parsed, day and month are told apart, and other texts are no dates."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from engine.features.columnar_block import days_since_epoch
from engine.tables.date_texts import DAY_FIRST, MONTH_FIRST, DateFormat, find_date_format, parse_dates

SEPTEMBER_4 = dt.datetime(2012, 9, 4)
ONE_FORM = [
    ("04-09-2012", "13-09-2012", ("day month year",)),
    ("4.9.2012", "13.9.2012", ("day month year",)),
    ("09/04/2012", "09/13/2012", ("month day year",)),
    ("2012/09/04", "2012/13/04", ()),
    ("2012-9-4", "2012-9-5", ()),
    ("2012.09.04", "2012.09.05", ()),
    ("Sep 04, 2012", "May 4, 2012", ("name day year",)),
    ("September 4th, 2012", "Aug. 1st 2012", ("name day year",)),
    ("04-Sep-2012", "1-Jan-2012", ("day name year",)),
    ("04sep2012", "05oct2012", ("day name year",)),
    ("Tue, 04 Sep 2012", "Wed, 05 Sep 2012", ("day name year",)),
    ("Tuesday, 4 September 2012", "5 May 2012", ("day name year",)),
    ("20120904", "20121231", ("yearmonthday",)),
]
MONTHS_ALONE = [
    ("2012-09", "2012-12", ("year month",)),
    ("2012/09", "1999/12", ("year month",)),
    ("September 2012", "May 1999", ("name year",)),
    ("sep-2012", "jan-1999", ("name year",)),
    ("201209", "199912", ("yearmonth",)),
]
TIMES = [
    ("2012-09-04 10:05", dt.datetime(2012, 9, 4, 10, 5)),
    ("2012-09-04T10:05:06.789Z", dt.datetime(2012, 9, 4, 10, 5, 6, 789000)),
    ("2012-09-04 10:05:06,5", dt.datetime(2012, 9, 4, 10, 5, 6, 500000)),
    ("2012-09-04 10:05:00 +02:00", dt.datetime(2012, 9, 4, 8, 5)),
    ("2012-09-04 22:05-0330", dt.datetime(2012, 9, 5, 1, 35)),
    ("2012-09-04 22:05 UTC", dt.datetime(2012, 9, 4, 22, 5)),
    ("2012/09/04 1:05 PM", dt.datetime(2012, 9, 4, 13, 5)),
    ("2012/09/04, 12:05 a.m.", dt.datetime(2012, 9, 4, 0, 5)),
    ("2012/09/04 12:05:00 pm", dt.datetime(2012, 9, 4, 12, 5)),
    (" 0999-12-31", None),
    ("9999-12-31", dt.datetime(9999, 12, 31)),
    ("2012-02-29", dt.datetime(2012, 2, 29)),
    ("2013-02-29", None),
    ("2012-13-01", None),
    ("2012-09-04 24:00", None),
    ("2012-09-04 10:60", None),
    ("2012-09-04 10", None),
]
NO_DATES = [
    ["01-Feb-55", "02-Feb-56"],  # 1955 or 2055
    ["4/9/12", "5/9/12"],
    ["1.2.3", "2.0.0"],
    ["2012.09", "2012.10"],  # numbers
    ["1066-10", "1066-11"],
    ["20120904", "201209"],
    ["20121304", "20120932"],
    ["0", "-1"],
    ["2012", "2013"],
    ["10:05", "11:06"],
    ["Marble 4, 2012", "Mayor 5, 2012"],
    ["4 of 2012", "May"],
    ["555-01-2012x", "555-02-2013x"],
    ["n/a", "?"],
    ["25/12/2017", "12/25/2017"],  # nothing fits both
    [],
]


def days(*moments: dt.datetime | None) -> list[float]:
    return days_since_epoch(pa.array(moments, pa.timestamp("ms"))).tolist()


@pytest.mark.parametrize(("text", "other", "forms"), ONE_FORM)
def test_every_form_is_recognised_and_parsed(text: str, other: str, forms: tuple[str, ...]) -> None:
    texts = pa.array([text, f" {text}\n", text.upper(), None, "", "n/a", "0000-00-00"])
    form = find_date_format(pa.array([text, text.lower(), *([other] if other[:7] != "2012/13" else [])]))
    assert form == DateFormat(forms=forms)
    parsed = parse_dates(texts, form)
    assert parsed.values[:3].tolist() == days(SEPTEMBER_4) * 3
    assert np.isnan(parsed.values[3:]).all()
    assert dict(parsed.marks) == {"": 1, "n/a": 1, "0000-00-00": 1}
    assert parsed.n_unread == 0
    assert parse_dates(texts.dictionary_encode(), form).values[:3].tolist() == days(SEPTEMBER_4) * 3


@pytest.mark.parametrize(("text", "other", "forms"), MONTHS_ALONE)
def test_a_month_is_its_first_day(text: str, other: str, forms: tuple[str, ...]) -> None:
    form = find_date_format(pa.array([text, other]))
    assert form == DateFormat(forms=forms)
    parsed = parse_dates(pa.array([f" {text}", "", "soon"]), form)
    np.testing.assert_array_equal(parsed.values, days(dt.datetime(2012, 9, 1), None, None))
    assert (dict(parsed.marks), parsed.n_unread) == ({"": 1}, 1)


def test_among_dates_in_digits_zeros_and_nines_are_missing_and_impossible_days_unread() -> None:
    texts = pa.array(["20120904", "0", "00000000", "99999999", "99991231", "20120230"])
    form = find_date_format(texts)
    assert form == DateFormat(forms=("yearmonthday",))
    parsed = parse_dates(texts, form)
    np.testing.assert_array_equal(parsed.values, days(SEPTEMBER_4, None, None, None, dt.datetime(9999, 12, 31), None))
    assert (dict(parsed.marks), parsed.n_unread) == ({"0": 1, "00000000": 1, "99999999": 1}, 1)
    assert parse_dates(pa.array(["0"]), DateFormat()).n_unread == 1


@pytest.mark.parametrize(("text", "moment"), TIMES)
def test_times_and_zones_are_read_and_impossible_ones_are_not(text: str, moment: dt.datetime | None) -> None:
    parsed = parse_dates(pa.array([text]), DateFormat())
    assert parsed.n_unread == (moment is None)
    np.testing.assert_array_equal(parsed.values, days(moment))


@pytest.mark.parametrize("texts", NO_DATES)
def test_other_texts_are_no_dates(texts: list[str]) -> None:
    assert find_date_format(pa.array(texts, pa.string())) is None


def test_fractions_are_cut_towards_1970_as_in_columns_of_times() -> None:
    texts = ["1969-12-31 23:59:59.999900", "1970-01-01 00:00:00.000900", "1969-12-31 23:59:59.9981"]
    times = pa.array([dt.datetime.fromisoformat(text) for text in texts], pa.timestamp("us"))
    assert parse_dates(pa.array(texts), DateFormat()).values.tolist() == days_since_epoch(times).tolist()


def test_a_day_above_12_a_constant_day_other_columns_and_the_mark_decide_in_this_order() -> None:
    open_dates = ["03/04/2012", "05/06/2012", "07/08/2012"]
    dots = [text.replace("/", ".") for text in open_dates]
    months = [f"01/{month:02d}/2012" for month in range(1, 13)]
    cases = [
        ([*open_dates, "13/01/2012"], None, DAY_FIRST, False),
        ([*dots, "01.13.2012"], None, MONTH_FIRST, False),
        (months, None, DAY_FIRST, False),
        ([f"{text[3:6]}01/2012" for text in months], None, MONTH_FIRST, False),
        (open_dates, DAY_FIRST, DAY_FIRST, False),
        (open_dates, None, MONTH_FIRST, True),
        (dots, None, DAY_FIRST, True),
        ([*["13/01/2012"] * 1, *[f"{day:02d}/01/2012" for day in range(1, 29)] * 5, "x"], None, DAY_FIRST, False),
    ]
    for texts, hint, order, assumed in cases:
        form = find_date_format(pa.array(texts), hint)
        assert form == DateFormat(forms=(order,), assumed=assumed)  # type: ignore[arg-type]
