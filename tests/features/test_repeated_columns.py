"""Columns that say one thing share one weight: copies in other units, 0/1 columns of one answer, renamed categories."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import engine
from engine.config import FitConfig, GroupConfig
from engine.features.fit import FittedFeatures, fit_encoder
from engine.features.repeated_columns import RepeatedColumnsWarning
from engine.tables import open_table

N = 1200
CITY = np.random.default_rng(5).integers(0, 8, N)
CITIES = {f"city_{c}": (c == CITY).astype(int) for c in range(8)}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def fit_quietly(columns: dict[str, Any], **options: Any) -> FittedFeatures:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fit_encoder(open_table(pa.table(columns)), **options)


def repeated(columns: dict[str, Any], **options: Any) -> list[tuple[str, ...]]:
    return [found.columns for found in fit_quietly(columns, **options).weights.repeated]


def test_copies_in_other_units_weigh_as_one_column(rng: np.random.Generator) -> None:
    height = rng.normal(170, 10, N)
    columns = {"cm": height, "age": rng.normal(40, 9, N), "feet": np.round(height / 30.48, 2), "below_2m": 200 - height}
    with pytest.warns(RepeatedColumnsWarning, match="'cm', 'feet', 'below_2m' .they repeat each other"):
        fitted = fit_encoder(open_table(pa.table(columns)))
    variances = dict(zip(columns, fitted.encoder.encode(pa.table(columns)).var(axis=0), strict=True))
    assert variances == pytest.approx({"cm": 1 / 3, "age": 1, "feet": 1 / 3, "below_2m": 1 / 3}, abs=1e-4)
    assert "correlation 0.99 or more" in {role.column: role.reason for role in fitted.roles}["feet"]


def test_columns_that_are_only_related_keep_their_weights(rng: np.random.Generator) -> None:
    age = rng.normal(40, 9, N)
    assert repeated({"age": age, "service": age + rng.normal(0, 2, N), "noise": rng.normal(size=N)}) == []
    assert repeated({f"x{i}": rng.normal(size=12) for i in range(300)}) == []  # few rows correlate by chance


def test_columns_of_one_answer_are_encoded_as_the_category_is(rng: np.random.Generator) -> None:
    age = rng.normal(40, 9, N)
    fitted = fit_quietly({"age": age, **CITIES})
    assert [found.columns for found in fitted.weights.repeated] == [tuple(CITIES)]
    X = fitted.encoder.encode(pa.table({"age": age, **CITIES}))
    category = pa.table({"age": age, "city": [f"c{c}" for c in CITY]})
    Y = fit_encoder(open_table(category)).encoder.encode(category)
    distances = [((A[:50, None] - A[None, :50]) ** 2).sum(axis=2) for A in (X, Y)]
    assert distances[0] == pytest.approx(distances[1], rel=1e-4, abs=1e-6)


def test_an_answer_without_its_first_column_or_a_common_name_is_found(rng: np.random.Generator) -> None:
    words = dict(zip(["walk", "bus", "bike", "car", "train", "boat", "plane", "none"], CITIES.values(), strict=True))
    del words["none"]
    vip = rng.random(N) < 0.3
    assert repeated({"vip": vip, **words}) == [tuple(words)]
    assert repeated({"vip": vip, "city_is_new": vip, **CITIES})[-1] == tuple(CITIES)


def test_answers_that_may_be_ticked_together_keep_their_weights(rng: np.random.Generator) -> None:
    several = {f"likes_{i}": rng.random(N) < 0.2 for i in range(6)}
    rare = {f"ill_{i}": np.arange(N) % 400 == i for i in range(4)}  # exclude each other, as they would by chance
    assert repeated(several) == []
    assert repeated(rare) == []


def test_the_two_columns_of_yes_and_no_weigh_as_one(rng: np.random.Generator) -> None:
    yes = rng.random(N) < 0.4
    assert repeated({"yes": yes, "no": ~yes, "age": rng.normal(size=N)}) == [("yes", "no")]
    assert repeated({"in_city_0": CITIES["city_0"], **CITIES}) == [("in_city_0", "city_0"), tuple(CITIES)[1:]]


def test_the_copy_of_a_column_of_an_answer_shares_its_share() -> None:
    (found,) = fit_quietly({**CITIES, "in_city_0": CITIES["city_0"]}).weights.repeated
    shares = dict(zip(found.columns, found.shares, strict=True))
    assert shares["in_city_0"] == shares["city_0"] == pytest.approx(shares["city_1"] / 2, rel=0.3)
    assert sum(shares.values()) == pytest.approx(1)


def test_renamed_categories_weigh_as_one(rng: np.random.Generator) -> None:
    names = np.array(["France", "Spain", "Italy", "Malta"])[CITY % 4]
    codes = [None if name == "Malta" else name[:2] for name in names]
    columns = {"country": names, "code": [name[:2] for name in names], "gaps": codes, "other": rng.permutation(names)}
    assert repeated(columns) == [("country", "code")]


def test_columns_of_two_groups_do_not_share(rng: np.random.Generator) -> None:
    x = rng.normal(size=N)
    columns = {"a": x, "b": 2 * x, "c": rng.normal(size=N), "d": -x}
    groups = {"one": GroupConfig(columns=("a", "b")), "two": GroupConfig(columns=("c", "d"), weight=3)}
    fitted = fit_quietly(columns, groups=groups)
    assert [found.columns for found in fitted.weights.repeated] == [("a", "b")]
    weights = fitted.weights.by_column
    assert weights["a"] == weights["b"]
    assert weights["c"] + weights["d"] == pytest.approx(3 * (weights["a"] + weights["b"]))


def test_a_vector_and_share_weights_false_are_left_alone(rng: np.random.Generator) -> None:
    taste = np.repeat(rng.random((N, 1)), 3, axis=1)
    assert repeated({"taste": pa.array(list(taste)), "age": rng.normal(size=N)}) == []
    x = rng.normal(size=N)
    fitted = fit_encoder(open_table(pa.table({"a": x, "b": x})), share_weights=False)
    assert fitted.weights.by_column == {"a": 1.0, "b": 1.0}


def test_repeated_columns_are_in_the_manifest(tmp_path: Path, rng: np.random.Generator) -> None:
    table = pa.table({"x": rng.normal(size=200), **{name: values[:200] for name, values in CITIES.items()}})
    config = FitConfig(skip=("explain", "map", "report"))
    with pytest.warns(RepeatedColumnsWarning, match=r"'city_0', 'city_1', 'city_2' … 'city_7' \(8 yes/no columns"):
        run = engine.fit(table, out=tmp_path / "run", n_clusters=3, config=config)
    (found,) = run.manifest["repeated_columns"]
    assert found["columns"] == list(CITIES)
    assert sum(found["shares"]) == pytest.approx(1)


@pytest.mark.parametrize(("yes", "no"), [("Yes", "No"), ("ja", "nein"), ("true", "false"), ("Y", "N")])
def test_columns_of_one_answer_in_words_share_a_weight_as_those_in_numbers(
    rng: np.random.Generator, yes: str, no: str
) -> None:
    age = rng.normal(40, 9, N)
    words = {name: np.where(flag == 1, yes, no) for name, flag in CITIES.items()}
    fitted, expected = fit_quietly({"age": age, **words}), fit_quietly({"age": age, **CITIES})
    assert [found.columns for found in fitted.weights.repeated] == [tuple(CITIES)]
    assert fitted.weights.by_column == pytest.approx(expected.weights.by_column)
    X = fitted.encoder.encode(pa.table({"age": age, **words}))
    assert X.var(axis=0).sum() == pytest.approx(2.0, abs=0.01)  # age, and one answer


def test_other_columns_of_two_texts_keep_their_weights(rng: np.random.Generator) -> None:
    both = {f"likes_{c}": np.where(rng.random(N) < 0.4, "yes", "no") for c in "abc"}  # several at a time
    assert repeated({"age": rng.normal(40, 9, N), **both}) == []
    others = {name: np.where(flag == 1, "here", "there") for name, flag in CITIES.items()}  # which of them is yes?
    assert repeated(others) == []


def test_a_column_of_an_answer_in_words_and_its_opposite_are_in_one_set_only(rng: np.random.Generator) -> None:
    words = {name: np.where(flag == 1, "yes", "no") for name, flag in CITIES.items()}
    words["abroad"] = np.where(CITIES["city_0"] == 1, "away", "home")
    names = [name for columns in repeated({"age": rng.normal(40, 9, N), **words}) for name in columns]
    assert len(names) == len(set(names))
    assert set(CITIES) <= set(names)
