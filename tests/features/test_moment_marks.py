"""Zeros and years that stand for none, among years and moments; and zeros that may be missing measurements."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.features.date_columns import DateTextsWarning
from engine.features.fit import fit_encoder
from engine.features.missing_marks import MissingMarksWarning, find_marks
from engine.features.moment_marks import find_moment_marks
from engine.tables import open_table

N = 600
RNG = np.random.default_rng(5)
YEARS = RNG.integers(1950, 2006, N).astype(float)
SECONDS = (1_577_836_800 + RNG.integers(0, 9e7, N)).astype(float)
HEIGHTS = RNG.normal(170, 9, N).round(1)


def with_marks(values: Any, *marks: float) -> np.ndarray[Any, Any]:
    result = np.array(values, float)
    for number, mark in enumerate(marks):
        result[number::40] = mark
    return result


FOUND: dict[str, tuple[str, Any, tuple[float, ...]]] = {
    "0 of a birth year": ("birth_year", with_marks(YEARS, 0), (0,)),
    "0 and 9999 of a birth year": ("YearOfBirth", with_marks(YEARS, 0, 9999), (0, 9999)),
    "0 of nearly all years": ("yr_renovated", np.where(np.arange(N) % 20, 0.0, YEARS), (0,)),
    "1900 far from others": ("birth_year", with_marks(RNG.integers(1970, 2006, N), 1900), (1900,)),
    "0 of seconds since 1970": ("last_login", with_marks(SECONDS, 0), (0,)),
    "0 and -1 of milliseconds": ("lastSeen", with_marks(SECONDS * 1000, 0, -1), (-1, 0)),
    "0 of nanoseconds": ("created_at", with_marks(SECONDS * 1e9, 0), (0,)),
}
NONE: dict[str, tuple[str, Any]] = {
    "years alone": ("birth_year", YEARS),
    "1900 among others": ("year_built", RNG.integers(1900, 2006, N).astype(float)),
    "0 of years of service": ("years", RNG.integers(0, 40, N).astype(float)),
    "0 of a year of study": ("year", RNG.integers(0, 5, N).astype(float)),
    "years and amounts": ("year_total", with_marks(RNG.lognormal(8, 2, N).round(), 0)),
    "fractions of years": ("year", with_marks(YEARS + 0.5, 0)),
    "seconds by another name": ("revenue", with_marks(SECONDS, 0)),
    "seconds of a watch": ("watch_time", with_marks(RNG.integers(1, 9000, N), 0)),
    "moments alone": ("created_at", SECONDS),
    "nothing": ("birth_year", np.full(N, np.nan)),
    "two years beside zeros": ("year", np.where(np.arange(N) % 3, 0.0, 2020.0 + np.arange(N) % 2)),
}


@pytest.mark.parametrize("name", FOUND)
def test_numbers_that_are_no_year_or_moment_are_marks(name: str) -> None:
    column, values, marks = FOUND[name]
    assert find_moment_marks(column, values) == marks
    with pytest.warns(MissingMarksWarning, match=f"'{column}'"):
        features = fit_encoder(open_table(pa.table({column: values.astype(np.int64), "x": RNG.normal(size=N)})))
    (plan,) = [plan for plan in features.encoder.plan.columns if plan.column == column]
    assert getattr(plan, "missing", ()) == marks


@pytest.mark.parametrize("name", NONE)
def test_other_zeros_and_years_are_values(name: str) -> None:
    assert find_moment_marks(*NONE[name]) == ()


APART = {
    "height": with_marks(HEIGHTS, 0),
    "glucose": with_marks(RNG.normal(110, 20, N).round(), 0),
    "pressure": with_marks(RNG.integers(55, 120, N), 0),
}
NEAR = {
    "visits": RNG.poisson(3.0, N).astype(float),
    "spend": with_marks(RNG.lognormal(3, 1, N), 0),
    "rating": with_marks(RNG.integers(1, 6, N), 0),
    "fee": with_marks(np.where(np.arange(N) % 2, 99.0, 109.0), 0),
    "balance": RNG.normal(0, 100, N).round(),
    "mostly none": np.where(np.arange(N) % 3, 0.0, HEIGHTS),
    "heights alone": HEIGHTS,
}


@pytest.mark.parametrize("name", APART | NEAR)
def test_zeros_that_may_be_missing_values_are_named_and_stay(name: str) -> None:
    rows = pa.table({name: (APART | NEAR)[name], "x": RNG.normal(size=N)})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        features = fit_encoder(open_table(rows))
    said = [str(warning.message) for warning in caught if "Zeros stand apart" in str(warning.message)]
    assert len(said) == (name in APART)
    assert not any(getattr(plan, "missing", ()) for plan in features.encoder.plan.columns)
    if said:
        assert f"'{name}'" in said[0]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fit_encoder(open_table(rows), missing={name: ["0"]})
        assert not any("Zeros" in str(warning.message) for warning in caught)


def test_two_codes_together_are_marks_though_neither_is_frequent() -> None:
    days = RNG.integers(0, 31, N).astype(float)
    assert find_marks(with_marks(days, 88, 99)) == (88, 99)
    assert find_marks(with_marks(days, 77, 88, 99)) == (77, 88, 99)
    assert find_marks(RNG.integers(0, 100, N).astype(float)) == ()
    assert find_marks(with_marks(RNG.integers(0, 80, N), 88, 99)) == ()


MOMENTS: dict[str, tuple[str, Any, str]] = {
    "seconds": ("created_at", SECONDS, "seconds since 1970"),
    "milliseconds": ("lastLogin", SECONDS * 1000, "milliseconds since 1970"),
    "microseconds": ("event_time", SECONDS * 1e6, "microseconds since 1970"),
    "a spreadsheet's days": ("signup_date", 44_000 + RNG.integers(0, 900, N), "days as spreadsheets count them"),
    "with times of the day": ("Datum", 44_000 + RNG.uniform(0, 900, N), "days as spreadsheets count them"),
}
AMOUNTS: dict[str, tuple[str, Any]] = {
    "an amount of that size": ("revenue", SECONDS),
    "days of another name": ("visits", 44_000 + RNG.integers(0, 900, N)),
    "a time on the site": ("time_on_site", RNG.integers(0, 4000, N)),
    "one moment": ("created_at", np.repeat(SECONDS[:2], N // 2)),
}


@pytest.mark.parametrize(("name", "values", "unit"), list(MOMENTS.values()), ids=list(MOMENTS))
def test_numbers_that_count_moments_are_told_with_their_unit(name: str, values: Any, unit: str) -> None:
    table = pa.table({name: np.sort(values), "age": RNG.normal(40, 9, N)})
    with pytest.warns(DateTextsWarning, match=f"look like moments stay numbers: '{name}' .{unit}"):
        fitted = fit_encoder(open_table(table))
    assert {role.column: role.role for role in fitted.roles}[name] == "numeric"  # not row numbers, though they ascend
    with warnings.catch_warnings():
        warnings.simplefilter("error", DateTextsWarning)
        fit_encoder(open_table(table), column_roles={name: "numeric"})


@pytest.mark.parametrize(("name", "values"), list(AMOUNTS.values()), ids=list(AMOUNTS))
def test_other_numbers_are_no_moments(name: str, values: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DateTextsWarning)
        fit_encoder(open_table(pa.table({name: values, "age": RNG.normal(40, 9, N)})))
