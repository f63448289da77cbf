"""engine.FeatureEncoder as a scikit-learn transformer: alone, and within pipelines."""

from __future__ import annotations

import pickle
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

import engine
from engine.errors import EmptyTableError, MissingColumnError, NoFeaturesError, UsageError
from engine.features.fit import fit_encoder
from engine.tables import open_table


def members(n_rows: int = 600) -> pd.DataFrame:
    random = np.random.default_rng(0)
    income = np.round(np.exp(random.normal(8, 1, n_rows)))
    return pd.DataFrame(
        {
            "age": random.integers(18, 80, n_rows),
            "income": np.where(random.random(n_rows) < 0.1, np.nan, income),
            "city": random.choice(["Rome", "Oslo", "Lima"], n_rows),
            "likes": random.choice(["music;film", "film", "music;sport", "sport"], n_rows),
            "joined": pd.to_datetime("2020-01-01") + pd.to_timedelta(random.integers(0, 1000, n_rows), unit="D"),
        }
    )


def test_it_encodes_as_a_fit_does() -> None:
    frame = members()
    X = engine.FeatureEncoder().fit_transform(frame)
    expected = fit_encoder(open_table(frame)).encoder.encode(frame)
    assert X.dtype == np.float32
    np.testing.assert_array_equal(X, expected)


@pytest.mark.parametrize("convert", [pl.from_pandas, lambda frame: pa.Table.from_pandas(frame, preserve_index=False)])
def test_any_data_frame_gives_the_same_rows(convert: Any) -> None:
    frame = members()
    encoder = engine.FeatureEncoder().fit(frame)
    np.testing.assert_array_equal(encoder.transform(convert(frame)), encoder.transform(frame))
    np.testing.assert_array_equal(engine.FeatureEncoder().fit_transform(convert(frame)), encoder.transform(frame))


def test_names_of_features_are_those_of_columns_and_values() -> None:
    encoder = engine.FeatureEncoder().fit(members())
    names = encoder.get_feature_names_out().tolist()
    assert names[0] == "age"
    assert {"income", "income: (missing)", "city: Rome", "likes: film", "joined"} <= set(names)
    assert len(set(names)) == len(names) == encoder.transform(members()).shape[1]
    assert encoder.feature_names_in_.tolist() == ["age", "income", "city", "likes", "joined"]


def test_a_category_named_like_the_rest_has_a_name_of_its_own() -> None:
    frame = members().assign(city=np.resize(["other", "Oslo", "(missing)", "Rome"], 600))
    encoder = engine.FeatureEncoder().fit(frame)
    names = encoder.get_feature_names_out().tolist()
    assert len(set(names)) == len(names)
    back = encoder.inverse_transform(encoder.transform(frame))
    assert back["city"].to_pylist() == frame["city"].tolist()


def test_the_inverse_gives_rows_in_the_units_of_the_table() -> None:
    frame = members()
    encoder = engine.FeatureEncoder(roles={"likes": "multilabel"}).fit(frame)
    back = encoder.inverse_transform(encoder.transform(frame)).to_pandas()
    assert back.columns.tolist() == frame.columns.tolist()
    assert (back["city"] == frame["city"]).all()
    assert (back["income"].isna() == frame["income"].isna()).all()
    inner = frame["age"].between(frame["age"].quantile(0.01), frame["age"].quantile(0.99))
    np.testing.assert_allclose(back["age"][inner], frame["age"][inner], rtol=1e-4)
    assert [sorted(labels) for labels in back["likes"]] == [sorted(text.split(";")) for text in frame["likes"]]
    days = pd.to_datetime(back["joined"]) - frame["joined"]
    assert days.abs().quantile(0.95) <= pd.Timedelta(days=1)


def test_it_works_in_a_pipeline_and_in_a_column_transformer() -> None:
    frame = members()
    pipeline = make_pipeline(engine.FeatureEncoder(), engine.PCA(3), engine.KMeans(4, random_state=0))
    labels = pipeline.fit_predict(frame)
    assert len(np.unique(labels)) == 4
    np.testing.assert_array_equal(pipeline.predict(frame), labels)
    columns = ColumnTransformer(
        [("people", engine.FeatureEncoder(), ["city", "likes"]), ("numbers", StandardScaler(), ["age"])]
    )
    X = columns.fit_transform(frame)
    names = columns.get_feature_names_out().tolist()
    assert X.shape == (600, len(names))
    assert names[-1] == "numbers__age"
    assert "people__city: Rome" in names
    framed = Pipeline([("encode", engine.FeatureEncoder())]).set_output(transform="pandas").fit_transform(frame)
    assert framed.columns.tolist() == engine.FeatureEncoder().fit(frame).get_feature_names_out().tolist()


def test_parameters_are_those_of_a_fit() -> None:
    frame = members().assign(code=np.resize([1, 2, 3], 600))
    encoder = engine.FeatureEncoder(
        roles={"code": "categorical", "joined": "ignore"},
        weights={"age": 4.0},
        missing={"age": [18]},
        reference_day=date(2030, 1, 1),
        random_state=3,
    ).fit(frame)
    assert (encoder.roles_["code"], encoder.roles_["joined"]) == ("categorical", "ignore")
    assert "joined" not in encoder.encoder_.columns
    plain = engine.FeatureEncoder(roles={"code": "categorical", "joined": "ignore"}).fit(frame)
    ages = [e.transform(frame)[:, 0].astype(np.float64).var() for e in (encoder, plain)]
    assert ages[0] > 2 * ages[1]
    assert clone(encoder).get_params() == encoder.get_params()
    again = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(again.transform(frame), encoder.transform(frame))


def test_an_array_has_columns_by_number() -> None:
    random = np.random.default_rng(0)
    X = np.column_stack([random.normal(size=200), random.choice([0.0, 1.0], 200)])
    encoder = engine.FeatureEncoder().fit(X)
    assert encoder.feature_names_in_.tolist() == ["x0", "x1"]
    assert encoder.transform(X[:3]).shape[0] == 3
    mixed = np.array([[1.5, "a"], [2.5, "b"], [3.5, "a"], [4.25, "b"]], dtype=object)
    assert engine.FeatureEncoder(roles={"x1": "categorical"}).fit(mixed).get_feature_names_out()[0] == "x0"


def test_bad_input_is_refused() -> None:
    frame = members()
    with pytest.raises(NotFittedError):
        engine.FeatureEncoder().transform(frame)
    encoder = engine.FeatureEncoder().fit(frame)
    with pytest.raises(MissingColumnError, match="'city'"):
        encoder.transform(frame.drop(columns="city"))
    with pytest.raises(EmptyTableError):
        encoder.transform(frame[:0])
    with pytest.raises(UsageError, match=r"X has 2 features, but the encoder has \d+"):
        encoder.inverse_transform(np.zeros((3, 2)))
    with pytest.raises(UsageError, match=r"two dimensions, but its shape is \(3,\)"):
        engine.FeatureEncoder().fit(np.zeros(3))
    with pytest.raises(NoFeaturesError), pytest.warns(UserWarning, match="left out"):
        engine.FeatureEncoder().fit(frame[["age"]].assign(age=1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"roles": {"age": "foo"}}, "roles: 'foo' of column 'age' is no role"),
        ({"weights": {"age": -2}}, "weights: -2 of column 'age'"),
        ({"weights": {"age": "much"}}, "weights: 'much' of column 'age'"),
    ],
)
def test_settings_that_cannot_be_are_usage_errors(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        engine.FeatureEncoder(**settings).fit(pa.table({"age": [1.0, 2.0, 3.0]}))
