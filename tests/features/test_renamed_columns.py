"""One answer in several notations, such as F and M beside is_female, weighs as one column."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.features.fit import FittedFeatures, fit_encoder
from engine.tables import open_table

N = 1500
RANDOM = np.random.default_rng(3)
AGE = RANDOM.normal(40, 9, N)
FEMALE = RANDOM.random(N) < 0.45
PLAN = RANDOM.choice(["basic", "plus", "gold"], N, p=[0.5, 0.3, 0.2])
LEVEL = RANDOM.integers(1, 17, N)
NAMES = np.array([f"level {(7 * number) % 17}" for number in range(17)])
GENDER = np.where(FEMALE, "F", "M")


def fit_quietly(columns: Mapping[str, Any]) -> FittedFeatures:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fit_encoder(open_table(pa.table({"age": AGE, **columns})))


def repeated(columns: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [found.columns for found in fit_quietly(columns).weights.repeated]


@pytest.mark.parametrize(
    "flag",
    [FEMALE, FEMALE.astype(int), FEMALE.astype(float), ~FEMALE, np.where(FEMALE, 2, 1)],
    ids=["boolean", "integers", "floats", "opposite", "codes"],
)
def test_two_words_and_a_yes_no_column_weigh_as_one(flag: np.ndarray) -> None:
    columns = {"gender": GENDER, "flag": flag}
    fitted = fit_quietly(columns)
    assert [found.columns for found in fitted.weights.repeated] == [("gender", "flag")]
    X = fitted.encoder.encode(pa.table({"age": AGE, **columns}))
    assert X.var(axis=0).sum() == pytest.approx(2.0, abs=0.01)  # age, and one answer


def test_the_order_of_the_table_does_not_matter_and_copies_share_a_share() -> None:
    (found,) = fit_quietly({"male": ~FEMALE, "gender": GENDER, "female": FEMALE}).weights.repeated
    assert found.columns == ("male", "gender", "female")
    assert found.shares == pytest.approx((0.25, 0.5, 0.25))
    assert found.reason == "they repeat each other: a category and a yes/no column of its values"


@pytest.mark.parametrize("values", [["basic", "plus", "gold"], ["plus", "gold"]], ids=["all", "all but the first"])
def test_a_category_and_the_yes_no_columns_of_its_values_weigh_as_one(values: list[str]) -> None:
    flags = {f"plan_{value}": (value == PLAN).astype(int) for value in values}
    (found,) = fit_quietly({"plan": PLAN, **flags}).weights.repeated
    shares = dict(zip(found.columns, found.shares, strict=True))
    assert list(shares) == ["plan", *flags]
    assert shares["plan"] == pytest.approx(0.5)
    assert shares["plan_plus"] / shares["plan_gold"] == pytest.approx(0.21 / 0.16, rel=0.1)  # by variance
    assert sum(shares.values()) == pytest.approx(1)


def test_one_yes_no_column_of_several_values_is_another_question() -> None:
    assert repeated({"plan": PLAN, "gold": PLAN == "gold"}) == []
    assert repeated({"plan": PLAN, "gold": PLAN == "gold", "female": FEMALE, "gender": GENDER}) == [
        ("female", "gender")
    ]


def test_numbers_of_categories_weigh_as_one_with_them_and_amounts_of_them_do_not() -> None:
    assert repeated({"education": NAMES[LEVEL], "education_num": LEVEL}) == [("education", "education_num")]
    assert repeated({"city": NAMES[LEVEL], "population": LEVEL * 1000 + 7}) == []
    assert repeated({"city": NAMES[LEVEL], "mean_rent": LEVEL * 1.3}) == []


def test_columns_that_differ_in_one_row_keep_their_weights() -> None:
    other = FEMALE.copy()
    other[[5, 9]] = ~other[[5, 9]]
    assert repeated({"gender": GENDER, "flag": other}) == []
    assert repeated({"education": NAMES[LEVEL], "number": np.where(np.arange(N) == 7, 17 - LEVEL, LEVEL)}) == []


def test_a_missing_answer_is_missing_in_both_or_no_in_all_yes_no_columns() -> None:
    asked = np.arange(N) % 9 > 0
    gender = [value if there else None for value, there in zip(GENDER, asked, strict=True)]
    flag = [bool(value) if there else None for value, there in zip(FEMALE, asked, strict=True)]
    assert repeated({"gender": gender, "female": flag}) == [("gender", "female")]
    assert repeated({"gender": gender, "female": FEMALE & asked, "male": ~FEMALE & asked}) == [
        ("gender", "female", "male")
    ]
    assert repeated({"education": [*NAMES[LEVEL][:-40], *[None] * 40], "number": LEVEL}) == []


def test_rare_values_and_few_rows_are_alike_by_chance() -> None:
    rare = np.arange(N) == 30
    assert repeated({"word": np.where(rare, "a", "b"), "flag": rare}) == []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        few = pa.table({"age": AGE[:12], "gender": GENDER[:12], "female": FEMALE[:12]})
        assert fit_encoder(open_table(few)).weights.repeated == ()


def test_rows_after_the_first_block_are_compared_by_their_counts() -> None:
    n = 400_000
    random = np.random.default_rng(1)
    level = random.integers(0, 4, n)
    late = level.copy()
    late[-1000:] = (late[-1000:] + (late[-1000:] < 3)) % 4  # other people, whose answers differ
    names = np.array(["a", "b", "c", "d"])
    for numbers, expected in [(level, [("word", "number")]), (late, [])]:
        table = pa.table({"age": random.normal(size=n), "word": names[level], "number": numbers})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = fit_encoder(open_table(table)).weights.repeated
        assert [columns.columns for columns in found] == expected
