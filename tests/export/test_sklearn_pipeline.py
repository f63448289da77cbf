"""A pipeline of scikit-learn predicts as the model assigns, and is unpickled without the engine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import engine
from engine.errors import UsageError
from engine.model.model import Model
from tests.export.tables import MARKS, ROLES, mixed, shifted

READABLE = ("score", "plan")  # marks of numbers and texts are replaced, those of dates are not
LEFT_OUT = ["codes", "taste"]
WITHOUT_ENGINE = """
import pickle, sys
sys.modules["engine"] = None  # an import of it fails
import pandas as pd
pipeline = pickle.load(open(sys.argv[1], "rb"))
pd.Series(pipeline.predict(pd.read_parquet(sys.argv[2]))).to_frame("cluster").to_parquet(sys.argv[3])
"""


def fit(rows: pa.Table, out: Path, **settings: object) -> Model:
    config = {"features": {"roles": ROLES, "missing": {name: MARKS[name] for name in READABLE}}} | settings
    skip = ["map", "report", "explain"]
    return engine.fit(rows, id="who", n_clusters=5, out=out, skip=skip, config=config, threads=1).model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    rows = mixed(complete=("visits", "seen", "smoker")).drop_columns(LEFT_OUT)
    return fit(rows, tmp_path_factory.mktemp("sklearn") / "run")


@pytest.mark.parametrize("seed", [0, 1])
def test_a_pipeline_predicts_as_the_model_assigns(model: Model, seed: int) -> None:
    rows = shifted(mixed(2000, seed=seed), seed).drop_columns(LEFT_OUT)
    pipeline = model.to_sklearn(rows)
    assert pipeline.predict(rows.to_pandas()).tolist() == model.assign(rows)["cluster"].to_pylist()
    assert pipeline[:-1].transform(rows.to_pandas()) == pytest.approx(model.scores(rows), abs=1e-5)


def test_every_single_column_counts(model: Model) -> None:
    rows = shifted(mixed(300, seed=5), 5).drop_columns(LEFT_OUT)
    pipeline = model.to_sklearn(rows)
    base = rows.slice(0, 1).take(pa.array([0] * len(rows)))
    for name in model.encoder.columns:
        alike = base.set_column(rows.column_names.index(name), name, rows[name])
        assert pipeline[:-1].transform(alike.to_pandas()) == pytest.approx(model.scores(alike), abs=1e-5), name


def test_directions_and_other_numbers_of_clusters(tmp_path: Path) -> None:
    rows = mixed().drop_columns(LEFT_OUT)
    model = fit(rows, tmp_path / "run", kmeans={"metric": "cosine"})
    numbers = np.array([2, 3, 5, 8, 13], np.int32)
    renumbered = Model(
        model.encoder, model.pca, model.centers, model.fences, "who", numbers=numbers, metric=model.metric
    )
    predicted = renumbered.to_sklearn(rows).predict(rows.to_pandas())
    assert predicted.tolist() == renumbered.assign(rows)["cluster"].to_pylist()


def test_a_pickle_is_read_without_the_engine(model: Model, tmp_path: Path) -> None:
    rows = mixed(200, seed=8).drop_columns(LEFT_OUT)
    pq.write_table(rows, tmp_path / "rows.parquet")
    model.export("sklearn", table=rows, out=tmp_path / "model.pkl")
    names = ("model.pkl", "rows.parquet", "out.parquet")
    subprocess.run([sys.executable, "-P", "-c", WITHOUT_ENGINE, *(str(tmp_path / name) for name in names)], check=True)
    predicted = pq.read_table(tmp_path / "out.parquet")["cluster"].to_pylist()
    assert predicted == model.assign(rows)["cluster"].to_pylist()


def test_answers_on_lines_are_split_and_days_in_digits_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    kind = np.arange(600) % 3
    words = np.array(["night owl", "early bird", "week end", "new"])
    lines = ["\n".join(words[(rng.random(4) < 0.3) | (np.arange(4) == k)]) for k in kind]
    days = 20_200_101 + rng.integers(0, 28, 600) + 10_000 * kind
    rows = pa.table({"answers": lines, "age": rng.normal(30 + 10 * kind), "joined": days})
    settings = {"n_clusters": 3, "skip": ["map", "report", "explain"], "threads": 1}
    model = engine.fit(rows.drop_columns(["joined"]), out=tmp_path / "run", **settings).model
    assert [len(getattr(plan, "labels", ())) for plan in model.encoder.plan.columns] == [4, 0]
    new = pa.table({"answers": [*lines[1:], "night owl\r\n other "], "age": rows["age"]})
    named, clusters = new.append_column("who", pa.array(range(600))), model.assign(new)["cluster"].to_pylist()
    assert model.to_sklearn(new).predict(new.to_pandas()).tolist() == clusters
    connection = duckdb.connect()
    connection.register("profiles", named)
    by_sql = connection.sql(str(model.export("sql", table=named, id="who"))).to_arrow_table().sort_by("who")
    assert by_sql["cluster"].to_pylist() == clusters
    with pytest.raises(UsageError, match=r"answers on lines of their own within a text \('answers'\)"):
        model.export("sql", dialect="sqlite", table=named, id="who")
    with_days = engine.fit(rows, out=tmp_path / "days", **settings).model
    assert [plan.role for plan in with_days.encoder.plan.columns if plan.column == "joined"] == ["date"]
    with pytest.raises(UsageError, match=r"cannot read 'joined': .*dates in digits"):
        with_days.to_sklearn(rows)


def test_columns_that_a_pipeline_cannot_read_are_named(tmp_path: Path) -> None:
    rows = mixed()
    config = {"features": {"roles": ROLES, "missing": MARKS}}
    settings = {"id": "who", "n_clusters": 3, "skip": ["map", "report", "explain"], "threads": 1, "config": config}
    model = engine.fit(rows, out=tmp_path / "run", **settings).model
    with pytest.raises(UsageError, match=r"'joined', 'seen', 'codes', 'taste\[0\]'"):
        model.to_sklearn(rows)
