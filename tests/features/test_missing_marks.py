"""Marks of missing values: found where they plainly stand apart, set by the user, alike in new rows and in SQL."""

from __future__ import annotations

import datetime as dt
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.config import FitConfig
from engine.errors import ConfigError, MissingColumnError, UsageError
from engine.features.encoder import FeatureEncoder
from engine.features.encoding_plan import EncodingPlan
from engine.features.fit import FittedFeatures, fit_encoder
from engine.features.missing_marks import MissingMarksWarning, find_doubtful_marks, find_marks, zeros_stand_apart
from engine.tables import BLOCK_ROWS, open_table

N = 1000
RNG = np.random.default_rng(11)
AGES = np.clip(np.rint(RNG.normal(45, 14, N)), 18, 88)
SPEND = np.round(RNG.lognormal(5, 1, N), 2)
AGES_OF_GROUPS = np.rint(np.random.default_rng(0).normal([[25], [45], [65]], 4.0, (3, N)))
COUNTS_OF_GROUPS = np.random.default_rng(0).poisson(np.arange(N) % 3 * 12 + 3.0)
VISITS = {"few": RNG.poisson(3.0, N), "many": RNG.poisson(30.0, N), "mostly none": RNG.geometric(0.4, N) - 1}


def marked(values: Any, *marks: float, share: float = 0.05) -> np.ndarray[Any, Any]:
    """Return values with each mark in a share of the rows."""
    result = np.array(values, float)
    for number, mark in enumerate(marks):
        result[number : int(N * share) * len(marks) : len(marks)] = mark
    return result


def days(*texts: str) -> np.ndarray[Any, Any]:
    return np.array([(dt.date.fromisoformat(text) - dt.date(1970, 1, 1)).days for text in texts], float)


MARKS: dict[str, tuple[Any, tuple[float, ...]]] = {
    "-999 of an income": (marked(SPEND, -999), (-999,)),
    "-1 beside amounts": (marked(SPEND, -1), (-1,)),
    "-1 of shares": (marked(RNG.random(N), -1), (-1,)),
    "99 of an age": (marked(AGES, 99), (99,)),
    "99 of the ages of three groups": (
        marked(np.rint(RNG.normal(np.arange(N) % 3 * 20 + 25, 4)), 99, share=0.04),
        (99,),
    ),
    **{
        f"99 of {n} people in each of three groups": (
            np.append(np.concatenate([AGES_OF_GROUPS[group][:n] for group in range(3)]), [99] * (n // 10)),
            (99,),
        )
        for n in (100, 200, 400)
    },
    "99999.99 far from amounts": (marked(SPEND, 99999.99, share=0.02), (99999.99,)),
    "-9 below a scale from 0 on": (
        marked(COUNTS_OF_GROUPS, -9, share=0.03),
        (-9,),
    ),
    "999 of an age": (marked(AGES, 999), (999,)),
    "97 to 99 of ten points": (marked(RNG.integers(0, 11, N), 97, 98, 99), (97, 98, 99)),
    "777 and 999 of a few drinks": (marked(RNG.poisson(3, N), 777, 999), (777, 999)),
    "-99.9 of temperatures": (marked(RNG.normal(10, 8, N).round(1), -99.9), (-99.9,)),
    "-9999 and 9999": (marked(RNG.normal(0, 50, N), -9999, 9999), (-9999, 9999)),
    "the largest integer": (marked(RNG.integers(0, 10**6, N), 2**31 - 1), (2**31 - 1,)),
    "99999 of spend": (marked(SPEND, 99999), (99999,)),
    "99 of a discount of 0 to 29": (marked(RNG.integers(0, 30, N), 99, share=0.02), (99,)),
    "99.0 of a discount with cents": (marked(np.round(29 * RNG.random(N), 2), 99, share=0.02), (99,)),
    "77 and 99 of the ages of those who work": (marked(RNG.integers(18, 66, N), 77, 99, share=0.01), (77, 99)),
    "99 of hours from 20 to 59": (marked(RNG.integers(20, 60, N), 99, share=0.005), (99,)),
    "99 of hours in steps of 5": (marked(5 * RNG.integers(4, 12, N), 99, share=0.03), (99,)),
    "999 of percentages in steps": (marked(RNG.choice([0, 17, 33, 50, 67, 83, 100], N), 999, share=0.01), (999,)),
    "99999 beside amounts that step": (
        marked(np.where(RNG.random(N) < 0.8, 0, 500 * RNG.integers(1, 30, N)), 99999, share=0.02),
        (99999,),
    ),
    "-1 below a scale that begins at 0": (marked(np.arange(N) % 30, -1, share=0.03), (-1,)),
    "97 beside yes and no": (marked(np.arange(N) % 7 % 2 + 1, 97), (97,)),
    "99 beside no and yes": (marked(np.arange(N) % 7 % 2, 99), (99,)),
    "998 and 999 beside yes and no": (marked(np.arange(N) % 7 % 2 + 1, 998, 999), (998, 999)),
    "-9, -8, -7, -2 and -1 below five points": (
        marked(np.arange(N) % 5 + 1, -9, -8, -7, -2, -1),
        (-9, -8, -7, -2, -1),
    ),
    "-8, -2 and -1 below children": (marked(np.arange(N) % 6, -8, -2, -1), (-8, -2, -1)),
    "-9, -8, -7, -2 and -1 below thousands": (
        marked(1000.0 + np.arange(N) * 37 % 4001, -9, -8, -7, -2, -1),
        (-9, -8, -7, -2, -1),
    ),
    "66 beside four answers": (marked(np.arange(N) % 4 + 1, 66, share=0.5), (66,)),
    "-9 beside yes and no": (marked(np.arange(N) % 7 % 2 + 1, -9), (-9,)),
    "-9 beside five points": (marked(RNG.integers(1, 6, N), -9, share=0.02), (-9,)),
    **{f"-1 of visits, {name}": (marked(visits, -1), (-1,)) for name, visits in VISITS.items()},
}
VALUES: dict[str, Any] = {
    "ages": AGES,
    "ages up to 99": np.clip(np.rint(RNG.normal(70, 12, N)), 18, 99),
    "one value that is far off": np.append(AGES, 999),
    "opinions from -1 to 1": RNG.integers(-1, 2, N).astype(float),
    "opinions from -1 to 3": RNG.integers(-1, 4, N).astype(float),
    "mild temperatures": np.clip(np.rint(RNG.normal(9, 4, N)), -1, None),
    "two sizes and a larger one": np.array([10.0, 20.0, 99.0])[np.arange(N) % 3],
    "differences of goals": np.repeat([-8.0, -4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 5.0], [3, 5, 60, 140, 300, 200, 90, 20]),
    "degrees from -9 to 9": np.arange(N) % 19 - 9.0,
    "degrees from -9 to 9 without 0": (lambda degrees: degrees[degrees != 0])(np.arange(N) % 19 - 9.0),
    "yes, no and other": np.arange(N) % 3 + 1.0,
    "prices": RNG.choice([5, 9, 19, 29, 49, 99], N).astype(float),
    "more prices": RNG.choice([9.99, 19.99, 49, 99, 199, 499, 999], N),
    "hours a week": RNG.choice(np.append(np.arange(1, 81), [90, 98, 99]), N).astype(float),
    "balances": RNG.normal(0, 500, N).round(),
    "normal": RNG.normal(size=N),
    "percent": RNG.integers(0, 101, N).astype(float),
    **{
        f"incomes of {n} people, capped at {cap}": np.minimum(np.rint(cap / 3.0 * RNG.lognormal(0, 1.0, n)), cap)
        for n in (100, 1000)
        for cap in (99, 999, 99999)
    },
    "followers": np.append(np.rint(RNG.lognormal(5, 2, N)), [99999] * 3),
    "a flag": np.tile([0.0, -1.0], N),
}


@pytest.mark.parametrize("name", MARKS)
def test_marks_that_plainly_stand_apart_are_found(name: str) -> None:
    values, marks = MARKS[name]
    assert find_marks(values) == marks
    assert find_marks(RNG.permutation(values)) == marks


@pytest.mark.parametrize("name", VALUES)
def test_values_that_may_be_meant_stay(name: str) -> None:
    assert find_marks(VALUES[name]) == ()


DOUBTS: dict[str, tuple[Any, tuple[float, ...]]] = {
    "99 of a few ages that taper off": (marked(AGES, 99, share=0.005), (99,)),
    "999 beside sparse amounts": (marked(np.rint(RNG.lognormal(3, 1, N)), 999, share=0.004), (999,)),
    "99999 after gains of few people": (
        np.append(
            np.where(RNG.random(20 * N) < 0.92, 0, np.rint(np.clip(RNG.lognormal(8.5, 0.8, 20 * N), 0, 41000))),
            [99999] * 100,
        ),
        (99999,),
    ),
    "-1 of a rating from 0 to 5": (marked(np.arange(N) % 6, -1), (-1,)),
    "365243 beside days before today": (marked(-100.0 - np.arange(N) * 7919 % 15000, 365243, share=0.18), (365243,)),
    "codes beside scores": (
        marked(550.0 + np.arange(N) * 7 % 300, 9000, 9001, 9002, 9003, share=0.02),
        (9000, 9001, 9002, 9003),
    ),
    "-1 of a rating from 1 to 5": (marked(RNG.integers(1, 6, N), -1), (-1,)),
}


@pytest.mark.parametrize("name", DOUBTS)
def test_values_that_are_apart_but_not_plainly_stay_and_are_warned_of(name: str) -> None:
    values, doubtful = DOUBTS[name]
    assert find_marks(values) == ()
    assert find_doubtful_marks(values) == doubtful
    named = ", ".join(f"{mark:.0f}" for mark in doubtful)
    with pytest.warns(MissingMarksWarning, match=rf"apart, but not plainly: 'x' \({named}\)\. They stay values"):
        fit_encoder(open_table(pa.table({"x": values})))


@pytest.mark.parametrize("name", VALUES)
def test_ordinary_values_are_not_warned_of(name: str) -> None:
    assert find_doubtful_marks(VALUES[name]) == ()


def test_a_column_whose_marks_are_set_is_not_warned_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", MissingMarksWarning)
        rows = pa.table({"x": DOUBTS["-1 of a rating from 0 to 5"][0]})
        fit_encoder(open_table(rows), missing={"x": ()})
        fit_encoder(open_table(rows), missing={"x": ("-1",)})


@pytest.mark.parametrize("share", [0.1, 0.4, 0.8])
def test_zeros_of_rounded_amounts_are_amounts(share: float) -> None:
    amounts = np.where(RNG.random(N) < share, 0, 500 * RNG.integers(10, 30, N)).astype(float)
    assert find_marks(amounts) == find_doubtful_marks(amounts) == ()
    assert not zeros_stand_apart(np.sort(amounts))
    heights = np.where(RNG.random(N) < 0.1, 0, RNG.integers(150, 200, N)).astype(float)
    assert zeros_stand_apart(np.sort(heights))


JOINED = days("2015-01-01")[0] + RNG.integers(0, 3000, N)
BORN = days("1930-01-01")[0] + RNG.integers(0, 27000, N)


@pytest.mark.parametrize(
    ("values", "marks"),
    [
        (marked(JOINED, *days("9999-12-31")) + 0.9999, ["9999-12-31"]),
        (np.append(JOINED, days("9999-12-31", "2999-12-31")), ["2999-12-31", "9999-12-31"]),
        (marked(JOINED, *days("1900-01-01", "1970-01-01")), ["1900-01-01", "1970-01-01"]),
        (marked(BORN, *days("1900-01-01")), ["1900-01-01"]),
        (np.append(BORN, days("1900-01-01")), []),
        (days("1969-06-01")[0] + RNG.integers(0, 900, N), []),
        (BORN, []),
    ],
)
def test_marks_among_dates_are_found(values: np.ndarray[Any, Any], marks: list[str]) -> None:
    assert find_marks(values, is_date=True) == tuple(days(*marks))


def fit(columns: dict[str, Any], **options: Any) -> FittedFeatures:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fit_encoder(open_table(pa.table(columns)), **options)


def test_marks_are_missing_values_of_the_fit_and_of_new_rows() -> None:
    rows = {"spend": marked(SPEND, -999), "age": pa.array(marked(AGES, 99).astype(int)), "x": RNG.normal(size=N)}
    nulls = {name: pa.array(np.asarray(rows[name], float), mask=np.arange(N) < 50) for name in ("spend", "age")}
    with pytest.warns(MissingMarksWarning, match=r"'spend' \(50 missing values written as -999\); 'age' \(50 .* as 99"):
        fitted = fit_encoder(open_table(pa.table(rows)))
    without = fit(rows | nulls)
    assert np.array_equal(fitted.encoder.encode(pa.table(rows)), without.encoder.encode(pa.table(rows | nulls)))
    assert {role.column: role.reason for role in fitted.roles}["age"] == "integers; 50 missing values written as 99"
    stored = FeatureEncoder(EncodingPlan.model_validate_json(fitted.encoder.plan.model_dump_json()))
    assert np.array_equal(stored.encode(pa.table(rows)), fitted.encoder.encode(pa.table(rows)))
    assert "missing" not in without.encoder.plan.model_dump()["columns"][0]


def test_far_dates_do_not_hide_what_tells_ordinary_ones_apart() -> None:
    day = np.datetime64("1970-01-01") + marked(JOINED, *days("9999-12-31")).astype(int)
    fitted = fit({"until": pa.array(day), "time": pa.array(day.astype("datetime64[us]"))}, share_weights=False)
    assert fitted.encoder.plan.reference_day == JOINED.max()
    X = fitted.encoder.encode(pa.table({"until": pa.array(day), "time": pa.array(day.astype("datetime64[us]"))}))
    assert X[50:, 0].std() == pytest.approx(1, abs=0.02)
    assert np.array_equal(X[:, 0], X[:, 2])


def test_marks_are_set_by_the_user_or_turned_off() -> None:
    codes = [["a", "b", "unknown"][i % 3] for i in range(N)]
    first_days = [dt.date(2020, 1, 1 + i % 9) for i in range(N)]
    rows = {"spend": marked(SPEND, -999), "score": RNG.integers(1, 6, N), "city": codes, "day": first_days}
    missing = {"spend": (), "score": ("5",), "city": ("unknown",), "day": ("2020-01-01",)}
    fitted = fit(rows, missing=missing)
    statistics = fitted.statistics.columns
    assert statistics["spend"].moments.minimum == -999
    assert statistics["score"].n_missing == int((rows["score"] == 5).sum()) == statistics["score"].n_marked
    assert statistics["city"].n_missing == codes.count("unknown")
    assert statistics["day"].n_missing == len(range(0, N, 9))
    assert fit(rows, missing={"city": ("unknown",)}, column_roles={"score": "categorical"}).statistics.columns[
        "city"
    ].counts.keys() == {"a", "b"}
    numbers = fit(rows, missing={"score": ("5.0",)}, column_roles={"score": "categorical"})
    assert set(numbers.statistics.columns["score"].counts) == {"1", "2", "3", "4"}
    single = fit({"x": np.float32(np.where(np.arange(N) % 7, SPEND, -99.9))}, missing={"x": ("-99.9",)})
    assert single.statistics.columns["x"].n_marked == len(range(0, N, 7))


def test_marks_that_cannot_be_are_refused() -> None:
    rows = {"age": AGES, "tags": [["a", "b"]] * N, "day": [dt.date(2020, 1, 1)] * N}
    for missing, fault in (({"age": ("old",)}, "'age' must be numbers"), ({"day": ("2020",)}, "'day' must be dates"),
                           ({"tags": ("a",)}, "several labels")):  # fmt: skip
        with pytest.raises(UsageError, match=fault):
            fit(rows, missing=missing)
    with pytest.raises(MissingColumnError, match="'agee'"):
        fit(rows, missing={"agee": ("99",)})
    with pytest.raises(ConfigError, match="must be a number, a date or a text"):
        FitConfig.merge({}, features={"missing": {"age": [None]}})


def test_the_configuration_takes_numbers_dates_and_texts(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("features: {missing: {age: [99, -9.5], until: [9999-12-31], city: [unknown], spend: []}}")
    config = FitConfig.read(path)
    assert config.features.missing == {
        "age": ("99", "-9.5"), "until": ("9999-12-31",), "city": ("unknown",), "spend": (),
    }  # fmt: skip
    path.write_text(config.to_yaml())
    assert FitConfig.read(path) == config


def test_marks_that_come_up_only_after_the_first_rows_are_warned_of() -> None:
    ages = np.resize(AGES, BLOCK_ROWS + 5000)
    ages[-2000:] = 999
    with pytest.warns(MissingMarksWarning, match="only after the first rows: 'age'. They stay values"):
        fit_encoder(open_table(pa.table({"age": ages})))


@pytest.mark.parametrize(
    ("low", "high", "mark", "n_marked"), [(0, 101, 999.0, 41), (1, 6, 99.0, 10), (18, 66, 998.0, 12)]
)
def test_a_mark_far_from_a_scale_is_found_however_few_have_it(low: int, high: int, mark: float, n_marked: int) -> None:
    values = np.random.default_rng(0).integers(low, high, 2000).astype(float)
    assert find_marks(values) == ()
    values[:n_marked] = mark
    assert find_marks(values) == (mark,)


def test_marks_for_a_column_that_is_not_read_are_told() -> None:
    table = pa.table({"person": np.arange(100), "age": RNG.normal(40, 9, 100)})
    with pytest.warns(
        MissingMarksWarning, match="set for 'person', which is not read as a feature: they change nothing"
    ):
        fit_encoder(open_table(table), id="person", missing={"person": ["5"]})


@pytest.mark.parametrize("mark", ["1000-01-01", "1601-01-01", "1980-01-01", "2050-01-01", "2262-04-11", "9999-12-31"])
def test_days_of_other_programs_that_stand_apart_are_missing(mark: str) -> None:
    joined = days("2019-03-01")[0] + RNG.integers(0, 1500, N).astype(float)
    assert find_marks(marked(joined, days(mark)[0]), is_date=True) == (days(mark)[0],)
    births = days("1930-01-01")[0] + RNG.integers(0, 29000, N).astype(float)
    if "1930" < mark < "2000":
        assert find_marks(marked(births, days(mark)[0], share=0.01), is_date=True) == ()


@pytest.mark.parametrize("mark", ["gold", "Blue"])
def test_marks_that_are_set_and_occur_nowhere_are_named(mark: str) -> None:
    table = pa.table({"x": [["red", "blue", "green"][n % 3] for n in range(N)], "age": AGES})
    with pytest.warns(MissingMarksWarning, match="set occur in no row: 'x'"):
        fit_encoder(open_table(table), missing={"x": [mark]})
    with warnings.catch_warnings():
        warnings.simplefilter("error", MissingMarksWarning)
        fit_encoder(open_table(table), missing={"x": ["blue"], "age": ["45"]})
