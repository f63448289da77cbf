"""FeatureEncoder: encoded features against NumPy, and decoding to the units of the table."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from engine.config import GroupConfig
from engine.errors import MissingColumnError, RetypedColumnError, UsageError
from engine.features.encoder import FeatureEncoder
from engine.features.encoding_plan import MIN_VARIANCE, EncodingPlan
from engine.features.fit import ColumnsDroppedWarning, fit_encoder
from engine.tables import open_table

N = 1000


@pytest.fixture
def members() -> pa.Table:
    rng = np.random.default_rng(0)
    words = np.array(["Drama", "Comedy", "Horror", "Crime"])
    gaps = rng.random(N) < 0.2
    return pa.table(
        {
            "age": pa.array(rng.integers(18, 80, N).astype(float), mask=rng.random(N) < 0.1),
            "hours": rng.lognormal(1, 1.2, N),
            "kids": pa.array(rng.random(N) < 0.3, mask=rng.random(N) < 0.001),
            "plan": pa.array(rng.choice(["Basic", "Premium", "Family"], N, p=[0.6, 0.3, 0.1]), mask=gaps),
            "genres": pa.array([list(words[rng.random(4) < 0.5]) for _ in range(N)], pa.list_(pa.string())),
            "signed": [dt.date(2020, 1, 1) + dt.timedelta(days=int(i)) for i in rng.integers(0, 900, N)],
        }
    )


@pytest.fixture
def encoder(members: pa.Table) -> FeatureEncoder:
    return fit_encoder(open_table(members)).encoder


def column_of(encoder: FeatureEncoder, X: np.ndarray, name: str) -> np.ndarray:
    return X[:, [feature.name for feature in encoder.features].index(name)].astype(np.float64)


def test_a_sample_comes_with_the_cells_that_are_not_known(members: pa.Table, encoder: FeatureEncoder) -> None:
    X, unknown = encoder.encode_sample(members)
    assert np.array_equal(X, encoder.encode(members))
    for column, name in enumerate(feature.name for feature in encoder.features):
        is_null = members[name.partition(":")[0]].is_null().to_numpy()
        if name.endswith(": (missing)"):
            assert unknown[:, column].all()
        else:
            assert np.array_equal(unknown[:, column], is_null), name


def test_numbers_are_imputed_clipped_and_standardised(members: pa.Table, encoder: FeatureEncoder) -> None:
    X = encoder.encode(members)
    ages = np.array([np.nan if v is None else v for v in members["age"].to_pylist()])
    present = ages[~np.isnan(ages)]
    low, high = np.quantile(present, [0.005, 0.995])
    clipped = np.clip(present, low, high)
    filled = np.where(np.isnan(ages), np.median(present), ages)
    expected = (np.clip(filled, low, high) - clipped.mean()) / clipped.std()
    assert column_of(encoder, X, "age") == pytest.approx(expected, abs=1e-6)
    share = np.isnan(ages).mean()
    indicator = column_of(encoder, X, "age: (missing)")
    assert indicator.var() == pytest.approx(share, rel=1e-5)
    assert np.array_equal(indicator > 0, np.isnan(ages))


def test_heavy_tails_are_logged_and_dates_are_years_back(members: pa.Table, encoder: FeatureEncoder) -> None:
    X = encoder.encode(members)
    logged = np.log1p(np.asarray(members["hours"]))
    clipped = np.clip(logged, *np.quantile(logged, [0.005, 0.995]))
    assert column_of(encoder, X, "hours") == pytest.approx((clipped - clipped.mean()) / clipped.std(), abs=1e-6)
    days = members["signed"].cast(pa.int32()).to_numpy()
    years = (days.max() - days) / 365.25
    clipped = np.clip(years, *np.quantile(years, [0.005, 0.995]))
    assert column_of(encoder, X, "signed") == pytest.approx((clipped - clipped.mean()) / clipped.std(), abs=1e-5)


def test_a_heavy_tail_may_have_some_values_below_zero() -> None:
    rng = np.random.default_rng(1)
    n = 4000
    rich = rng.random(n) < 0.3
    balance = np.exp(rng.normal(np.where(rich, 8.0, 5.0), 0.6))
    overdrawn, in_debt = rng.random(n) < 0.06, rng.random(n) < 0.3
    table = pa.table({"balance": np.where(overdrawn, -balance / 10, balance)})
    fitted = fit_encoder(open_table(table))
    assert fitted.roles[0].role == "count"
    assert "% are below 0 and count as 0" in fitted.roles[0].reason
    x = fitted.encoder.encode(table)[:, 0]
    assert len(np.unique(x[overdrawn])) == 1  # as a balance of 0
    assert x[rich & ~overdrawn].mean() - x[~rich & ~overdrawn].mean() > 1.0  # by logarithms; unlogged, the tail decides
    several = pa.table({"balance": np.where(in_debt, -balance, balance)})
    assert fit_encoder(open_table(several)).roles[0].role == "numeric"
    assert fit_encoder(open_table(table), column_roles={"balance": "numeric"}).roles[0].role == "numeric"


def test_every_block_weighs_as_much_as_one_number(members: pa.Table, encoder: FeatureEncoder) -> None:
    X = encoder.encode(members).astype(np.float64)
    for column in ("hours", "plan", "genres", "signed"):
        positions = [j for j, feature in enumerate(encoder.features) if feature.column == column]
        assert X[:, positions].var(axis=0).sum() == pytest.approx(1.0, abs=1e-4)
    plans = members["plan"].to_pylist()
    assert np.array_equal(column_of(encoder, X, "plan: Premium") > 0, [plan == "Premium" for plan in plans])
    assert np.array_equal(column_of(encoder, X, "plan: (missing)") > 0, [plan is None for plan in plans])
    genres = members["genres"].to_pylist()
    assert np.array_equal(column_of(encoder, X, "genres: Horror") > 0, ["Horror" in row for row in genres])


def test_a_rare_flag_is_not_scaled_to_full_variance() -> None:
    flags = np.zeros(10_000)
    flags[:5] = 1
    rows = pa.table({"rare": flags, "age": np.arange(10_000) % 60})
    X = fit_encoder(open_table(rows)).encoder.encode(rows)
    assert np.ptp(X[:, 0]) == pytest.approx(1 / np.sqrt(MIN_VARIANCE), rel=1e-6)


@pytest.mark.parametrize("as_float", [False, True])
def test_a_number_that_few_have_varies_like_a_flag_that_few_have(as_float: bool) -> None:
    rare = np.zeros(1200, float if as_float else int)
    rare[[5, 700, 900]] = 5, 5, 7
    X = fit_encoder(open_table(pa.table({"n": rare, "flag": rare > 0, "age": np.arange(1200) % 60}))).encoder.encode(
        pa.table({"n": rare, "flag": rare > 0, "age": np.arange(1200) % 60})
    )
    assert X[:, 0].var() == pytest.approx(X[:, 1].var(), rel=1e-5)
    assert np.ptp(X[:, 0]) < 1.5 / np.sqrt(MIN_VARIANCE)


def test_numbers_that_a_twentieth_has_and_more_keep_their_whole_variance() -> None:
    rng = np.random.default_rng(0)
    columns = {
        "some": np.where(np.arange(N) % 18 == 0, rng.normal(20, 2, N), 0.0),
        "normal": rng.normal(size=N),
        "uniform": rng.random(N),
        "tail": rng.standard_t(3, N),
    }
    X = fit_encoder(open_table(pa.table(columns))).encoder.encode(pa.table(columns))
    assert X.var(axis=0) == pytest.approx(np.ones(4), abs=1e-4)


def test_numbers_equal_up_to_rounding_do_not_weigh() -> None:
    rng = np.random.default_rng(0)
    ratio = 1.0 + rng.normal(0, 1e-15, N)
    columns = {
        "ratio": ratio,
        "ratio32": (0.1 + rng.normal(0, 1e-9, N)).astype(np.float32),
        "gaps": np.where(np.arange(N) % 4 == 0, np.nan, ratio),
        "time": 1.7e15 + np.arange(N),
        "age": rng.integers(18, 80, N),
    }
    with pytest.warns(ColumnsDroppedWarning, match=r"'ratio' \(all values are equal up to rounding\); 'ratio32'"):
        fitted = fit_encoder(open_table(pa.table(columns)), column_roles={"time": "numeric"})
    assert {role.column for role in fitted.roles if role.dropped} == {"ratio", "ratio32"}
    X = fitted.encoder.encode(pa.table(columns))
    assert not column_of(fitted.encoder, X, "gaps").any()
    assert column_of(fitted.encoder, X, "gaps: (missing)").any()
    assert column_of(fitted.encoder, X, "time").var() == pytest.approx(1, abs=1e-4)


def test_an_indicator_that_repeats_another_is_left_out() -> None:
    rng = np.random.default_rng(0)
    gaps = rng.random(N) < 0.3
    rows = pa.table({name: pa.array(rng.normal(size=N), mask=gaps) for name in ("first", "second")})
    names = [feature.name for feature in fit_encoder(open_table(rows)).encoder.features]
    assert names == ["first", "first: (missing)", "second"]


def test_rare_and_unseen_categories_are_other() -> None:
    rng = np.random.default_rng(0)
    plans = list(rng.choice(["Basic", "Premium"], N))
    plans[0] = "Rare"
    rows = pa.table({"plan": plans, "age": rng.integers(0, 90, N)})
    encoder = fit_encoder(open_table(rows)).encoder
    assert [f.name for f in encoder.features][:3] == [
        f"plan: {name}" for name in (*sorted({"Basic", "Premium"}, key=lambda name: -plans.count(name)), "other")
    ]
    X = encoder.encode(pa.table({"plan": ["Rare", "Unseen", "Basic"], "age": [1, 2, 3]}))
    other = column_of(encoder, X, "plan: other")
    assert other[0] == other[1] > 0
    assert other[2] == 0


def test_means_are_decoded_to_the_units_of_the_table(members: pa.Table, encoder: FeatureEncoder) -> None:
    X = encoder.encode(members)
    decoded = encoder.decode(X.mean(axis=0, dtype=np.float64)[None]).to_pylist()[0]
    plans = members["plan"].to_pylist()
    assert decoded["plan: Premium"] == pytest.approx(plans.count("Premium") / N, abs=1e-5)
    assert decoded["plan: (missing)"] == pytest.approx(plans.count(None) / N, abs=1e-5)
    assert decoded["age: (missing)"] == pytest.approx(members["age"].null_count / N, abs=1e-5)
    assert abs(decoded["age"] - np.nanmean([v for v in members["age"].to_pylist() if v is not None])) < 0.5
    hours = np.asarray(members["hours"])
    assert np.median(hours) * 0.8 < decoded["hours"] < hours.mean()  # the typical value, not the mean of the tail
    mean_day = members["signed"].cast(pa.int32()).to_numpy().mean()
    assert abs((decoded["signed"] - dt.date(1970, 1, 1)).days - mean_day) <= 2


def test_groups_share_their_weight_however_wide_they_are(members: pa.Table) -> None:
    groups = {
        "interests": GroupConfig(columns=("genres",), weight=3.0),
        "demographics": GroupConfig(columns=("age", "kids", "plan"), weight=1.0),
        "rest": GroupConfig(weight=0.0),
    }
    encoder = fit_encoder(open_table(members), groups=groups).encoder
    X = encoder.encode(members).astype(np.float64)

    def total(*columns: str) -> float:
        return float(sum(X[:, j].var() for j, f in enumerate(encoder.features) if f.column in columns))

    assert total("genres") == pytest.approx(4.5, rel=1e-3)  # three quarters of six columns
    assert total("age", "kids", "plan") == pytest.approx(1.5, rel=2e-2)
    assert total("hours", "signed") == 0.0


def test_impossible_groups_raise(members: pa.Table) -> None:
    table = open_table(members)
    with pytest.raises(UsageError, match="in the groups 'a' and 'b'"):
        fit_encoder(table, groups={"a": GroupConfig(columns=("age",)), "b": GroupConfig(columns=("age",))})
    with pytest.raises(UsageError, match="'agee', which the table does not have"):
        fit_encoder(table, groups={"a": GroupConfig(columns=("agee",))})
    with pytest.raises(UsageError, match="No column is in group 'interests'"):
        fit_encoder(table, groups={"interests": GroupConfig()})


def test_pandas_and_pyarrow_are_encoded_to_the_same_bits(members: pa.Table, encoder: FeatureEncoder) -> None:
    frame = members.to_pandas()
    frame["signed"] = pd.to_datetime(frame["signed"])
    frame["kids"] = frame["kids"].astype("boolean")
    assert encoder.encode(frame).tobytes() == encoder.encode(members).tobytes()


def test_rows_are_encoded_one_by_one_as_in_a_block(members: pa.Table, encoder: FeatureEncoder) -> None:
    X = encoder.encode(members)
    for start, size in ((0, 1), (3, 127), (100, 129)):
        assert encoder.encode(members.slice(start, size)).tobytes() == X[start : start + size].tobytes()


def test_the_plan_survives_json(members: pa.Table, encoder: FeatureEncoder) -> None:
    restored = FeatureEncoder(EncodingPlan.model_validate_json(encoder.plan.model_dump_json()))
    assert restored.encode(members).tobytes() == encoder.encode(members).tobytes()


def test_missing_and_retyped_columns_of_a_new_table_are_named(members: pa.Table, encoder: FeatureEncoder) -> None:
    with pytest.raises(MissingColumnError, match="'age', 'plan'"):
        encoder.check_schema(members.drop_columns(["age", "plan"]).schema)
    retyped = members.set_column(0, "age", pa.array(["x"] * N)).set_column(4, "genres", pa.array(["x"] * N))
    with pytest.raises(RetypedColumnError, match=r"'age' holds string, but was a number .*'genres' holds string"):
        encoder.check_schema(retyped.schema)


def test_a_column_of_nulls_in_a_new_table_is_missing_values(members: pa.Table, encoder: FeatureEncoder) -> None:
    rows = members.slice(0, 3)
    for i, name in enumerate(rows.column_names):
        rows = rows.set_column(i, name, pa.nulls(3))
    encoder.check_schema(rows.schema)
    X = encoder.encode(rows)
    assert np.isfinite(X).all()
    assert (column_of(encoder, X, "plan: (missing)") > 0).all()
    assert (column_of(encoder, X, "genres: Drama") == 0).all()


def test_numbers_as_categories_ignore_how_they_are_stored() -> None:
    rng = np.random.default_rng(0)
    level = rng.integers(0, 3, N)
    rows = pa.table({"level": level, "age": rng.integers(0, 90, N)})
    encoder = fit_encoder(open_table(rows), column_roles={"level": "categorical"}).encoder
    floats = rows.set_column(0, "level", pa.array(level.astype(float)))
    assert encoder.encode(floats).tobytes() == encoder.encode(rows).tobytes()


def test_values_named_like_the_rest_and_like_missing_ones_keep_their_shares() -> None:
    answers = ["other", "(missing)", "yes", None] * 25
    table = pa.table({"answer": answers, "size": np.arange(100.0) % 7})
    encoder = fit_encoder(open_table(table)).encoder
    names = [feature.name for feature in encoder.features]
    assert sorted(names[:5]) == sorted(
        ["answer: (missing)", "answer: other", "answer: yes", "answer: (other)", "answer: ((missing))"]
    )
    means = encoder.decode(encoder.encode(table).mean(axis=0, keepdims=True)).to_pylist()[0]
    assert list(means) == names
    for name in ("answer: (missing)", "answer: other", "answer: yes", "answer: ((missing))"):
        assert means[name] == pytest.approx(0.25, abs=1e-6)
    assert means["answer: (other)"] == 0.0
