"""A run that is logged to MLflow, registered and loaded back assigns as the run does."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import engine
import engine.mlflow
from engine.config import FitConfig
from engine.errors import RoomsError, UsageError

N = 200


def people() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    side = np.arange(N) % 2
    hours = rng.normal(size=N) + 9 * side
    hours[5] = np.nan
    plan = pd.Series(np.where(side, "Basic", "Premium")).where(np.arange(N) % 17 > 0)
    return pd.DataFrame(
        {
            "who": [f"p{i}" for i in range(N)],
            "hours": hours,
            "visits": rng.integers(0, 40, N),
            "plan": plan.to_numpy(object),
            "active": side > 0,
            "since": pd.to_datetime("2024-01-01") + pd.to_timedelta(np.arange(N), "D"),
            "likes": [["a", "b"][: 1 + i % 2] for i in range(N)],
        }
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, lean: FitConfig) -> engine.Run:
    return engine.fit(people(), out=tmp_path_factory.mktemp("mlflow") / "run", id="who", n_clusters=2, config=lean)


def test_a_missing_library_names_the_extra(run: engine.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UsageError, match=r"rooms-engine\[mlflow\]"):
        engine.mlflow.log_model(run)


def test_a_registered_model_is_loaded_back(run: engine.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the extra 'mlflow' is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "tracking").as_uri())
    mlflow.set_registry_uri((tmp_path / "tracking").as_uri())
    info = engine.mlflow.log_model(run, registered_model_name="rooms", input_example=people().head(3))
    found = mlflow.get_run(info.run_id).data
    assert found.metrics["clusters"] == 2
    assert found.metrics["rows"] == N
    assert found.params["seed"] == "0"
    loaded = mlflow.pyfunc.load_model("models:/rooms/1")
    assert loaded.metadata.signature.inputs.input_names() == ["who", *people().columns[1:]]
    expected = run.model.assign(people()).to_pandas()
    pd.testing.assert_frame_equal(loaded.predict(people()), expected)
    one = people().head(6)
    pd.testing.assert_frame_equal(loaded.predict(one), expected.head(6))
    with pytest.raises((RoomsError, mlflow.MlflowException), match="plan"):
        loaded.predict(people().drop(columns="plan"))
    with pytest.raises((RoomsError, mlflow.MlflowException), match="hours"):
        loaded.predict(people().assign(hours="many"))
    with mlflow.start_run() as active:  # the run of whoever calls
        assert engine.mlflow.log_model(run).run_id == active.info.run_id
