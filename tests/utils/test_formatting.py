"""Formatting: the words that readers see of columns, numbers, shares and dates."""

from __future__ import annotations

import datetime

import pyarrow as pa
import pytest

from engine.utils.formatting import (
    Vocabulary,
    column_words,
    format_day,
    format_exact_quantity,
    format_percent,
    format_quantity,
    is_plural,
    natural_list,
    printable_text,
)
from engine.utils.name_words import unit_in_name, without_number


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
        ("GenHlth", "gen health"),
        ("avg_amt", "average amount"),
        ("card_tx_m6", "card transaction month 6"),
        ("open.skull.fracture", "open skull fracture"),
        ("GCS.15.2hours", "GCS 15.2hours"),
        ("state.abb.", "state abb"),
        ("v1.5", "v1.5"),
        ("q7_3", "q7_3"),
        ("Q12_1_2", "Q12_1_2"),
        ("q7_a", "q7_a"),
        ("x_4", "x_4"),
        ("age_2", "age 2"),
        ("q7_mean", "q7 mean"),
    ],
)
def test_column_names_are_split_into_words(column: str, words: str) -> None:
    assert column_words(column) == words


def test_numbers_have_their_unit_unless_the_name_contains_it() -> None:
    assert format_quantity(12.345, "hours/week", "weekly hours", spread=5.0) == "12.3"
    assert format_quantity(4.2, "years", "tenure", spread=2.0) == "4.2 years"
    assert format_quantity(27.0, "years", "age", spread=12.0, whole=True) == "27"
    assert format_quantity(0.1834, "share of ratings", "Drama share", spread=0.1) == "18 %"
    assert format_quantity(0.0073, "share", "Western share", spread=0.01) == "0.7 %"
    assert format_quantity(-0.004, "stars", "affinity", spread=1.0) == "0.0 stars"
    assert format_quantity(-1234.5, None, "balance", spread=900.0) == "−1,234"
    assert format_quantity(float("nan"), None, "x") == "unknown"


def test_zero_has_no_sign() -> None:
    assert format_quantity(-0.0, None, "visits", whole=True) == "0"
    assert format_quantity(-0.0, None, "visits", spread=2.0) == "0.0"


def test_thresholds_keep_all_of_their_digits() -> None:
    assert format_exact_quantity(0.29, "share", "x") == "29 %"
    assert format_exact_quantity(0.135, "share", "x") == "13.5 %"
    assert format_exact_quantity(1500.0, "USD", "price") == "1,500 USD"


@pytest.mark.parametrize(
    ("unit", "name"),
    [
        ("g", "weight"),
        ("s", "session"),
        ("m", "income"),
        ("B", "bytes"),
        ("min", "minimum"),
        ("ms", "items"),
        ("h", "h2"),
    ],
)
def test_a_short_unit_within_another_word_is_told(unit: str, name: str) -> None:
    assert format_exact_quantity(50.0, unit, name) == f"50 {unit}"
    assert format_quantity(50.0, unit, name, spread=90.0, whole=True) == f"50 {unit}"


@pytest.mark.parametrize(
    ("unit", "name"), [("g", "weight (g)"), ("ms", "time_ms"), ("hrs", "hr watched"), ("hours/week", "weekly hours")]
)
def test_a_unit_that_is_a_word_of_the_name_is_not(unit: str, name: str) -> None:
    assert format_exact_quantity(750.0, unit, name) == "750"


@pytest.mark.parametrize(
    ("value", "name", "words"),
    [(1987.0, "release year", "1987"), (1986.6, "year of birth", "1987"), (1987.0, "weekly plays", "1,987"),
     (1987.0, "income a year", "1,987"), (1987.0, "years of light", "1,987")],
)  # fmt: skip
def test_years_of_the_calendar_have_no_separators(value: float, name: str, words: str) -> None:
    assert format_quantity(value, None, name, spread=20.0) == words
    if value == round(value):
        assert format_exact_quantity(value, None, name) == words
    assert format_exact_quantity(1986.5, None, "release year") == "1,986.5"


def test_percent_never_rounds_to_nothing_or_everything() -> None:
    assert [format_percent(v) for v in (0.0, 0.0004, 0.004, 0.0949, 0.18, 0.996, 0.99999, 1.0)] == [
        "0 %", "under 0.1 %", "0.4 %", "9.5 %", "18 %", "99.6 %", "99.9 %", "100 %",
    ]  # fmt: skip


def test_days_are_months_and_years() -> None:
    march = float((datetime.date(2019, 3, 1) - datetime.date(1970, 1, 1)).days)
    assert (format_day(march + 9), format_day(march, whole=True), format_day(march + 9, whole=True)) == (
        "March 2019", "March 2019", "10 March 2019",
    )  # fmt: skip
    assert format_day(float((datetime.date(2019, 1, 1) - datetime.date(1970, 1, 1)).days), whole=True) == "2019"


def test_lists_and_plurals() -> None:
    assert [natural_list(list("abc")[:n]) for n in range(4)] == ["", "a", "a and b", "a, b and c"]
    for name in ("weekly hours", "sessions per week", "siblings"):
        assert is_plural(name), name
    for name in ("number of ratings", "class", "age", "census", "marital status", "analysis"):
        assert not is_plural(name), name


def test_control_and_direction_characters_are_stripped() -> None:
    assert printable_text("a\u202eb\x00c\u2028d\ue000 ") == "abcd"


@pytest.mark.parametrize(
    ("column", "lowest", "highest", "unit"),
    [
        ("spend_eur", 0.0, 900.0, "EUR"),
        ("eur", 0.0, 900.0, None),
        ("weekend_share", 0.0, 1.0, "share"),
        ("weekend_share", 0.0, 45.0, None),  # of what, nobody knows
        ("heart_rate", 40.0, 180.0, None),
        ("churn_rate", 0.0, 0.4, "share"),
        ("discount_pct", 0.0, 80.0, "%"),
        ("discount_pct", 0.0, 0.8, "share"),
        ("growth_pct", -20.0, 80.0, "%"),
        ("data_gb", 0.0, 30.0, "GB"),
        ("call_min", 0.0, 900.0, "min"),
        ("temperature_min", -10.0, 30.0, None),  # the smallest
        ("body_mass_g", 2700.0, 6300.0, "g"),
        ("group_g", 0.0, 9.0, None),
        ("Monthly Spend (EUR)", 0.0, 9.0, "EUR"),
        ("weight [kg]", 0.0, 9.0, "kg"),
        ("discount (%)", 0.0, 80.0, "%"),
        ("tenure_m", 0.0, 90.0, "months"),
        ("contract_months", 0.0, 90.0, "months"),
        ("Age (years)", 0.0, 90.0, "years"),
        ("height_m", 0.0, 2.0, None),
        ("weekly_hours", 0.0, 90.0, None),
        ("salary_gross_eur_pa", 0.0, 90_000.0, "EUR"),
        ("salary_eur_avg_pm", 0.0, 9_000.0, "EUR"),
        ("overtime_h_avg_pm", 0.0, 40.0, "h"),
        ("grade_h", 0.0, 9.0, None),
        ("vibration_mm_s", 0.0, 9.0, "mm/s"),
        ("size_s", 0.0, 9.0, None),
        ("sbp_mmhg", 80.0, 190.0, "mmHg"),
        ("fte_pct_avg", 50.0, 100.0, "%"),
        ("visits_pm", 0.0, 9.0, None),
        ("age", 18.0, 90.0, None),
    ],
)
def test_the_unit_of_a_number_is_read_from_its_name(
    column: str, lowest: float, highest: float, unit: str | None
) -> None:
    assert unit_in_name(column, lowest, highest) == unit


def test_a_unit_is_not_repeated_in_words_unless_it_tells_columns_apart() -> None:
    names = ["spend_eur", "revenue_eur", "revenue_usd", "discount_pct", "temperature_min", "call_min"]
    words = Vocabulary.from_schema(pa.schema([(name, pa.float64()) for name in names]), names, {}, {}).names
    assert list(words.values()) == ["spend", "revenue eur", "revenue usd", "discount", "temperature min", "call"]


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("salary_gross_eur_pa", "salary gross per year"),
        ("overtime_h_avg_pm", "overtime average per month"),
        ("wfh_days_pw", "wfh days per week"),
        ("order_cnt_pm", "order count per month"),
        ("train_pm", "train pm"),  # nobody knows
        ("vib_rms_mm_s", "vibration rms"),
        ("err_cnt_30d", "error count in 30 days"),
        ("logins_12m", "logins in 12 months"),
        ("sprint_100m", "sprint 100m"),
        ("sick_days_ytd", "sick days this year"),
        ("smoker_flg", "smoker"),
        ("flag", "flag"),
    ],
)
def test_what_a_figure_is_counted_over_is_written_out(column: str, words: str) -> None:
    schema = pa.schema([(column, pa.float64())])
    assert Vocabulary.from_schema(schema, [column], {}, {}).names[column] == words


def test_a_unit_stays_in_the_words_of_what_is_not_measured_in_it() -> None:
    schema = pa.schema([("dx_chf", pa.int64()), ("rent_chf", pa.float64())])
    words = Vocabulary.from_schema(schema, ["dx_chf", "rent_chf"], {}, {}, measured={"rent_chf"}).names
    assert dict(words) == {"dx_chf": "dx chf", "rent_chf": "rent"}


@pytest.mark.parametrize(
    ("words", "shared"),
    [
        ("training hours q3", "training hours"),
        ("data gb month 1", "data gb"),
        ("error count in 30 days", "error count"),
        ("1990", "1990"),
        ("wave 2 income", "income"),
    ],
)
def test_the_words_of_a_series_have_no_number(words: str, shared: str) -> None:
    assert without_number(words) == shared


def test_words_of_the_table_and_of_the_user_take_precedence_over_the_column_name() -> None:
    schema = pa.schema([pa.field("recency", pa.float64(), metadata={"rooms.words": "days since"}), ("hvy", pa.int64())])
    words = Vocabulary.from_schema(schema, ["recency", "hvy"], {"hvy": "drinks heavily"}, {"hvy": {"1": "does"}})
    assert dict(words.names) == {"recency": "days since", "hvy": "drinks heavily"}
    assert words.meanings("hvy") == (("1", "does"),)


def test_seconds_are_hours_and_minutes_by_their_size() -> None:
    expected = {
        59.0: "59 s",
        60.0: "1 min",
        200.0: "3 min 20 s",
        3_599.4: "59 min 59 s",
        3_599.9: "1 h",
        9_040.0: "2 h 31 min",
        86_400.0: "86,400 s",
    }
    for seconds, words in expected.items():
        assert format_quantity(seconds, "s", "call time", spread=9.0, whole=True) == words
