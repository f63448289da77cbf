"""What readers see of columns, numbers, shares and dates; and thresholds a person would choose."""

from __future__ import annotations

import datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.explain.binning.thresholds import MAX_CUTS, day_cuts, number_cuts, simplest_between
from engine.utils.formatting import (
    Vocabulary,
    clean,
    column_words,
    day,
    exact_quantity,
    listed,
    percent,
    plural,
    quantity,
)


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("share_Documentary", "Documentary share"),
        ("affinity_Film-Noir", "Film-Noir affinity"),
        ("share_1990s", "1990s share"),
        ("n_ratings", "number of ratings"),
        ("weekly_hours", "weekly hours"),
        ("HaveWorkedLanguage", "have worked language"),
        ("HighBP", "high BP"),
        ("BMI", "BMI"),
        ("age", "age"),
        ("_", "_"),
    ],
)
def test_column_names_are_parted_into_words(column: str, words: str) -> None:
    assert column_words(column) == words


def test_numbers_come_with_the_unit_that_the_name_does_not_say() -> None:
    assert quantity(12.345, "hours/week", "weekly hours", spread=5.0) == "12.3"
    assert quantity(4.2, "years", "tenure", spread=2.0) == "4.2 years"
    assert quantity(27.0, "years", "age", spread=12.0, whole=True) == "27"
    assert quantity(0.1834, "share of ratings", "Drama share", spread=0.1) == "18 %"
    assert quantity(0.0073, "share", "Western share", spread=0.01) == "0.7 %"
    assert quantity(-0.004, "stars", "affinity", spread=1.0) == "0.0 stars"
    assert quantity(-1234.5, None, "balance", spread=900.0) == "−1,234"
    assert quantity(float("nan"), None, "x") == "unknown"


def test_thresholds_keep_all_of_their_digits() -> None:
    assert exact_quantity(0.29, "share", "x") == "29 %"
    assert exact_quantity(0.135, "share", "x") == "13.5 %"
    assert exact_quantity(1500.0, "USD", "price") == "1,500 USD"


@pytest.mark.parametrize(
    ("value", "name", "words"),
    [(1987.0, "release year", "1987"), (1986.6, "year of birth", "1987"), (1987.0, "weekly plays", "1,987"),
     (1987.0, "income a year", "1,987"), (1987.0, "years of light", "1,987")],
)  # fmt: skip
def test_years_of_the_calendar_have_no_separators(value: float, name: str, words: str) -> None:
    assert quantity(value, None, name, spread=20.0) == words
    if value == round(value):
        assert exact_quantity(value, None, name) == words
    assert exact_quantity(1986.5, None, "release year") == "1,986.5"


def test_percent_never_rounds_to_nothing_or_everything() -> None:
    assert [percent(v) for v in (0.0, 0.0004, 0.004, 0.0949, 0.18, 0.996, 0.99999, 1.0)] == [
        "0 %", "under 0.1 %", "0.4 %", "9.5 %", "18 %", "99.6 %", "99.9 %", "100 %",
    ]  # fmt: skip


def test_days_are_months_and_years() -> None:
    march = float((datetime.date(2019, 3, 1) - datetime.date(1970, 1, 1)).days)
    assert (day(march + 9), day(march, whole=True), day(march + 9, whole=True)) == (
        "March 2019", "March 2019", "10 March 2019",
    )  # fmt: skip
    assert day(float((datetime.date(2019, 1, 1) - datetime.date(1970, 1, 1)).days), whole=True) == "2019"


def test_lists_and_plurals() -> None:
    assert [listed(list("abc")[:n]) for n in range(4)] == ["", "a", "a and b", "a, b and c"]
    assert [plural(n) for n in ("weekly hours", "sessions per week", "number of ratings", "class", "age")] == [
        True, True, False, False, False,
    ]  # fmt: skip


def test_control_and_direction_characters_are_stripped() -> None:
    assert clean("a\u202eb\x00c\u2028d\ue000 ") == "abcd"


def test_words_of_the_table_and_of_the_user_win() -> None:
    schema = pa.schema([pa.field("recency", pa.float64(), metadata={"rooms.words": "days since"}), ("hvy", pa.int64())])
    words = Vocabulary.of(schema, ["recency", "hvy"], {"hvy": "drinks heavily"}, {"hvy": {"1": "does"}})
    assert dict(words.names) == {"recency": "days since", "hvy": "drinks heavily"}
    assert words.meanings("hvy") == (("1", "does"),)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_a_cut_tells_both_sides_apart(a: float, width: float) -> None:
    b = a + width
    cut = simplest_between(a, b)
    assert a < cut <= b


def test_cuts_are_short_numbers() -> None:
    assert simplest_between(26.0, 27.0) == 27.0
    assert simplest_between(0.1512, 0.157) == 0.155
    assert simplest_between(99.2, 131.0) == 100.0
    ages = np.random.default_rng(0).integers(18, 60, 3000).astype(float)
    assert number_cuts(ages) == tuple(float(a) for a in np.unique(ages)[1:])
    shares = np.random.default_rng(0).beta(2, 9, 5000)
    cuts = number_cuts(shares)
    assert 50 < len(cuts) <= MAX_CUTS + 1
    assert max(len(f"{c:.12g}") for c in cuts) <= 6
    assert number_cuts(np.ones(5)) == ()


def test_dates_are_cut_at_firsts_of_years_and_months() -> None:
    first = (datetime.date(2015, 6, 15) - datetime.date(1970, 1, 1)).days
    cuts = day_cuts(np.arange(first, first + 3650, 7, dtype=float))
    dates = [datetime.date(1970, 1, 1) + datetime.timedelta(days=c) for c in cuts]
    assert all(d.day == 1 for d in dates)
    assert datetime.date(2020, 1, 1) in dates
